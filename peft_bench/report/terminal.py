"""The leaderboard as a compact table for the terminal."""

from __future__ import annotations

from collections.abc import Sequence

from peft_bench.report import text
from peft_bench.report.row import LeaderboardRow

_HEADER = ("task", "run", "model", "method", "n", "score in %", "difference [95 %]", "p", "marks")
_RIGHT = {"n", "score in %", "difference [95 %]", "p"}
_WIDEST = 36


def format_table(rows: Sequence[LeaderboardRow]) -> str:
    """A line a row; a task is named once. Long names are cut, remarks never.

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
                _cut(text.printable(row.run)),
                _cut(text.printable(row.model)),
                _cut(text.method(row)),
                str(row.n),
                f"{text.printable(row.primary_metric)} {text.score(row)}",
                text.difference(row),
                text.p_value(row.difference_p),
                "; ".join(text.remarks(row)),
            )
        )
        last = task
    kept = [i for i in range(len(_HEADER)) if any(line[i] for line in lines[1:])]
    widths = {i: max(len(line[i]) for line in lines) for i in kept}
    return "".join(
        "  ".join(
            line[i].rjust(widths[i]) if _HEADER[i] in _RIGHT else line[i].ljust(widths[i])
            for i in kept
        ).rstrip()
        + "\n"
        for line in lines
    )


def _cut(name: str) -> str:
    return name if len(name) <= _WIDEST else f"{name[: _WIDEST - 1]}\N{HORIZONTAL ELLIPSIS}"
