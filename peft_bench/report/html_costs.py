"""The web page's table of costs: what each method took, over the models and tasks of the board."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

from peft_bench.report import text
from peft_bench.report.markup import Markup, tag
from peft_bench.report.row import LeaderboardRow

Rows = Sequence[LeaderboardRow]


def render_costs(rows: Rows) -> Markup:
    """A line a model and method that was trained: the range over its adapters.

    An adapter that was scored on several tasks counts once, but for the evaluation's time.
    """
    groups: dict[tuple[str, str], list[LeaderboardRow]] = {}
    for row in rows:
        if row.adapter is not None or row.train_wall_s is not None:
            groups.setdefault((row.model, text.method(row)), []).append(row)
    if not groups:
        return Markup("")
    heads = (
        *("Model", "Method", "Adapters", "Trainable", "Adapter size", "Training", "Tokens/s"),
        *("Peak memory", "Reserved", "Evaluation"),
    )
    lines = [
        tag(
            "tr",
            tag("th", text.model(model), scope="row"),
            tag("td", method),
            *(tag("td", cell, class_="number") for cell in _cells(members)),
        )
        for (model, method), members in sorted(groups.items())
    ]
    total = sum(row.train_wall_s or 0.0 for row in _adapters(rows))
    return tag(
        "section",
        tag("h2", "What it cost"),
        tag("p", f"Training took {text.duration(total)} in all.", class_="note") if total else "",
        tag(
            "div",
            tag(
                "table",
                tag(
                    "thead",
                    tag(
                        "tr",
                        *(
                            tag("th", head, scope="col", class_="number" if i > 1 else None)
                            for i, head in enumerate(heads)
                        ),
                    ),
                ),
                tag("tbody", *lines),
                class_="plain",
            ),
            class_="scroll",
            tabindex="0",
            role="region",
            aria_label="What it cost",
        ),
    )


def _adapters(rows: Iterable[LeaderboardRow]) -> list[LeaderboardRow]:
    """One row an adapter."""
    return list({row.adapter_sha256 or row.run: row for row in rows}.values())


def _cells(rows: Rows) -> list[str]:
    each = _adapters(rows)
    evaluations = {row.run: row.eval_wall_s for row in rows}
    return [
        str(len(each)),
        _range((row.trainable_parameters for row in each), text.count),
        _range((row.adapter_bytes for row in each), text.size),
        _range((row.train_wall_s for row in each), text.duration),
        _range((row.train_tokens_per_s for row in each), lambda value: f"{value:,.0f}"),
        _range((row.train_peak_bytes for row in each), text.size),
        _range((row.reserved_peak_bytes for row in each), text.size),
        _range(evaluations.values(), text.duration),
    ]


def _range(values: Iterable[float | None], show: Callable[..., str]) -> str:
    known = [value for value in values if value is not None]
    if not known:
        return ""
    low, high = show(min(known)), show(max(known))
    return low if low == high else f"{low} {text.DASH} {high}"
