"""What `peft-bench fit` shows: a table for the terminal, JSON, and Figure 1 as a plot."""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from peft_bench.fit.search import CONTEXT_BYTES, CUBLAS_BYTES, Case, Refused, sentence
from peft_bench.report import text
from peft_bench.report.markup import Markup, join, tag

_HEADER = (
    "method", "length", "micro", "weights", "trained", "gradients", "optimiser", "activations",
    "needs", "",
)  # fmt: skip
_LEFT = {"method", ""}

_STYLE = """
svg { background: #fff; font: 13px system-ui, "Liberation Sans", sans-serif; }
text { fill: #1b1f24; } .tick { fill: #5d6570; font-size: 12px; }
.grid { stroke: #e1e4e8; } .axis { stroke: #5d6570; }
.limit { stroke: #8a5a00; stroke-dasharray: 5 4; } .limit-label { fill: #8a5a00; }
.mark { stroke-width: 2; fill: #fff; } .fits { fill: currentColor; }
.s0 { color: #5d6570; stroke: #5d6570; } .s1 { color: #1f5fae; stroke: #1f5fae; }
.s2 { color: #3f8f5f; stroke: #3f8f5f; } .s3 { color: #a3485f; stroke: #a3485f; }
.s4 { color: #7a58b0; stroke: #7a58b0; } .s5 { color: #b07818; stroke: #b07818; }
"""
_SERIES = 6
_WIDTH, _LINE, _LABELS, _TOP, _BOTTOM, _RIGHT = 860, 34, 190, 56, 44, 40


@dataclass(frozen=True, slots=True)
class Model:
    """A model's name, the parameters of its base, and its cases."""

    name: str
    parameters: int
    cases: tuple[Case | Refused, ...]


def name_of(case: Case | Refused) -> str:
    """``lora, 4bit``."""
    return f"{case.method}, {case.quantization}" if case.quantization else case.method


def format_table(models: Sequence[Model]) -> str:
    """A paragraph a model: what the largest micro batch that fits needs, else the smallest one."""
    blocks = []
    for model in models:
        lines = [_HEADER, *(_line(case) for case in model.cases)]
        widths = [max(len(line[i]) for line in lines) for i in range(len(_HEADER))]
        shown = "\n".join(
            "  ".join(
                cell.ljust(width) if name in _LEFT else cell.rjust(width)
                for cell, width, name in zip(line, widths, _HEADER, strict=True)
            ).rstrip()
            for line in lines
        )
        title = f"{text.printable(model.name)}, {text.count(model.parameters)} parameters"
        blocks.append(f"{title}\n{shown}\n")
    return "\n".join(blocks)


def _line(case: Case | Refused) -> tuple[str, ...]:
    if isinstance(case, Refused):
        return name_of(case), str(case.length), *[""] * 7, f"no: {text.printable(case.reason)}"
    shown = case.best or case.least
    parts = (
        shown.weights_bytes, shown.trained_bytes, shown.gradient_bytes, shown.optimizer_bytes,
        shown.activation_bytes, shown.needed_bytes,
    )  # fmt: skip
    return (
        name_of(case),
        str(case.length),
        f"{shown.micro_batch_size} of {case.batch_size}",
        *(text.size(part) for part in parts),
        sentence(case).partition(":")[0].partition(" at ")[0],
    )


def to_json(models: Sequence[Model]) -> str:
    """Every figure in bytes, with the constants that they hold."""
    plain: dict[str, Any] = {
        "context_bytes": CONTEXT_BYTES,
        "cublas_bytes": CUBLAS_BYTES,
        "models": [
            {
                "name": model.name,
                "parameters": model.parameters,
                "cases": [_plain(case) for case in model.cases],
            }
            for model in models
        ],
    }
    return json.dumps(plain, indent=2) + "\n"


def _plain(case: Case | Refused) -> dict[str, Any]:
    answer = {"answer": sentence(case) if isinstance(case, Case) else f"no: {case.reason}"}
    return dataclasses.asdict(case) | answer


def svg(models: Sequence[Model]) -> Markup:
    """A line a model, a mark a method: the memory of the whole batch in one piece, log scale.

    A filled mark fits at some micro batch, a hollow one at none.
    """
    points = [
        (row, case)
        for row, model in enumerate(models)
        for case in model.cases
        if isinstance(case, Case)
    ]
    names = list(dict.fromkeys(name_of(case) for _, case in points))
    limit = points[0][1].gpu_memory_bytes if points else 1024**3
    values = [limit, *(case.whole.needed_bytes for _, case in points)]
    low, high = math.floor(math.log2(min(values))), math.ceil(math.log2(max(values)) + 0.01)
    height = _TOP + _LINE * len(models) + _BOTTOM
    bottom = height - _BOTTOM

    def x(value: float) -> float:
        return _LABELS + (math.log2(value) - low) / (high - low) * (_WIDTH - _LABELS - _RIGHT)

    parts = [tag("style", Markup(_STYLE))]
    for power in range(low, high + 1):
        parts.append(_rule(x(2**power), bottom, "grid"))
        parts.append(_text(x(2**power), bottom + 18, _tick(2**power), "tick", "middle"))
    parts.append(_rule(x(limit), bottom, "limit"))
    parts.append(_text(x(limit), _TOP - 8, text.size(limit), "limit-label", "middle"))
    for series, name in enumerate(names):
        at = _LABELS + 150 * series
        parts.append(_mark(at, 14, series, filled=True))
        parts.append(_text(at + 12, 18, name, "label", "start"))
    for row, model in enumerate(models):
        y = _TOP + _LINE * (row + 0.5)
        parts.append(_text(_LABELS - 14, y + 4, text.printable(model.name), "label", "end"))
        for case in model.cases:
            if isinstance(case, Case):
                title = f"{model.name}, {name_of(case)}: {sentence(case)}"
                mark = _mark(
                    x(case.whole.needed_bytes), y, names.index(name_of(case)),
                    filled=case.best is not None,
                )  # fmt: skip
                parts.append(tag("g", tag("title", title), mark))
    return tag(
        "svg",
        tag("title", "Peak GPU memory in training (reckoned)"),
        join(*parts),
        xmlns="http://www.w3.org/2000/svg",
        viewBox=f"0 0 {_WIDTH} {height}",
        role="img",
    )


def html(models: Sequence[Model]) -> str:
    """A page with the plot and the table."""
    title = "What fits: peak GPU memory in training, reckoned"
    body = join(tag("h1", title), svg(models), tag("pre", Markup(_escaped(format_table(models)))))
    head = join(tag("meta", charset="utf-8"), tag("title", title))
    return f"<!doctype html>\n{tag('html', tag('head', head), tag('body', body), lang='en')}\n"


def _escaped(block: str) -> str:
    import html as escaping

    return escaping.escape(block)


def _tick(n_bytes: int) -> str:
    number, _, unit = text.size(n_bytes).partition(" ")
    return f"{number.rstrip('0').rstrip('.') if '.' in number else number} {unit}"


def _mark(x: float, y: float, series: int, *, filled: bool) -> Markup:
    class_ = f"mark s{series % _SERIES}{' fits' if filled else ''}"
    return tag("circle", cx=x, cy=y, r=5.5, class_=class_)


def _rule(x: float, bottom: float, class_: str) -> Markup:
    return tag("line", x1=x, y1=_TOP, x2=x, y2=bottom, class_=class_)


def _text(x: float, y: float, value: str, class_: str, anchor: str) -> Markup:
    return tag("text", value, x=x, y=y, class_=class_, text_anchor=anchor)
