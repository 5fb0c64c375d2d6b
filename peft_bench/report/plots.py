"""The page's plots, drawn as SVG: scores with error bars, and scores against their cost."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from peft_bench.report import text
from peft_bench.report.markup import Markup, join, tag
from peft_bench.report.row import LeaderboardRow

_Z95 = 1.96  # two-sided 95 % of a normal distribution

_LEFT, _MIDDLE, _RIGHT = 250, 430, 140
_LINE = 28
_CHARS = 30  # of a label in the left column

_HASH = re.compile("--[0-9a-f]{8}$")

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


def score_plot(rows: Sequence[LeaderboardRow]) -> Markup:
    """A line a run: its score as a mark and 95 % as a bar; runs in the order given.

    The bar is the score plus and minus 1.96 standard errors, cut at 0 and 100.
    """
    top, bottom = 8, 30
    height = top + _LINE * len(rows) + bottom
    ticks = _score_ticks(rows)
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
        low, high = _bar(row)
        parts.append(
            tag(
                "g",
                tag("title", describe(row)),
                svg_text(_LEFT - 12, y + 4, _label(row), "label", "end"),
                svg_line(x(low), y, x(high), y, f"bar {_kind(row)}") if high > low else "",
                _mark(row, x(row.primary_value), y),
                svg_text(_LEFT + _MIDDLE + 16, y + 4, text.score(row), "value", "start"),
            )
        )
    names = f"{rows[0].primary_metric} on {rows[0].task}"
    return svg(_LEFT + _MIDDLE + _RIGHT, height, f"Scores: {names}", parts)


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
    """The runs' scores against a cost; None where fewer than two runs have told theirs."""
    known = [(row, value) for row in rows if row.comparable and (value := cost.of(row))]
    if len(known) < 2:
        return None
    front = {id(row) for row in pareto(known)}
    # The best of many, and always those that no other beats.
    known = [(row, value) for i, (row, value) in enumerate(known) if i < _MARKS or id(row) in front]
    values = [value for _, value in known]
    positions = _log_ticks(values) if cost.logarithmic else _byte_ticks(max(values))
    scores = [tick / 100 for tick in _score_ticks([row for row, _ in known])]
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
    parts += _points(points, right)
    metric = f"{rows[0].primary_metric} against {cost.name}"
    plot = svg(_SCATTER_WIDTH, _SCATTER_HEIGHT, f"{metric} on {rows[0].task}", parts)
    note = " (log scale)" if cost.logarithmic else ""
    return tag("figure", tag("figcaption", metric + note), plot)


def pareto(known: Sequence[tuple[LeaderboardRow, int]]) -> list[LeaderboardRow]:
    """The runs that no other run beats: none scores higher for as much or less."""
    front: list[LeaderboardRow] = []
    best = -math.inf
    for row, _ in sorted(known, key=lambda pair: (pair[1], -pair[0].primary_value)):
        if row.primary_value > best:
            best = row.primary_value
            front.append(row)
    return front


def describe(row: LeaderboardRow) -> str:
    """A run in a sentence, for those who point at its mark or have it read aloud."""
    said = [
        f"{row.run}: {row.primary_metric} {text.score(row)} %",
        text.method(row),
        text.model(row.model),
    ]
    counted = [] if row.n is None else [f"n = {row.n}"]
    return ", ".join([*said, *counted, *text.remarks(row)])


def nice_ticks(low: float, high: float) -> list[float]:
    """Round numbers 1, 2 or 5 times a power of ten apart, about five, the last not below high."""
    rough = (high - low) / 5
    power = 10 ** math.floor(math.log10(rough))
    step = next(factor * power for factor in (1, 2, 5, 10) if factor * power >= rough * 0.999)
    last = math.ceil((high - low) / step - 1e-9)
    return [round(low + i * step, 10) for i in range(last + 1)]


def _score_ticks(rows: Sequence[LeaderboardRow]) -> list[float]:
    """From 0 to the end of the longest bar, out of 100; at least to 1, when all scores are 0."""
    return nice_ticks(0.0, max(0.01, *(_bar(row)[1] for row in rows)) * 100)


def tick_label(shown: str) -> str:
    """A quantity without idle zeros: ``2 GiB`` for ``2.00 GiB``."""
    number, blank, unit = shown.partition(" ")
    if "." in number:
        number = number.rstrip("0").rstrip(".")
    return f"{number}{blank}{unit}"


def _log_ticks(values: Sequence[int]) -> list[float]:
    """Powers of ten around the values; never fewer than two."""
    first = math.floor(math.log10(min(values)))
    last = max(math.ceil(math.log10(max(values))), first + 1)
    return [10.0**power for power in range(first, last + 1)]


def _byte_ticks(highest: int) -> list[float]:
    """From 0, round in the binary unit of the highest value."""
    unit = 1024 ** min(int(math.log(highest, 1024)), 4)
    return [tick * unit for tick in nice_ticks(0, highest / unit)]


def _points(points: Sequence[tuple[LeaderboardRow, float, float]], right: float) -> list[Markup]:
    """The marks, and labels beside those where one fits without covering another."""
    taken = [(px - 8, py - 8, px + 8, py + 8) for _, px, py in points]
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
        drawn.append(tag("g", tag("title", describe(row)), _mark(row, px, py), label))
    return drawn


def _overlaps(
    box: tuple[float, float, float, float], others: Sequence[tuple[float, float, float, float]]
) -> bool:
    return any(
        box[0] < other[2] and other[0] < box[2] and box[1] < other[3] and other[1] < box[3]
        for other in others
    )


def _bar(row: LeaderboardRow) -> tuple[float, float]:
    reach = _Z95 * (row.primary_stderr or 0.0)
    return max(0.0, row.primary_value - reach), min(1.0, row.primary_value + reach)


def _kind(row: LeaderboardRow) -> str:
    kind = "base" if row.method == "none" else "adapter"
    if not row.comparable:
        kind += " odd"
    return f"{kind} demonstration" if row.demonstration else kind


def _label(row: LeaderboardRow) -> str:
    # Of a sweep's folders the hash, and the data that the plot is of, tell a reader nothing.
    run = _HASH.sub("", text.printable(row.run)).replace(f"--{row.task}", "")
    return run if len(run) <= _CHARS else f"{run[: _CHARS - 1]}\N{HORIZONTAL ELLIPSIS}"


def _mark(row: LeaderboardRow, x: float, y: float) -> Markup:
    """A square for the base model, a disc for an adapter; hollow for a demonstration."""
    class_ = f"mark {_kind(row)}"
    if row.method == "none":
        return tag("rect", x=x - 5, y=y - 5, width=10, height=10, class_=class_)
    return tag("circle", cx=x, cy=y, r=5.5, class_=class_)


def svg_line(x1: float, y1: float, x2: float, y2: float, class_: str) -> Markup:
    """A straight line."""
    return tag("line", x1=x1, y1=y1, x2=x2, y2=y2, class_=class_)


def svg_text(x: float, y: float, value: str, class_: str, anchor: str) -> Markup:
    """A text at a place, by its start, middle or end."""
    return tag("text", value, x=x, y=y, class_=class_, text_anchor=anchor)


def svg(
    width: float, height: float, title: str, parts: Sequence[Markup], class_: str | None = None
) -> Markup:
    """A drawing; of class ``fixed`` it is never wider than drawn."""
    return tag(
        "svg",
        tag("title", title),
        join(*parts),
        viewBox=f"0 0 {width:g} {height:g}",
        width=f"{width:g}" if class_ else None,
        class_=class_,
        role="img",
        aria_label=title,
    )
