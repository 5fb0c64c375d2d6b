"""The two steps of a cell, each done once whoever asks: train its adapter, score it."""

from __future__ import annotations

import ctypes
import dataclasses
import errno
import gc
import time
import traceback
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from peft_bench import records
from peft_bench.errors import PeftBenchError
from peft_bench.evaluation import evaluate
from peft_bench.sweep import sources
from peft_bench.sweep.identity import Planned
from peft_bench.sweep.layout import Layout, said_to
from peft_bench.sweep.shared_base import known_tasks
from peft_bench.training import train

State = Literal["done", "was done", "busy", "failed", "no space"]


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a step ended.

    ``busy`` means that another process is at it; ``no space`` that the disk is full, so that
    nothing else can be done either. ``text`` says what came out, or in one line what failed.
    """

    state: State
    text: str = ""
    wall_s: float = 0.0

    @property
    def ok(self) -> bool:
        """Whether the step's folder is there."""
        return self.state in ("done", "was done")


def train_adapter(planned: Planned, layout: Layout, *, wait: bool) -> Outcome:
    """Trains the cell's adapter, unless it is there already."""
    name, recipe = planned.adapter, planned.cell.recipe
    assert name is not None and recipe is not None
    folder = layout.adapters / name
    model = planned.cell.model

    def work() -> str:
        source = sources.locate(model)
        base = dataclasses.replace(recipe.model, id=source)
        train(dataclasses.replace(recipe, model=base), folder, progress=False)
        return "trained"

    return _once(folder, name, planned, layout, work, wait=wait)


def score(planned: Planned, layout: Layout, *, wait: bool) -> Outcome:
    """Scores the cell's adapter, or its base alone, unless its record is there already."""
    cell, name = planned.cell, planned.evaluation
    assert name is not None
    folder = layout.evaluations / name

    def work() -> str:
        adapter = None if planned.adapter is None else layout.adapters / planned.adapter
        model = None if cell.trains_whole_model else sources.locate(cell.model)
        with known_tasks(cell.tasks):
            record = evaluate(
                adapter, model=model, tasks=cell.tasks, out=folder, harness_args=cell.args
            )
        return describe(record)

    return _once(folder, name, planned, layout, work, wait=wait)


def describe(record: records.RunRecord) -> str:
    """A record's primary scores, such as ``quickstart pass@1 25.0 %``."""
    return ", ".join(
        f"{task.task} {task.primary_metric} {100 * task.scores[task.primary_metric].value:.1f} %"
        if task.scores
        else f"{task.task} has no rows"
        for task in record.tasks
    )


def _once(
    folder: Path,
    name: str,
    planned: Planned,
    layout: Layout,
    work: Callable[[], str],
    *,
    wait: bool,
) -> Outcome:
    """Does the work under the folder's lock, its output in the cell's log."""
    if folder.is_dir():
        return Outcome("was done")
    cell = planned.cell.name
    log = layout.log_file(planned.evaluation or cell)
    started = time.perf_counter()
    try:
        with layout.lock(name, wait=wait) as mine:
            if not mine:
                return Outcome("busy")
            if folder.is_dir():  # finished while its lock was waited for
                return Outcome("was done")
            forget_peak()
            with said_to(log):
                try:
                    text = work()
                except Exception:
                    with suppress(OSError):
                        traceback.print_exc()
                    raise
    except Exception as error:  # noqa: BLE001 - one cell's failure, of any kind, is not the study's
        cause = cause_of(error)
        layout.note_failure(cell, cause, log)
        state: State = "no space" if is_out_of_space(error) else "failed"
        return Outcome(state, cause, time.perf_counter() - started)
    layout.forget_failure(cell)
    return Outcome("done", text, time.perf_counter() - started)


def cause_of(error: BaseException) -> str:
    """What went wrong in one line."""
    said = " ".join(str(error).split())
    if isinstance(error, PeftBenchError):
        return said
    return f"{type(error).__name__}: {said}"[:500] if said else type(error).__name__


def is_out_of_space(error: BaseException | None) -> bool:
    """Whether a full disk or quota is behind an error."""
    seen = 0
    while error is not None and seen < 20:
        if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
            return True
        error, seen = error.__cause__ or error.__context__, seen + 1
    return False


def forget_peak() -> None:
    """Peak memory is counted anew, so that a cell's figure is its own as far as can be.

    On a CPU the peak restarts from what is resident now: a base that is kept is in it.
    """
    import torch

    gc.collect()
    with suppress(OSError, AttributeError):  # glibc alone has it
        ctypes.CDLL(None).malloc_trim(0)  # else what an earlier cell has freed counts on
    if torch.cuda.is_available():
        torch.cuda.reset_peak_memory_stats()
    with suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")
