"""``--engine ray``: a cell a task, on an existing Ray cluster or one of this machine.

A worker does a cell in a folder of its own node, as a sweep of that one cell, and sends the
finished folders back; where it shares a file system with the driver they are there already. What
runs where, and running a lost worker's cells again, is Ray's. Data and bases are fetched by the
first cell on a node that needs them, and found in the node's caches by the others.
"""

from __future__ import annotations

import io
import os
import tarfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from peft_bench.errors import MissingError, PeftBenchError
from peft_bench.sweep.driver import Failure
from peft_bench.sweep.grid import Grid
from peft_bench.sweep.identity import Planned
from peft_bench.sweep.layout import Layout
from peft_bench.sweep.local_engine import Progress, undone

_GIB = 1024**3
_SCRATCH = "PEFT_BENCH_SCRATCH"


@dataclass(frozen=True, slots=True)
class Job:
    """A cell as a worker gets it: the folders to make, and those of the driver.

    ``adapter_tar`` holds the adapter where the driver has it already.
    """

    planned: Planned
    stand_ins: dict[str, str]
    out: str
    adapter_tar: bytes | None


@dataclass(frozen=True, slots=True)
class Done:
    """What a worker sends back: an outcome, the log, and folders that the driver may lack."""

    ok: bool
    text: str
    wall_s: float
    node: str
    sandbox: str | None
    log: str
    tars: dict[str, bytes]


def work_off(
    grid: Grid, work: Sequence[Planned], layout: Layout, *, gpus: float | None = None
) -> list[Failure]:
    """Does every cell that is not done on the cluster; returns those that failed.

    Cells of one adapter are one after the other, so that it is trained once.

    Raises:
        MissingError: Ray is not installed.
    """
    progress = Progress(len(work))
    left = undone(work, layout, progress)
    if not left:
        return list(progress.failures.values())
    ray = _import_ray()
    mine = not ray.is_initialized()
    if mine:
        # A cluster named by RAY_ADDRESS, else one of this machine.
        ray.init(log_to_driver=False, include_dashboard=False, configure_logging=False)
    try:
        _run_all(ray, grid, left, layout, progress, gpus)
    finally:
        if mine:
            ray.shutdown()
    return list(progress.failures.values())


def _import_ray() -> Any:
    try:
        import ray
    except ImportError as error:
        raise MissingError(
            place="--engine ray",
            problem="the package ray is not installed",
            remedy='pip install "peft-bench[ray]"',
        ) from error
    return ray


def _run_all(
    ray: Any,
    grid: Grid,
    left: Sequence[Planned],
    layout: Layout,
    progress: Progress,
    gpus: float | None,
) -> None:
    if gpus is None:
        gpus = 1.0 if ray.cluster_resources().get("GPU") else 0.0
    needs = _Needs(grid, gpus)
    remote = ray.remote(do_cell)
    waiting: dict[str, list[Planned]] = {}
    for item in left:
        waiting.setdefault(item.adapter or item.cell.name, []).append(item)
    running: dict[Any, tuple[str, Planned]] = {}

    def submit(group: str) -> None:
        item = waiting[group].pop(0)
        job = Job(item, dict(grid.stand_ins), str(layout.out.resolve()), _tar_of(item, layout))
        running[remote.options(**needs.of(item)).remote(job)] = group, item

    for group in waiting:
        submit(group)
    while running:
        [ready], _ = ray.wait(list(running), num_returns=1)
        group, item = running.pop(ready)
        try:
            _settle(item, ray.get(ready), layout, progress)
        except ray.exceptions.RayError as error:
            cause = f"its worker was lost: {' '.join(str(error).split())[:300]}"
            layout.note_failure(item.cell.name, cause, Path())
            progress.failed(item.cell.name, cause, None)
        if waiting[group]:
            submit(group)


class _Needs:
    """What Ray is asked for: a share of GPUs and memory by ``fit``, and to try again."""

    def __init__(self, grid: Grid, gpus: float) -> None:
        from peft_bench.sweep.dry_run import Fits

        self._fits = Fits(grid)
        self._gpus = gpus

    def of(self, item: Planned) -> dict[str, Any]:
        """Options of a remote function. A task whose worker died is run again, three times."""
        options: dict[str, Any] = {"num_cpus": 1, "num_gpus": self._gpus, "max_retries": 3}
        needed = self._needed_bytes(item)
        if needed is not None and not self._gpus:
            options["memory"] = needed
        return options

    def _needed_bytes(self, item: Planned) -> int | None:
        if item.cell.recipe is None:
            return None
        try:
            case = self._fits.case(item.cell)
        except PeftBenchError:
            return None
        least = getattr(case, "least", None)
        return None if least is None else int(least.allocated_bytes)


def _settle(item: Planned, done: Done, layout: Layout, progress: Progress) -> None:
    """Takes in what a worker sent: its folders, unless they are there, and its log."""
    name = item.cell.name
    log = layout.log_file(item.evaluation or name)
    log.write_text(done.log, encoding="utf-8", errors="backslashreplace")
    for part, content in done.tars.items():
        unpack(content, layout.out / part)
    if done.ok:
        layout.forget_failure(name)
        progress.line(name, f"{done.text} (on {done.node}, sandbox {done.sandbox})", done.wall_s)
    else:
        layout.note_failure(name, done.text, log)
        progress.failed(name, done.text, log, done.wall_s)


def _tar_of(item: Planned, layout: Layout) -> bytes | None:
    if item.adapter is None or not (layout.adapters / item.adapter).is_dir():
        return None
    return pack(layout.adapters / item.adapter)


def do_cell(job: Job) -> Done:
    """On a worker: trains and scores one cell in this node's scratch folder."""
    import socket

    from peft_bench import harness
    from peft_bench.sweep import steps
    from peft_bench.sweep.stand_ins import standing_in

    item = job.planned
    layout = Layout(_scratch(job.out))
    layout.make()
    if job.adapter_tar is not None and item.adapter is not None:
        unpack(job.adapter_tar, layout.adapters / item.adapter)
    level = harness.sandbox_level()  # what this node's sandbox proves to be
    with standing_in(job.stand_ins, layout.data):
        outcome = steps.Outcome("done")
        if item.adapter is not None:
            outcome = steps.train_adapter(item, layout, wait=True)
        if outcome.ok:
            outcome = steps.score(item, layout, wait=True)
    log = layout.log_file(item.evaluation or item.cell.name)
    tars = {}
    for part, name in (("adapters", item.adapter), ("evaluations", item.evaluation)):
        folder = layout.out / part / str(name)
        # The driver has what was sent along, and what lies on a file system that both see.
        if name is not None and folder.is_dir() and not (Path(job.out) / part / name).is_dir():
            if part == "adapters" and job.adapter_tar is not None:
                continue
            tars[f"{part}/{name}"] = pack(folder)
    text = outcome.text or _told(layout, item)
    said = log.read_text(encoding="utf-8", errors="replace") if log.is_file() else ""
    return Done(outcome.ok, text, outcome.wall_s, socket.gethostname(), level, said, tars)


def _told(layout: Layout, item: Planned) -> str:
    from peft_bench.sweep.steps import describe

    record = layout.record(str(item.evaluation))
    return describe(record) if record is not None else ""


def _scratch(out: str) -> Path:
    """The node's own folder for a sweep; on a node that sees the driver's, that is not it.

    A killed worker's half-done cells are gone on with there.
    """
    import hashlib
    import tempfile

    root = Path(os.environ.get(_SCRATCH) or tempfile.gettempdir()) / f"peft-bench-{os.getuid()}"
    return root / hashlib.sha256(out.encode()).hexdigest()[:16]


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
    partial = folder.with_name(f".{folder.name}.{os.getpid()}.incoming")
    partial.mkdir(parents=True, exist_ok=True)
    with tarfile.open(fileobj=io.BytesIO(content)) as tar:
        tar.extractall(partial, filter="data")
    try:
        partial.rename(folder)
    except OSError:
        if not folder.is_dir():
            raise
