"""The leaderboard's schema: one flat row for one run on one task."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from peft_bench.records.model import Score

LEADERBOARD_SCHEMA_VERSION = 1

Cell = str | int | float | bool | None


@dataclass(frozen=True)
class LeaderboardRow:
    """One run on one task. The columns of the CSV file are these fields in this order.

    After them come, for every metric that any row has, ``<metric>`` and ``<metric>_stderr``, in
    natural order (``em@2`` before ``em@10``). The schema's version rises when a column is renamed,
    removed or changes its meaning; new columns may be added before the metrics without it. None,
    an empty cell, means absent or unknown.

    Attributes:
        run: The evaluation's name.
        task: The harness' name of the task.
        task_version: Raised when the task's scores change.
        demonstration: The task shows that everything works; its score measures nothing.
        model: Id of the base model.
        model_revision: Of the base model.
        dtype: Of the base model's weights.
        quantization: Of the base model's weights.
        method: The adapter's PEFT method; ``none`` for the base model alone.
        adapter: The adapter's name.
        adapter_sha256: Hash of the adapter's content.
        recipe_sha256: Hash of the recipe that trained it.
        trainable_parameters: Of the adapter.
        total_parameters: Of the base model, without the adapter.
        adapter_bytes: Size of the adapter's files.
        train_wall_s: Seconds of training.
        train_tokens_per_s: Tokens trained on a second.
        train_peak_bytes: Highest device memory in training.
        eval_wall_s: Seconds of the evaluation, all its tasks together.
        num_fewshot: Worked examples before each question.
        profile: The rules the answers were judged under.
        sandbox_level: The isolation that ran the answers; empty where nothing was run.
        custom_data: The rows are other than the pinned data set's.
        n: Items scored.
        primary_metric: The metric the next columns are about.
        primary_value: A share from 0 to 1.
        primary_stderr: Its standard error.
        baseline_run: The base model's run that this one is compared with.
        difference: primary_value minus the baseline's, on the same items.
        difference_low: Lower end of its 95 % interval, by paired bootstrap over questions.
        difference_high: Upper end.
        difference_p: Two-sided p of no difference.
        marks: What a reader of the score must know, joined by ``; ``.
        status: ``complete`` or ``failed``.
        created: ISO 8601 with an offset.
        metrics: Every metric's score; flattened into the last columns.
    """

    run: str
    task: str
    task_version: str
    demonstration: bool
    model: str
    model_revision: str | None
    dtype: str | None
    quantization: str | None
    method: str
    adapter: str | None
    adapter_sha256: str | None
    recipe_sha256: str | None
    trainable_parameters: int | None
    total_parameters: int | None
    adapter_bytes: int | None
    train_wall_s: float | None
    train_tokens_per_s: float | None
    train_peak_bytes: int | None
    eval_wall_s: float | None
    num_fewshot: int
    profile: str
    sandbox_level: str | None
    custom_data: bool
    n: int
    primary_metric: str
    primary_value: float
    primary_stderr: float | None
    baseline_run: str | None
    difference: float | None
    difference_low: float | None
    difference_high: float | None
    difference_p: float | None
    marks: str
    status: str
    created: str
    metrics: Mapping[str, Score]


FIXED_COLUMNS = tuple(
    field.name for field in dataclasses.fields(LeaderboardRow) if field.name != "metrics"
)


def columns(rows: Iterable[LeaderboardRow]) -> list[str]:
    """The header: the fixed columns, then two for every metric of any row."""
    metrics = {metric for row in rows for metric in row.metrics} - set(FIXED_COLUMNS)
    header = list(FIXED_COLUMNS)
    for metric in sorted(metrics, key=natural_key):
        header += [metric, f"{metric}_stderr"]
    return header


def cells(row: LeaderboardRow, header: Sequence[str]) -> list[Cell]:
    """The row's values under a header made by :func:`columns`."""
    values: dict[str, Cell] = {}
    for metric, score in row.metrics.items():
        values[metric] = score.value
        values[f"{metric}_stderr"] = score.stderr
    # Last, so that a metric named like a fixed column cannot replace it.
    values.update((name, getattr(row, name)) for name in FIXED_COLUMNS)
    return [values.get(name) for name in header]


def natural_key(text: str) -> list[tuple[int, int, str]]:
    """Sorts numbers within texts by their value: ``em@2`` before ``em@10``."""
    return [
        (0, int(part), "") if part.isdecimal() else (1, 0, part)
        for part in re.split(r"(\d+)", text)
        if part
    ]
