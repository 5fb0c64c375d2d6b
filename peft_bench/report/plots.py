"""The page's list of scores with error bars, drawn as SVG."""

from __future__ import annotations

import re
from collections.abc import Sequence

from peft_bench.report import text
from peft_bench.report.drawing import (
    describe,
    interval,
    kind_of,
    mark,
    score_ticks,
    svg,
    svg_line,
    svg_text,
)
from peft_bench.report.markup import Markup, tag
from peft_bench.report.row import LeaderboardRow

_LEFT, _MIDDLE, _RIGHT = 270, 430, 140
_LINE = 28
_CHARS = 34  # of a label in the left column
_HASH = re.compile("--[0-9a-f]{8}$")


def score_plot(rows: Sequence[LeaderboardRow]) -> Markup:
    """A line a run: its score as a mark and 95 % as a bar; runs in the order given.

    The bar is the score plus and minus 1.96 standard errors, cut at 0 and 100.
    """
    top, bottom = 8, 30
    height = top + _LINE * len(rows) + bottom
    ticks = score_ticks(rows)
    scale = _MIDDLE / ticks[-1]

    def x(share: float) -> float:
        return _LEFT + share * 100 * scale

    parts = []
    for tick in ticks:
        at = _LEFT + tick * scale
        parts.append(svg_line(at, top, at, height - bottom, "axis" if tick == 0 else "grid"))
        parts.append(svg_text(at, height - bottom + 18, f"{tick:g}", "tick", "middle"))
    for i, row in enumerate(rows):
        y = top + _LINE * (i + 0.5)
        low, high = interval(row)
        parts.append(
            tag(
                "g",
                tag("title", describe(row)),
                svg_text(_LEFT - 12, y + 4, _label(row), "label", "end"),
                svg_line(x(low), y, x(high), y, f"bar {kind_of(row)}") if high > low else "",
                mark(row, x(row.primary_value), y),
                svg_text(_LEFT + _MIDDLE + 16, y + 4, text.score(row), "value", "start"),
            )
        )
    names = f"{rows[0].primary_metric} on {rows[0].task}"
    return svg(_LEFT + _MIDDLE + _RIGHT, height, f"Scores: {names}", parts)


def _label(row: LeaderboardRow) -> str:
    # Of a sweep's folders the hash, and the data that the plot is of, tell a reader nothing.
    run = _HASH.sub("", text.printable(row.run)).replace(f"--{row.task}", "")
    return run if len(run) <= _CHARS else f"{run[: _CHARS - 1]}\N{HORIZONTAL ELLIPSIS}"
