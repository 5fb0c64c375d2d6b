"""One run on one task, and what a fair comparison with another must agree on."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from peft_bench.records import AdapterRecord, RunRecord, TaskRecord

_RETRIEVAL = "_rag"
_ENCODER = json.JSONEncoder(sort_keys=True, default=str)


class Entry:
    """One run on one task, with what thousands of them are compared by.

    Attributes:
        record: The run's.
        task: One of its record.
        folder: The evaluation's.
        metric: The task's primary metric.
        data: The task that its rows are: ``conala`` for ``conala_rag``.
        approach: How the base model was made to do the task: ``zero-shot``, ``in-context``
            (examples in the prompt), ``retrieval`` (examples like the question),
            ``full fine-tuning`` or ``adapter``.
        model_key: The base model; its dtype may differ and is told as a mark.
        rules: What two scores must agree on to be of one scale; the scored ids are compared apart.
        seed: The seeds that a repetition would change: of training, of examples, of sampling.
        variant: Equal for runs that differ in a seed only.
        compared_by: Equal for runs whose possible baselines are the same, best first.
    """

    __slots__ = (
        *("record", "task", "folder", "metric", "data", "approach"),
        *("model_key", "rules", "seed", "variant", "compared_by"),
    )

    def __init__(self, record: RunRecord, task: TaskRecord, folder: Path) -> None:
        model, adapter = record.model, record.adapter
        self.record = record
        self.task = task
        self.folder = folder
        self.metric = task.primary_metric
        self.data = task.task.removesuffix(_RETRIEVAL)
        self.approach = _approach(adapter, task)
        self.model_key = (model.id, model.revision, model.quantization)
        hashes = tuple(sorted(task.data_sha256.items()))
        self.rules = (task.n, task.profile, task.sandbox_level, hashes)
        self.seed = _seed(record, task)
        decoding = _settings(task.decoding)
        made: object = None
        if adapter is not None:
            known = adapter.variant_sha256 is not None and adapter.seed is not None
            made = (adapter.method, adapter.variant_sha256 if known else adapter.sha256)
        scored = (task.task, task.version, task.ids_sha256, self.metric, decoding)
        self.variant = (
            *scored,
            *(task.num_fewshot, self.rules),
            *(self.model_key, model.dtype, made),
        )
        self.compared_by = (
            *(*scored, task.n),
            *(self.model_key, model.fingerprint, model.dtype),
        )


def _approach(adapter: AdapterRecord | None, task: TaskRecord) -> str:
    if adapter is not None:
        return "full fine-tuning" if adapter.method == "full" else "adapter"
    if task.task.endswith(_RETRIEVAL):
        return "retrieval"
    return "in-context" if task.num_fewshot else "zero-shot"


def _seed(record: RunRecord, task: TaskRecord) -> tuple[int | None, ...]:
    seeds = record.harness.get("seeds")
    seeds = seeds if isinstance(seeds, dict) else {}
    examples = seeds.get("fewshot_seed") if task.num_fewshot else None
    drawn = seeds.get("torch_seed") if task.decoding.get("do_sample") else None
    trained = record.adapter.seed if record.adapter else None
    return trained, _whole(examples), _whole(drawn)


def _settings(decoding: dict[str, Any]) -> str:
    """Equal for equal settings, in whatever order."""
    plain = repr(sorted(decoding.items()))
    # Settings within settings have an order of their own; their encoding costs ten times as much.
    return _ENCODER.encode(decoding) if "{" in plain else plain


def same_items(a: Entry, b: Entry) -> bool:
    """Whether two runs scored the same items, as far as their records tell."""
    ids = {a.task.ids_sha256, b.task.ids_sha256} - {None}
    return len(ids) < 2 and a.task.n == b.task.n


def _whole(value: object) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) else None
