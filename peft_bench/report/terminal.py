"""The leaderboard as a compact table for the terminal."""

from __future__ import annotations

from collections.abc import Sequence

from peft_bench.report import text
from peft_bench.report.row import Compared, LeaderboardRow

_HEADER = (
    *("task", "#", "run", "model", "method", "n", "score in %", "PSCP", "over seeds"),
    *("difference [95 %]", "p", "p (Holm)", "marks"),
)
_FROM = "second - first [95 %]"
_RIGHT = {
    *("#", "n", "score in %", "PSCP", "over seeds", "difference [95 %]", _FROM, "p", "p (Holm)")
}
_COMPARED = ("task", "metric", "first", "second", _FROM, "p", "p (Holm)", "marks")
_WIDEST = 36


def format_table(rows: Sequence[LeaderboardRow]) -> str:
    """A line a row; a task is named once. Long names are cut, but remarks and a run's name never.

    Runs are asked for by name (``--compare``), so it must be there to copy.
    Control characters in names cannot steer the terminal.
    """
    if not rows:
        return "no runs\n"
    lines = [_HEADER]
    last = None
    for row in rows:
        task = text.printable(f"{row.task} v{row.task_version}")
        lines.append(
            (
                "" if task == last else _cut(task),
                "" if row.rank is None else str(row.rank),
                text.printable(row.run),
                _cut(text.model(row.model)),
                _cut(text.method(row)),
                "" if row.n is None else str(row.n),
                f"{text.printable(row.primary_metric)} {text.score(row)}",
                "" if row.pscp is None else text.percent(row.pscp),
                text.seeds(row),
                text.difference(row),
                text.p_value(text.tested_p(row)),
                text.p_value(row.difference_p_holm),
                "; ".join(text.remarks(row)),
            )
        )
        last = task
    return _aligned(lines)


def format_comparisons(compared: Sequence[Compared]) -> str:
    """A line a task of two runs compared on request; differences in points out of 100."""
    lines: list[tuple[str, ...]] = [_COMPARED]
    for one in compared:
        found = one.found
        shown = text.interval(found.difference, found.low, found.high) if found else ""
        lines.append(
            (
                *(text.printable(value) for value in (one.task, one.metric, one.first, one.second)),
                shown,
                text.p_value(found.p_value if found else None),
                text.p_value(one.p_holm),
                text.printable("; ".join(one.marks)),
            )
        )
    return _aligned(lines)


def _aligned(lines: Sequence[tuple[str, ...]]) -> str:
    """Columns side by side, those without a value left out; the first line is the head."""
    header = lines[0]
    kept = [i for i in range(len(header)) if any(line[i] for line in lines[1:])]
    widths = {i: max(len(line[i]) for line in lines) for i in kept}
    return "".join(
        "  ".join(
            line[i].rjust(widths[i]) if header[i] in _RIGHT else line[i].ljust(widths[i])
            for i in kept
        ).rstrip()
        + "\n"
        for line in lines
    )


def _cut(name: str) -> str:
    return name if len(name) <= _WIDEST else f"{name[: _WIDEST - 1]}\N{HORIZONTAL ELLIPSIS}"
