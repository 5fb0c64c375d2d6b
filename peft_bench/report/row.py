"""The leaderboard's schema: one flat row for one run on one task."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from operator import attrgetter

from peft_bench.metrics.paired import PairedDifference
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
        n: Items scored; empty in a row taken from elsewhere that does not tell.
        primary_metric: The metric the next columns are about.
        primary_value: A share from 0 to 1.
        primary_stderr: Its standard error.
        baseline_run: The run that this one is compared with: the base model's, or the one asked
            for.
        difference: primary_value minus the baseline's, on the same items; of this run alone, also
            where there are several seeds.
        difference_low: Lower end of its 95 % interval, by paired bootstrap over questions.
        difference_high: Upper end.
        difference_p: Two-sided p of no difference.
        marks: What a reader of the score must know, joined by ``; ``.
        status: ``complete`` or ``failed``.
        created: ISO 8601 with an offset.
        approach: ``zero-shot``, ``in-context``, ``retrieval``, ``full fine-tuning``, ``adapter``.
        comparable: The row agrees with most of its task's rows in task version, profile, sandbox
            level, data and scored ids; if not, a mark says in what, and it has no rank.
        rank: Among the comparable rows of its task, 1 the best; equal scores share a rank.
        difference_p_holm: The p of the row's configuration (seeds_p where there is one, else
            difference_p), corrected for the number of configurations on the board.
        seed: Of training, else of the examples shown, else of sampling.
        seeds: Runs on the board that differ from this one in a seed only, itself included.
        seeds_mean: The primary metric's mean over them.
        seeds_low: Its lowest value among them.
        seeds_high: Its highest.
        seeds_stderr: Standard error of the mean, by bootstrap over questions and seeds.
        seeds_difference: seeds_mean minus the baseline's score; shown in place of difference by
            every format but the CSV.
        seeds_difference_low: Lower end of its 95 % interval, over questions and seeds.
        seeds_difference_high: Upper end.
        seeds_p: Two-sided p of no difference.
        trained_on: Names of the data sets of the training, joined by ``+``.
        kept_apart: Items not scored, since their references fail on that machine.
        reserved_peak_bytes: Highest device memory reserved in training.
        eval_peak_bytes: Highest device memory of the evaluation.
        pscp: The score lowered by its cost, if asked for (docs/leaderboard.md).
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
    n: int | None
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
    approach: str = "zero-shot"
    comparable: bool = True
    rank: int | None = None
    difference_p_holm: float | None = None
    seed: int | None = None
    seeds: int = 1
    seeds_mean: float | None = None
    seeds_low: float | None = None
    seeds_high: float | None = None
    seeds_stderr: float | None = None
    seeds_difference: float | None = None
    seeds_difference_low: float | None = None
    seeds_difference_high: float | None = None
    seeds_p: float | None = None
    trained_on: str = ""
    kept_apart: int = 0
    reserved_peak_bytes: int | None = None
    eval_peak_bytes: int | None = None
    pscp: float | None = None
    metrics: Mapping[str, Score] = dataclasses.field(default_factory=dict)


@dataclass(frozen=True)
class Compared:
    """Two runs of one task compared on request: ``second`` minus ``first``, or why not."""

    task: str
    metric: str
    first: str
    second: str
    found: PairedDifference | None
    p_holm: float | None
    marks: tuple[str, ...] = ()


FIXED_COLUMNS = tuple(
    field.name for field in dataclasses.fields(LeaderboardRow) if field.name != "metrics"
)
_FIXED = attrgetter(*FIXED_COLUMNS)


def columns(rows: Iterable[LeaderboardRow]) -> list[str]:
    """The header: the fixed columns, then two for every metric of any row."""
    metrics = {metric for row in rows for metric in row.metrics} - set(FIXED_COLUMNS)
    header = list(FIXED_COLUMNS)
    for metric in sorted(metrics, key=natural_key):
        header += [metric, f"{metric}_stderr"]
    return header


def cells(row: LeaderboardRow, header: Sequence[str]) -> list[Cell]:
    """The row's values under a header made by :func:`columns`."""
    values: list[Cell] = list(_FIXED(row))
    for metric in header[len(FIXED_COLUMNS) :: 2]:
        score = row.metrics.get(metric)
        values += (score.value, score.stderr) if score else (None, None)
    return values


def natural_key(text: str) -> list[tuple[int, int, str]]:
    """Sorts numbers within texts by their value: ``em@2`` before ``em@10``."""
    return [
        (0, int(part), "") if part.isdecimal() else (1, 0, part)
        for part in re.split(r"(\d+)", text)
        if part
    ]
