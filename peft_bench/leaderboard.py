"""From records to a leaderboard: ranks, baselines, differences, and what they rest on.

The rows' schema is :class:`LeaderboardRow`; the formats are in :mod:`peft_bench.report`.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from peft_bench.comparison import Comparer, Outcome, default_cache
from peft_bench.entry import Entry
from peft_bench.errors import UsageError
from peft_bench.metrics.multiple import PscpConstants, holm
from peft_bench.records import StoredRecord, collector_paused, write_text
from peft_bench.report.csv_file import to_csv
from peft_bench.report.explorer import Explored
from peft_bench.report.html import render_html
from peft_bench.report.markdown import to_markdown
from peft_bench.report.row import (
    LEADERBOARD_SCHEMA_VERSION,
    Compared,
    LeaderboardRow,
)
from peft_bench.report.terminal import format_comparisons, format_table
from peft_bench.report.text import printable
from peft_bench.rows import Difference, Seeds, corrected, make_row, ranked
from peft_bench.samples_view import explore
from peft_bench.standing import Baselines, compared, odd_ones, seed_groups

__all__ = [
    "LEADERBOARD_SCHEMA_VERSION",
    "Board",
    "Compared",
    "LeaderboardRow",
    "build_board",
    "build_rows",
    "compare_runs",
    "default_cache",
    "format_comparisons",
    "format_table",
    "render_html",
    "to_csv",
    "to_markdown",
    "write_csv",
    "write_html",
    "write_markdown",
]

_NAMED = 8  # runs in an error


@dataclass(frozen=True)
class Board:
    """The rows in order, and the runs and comparisons they came from.

    ``runs`` has each row's run by the row's id(), but for rows that no record is of. ``baseline``
    is the run that all others are compared with, if one was asked for.
    """

    rows: list[LeaderboardRow]
    entries: tuple[Entry, ...]
    comparer: Comparer
    baseline: str | None = None
    runs: Mapping[int, Entry] = field(default_factory=dict)


def build_rows(records: Iterable[StoredRecord]) -> list[LeaderboardRow]:
    """The rows of :func:`build_board`."""
    return build_board(records).rows


def build_board(
    records: Iterable[StoredRecord],
    *,
    baseline: str | None = None,
    costs: PscpConstants | None = None,
    cache: Path | None = None,
    more: Sequence[LeaderboardRow] = (),
) -> Board:
    """One row for each run on each task, sorted by task and metric, comparable ones first.

    A task of which the data held no rows (n = 0) has no row. A row that differs from most of its
    task's rows in task version, profile, sandbox level, data or scored ids is marked as not
    comparable and has no rank.

    The baseline of an adapter's row is a complete run of the same base model (id, revision,
    quantisation, and fingerprint where both are known) without adapter, on the same task, task
    version, number of shots, profile, sandbox level, data and items, that has the same metric.
    That of a base model with examples in its prompt is its zero-shot run on the same rows. Of
    several, one of the same dtype and decoding is preferred, then the newest; where dtype or
    decoding differ all the same, a mark says so. Without a baseline nothing is compared.

    The difference is that of the row's primary metric, a mean or a corpus score, by paired
    bootstrap over questions. Where runs differ in a seed only, they are compared together too, by
    bootstrap over questions and seeds. p-values are corrected by Holm over the configurations of
    the board, demonstrations apart. Seeds that cannot be compared together, since a run's samples
    are not there or the baseline is one of them, are tested one by one, and marked.

    Args:
        records: Of the runs.
        baseline: A run to compare all others with that are on its scale, in place of their own.
        costs: Asks for PSCP by these constants.
        cache: Keeps comparisons between calls; see :class:`peft_bench.comparison.Comparer`.
        more: Rows that no record is of; compared with nothing.

    Raises:
        UsageError: no run has the baseline's name.
    """
    entries = tuple(
        Entry(record, task, folder)
        for record, folder in records
        for task in record.tasks
        if task.scores
    )
    if baseline is not None and all(entry.record.name != baseline for entry in entries):
        raise UsageError(
            place=f"--baseline {baseline}",
            problem="no run has that name",
            remedy=_names_near(baseline, entries),
        )
    with collector_paused():
        return _board(entries, baseline, costs, Comparer(cache), more)


def _board(
    entries: tuple[Entry, ...],
    baseline: str | None,
    costs: PscpConstants | None,
    comparer: Comparer,
    more: Sequence[LeaderboardRow],
) -> Board:
    baselines = Baselines(entries, baseline)
    first = ((baselines.of(entry)[:1], entry) for entry in entries)
    comparer.prepare((base[0], entry) for base, entry in first if base)
    found = {id(e): Difference(*compared(comparer, baselines, [e])) for e in entries}
    seeds: dict[int, Seeds] = {}
    for group in seed_groups(entries):
        difference = Difference(*compared(comparer, baselines, group))
        together = Seeds(tuple(group), comparer.band(group), difference)
        seeds |= {id(entry): together for entry in group}
    odd = odd_ones(entries)
    p_values = corrected(entries, found, seeds)
    rows = [
        make_row(e, found[id(e)], seeds.get(id(e)), odd.get(id(e)), p_values.get(id(e)), costs)
        for e in entries
    ]
    comparer.save()
    runs = {id(row): entry for row, entry in zip(rows, entries, strict=True)}
    return Board(ranked([*rows, *more]), entries, comparer, baseline, runs)


def compare_runs(
    board: Board, pairs: Sequence[tuple[str, str]], metric: str | None = None
) -> list[Compared]:
    """Any two runs on each task that both have: the second minus the first.

    p-values are corrected by Holm over all that was asked for.

    Args:
        board: That has both.
        pairs: Names of runs.
        metric: In place of the task's primary one.

    Raises:
        UsageError: a name that no run or several have, or two runs without a task in common.
    """
    asked: list[tuple[Entry, Entry, Outcome]] = []
    for first, second in pairs:
        left, right = (_named(board, name) for name in (first, second))
        common = [(a, b) for a in left for b in right if a.task.task == b.task.task]
        if not common:
            common = [(a, b) for a in left for b in right if a.data == b.data]
        if not common:
            raise UsageError(
                place=f"--compare {first} {second}",
                problem="they have no task in common",
                remedy="choose two rows of one task",
            )
        asked += [(a, b, board.comparer.pair(a, b, metric)) for a, b in common]
    board.comparer.save()
    p_values = [outcome.found.p_value for _, _, outcome in asked if outcome.found]
    corrected = iter(holm(p_values))
    return [
        Compared(
            task=b.task.task,
            metric=metric or b.metric,
            first=a.record.name,
            second=b.record.name,
            found=outcome.found,
            p_holm=next(corrected) if outcome.found else None,
            marks=tuple(filter(None, (outcome.problem, *odd_ones([a, b]).values()))),
        )
        for a, b, outcome in asked
    ]


def write_csv(rows: Sequence[LeaderboardRow], path: Path) -> None:
    """Writes the rows as CSV, the whole file or none of it; see :func:`to_csv`."""
    write_text(path, to_csv(rows))


def write_markdown(
    rows: Sequence[LeaderboardRow], path: Path, *, baseline: str | None = None
) -> None:
    """Writes the rows as Markdown, the whole file or none of it; see :func:`to_markdown`."""
    write_text(path, to_markdown(rows, baseline=baseline))


def write_html(
    rows: Sequence[LeaderboardRow],
    path: Path,
    *,
    title: str = "Leaderboard",
    board: Board | None = None,
) -> None:
    """Writes the rows as one web page, the whole file or none of it; see :func:`render_html`.

    With the board, the page has the problems and answers of some of its runs.
    """
    explored: Sequence[Explored] = explore(board.entries, rows) if board else ()
    baseline = board.baseline if board else None
    write_text(path, render_html(rows, title=title, explored=explored, baseline=baseline))


def _named(board: Board, name: str) -> list[Entry]:
    found = [entry for entry in board.entries if entry.record.name == name]
    folders = sorted({str(entry.folder) for entry in found})
    if len(folders) != 1:
        problem = f"{len(folders)} runs have that name"
        remedy = f"leave all but one folder out: {', '.join(folders)}"
        if not folders:
            problem, remedy = "no run has that name", _names_near(name, board.entries)
        raise UsageError(place=f"--compare {name}", problem=problem, remedy=remedy)
    return found


def _names_near(name: str, entries: Iterable[Entry]) -> str:
    """What else could be meant."""
    names = sorted({entry.record.name for entry in entries})
    near = difflib.get_close_matches(name, names)
    if near:
        return f"did you mean {', '.join(map(printable, near))}?"
    more = f" and {len(names) - _NAMED} more" if len(names) > _NAMED else ""
    return f"the runs are: {', '.join(map(printable, names[:_NAMED]))}{more}"
