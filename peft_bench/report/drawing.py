"""What the page's plots are drawn with: lines, texts and marks of SVG, round numbers on axes."""

from __future__ import annotations

import math
from collections.abc import Sequence

from peft_bench.report import text
from peft_bench.report.markup import Markup, join, tag
from peft_bench.report.row import LeaderboardRow

SERIES = 10  # as many colours as can be told apart
Z95 = 1.96  # two-sided 95 % of a normal distribution


def short_names(models: Sequence[str]) -> dict[str, str]:
    """The last part of each id, where that tells them apart."""
    last = {model: model.rstrip("/").rpartition("/")[2] or model for model in models}
    return last if len(set(last.values())) == len(models) else {model: model for model in models}


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


def score_ticks(rows: Sequence[LeaderboardRow]) -> list[float]:
    """From 0 to the end of the longest bar, out of 100; at least to 1, when all scores are 0."""
    return nice_ticks(0.0, max(0.01, *(interval(row)[1] for row in rows)) * 100)


def tick_label(shown: str) -> str:
    """A quantity without idle zeros: ``2 GiB`` for ``2.00 GiB``."""
    number, blank, unit = shown.partition(" ")
    if "." in number:
        number = number.rstrip("0").rstrip(".")
    return f"{number}{blank}{unit}"


def interval(row: LeaderboardRow) -> tuple[float, float]:
    """The score's 95 % interval by its standard error, as shares, cut at 0 and 1."""
    reach = Z95 * (row.primary_stderr or 0.0)
    return max(0.0, row.primary_value - reach), min(1.0, row.primary_value + reach)


def kind_of(row: LeaderboardRow) -> str:
    """The classes of a run's mark."""
    kind = "base" if row.method == "none" else "adapter"
    if not row.comparable:
        kind += " odd"
    return f"{kind} demonstration" if row.demonstration else kind


def mark(row: LeaderboardRow, x: float, y: float, colour: int | None = None) -> Markup:
    """A square for the base model, a disc for an adapter; hollow for a demonstration."""
    class_ = f"mark {kind_of(row)}" + ("" if colour is None else f" c{colour}")
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
