"""The dataclasses of a record: the only schema there is.

``None`` means absent or unknown. Scores are shares from 0 to 1, times seconds, sizes bytes.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, NamedTuple

SCHEMA_VERSION = 1


@dataclass(frozen=True)
class Score:
    """One metric of one task: ``value`` and ``stderr`` as shares, over ``n`` items.

    ``k`` is the number of answers that count, for EM@k and pass@k.
    """

    value: float
    stderr: float | None
    n: int
    k: int | None = None


@dataclass(frozen=True)
class TaskRecord:
    """The scores of one task and all that a fair comparison must agree on.

    Attributes:
        task: The harness' name of the task.
        version: The task's own version; raised when its scores change.
        n: Items that the primary metric scores; 0 (and no scores) where the data holds none.
        scores: By metric: ``em@1``, ``em@10_ast``, ``codebleu``, ``pass@1`` and so on.
        primary_metric: The one the leaderboard sorts by; a key of ``scores``.
        num_fewshot: Worked examples before each question.
        decoding: Beams, temperature, new tokens and the like, as given to the model.
        prompt_hash: SHA-256 of the prompt's template.
        sandbox_level: The isolation that ran the answers; None where nothing was run.
        profile: The set of packages and rules that the answers were judged under.
        custom_data: Whether the rows are other than the pinned data set's.
        demonstration: Whether the task only shows that everything works; no measurement.
        data_sha256: By split, the checksum of the rows.
        marks: Free text that a reader of the score must see, such as ``10 of 543 problems``.
        samples_file: The harness' samples, relative to the evaluation's folder, with ``/``.
        ids_sha256: :func:`hash_ids` of the items that the primary metric scores.
        kept_apart: Items that cannot be scored here, since their reference fails on this machine.
    """

    task: str
    version: str
    n: int
    scores: dict[str, Score]
    primary_metric: str
    num_fewshot: int
    decoding: dict[str, Any]
    prompt_hash: str | None
    sandbox_level: str | None
    profile: str
    custom_data: bool
    demonstration: bool
    data_sha256: dict[str, str]
    marks: tuple[str, ...] = ()
    samples_file: str | None = None
    ids_sha256: str | None = None
    kept_apart: int = 0


@dataclass(frozen=True)
class ModelRecord:
    """The base model; ``parameters`` counts it without an adapter.

    ``fingerprint`` is a hash of the base weights, so that two local folders can be told apart.
    """

    id: str
    revision: str | None = None
    dtype: str | None = None
    quantization: str | None = None
    model_type: str | None = None
    parameters: int | None = None
    fingerprint: str | None = None


@dataclass(frozen=True)
class AdapterRecord:
    """The adapter, cited by the hash of its content, and what its training cost.

    Attributes:
        seed: Of its training.
        variant_sha256: :func:`peft_bench.records.variant_sha256` of its recipe: equal for adapters
            that differ in the seed only.
        trained_on: Names of the data sets; several for a joint adapter.
        reserved_peak_bytes: Highest device memory reserved, where the device tells.
    """

    name: str
    sha256: str
    method: str
    recipe_sha256: str | None = None
    trainable_parameters: int | None = None
    size_bytes: int | None = None
    train_wall_s: float | None = None
    train_tokens_per_s: float | None = None
    train_peak_bytes: int | None = None
    seed: int | None = None
    variant_sha256: str | None = None
    trained_on: tuple[str, ...] = ()
    reserved_peak_bytes: int | None = None
    train_tokens: int | None = None
    train_loss: float | None = None


@dataclass(frozen=True)
class RunRecord:
    """One evaluation: one model, with or without an adapter, on some tasks.

    Attributes:
        schema_version: :data:`SCHEMA_VERSION` when written by this program.
        name: The evaluation's name, that of its folder.
        created: ISO 8601 with an offset, such as ``2025-01-31T12:00:00+00:00``.
        status: ``complete``, or ``failed`` when some tasks have no scores.
        model: The base model.
        adapter: None for the base model alone.
        tasks: One entry a task scored.
        harness: What the harness was given: model_args, seeds, batch_size, limit, gen_kwargs.
        versions: By package.
        eval_wall_s: Seconds of the whole evaluation.
        eval_peak_bytes: Highest device memory.
    """

    schema_version: int
    name: str
    created: str
    status: Literal["complete", "failed"]
    model: ModelRecord
    adapter: AdapterRecord | None
    tasks: tuple[TaskRecord, ...]
    harness: dict[str, Any]
    versions: dict[str, str]
    eval_wall_s: float | None = None
    eval_peak_bytes: int | None = None


class StoredRecord(NamedTuple):
    """A record and the evaluation's folder it lies in."""

    record: RunRecord
    folder: Path


class ItemScores(NamedTuple):
    """One metric item by item, three columns of equal length in the samples' order."""

    ids: tuple[str, ...]
    groups: tuple[str, ...]
    values: tuple[float, ...]


class ItemStatistics(NamedTuple):
    """What each item adds to the sums that a metric is a function of; see :class:`ItemScores`.

    An item's statistics are its row in ``values``: a single number where the metric is a mean.
    """

    ids: tuple[str, ...]
    groups: tuple[str, ...]
    values: tuple[tuple[float, ...], ...]
