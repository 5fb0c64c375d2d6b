"""The leaderboard as Markdown (GitHub's tables)."""

from __future__ import annotations

import re
from collections.abc import Sequence
from itertools import groupby

from peft_bench.report import text
from peft_bench.report.row import LeaderboardRow

_HEADER = ("Run", "Model", "Method", "Score", "Difference [95 %]", "p", "Trainable", "Marks")
_RULE = (":--", ":--", ":--", "--:", "--:", "--:", "--:", ":--")
_SPECIAL = re.compile(r"([\\`*_\[\]<>|~&])")


def to_markdown(rows: Sequence[LeaderboardRow]) -> str:
    """A table a task, in the rows' order; scores out of 100, differences in points.

    Names and marks show as they are: markup, links, mentions and HTML in them are escaped.
    """
    parts = ["# Leaderboard\n"]
    if not rows:
        parts.append("No runs.\n")
    for (task, version, metric), group in groupby(
        rows, key=lambda row: (row.task, row.task_version, row.primary_metric)
    ):
        members = list(group)
        sizes = sorted({row.n for row in members})
        n = str(sizes[0]) if len(sizes) == 1 else f"{sizes[0]} to {sizes[-1]}"
        parts.append(
            f"## {_escape(task)}\n\n{_escape(metric)}, in %; task version {_escape(version)}, "
            f"n = {n}\n"
        )
        lines = [_HEADER, _RULE, *(_line(row) for row in members)]
        parts.append("".join(f"| {' | '.join(line)} |\n" for line in lines))
    parts.append(
        f"Scores are shown with {text.PLUS_MINUS} one standard error. A difference is from the "
        "base model on the same items, in points, with its 95 % interval and p by paired "
        "bootstrap over questions.\n"
    )
    return "\n".join(parts)


def _line(row: LeaderboardRow) -> tuple[str, ...]:
    return (
        _escape(row.run),
        _escape(row.model),
        _escape(text.method(row)),
        text.score(row),
        _escape(text.difference(row)),
        _escape(text.p_value(row.difference_p)),
        text.count(row.trainable_parameters),
        _escape("; ".join(text.remarks(row))),
    )


def _escape(value: str) -> str:
    escaped = _SPECIAL.sub(r"\\\1", text.printable(value))
    # GitHub links addresses and mentions in plain text; an entity in their midst stops it.
    escaped = escaped.replace("://", ":&#47;&#47;").replace("www.", "www&#46;")
    return re.sub(r"(?<!\w)@(?=\w)", "&#64;", escaped)
