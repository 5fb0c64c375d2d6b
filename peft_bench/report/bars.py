"""Bars in groups: scores by method and model, approaches side by side, memory by method."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from peft_bench.report import text
from peft_bench.report.drawing import (
    SERIES,
    Z95,
    describe,
    nice_ticks,
    short_names,
    svg,
    svg_line,
    svg_text,
    tick_label,
)
from peft_bench.report.markup import Markup, join, tag
from peft_bench.report.row import LeaderboardRow, natural_key

Rows = Sequence[LeaderboardRow]

_GROUPS = 12
_BAR, _SPACE, _BETWEEN = 22, 4, 30
_LEFT, _TOP, _HEIGHT, _BOTTOM = 52, 20, 210, 34
_LETTER = 6.6  # width of a label's letter

APPROACHES = ("zero-shot", "in-context", "retrieval", "full fine-tuning", "adapter")


@dataclass(frozen=True)
class Bar:
    """A value with its interval, in the plot's unit, and what is said of it on pointing."""

    value: float
    low: float
    high: float
    title: str
    shown: str


Groups = dict[str, dict[str, LeaderboardRow]]  # by group, by series
Bars = dict[str, dict[str, Bar]]


def method_bars(rows: Rows, page: Sequence[str] = ()) -> Markup | None:
    """Scores by model and method; None with fewer than two methods.

    ``page`` are all methods of the page, each of which keeps its colour from plot to plot.
    """
    groups = _groups(rows, text.method)
    series = methods_of(rows)
    title = f"{rows[0].primary_metric} by model and method"
    return _figure(groups, series, _score_bar, title, page)


def approach_bars(rows: Rows) -> Markup | None:
    """The best run of each approach side by side; None with fewer than three approaches."""
    groups = _groups(rows, lambda row: row.approach)
    series = [name for name in APPROACHES if any(name in bars for bars in groups.values())]
    if len(series) < 3:
        return None
    title = f"{rows[0].primary_metric}: examples, retrieval and tuning (the best run of each)"
    return _figure(groups, series, _score_bar, title, APPROACHES)


def memory_bars(rows: Rows, page: Sequence[str] = ()) -> Markup | None:
    """Peak memory in training by model and method; None with fewer than two methods."""
    known = [row for row in rows if row.train_peak_bytes]
    if not known:
        return None
    unit = 2**30 if max(row.train_peak_bytes or 0 for row in known) >= 2**30 else 2**20
    name = "GiB" if unit == 2**30 else "MiB"

    def bar(row: LeaderboardRow) -> Bar:
        value = (row.train_peak_bytes or 0) / unit
        shown = text.size(row.train_peak_bytes)
        # No more digits than fit over a bar.
        digits = 2 if value < 10 else 1 if value < 100 else 0
        title = f"{row.run}: {shown}, {text.method(row)}"
        return Bar(value, value, value, title, f"{value:.{digits}f}")

    groups = _groups(known, text.method, lowest=True)
    methods = methods_of(rows)
    series = [method for method in methods if any(method in g for g in groups.values())]
    title = f"Peak memory in training, {name}"
    return _figure(groups, series, bar, title, page or methods)


def comparable_rows(rows: Iterable[LeaderboardRow]) -> list[LeaderboardRow]:
    """Those that bars may put side by side: ranked, and of the first one's rules and items."""
    ranked = [row for row in rows if row.rank is not None]
    if not ranked:
        return []
    first = min(ranked, key=lambda row: row.task)

    def rules(row: LeaderboardRow) -> tuple[object, ...]:
        return row.primary_metric, row.n, row.profile, row.sandbox_level, row.custom_data

    return [row for row in ranked if rules(row) == rules(first)]


def _groups(
    rows: Rows,
    series: Callable[[LeaderboardRow], str],
    *,
    lowest: bool = False,
) -> Groups:
    """The best run of each model and series; of memory the lowest."""
    models = sorted({row.model for row in rows}, key=natural_key)
    best: dict[tuple[str, str], tuple[float, LeaderboardRow]] = {}
    for row in rows:
        key, value = (row.model, series(row)), _height(row, lowest)
        if key not in best or value > best[key][0]:
            best[key] = value, row
    names = short_names(models)
    groups: Groups = {names[model]: {} for model in models}
    for (model, name), (_, row) in best.items():
        groups[names[model]][name] = row
    return groups


def _height(row: LeaderboardRow, memory: bool) -> float:
    """What the best of several bars has the most of."""
    if memory:
        return -(row.train_peak_bytes or 0)
    return row.primary_value if row.seeds_mean is None else row.seeds_mean


def methods_of(rows: Rows) -> list[str]:
    """Base models first, then by approach and name."""
    order = {name: i for i, name in enumerate(APPROACHES)}
    approaches = {text.method(row): order.get(row.approach, len(order)) for row in rows}
    return sorted(approaches, key=lambda name: (approaches[name], natural_key(name)))


def _score_bar(row: LeaderboardRow) -> Bar:
    if row.seeds_mean is not None and row.seeds_low is not None and row.seeds_high is not None:
        low, high, value = row.seeds_low, row.seeds_high, row.seeds_mean
        title = f"{describe(row)}; over seeds {text.seeds(row)}"
    else:
        reach = Z95 * (row.primary_stderr or 0.0)
        value = row.primary_value
        low, high, title = max(0.0, value - reach), min(1.0, value + reach), describe(row)
    return Bar(100 * value, 100 * low, 100 * high, title, text.percent(value))


def _figure(
    groups: Groups,
    series: Sequence[str],
    bar: Callable[[LeaderboardRow], Bar],
    title: str,
    of: Sequence[str] = (),
) -> Markup | None:
    """The bars; ``of`` are the series of another plot whose colours these keep."""
    if len(series) < 2:
        return None
    left_out = [f"{len(series) - SERIES} methods"] if len(series) > SERIES else []
    if len(groups) > _GROUPS:
        left_out.append(f"{len(groups) - _GROUPS} models")
    order = of if set(series) <= set(of) else series
    colours = {name: i % SERIES for i, name in enumerate(order)}
    series = series[:SERIES]
    drawn = {
        name: {one: bar(row) for one, row in runs.items()}
        for name, runs in list(groups.items())[:_GROUPS]
        if set(runs) & set(series)
    }
    caption = f"{title} (left out: {', '.join(left_out)})" if left_out else title
    legend = tag(
        "ul",
        *(tag("li", tag("i", class_=f"key s{colours[name]}"), name) for name in series),
        class_="legend",
    )
    plot = _plot(drawn, {name: colours[name] for name in series}, title)
    return tag("figure", tag("figcaption", caption), legend, plot, class_="bars")


def _plot(groups: Bars, series: dict[str, int], title: str) -> Markup:
    highest = max(bar.high for bars in groups.values() for bar in bars.values())
    ticks = nice_ticks(0.0, max(0.01, highest) if highest else 1.0)
    low = _TOP + _HEIGHT
    parts: list[Markup] = []
    x = float(_LEFT + 12)
    spans = []
    for name, bars in groups.items():
        shown = [(i, bars[one]) for one, i in series.items() if one in bars]
        width = max(len(shown) * (_BAR + _SPACE) - _SPACE, _LETTER * min(len(name), 28))
        start = x + (width - len(shown) * (_BAR + _SPACE) + _SPACE) / 2
        spans.append((name, x + width / 2))
        for place, (i, bar) in enumerate(shown):
            parts.append(_bar(bar, i, start + place * (_BAR + _SPACE), low, ticks[-1]))
        x += width + _BETWEEN
    right = max(x - _BETWEEN + 12, 320.0)
    grid = []
    for at in ticks:
        y = low - at / ticks[-1] * _HEIGHT
        grid.append(svg_line(_LEFT, y, right, y, "grid" if at else "axis"))
        grid.append(svg_text(_LEFT - 8, y + 4, tick_label(f"{at:g}"), "tick", "end"))
    labels = [
        svg_text(at, low + 20, name if len(name) <= 28 else f"{name[:27]}\u2026", "label", "middle")
        for name, at in spans
    ]
    return svg(right, low + _BOTTOM, title, [*grid, *parts, *labels], class_="fixed")


def _bar(bar: Bar, series: int, x: float, low: float, highest: float) -> Markup:
    def y(value: float) -> float:
        return low - value / highest * _HEIGHT

    middle = x + _BAR / 2
    interval: str | Markup = ""
    if bar.high > bar.low:
        interval = join(
            svg_line(middle, y(bar.low), middle, y(bar.high), "whisker"),
            svg_line(middle - 4, y(bar.low), middle + 4, y(bar.low), "whisker"),
            svg_line(middle - 4, y(bar.high), middle + 4, y(bar.high), "whisker"),
        )
    return tag(
        "g",
        tag("title", bar.title),
        tag(
            "rect", x=x, y=y(bar.value), width=_BAR, height=low - y(bar.value), class_=f"s{series}"
        ),
        interval,
        svg_text(middle, y(bar.high) - 5, bar.shown, "value", "middle"),
    )
