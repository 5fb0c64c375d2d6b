"""The leaderboard as Markdown (GitHub's tables)."""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import lru_cache
from itertools import groupby

from peft_bench.report import text
from peft_bench.report.row import LeaderboardRow

_HEADER = (
    *("#", "Run", "Model", "Method", "Score", "Over seeds", "Difference [95 %]", "p (Holm)"),
    *("Trainable", "Peak memory", "Marks"),
)
_RULE = ("--:", ":--", ":--", ":--", "--:", "--:", "--:", "--:", "--:", "--:", ":--")
_MARKED = re.compile(r"[\\`*_\[\]<>|~&@/]|www\.")
_SPECIAL = re.compile(r"([\\`*_\[\]<>|~&])")


def to_markdown(rows: Sequence[LeaderboardRow], *, baseline: str | None = None) -> str:
    """A table a task, in the rows' order; scores out of 100, differences in points.

    Names and marks show as they are: markup, links, mentions and HTML in them are escaped.
    ``baseline`` is the run that differences are from, if it is not each row's base model.
    """
    parts = ["# Leaderboard\n"]
    if not rows:
        parts.append("No runs.\n")
    for (task, metric), group in groupby(rows, key=lambda row: (row.task, row.primary_metric)):
        members = list(group)
        version = ", ".join(dict.fromkeys(row.task_version for row in members))
        sizes = sorted({row.n for row in members if row.n is not None})
        n = "unknown" if not sizes else str(sizes[0])
        if len(sizes) > 1:
            n = f"{sizes[0]} to {sizes[-1]}"
        parts.append(
            f"## {escape(task)}\n\n{escape(metric)}, in %; task version {escape(version)}, "
            f"n = {n}\n"
        )
        lines = [_HEADER, _RULE, *(_line(row) for row in members)]
        parts.append("".join(f"| {' | '.join(line)} |\n" for line in lines))
    parts.append(
        f"Scores are shown with {text.PLUS_MINUS} one standard error. A difference is from "
        f"{escape(text.compared_with(baseline))} on the same items, in points, with its 95 % "
        "interval by paired bootstrap over questions; that of several seeds is of their mean, over "
        "questions and seeds. p is corrected by Holm for all differences on the board. A row "
        "without a rank is not comparable with the others of its task, or unfinished.\n"
    )
    if any(row.pscp is not None for row in rows):
        parts.append(f"{text.PSCP_NOTE} It is in the CSV file.\n")
    return "\n".join(parts)


def _line(row: LeaderboardRow) -> tuple[str, ...]:
    return (
        "" if row.rank is None else str(row.rank),
        escape(row.run),
        escape(text.model(row.model)),
        escape(text.method(row)),
        text.score(row),
        escape(text.seeds(row)),
        escape(text.difference(row)),
        escape(text.p_value(row.difference_p_holm)),
        text.count(row.trainable_parameters),
        text.size(row.train_peak_bytes),
        escape("; ".join(text.remarks(row))),
    )


@lru_cache(maxsize=1024)  # of a large table most cells are alike
def escape(value: str) -> str:
    """The text as it stands, whatever Markdown or GitHub would make of it."""
    value = text.printable(value)
    if not _MARKED.search(value):
        return value  # as most cells of a large table
    escaped = _SPECIAL.sub(r"\\\1", value)
    # GitHub links addresses and mentions in plain text; an entity in their midst stops it.
    escaped = escaped.replace("://", ":&#47;&#47;").replace("www.", "www&#46;")
    return re.sub(r"(?<!\w)@(?=\w)", "&#64;", escaped)
