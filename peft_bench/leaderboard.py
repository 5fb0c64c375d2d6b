"""From records to a leaderboard: which run is whose baseline, and how far apart they are.

The rows' schema is :class:`LeaderboardRow`; the formats are in :mod:`peft_bench.report`.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from peft_bench.errors import PeftBenchError
from peft_bench.metrics.bootstrap import PairedDifference, paired_bootstrap
from peft_bench.records import (
    ItemScores,
    RunRecord,
    StoredRecord,
    TaskRecord,
    per_item_scores,
    write_text,
)
from peft_bench.report.csv_file import to_csv
from peft_bench.report.html import render_html
from peft_bench.report.markdown import to_markdown
from peft_bench.report.row import LEADERBOARD_SCHEMA_VERSION, LeaderboardRow, natural_key
from peft_bench.report.terminal import format_table

__all__ = [
    "LEADERBOARD_SCHEMA_VERSION",
    "LeaderboardRow",
    "build_rows",
    "format_table",
    "render_html",
    "to_csv",
    "to_markdown",
    "write_csv",
    "write_html",
    "write_markdown",
]


@dataclass(frozen=True)
class _Entry:
    """One run on one task, before it is compared."""

    record: RunRecord
    task: TaskRecord
    folder: Path


@dataclass(frozen=True)
class _Comparison:
    """What is known of a row against its baseline; ``marks`` qualify it or say why it is absent."""

    baseline_run: str | None = None
    found: PairedDifference | None = None
    marks: tuple[str, ...] = ()


class _Items:
    """Per-item scores, each file read once however many rows are compared with it."""

    def __init__(self) -> None:
        self._read: dict[tuple[Path, str, str], ItemScores | PeftBenchError] = {}

    def of(self, entry: _Entry, metric: str) -> ItemScores | PeftBenchError:
        key = entry.folder, entry.task.task, metric
        if key not in self._read:
            try:
                self._read[key] = per_item_scores(entry.folder, entry.task, metric)
            except PeftBenchError as problem:
                self._read[key] = problem  # told as a mark of every row that needed it
        return self._read[key]


def build_rows(records: Iterable[StoredRecord]) -> list[LeaderboardRow]:
    """One row for each run on each task, sorted by task and version, then the best score first.

    The baseline of an adapter's row is a complete run of the same base model (id, revision,
    quantisation, and fingerprint where both are known) without adapter, on the same task, task
    version, number of shots, profile, sandbox level, data and items, that has the same metric. Of
    several, one of the same dtype and decoding is preferred, then the newest; where dtype or
    decoding differ all the same, a mark says so. Without a baseline nothing is compared.

    The difference is that of the adapter's primary metric, by paired bootstrap over questions. A
    metric that is not the mean of its items (a corpus metric) has none, and a mark says why.
    """
    entries = [_Entry(record, task, folder) for record, folder in records for task in record.tasks]
    bases = [e for e in entries if e.record.adapter is None and e.record.status == "complete"]
    items = _Items()
    rows = []
    for entry in entries:
        comparison = _Comparison()
        if entry.record.adapter is not None:
            comparison = _compare(entry, bases, items)
        rows.append(_row(entry, comparison))
    return sorted(rows, key=_rank)


def write_csv(rows: Sequence[LeaderboardRow], path: Path) -> None:
    """Writes the rows as CSV, the whole file or none of it; see :func:`to_csv`."""
    write_text(path, to_csv(rows))


def write_markdown(rows: Sequence[LeaderboardRow], path: Path) -> None:
    """Writes the rows as Markdown, the whole file or none of it; see :func:`to_markdown`."""
    write_text(path, to_markdown(rows))


def write_html(rows: Sequence[LeaderboardRow], path: Path, *, title: str = "Leaderboard") -> None:
    """Writes the rows as one web page, the whole file or none of it; see :func:`render_html`."""
    write_text(path, render_html(rows, title=title))


def _compare(entry: _Entry, bases: Sequence[_Entry], items: _Items) -> _Comparison:
    """Compares an adapter's run with its baseline, if it has one."""
    candidates = [base for base in bases if _comparable(entry, base)]
    candidates.sort(
        key=lambda base: (
            base.record.model.dtype == entry.record.model.dtype,
            base.task.decoding == entry.task.decoding,
            datetime.fromisoformat(base.record.created),
            base.record.name,
        ),
        reverse=True,
    )
    if not candidates:
        return _Comparison()
    metric = entry.task.primary_metric
    own = items.of(entry, metric)
    if isinstance(own, PeftBenchError):
        return _Comparison(marks=(f"no difference: {own.problem}",))
    problems = []
    for base in candidates:
        theirs = items.of(base, metric)
        if isinstance(theirs, PeftBenchError):
            problems.append(f"no difference: baseline {theirs.problem}")
        elif set(theirs.ids) == set(own.ids):
            return _difference(entry, base, own, theirs)
    return _Comparison(marks=tuple(problems[:1]))


def _comparable(entry: _Entry, base: _Entry) -> bool:
    """Whether two runs differ in the adapter only, as far as the records can tell."""
    model, other = entry.record.model, base.record.model
    prints = {model.fingerprint, other.fingerprint} - {None}
    ids = {entry.task.ids_sha256, base.task.ids_sha256} - {None}
    return (
        len(prints) < 2
        and len(ids) < 2
        and _model_key(entry) == _model_key(base)
        and _task_key(entry.task) == _task_key(base.task)
        and entry.task.primary_metric in base.task.scores
    )


def _model_key(entry: _Entry) -> tuple[str | None, ...]:
    model = entry.record.model
    return model.id, model.revision, model.quantization


def _task_key(task: TaskRecord) -> tuple[object, ...]:
    return (
        task.task,
        task.version,
        task.n,
        task.num_fewshot,
        task.profile,
        task.sandbox_level,
        sorted(task.data_sha256.items()),
    )


def _difference(entry: _Entry, base: _Entry, own: ItemScores, theirs: ItemScores) -> _Comparison:
    """The paired difference, items matched by id; refused where items do not make up the score."""
    metric = entry.task.primary_metric
    for items, task in ((own, entry.task), (theirs, base.task)):
        mean = math.fsum(items.values) / len(items.values)
        if not math.isclose(mean, task.scores[metric].value, rel_tol=0, abs_tol=1e-6):
            return _Comparison(marks=(f"no difference: {metric} is not the mean of its items",))
    by_id = dict(zip(theirs.ids, theirs.values, strict=True))
    try:
        found = paired_bootstrap([by_id[i] for i in own.ids], own.values, groups=own.groups)
    except ValueError as problem:
        return _Comparison(marks=(f"no difference: {problem}",))
    marks = []
    if base.record.model.dtype != entry.record.model.dtype:
        marks.append(f"baseline in {base.record.model.dtype or 'an unknown dtype'}")
    if base.task.decoding != entry.task.decoding:
        marks.append("baseline decoded otherwise")
    return _Comparison(base.record.name, found, tuple(marks))


def _row(entry: _Entry, comparison: _Comparison) -> LeaderboardRow:
    record, task, adapter, found = entry.record, entry.task, entry.record.adapter, comparison.found
    primary = task.scores[task.primary_metric]
    return LeaderboardRow(
        run=record.name,
        task=task.task,
        task_version=task.version,
        demonstration=task.demonstration,
        model=record.model.id,
        model_revision=record.model.revision,
        dtype=record.model.dtype,
        quantization=record.model.quantization,
        method=adapter.method if adapter else "none",
        adapter=adapter.name if adapter else None,
        adapter_sha256=adapter.sha256 if adapter else None,
        recipe_sha256=adapter.recipe_sha256 if adapter else None,
        trainable_parameters=adapter.trainable_parameters if adapter else None,
        total_parameters=record.model.parameters,
        adapter_bytes=adapter.size_bytes if adapter else None,
        train_wall_s=adapter.train_wall_s if adapter else None,
        train_tokens_per_s=adapter.train_tokens_per_s if adapter else None,
        train_peak_bytes=adapter.train_peak_bytes if adapter else None,
        eval_wall_s=record.eval_wall_s,
        num_fewshot=task.num_fewshot,
        profile=task.profile,
        sandbox_level=task.sandbox_level,
        custom_data=task.custom_data,
        n=task.n,
        primary_metric=task.primary_metric,
        primary_value=primary.value,
        primary_stderr=primary.stderr,
        baseline_run=comparison.baseline_run,
        difference=found.difference if found else None,
        difference_low=found.low if found else None,
        difference_high=found.high if found else None,
        difference_p=found.p_value if found else None,
        marks="; ".join((*task.marks, *comparison.marks)),
        status=record.status,
        created=record.created,
        metrics=dict(task.scores),
    )


def _rank(row: LeaderboardRow) -> tuple[object, ...]:
    version = natural_key(row.task_version)
    return row.task, version, row.primary_metric, -row.primary_value, row.run, row.created
