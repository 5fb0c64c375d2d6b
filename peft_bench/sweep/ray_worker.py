"""What a Ray worker does: one cell, in the sweep's folder if its node sees it, else in its own.

A node that does not see the driver's folder works in a scratch folder, and sends what is finished
back as tars. Rows and bases come from the node's own caches, each filled once (huggingface_hub and
:mod:`peft_bench.sweep.sources` lock them); rows other than the driver's fail the cell.
"""

from __future__ import annotations

import dataclasses
import hashlib
import io
import os
import socket
import tarfile
import tempfile
from dataclasses import dataclass
from pathlib import Path

from peft_bench.errors import PeftBenchError
from peft_bench.sweep.identity import Planned, identify
from peft_bench.sweep.layout import Layout

SCRATCH = "PEFT_BENCH_SCRATCH"
"""The variable that names a node's folder for half-done cells, whether it sees the driver's."""


@dataclass(frozen=True, slots=True)
class Job:
    """A cell as a worker gets it.

    Attributes:
        planned: the cell, and the names of the folders to make.
        stand_ins: the grid's.
        out: the sweep's folder, as the driver calls it.
        token: the name of a file in ``out``, by which a node knows that it sees that folder.
        has_adapter: whether the driver has the adapter already.
        adapter_tar: that adapter, once a node has said that it lacks it.
    """

    planned: Planned
    stand_ins: dict[str, str]
    out: str
    token: str
    has_adapter: bool = False
    adapter_tar: bytes | None = None


@dataclass(frozen=True, slots=True)
class Done:
    """What a worker sends back.

    Attributes:
        ok: whether the cell has its record.
        text: the scores, or in one line what failed.
        wall_s: of scoring, or of the step that failed.
        node: the machine's name.
        sandbox: the level that the sandbox has proved on that machine.
        log: what was said, where it was not written to the sweep's own folder.
        tars: finished folders that the driver does not see, by ``adapters/NAME`` and so on.
        lacks_adapter: nothing was done, for the driver's adapter is not here.
    """

    ok: bool
    text: str
    wall_s: float
    node: str
    sandbox: str | None
    log: str | None = None
    tars: dict[str, bytes] = dataclasses.field(default_factory=dict)
    lacks_adapter: bool = False


def do_cell(job: Job) -> Done:
    """Trains and scores one cell."""
    from peft_bench import harness
    from peft_bench.sweep import local_engine, steps
    from peft_bench.sweep.stand_ins import standing_in

    local_engine.quieten()
    item = job.planned
    layout, shared = _layout(job)
    level = harness.sandbox_level()  # this node's own proof, not the driver's
    if item.adapter is not None and job.adapter_tar is not None:
        unpack(job.adapter_tar, layout.adapters / item.adapter)
    if job.has_adapter and not (layout.adapters / str(item.adapter)).is_dir():
        return Done(False, "", 0.0, socket.gethostname(), level, lacks_adapter=True)
    with standing_in(job.stand_ins, layout.data):
        problem = other_rows(item)
        if problem is not None:
            return Done(False, problem, 0.0, socket.gethostname(), level)
        outcome = steps.Outcome("done")
        if item.adapter is not None:
            outcome = steps.train_adapter(item, layout, wait=True)
        if outcome.ok:
            outcome = steps.score(item, layout, wait=True)
    text = outcome.text or _scores(layout, item)
    done = Done(outcome.ok, text, outcome.wall_s, socket.gethostname(), level)
    if shared:
        return done
    log = layout.log_file(item.evaluation or item.cell.name)
    said = log.read_text(encoding="utf-8", errors="replace") if log.is_file() else ""
    return dataclasses.replace(done, log=said, tars=_finished(item, layout, job))


def _layout(job: Job) -> tuple[Layout, bool]:
    """The folder to work in, and whether it is the driver's."""
    scratch = os.environ.get(SCRATCH)
    shared = not scratch and (Path(job.out) / job.token).is_file() and os.access(job.out, os.W_OK)
    if shared:
        return Layout(Path(job.out)), True
    # The same for every cell of a sweep, so that what a killed worker left is gone on with.
    name = hashlib.sha256(job.out.encode()).hexdigest()[:16]
    root = Path(scratch or tempfile.gettempdir()) / f"peft-bench-{os.getuid()}"
    layout = Layout(root / name)
    layout.make()
    return layout, False


def other_rows(item: Planned) -> str | None:
    """Why this node cannot do the cell: its rows are missing, or other than the driver's."""
    [here] = identify([item.cell])
    if here.problem is not None:
        return " ".join(str(here.problem).split())
    for mine, drivers in ((here.adapter, item.adapter), (here.evaluation, item.evaluation)):
        # Names differ where cells share an adapter; the hash at their end is of the content.
        if (mine or "").rpartition("--")[2] != (drivers or "").rpartition("--")[2]:
            problem = PeftBenchError(
                place=f"node {socket.gethostname()}",
                problem="has other rows or another version of peft-bench than the driver",
                remedy="set the same PEFT_BENCH_DATA and install the same version on every node",
            )
            return " ".join(str(problem).split())
    return None


def _scores(layout: Layout, item: Planned) -> str:
    from peft_bench.sweep.steps import describe

    record = layout.record(str(item.evaluation))
    return describe(record) if record is not None else ""


def _finished(item: Planned, layout: Layout, job: Job) -> dict[str, bytes]:
    tars = {}
    if item.adapter is not None and not job.has_adapter:
        tars[f"adapters/{item.adapter}"] = layout.adapters / item.adapter
    if item.evaluation is not None:
        tars[f"evaluations/{item.evaluation}"] = layout.evaluations / item.evaluation
    return {name: pack(folder) for name, folder in tars.items() if folder.is_dir()}


def pack(folder: Path) -> bytes:
    """A folder's files as one tar."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        for file in sorted(folder.rglob("*")):
            if file.is_file():
                tar.add(file, arcname=str(file.relative_to(folder)))
    return buffer.getvalue()


def unpack(content: bytes, folder: Path) -> None:
    """A packed folder under its name, once it is whole; nothing where it is there already."""
    if folder.is_dir():
        return
    partial = folder.with_name(f".{folder.name}.{os.getpid()}.partial")
    partial.mkdir(parents=True, exist_ok=True)
    with tarfile.open(fileobj=io.BytesIO(content)) as tar:
        tar.extractall(partial, filter="data")
    try:
        partial.rename(folder)
    except OSError:
        if not folder.is_dir():
            raise
