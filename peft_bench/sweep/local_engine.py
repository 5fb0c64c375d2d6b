"""The cells one after the other in this process, those of one base together."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from peft_bench.sweep.driver import Failure, say
from peft_bench.sweep.identity import Planned
from peft_bench.sweep.layout import Layout

# The heavy modules are imported only if there is work: a finished sweep is told in a moment.


@dataclass
class Progress:
    """A line a cell, and what failed."""

    total: int
    told: int = 0
    failures: dict[str, Failure] = field(default_factory=dict)

    def line(self, cell: str, text: str, wall_s: float = 0.0) -> None:
        """Tells how a cell ended."""
        self.told += 1
        width = len(str(self.total))
        took = f", {wall_s:.0f} s" if wall_s else ""
        say(f"[{self.told:{width}}/{self.total}] {cell}: {text}{took}")

    def failed(self, cell: str, cause: str, log: Path | None, wall_s: float = 0.0) -> None:
        """Tells that a cell failed, and keeps it."""
        self.failures[cell] = Failure(cell, cause, log)
        self.line(cell, f"FAILED: {cause}", wall_s)


def work_off(work: Sequence[Planned], layout: Layout) -> list[Failure]:
    """Does every cell that is not done; returns those that failed."""
    progress = Progress(len(work))
    left = undone(work, layout, progress)
    if left:
        _do(left, layout, progress)
    return list(progress.failures.values())


def undone(work: Sequence[Planned], layout: Layout, progress: Progress) -> list[Planned]:
    """The cells that are left to do; of the others a line is told why they are not."""
    left = []
    for item in work:
        name = item.cell.name
        if item.problem is not None:
            layout.note_failure(name, str(item.problem), Path())
            progress.failed(name, " ".join(str(item.problem).split()), None)
        elif item.same_as is not None:
            progress.line(name, f"the same as {item.same_as}")
        elif item.evaluation and (layout.evaluations / item.evaluation).is_dir():
            progress.line(name, "done before")
        else:
            left.append(item)
    return left


def _do(left: Sequence[Planned], layout: Layout, progress: Progress) -> None:
    quieten()
    busy: list[Planned] = []
    for _, group in itertools.groupby(left, key=lambda item: item.cell.model.name):
        items = list(group)
        busy += _group(items, layout, progress, wait=False)
    if busy:
        say(f"{len(busy)} cells are being done by another sweep: waiting for them")
        _group(busy, layout, progress, wait=True)


def _group(
    items: Sequence[Planned], layout: Layout, progress: Progress, *, wait: bool
) -> list[Planned]:
    """Trains the adapters of one base, then scores them on it; returns what others are at."""
    from peft_bench.sweep import steps
    from peft_bench.sweep.shared_base import shared_base

    ready: list[Planned] = []
    busy: list[Planned] = []

    def settle(item: Planned, step: Callable[..., steps.Outcome]) -> bool:
        outcome = step(item, layout, wait=wait)
        name = item.cell.name
        if outcome.state == "busy":
            busy.append(item)
        elif not outcome.ok:
            log = layout.log_file(item.evaluation or name)
            progress.failed(name, outcome.text, log, outcome.wall_s)
            _stop_if_full(outcome, layout)
        elif step is steps.score:
            progress.line(name, outcome.text or "done by another sweep", outcome.wall_s)
        elif outcome.state == "done":
            say(f"  trained {name}, {outcome.wall_s:.0f} s")
        return outcome.ok

    for item in items:
        if item.adapter is None or settle(item, steps.train_adapter):
            ready.append(item)
    with shared_base():
        for item in sorted(ready, key=_base_order):
            settle(item, steps.score)
    return busy


def _base_order(item: Planned) -> tuple[bool, str]:
    """Cells that load the same base stand together; whole models, which load their own, last."""
    cell = item.cell
    recipe = cell.recipe
    quantization = recipe.model.quantization if recipe is not None else cell.quantization
    return cell.trains_whole_model, quantization or ""


def _stop_if_full(outcome: object, layout: Layout) -> None:
    """Nothing more can be kept on a full disk, and every further cell would only fail."""
    from peft_bench.errors import PeftBenchError

    if getattr(outcome, "state", None) == "no space":
        raise PeftBenchError(
            place=str(layout.out),
            problem="no space is left",
            remedy="free some and run the same command again: what is done is kept",
        )


def quieten() -> None:
    """What libraries say goes to the cells' logs; progress bars of the terminal stay out."""
    import logging

    logging.getLogger("transformers").setLevel(logging.WARNING)
