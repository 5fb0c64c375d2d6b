"""Scores against what they cost, drawn as SVG, with the runs that no other beats."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from peft_bench.report import text
from peft_bench.report.drawing import (
    SERIES,
    describe,
    mark,
    nice_ticks,
    score_ticks,
    short_names,
    svg,
    svg_line,
    svg_text,
    tick_label,
)
from peft_bench.report.markup import Markup, tag
from peft_bench.report.row import LeaderboardRow, natural_key

_MARKS = 60  # runs in a plot of scores against cost
_SCATTER_WIDTH, _SCATTER_HEIGHT = 400, 280
_MARGIN_LEFT, _MARGIN_RIGHT, _MARGIN_TOP, _MARGIN_BOTTOM = 44, 36, 16, 28
# Where a label may stand from its mark: right, left, above, below, above to the right.
_BESIDE = (
    (12, 4, "start"),
    (-12, 4, "end"),
    (0, -13, "middle"),
    (0, 20, "middle"),
    (2, -12, "start"),
)


@dataclass(frozen=True)
class Cost:
    """What a score can be plotted against."""

    name: str
    of: Callable[[LeaderboardRow], int | None]
    show: Callable[[int], str]
    logarithmic: bool


COSTS = (
    Cost("trainable parameters", lambda row: row.trainable_parameters, text.count, True),
    Cost("peak memory in training", lambda row: row.train_peak_bytes, text.size, False),
)


def cost_plot(rows: Sequence[LeaderboardRow], cost: Cost) -> Markup | None:
    """The runs' scores against a cost, a colour a base model.

    None where fewer than two runs have told theirs.
    """
    known = [(row, value) for row in rows if row.comparable and (value := cost.of(row))]
    if len(known) < 2:
        return None
    front = {id(row) for row in pareto(known)}
    # The best of many, and always those that no other beats.
    known = [(row, value) for i, (row, value) in enumerate(known) if i < _MARKS or id(row) in front]
    values = [value for _, value in known]
    positions = _log_ticks(values) if cost.logarithmic else _byte_ticks(max(values))
    scores = [tick / 100 for tick in score_ticks([row for row, _ in known])]
    right, low = _SCATTER_WIDTH - _MARGIN_RIGHT, _SCATTER_HEIGHT - _MARGIN_BOTTOM

    def x(value: float) -> float:
        if cost.logarithmic:
            first, last = math.log(positions[0]), math.log(positions[-1])
            share = (math.log(value) - first) / (last - first)
        else:
            share = value / positions[-1]
        return _MARGIN_LEFT + share * (right - _MARGIN_LEFT)

    def y(share: float) -> float:
        return low - share / scores[-1] * (low - _MARGIN_TOP)

    parts = []
    for share in scores:
        parts.append(
            svg_line(_MARGIN_LEFT, y(share), right, y(share), "axis" if not share else "grid")
        )
        parts.append(svg_text(_MARGIN_LEFT - 8, y(share) + 4, f"{share * 100:g}", "tick", "end"))
    for at in positions:
        parts.append(svg_line(x(at), low, x(at), low + 4, "axis"))
        parts.append(svg_text(x(at), low + 18, tick_label(cost.show(round(at))), "tick", "middle"))
    points = [(row, x(value), y(row.primary_value)) for row, value in known]
    steps = sorted((px, py) for row, px, py in points if id(row) in front)
    if len(steps) > 1:
        path = " ".join(f"{px:g},{py:g}" for px, py in steps)
        parts.append(tag("polyline", points=path, class_="front"))
    colours = _model_colours([row for row, _ in known])
    parts += _points(points, right, low, colours)
    metric = f"{rows[0].primary_metric} against {cost.name}"
    plot = svg(_SCATTER_WIDTH, _SCATTER_HEIGHT, f"{metric} on {rows[0].task}", parts)
    note = " (log scale)" if cost.logarithmic else ""
    return tag("figure", tag("figcaption", metric + note), _model_legend(colours), plot)


def _model_colours(rows: Sequence[LeaderboardRow]) -> dict[str, int]:
    """A colour a model where there are several, and as many as there are colours for."""
    names = sorted({row.model for row in rows}, key=natural_key)
    # The first colour is grey.
    return {name: i for i, name in enumerate(names, 1)} if 1 < len(names) < SERIES else {}


def _model_legend(colours: dict[str, int]) -> Markup | str:
    names = short_names(list(colours))
    items = [
        tag("li", tag("i", class_=f"key s{i}"), text.printable(names[model]))
        for model, i in colours.items()
    ]
    return tag("ul", *items, class_="legend") if items else ""


def pareto(known: Sequence[tuple[LeaderboardRow, int]]) -> list[LeaderboardRow]:
    """The runs that no other run beats: none scores higher for as much or less."""
    front: list[LeaderboardRow] = []
    best = -math.inf
    for row, _ in sorted(known, key=lambda pair: (pair[1], -pair[0].primary_value)):
        if row.primary_value > best:
            best = row.primary_value
            front.append(row)
    return front


def _log_ticks(values: Sequence[int]) -> list[float]:
    """Powers of ten around the values; never fewer than two."""
    first = math.floor(math.log10(min(values)))
    last = max(math.ceil(math.log10(max(values))), first + 1)
    return [10.0**power for power in range(first, last + 1)]


def _byte_ticks(highest: int) -> list[float]:
    """From 0, round in the binary unit of the highest value."""
    unit = 1024 ** min(int(math.log(highest, 1024)), 4)
    return [tick * unit for tick in nice_ticks(0, highest / unit)]


def _points(
    points: Sequence[tuple[LeaderboardRow, float, float]],
    right: float,
    low: float,
    colours: dict[str, int],
) -> list[Markup]:
    """The marks, and labels beside those where one fits without covering another."""
    taken = [(px - 8, py - 8, px + 8, py + 8) for _, px, py in points]
    taken.append((0.0, low + 2, _SCATTER_WIDTH, _SCATTER_HEIGHT))  # the axis' own labels
    drawn = []
    for row, px, py in points:
        name = text.method(row)
        width = 6.6 * len(name)
        label: str | Markup = ""
        # A label that fits nowhere is left to the mark's title.
        for dx, dy, anchor in _BESIDE:
            start = px + dx - {"start": 0.0, "middle": width / 2, "end": width}[anchor]
            box = (start, py + dy - 11, start + width, py + dy + 3)
            if box[0] < _MARGIN_LEFT or box[2] > right + _MARGIN_RIGHT or _overlaps(box, taken):
                continue
            taken.append(box)
            label = svg_text(px + dx, py + dy, name, "label", anchor)
            break
        disc = mark(row, px, py, colours.get(row.model))
        drawn.append(tag("g", tag("title", describe(row)), disc, label))
    return drawn


def _overlaps(
    box: tuple[float, float, float, float], others: Sequence[tuple[float, float, float, float]]
) -> bool:
    return any(
        box[0] < other[2] and other[0] < box[2] and box[1] < other[3] and other[1] < box[3]
        for other in others
    )
