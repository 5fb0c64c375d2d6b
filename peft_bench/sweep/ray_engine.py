"""``--engine ray``: a cell a task, on an existing Ray cluster or one of this machine.

What runs where, and running a lost worker's cells again, is Ray's. What a worker does is in
:mod:`peft_bench.sweep.ray_worker`.
"""

from __future__ import annotations

import secrets
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from peft_bench.errors import MissingError, PeftBenchError
from peft_bench.sweep.driver import Failure
from peft_bench.sweep.grid import Grid
from peft_bench.sweep.identity import Planned
from peft_bench.sweep.layout import Layout
from peft_bench.sweep.local_engine import Progress, undone
from peft_bench.sweep.ray_worker import Done, Job, do_cell, pack, unpack

_GIB = 1024**3
_RETRIES = 3


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
    if left:
        ray = _import_ray()
        with _cluster(ray), _token(layout) as token:
            _Sweep(ray, grid, layout, progress, token, gpus).run(left)
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


@contextmanager
def _cluster(ray: Any) -> Iterator[None]:
    """The cluster that RAY_ADDRESS names or that is connected to already, else a local one."""
    mine = not ray.is_initialized()
    if mine:
        ray.init(log_to_driver=False, include_dashboard=False, configure_logging=False)
    try:
        yield
    finally:
        if mine:
            ray.shutdown()


@contextmanager
def _token(layout: Layout) -> Iterator[str]:
    """A file by which nodes that share a file system with this one know the sweep's folder."""
    name = f".seen-{secrets.token_hex(8)}"
    (layout.out / name).touch()
    try:
        yield name
    finally:
        (layout.out / name).unlink(missing_ok=True)


class _Sweep:
    """The cells on their way through the cluster."""

    def __init__(
        self,
        ray: Any,
        grid: Grid,
        layout: Layout,
        progress: Progress,
        token: str,
        gpus: float | None,
    ) -> None:
        self._ray = ray
        self._grid = grid
        self._layout = layout
        self._progress = progress
        self._token = token
        alive = [node["Resources"] for node in ray.nodes() if node["Alive"]]
        self._needs = Needs(alive, grid, gpus)
        self._task = ray.remote(do_cell)
        self._waiting: dict[str, list[Planned]] = {}
        self._running: dict[Any, tuple[str, Planned]] = {}

    def run(self, left: Sequence[Planned]) -> None:
        """Until nothing waits and nothing runs."""
        for item in left:
            self._waiting.setdefault(item.adapter or item.cell.name, []).append(item)
        for group in self._waiting:
            self._next(group)
        while self._running:
            [ready], _ = self._ray.wait(list(self._running), num_returns=1)
            group, item = self._running.pop(ready)
            try:
                done = self._ray.get(ready)
            except self._ray.exceptions.RayError as error:
                self._fail(item, _cause(self._ray, error))
            else:
                if done.lacks_adapter:
                    self._submit(group, item, with_adapter=True)
                    continue
                self._settle(item, done)
            self._next(group)

    def _next(self, group: str) -> None:
        """Hands the group's next cell to Ray; one that no node can hold fails at once."""
        while self._waiting[group]:
            item = self._waiting[group].pop(0)
            try:
                self._submit(group, item)
                return
            except PeftBenchError as error:
                self._fail(item, " ".join(str(error).split()))

    def _submit(self, group: str, item: Planned, *, with_adapter: bool = False) -> None:
        """Hands a cell to Ray; adapters travel only to nodes that have asked for them."""
        adapter = self._layout.adapters / str(item.adapter)
        job = Job(
            item,
            dict(self._grid.stand_ins),
            str(self._layout.out.resolve()),
            self._token,
            has_adapter=item.adapter is not None and adapter.is_dir(),
            adapter_tar=pack(adapter) if with_adapter else None,
        )
        self._running[self._task.options(**self._needs.of(item)).remote(job)] = group, item

    def _settle(self, item: Planned, done: Done) -> None:
        """Takes in what a worker sent: its folders, unless they are there, and its log."""
        name = item.cell.name
        log: Path | None = self._layout.log_file(item.evaluation or name)
        if done.log is not None and log is not None:
            log.write_text(done.log, encoding="utf-8", errors="backslashreplace")
        for part, content in done.tars.items():
            unpack(content, self._layout.out / part)
        if done.ok:
            self._layout.forget_failure(name)
            text = f"{done.text} (on {done.node}, sandbox {done.sandbox})"
            self._progress.line(name, text, done.wall_s)
        else:
            log = log if log is not None and log.is_file() else None
            self._layout.note_failure(name, done.text, log or Path())
            self._progress.failed(name, f"{done.text} (on {done.node})", log, done.wall_s)

    def _fail(self, item: Planned, cause: str) -> None:
        self._layout.note_failure(item.cell.name, cause, Path())
        self._progress.failed(item.cell.name, cause, None)


def _cause(ray: Any, error: Exception) -> str:
    """What Ray could not do, in one line; of an error in the worker that error."""
    from peft_bench.sweep.steps import cause_of

    if isinstance(error, ray.exceptions.RayTaskError) and error.cause is not None:
        return cause_of(error.cause)
    said = " ".join(str(error).split())[:300]
    return f"its worker was lost {_RETRIES + 1} times: {said}"


class Needs:
    """What Ray is asked for: GPUs, memory by ``fit``, and to try again.

    Args:
        nodes: what each node has, by Ray's names: ``GPU``, and ``memory`` in bytes.
        gpus: how many a cell gets; by default 1 where any node has one.
    """

    def __init__(
        self, nodes: Sequence[Mapping[str, float]], grid: Grid, gpus: float | None
    ) -> None:
        from peft_bench.sweep.dry_run import Fits

        if gpus is None:
            gpus = 1.0 if any(node.get("GPU") for node in nodes) else 0.0
        self._fits = Fits(grid)
        self._gpus = gpus
        self._largest = max((int(node.get("memory", 0)) for node in nodes), default=0)

    def of(self, item: Planned) -> dict[str, Any]:
        """Options of a remote function. A task whose worker died is run again, three times.

        Raises:
            PeftBenchError: no node has the memory; Ray would wait for one for ever.
        """
        options = {"num_cpus": 1, "num_gpus": self._gpus, "max_retries": _RETRIES}
        needed = 0 if self._gpus else self._training_bytes(item)
        if needed > self._largest:
            raise PeftBenchError(
                place=item.cell.name,
                problem=f"its training needs {needed / _GIB:.1f} GiB, and the largest node gives "
                f"Ray {self._largest / _GIB:.1f} GiB",
                remedy="use a larger node, or a smaller training.micro_batch_size",
            )
        return {**options, **({"memory": needed} if needed else {})}

    def _training_bytes(self, item: Planned) -> int:
        """What training takes by ``fit``; 0 where nothing is trained or that cannot be told."""
        if item.cell.recipe is None:
            return 0
        whole = None
        with suppress(PeftBenchError):
            whole = getattr(self._fits.case(item.cell), "whole", None)
        return 0 if whole is None else int(whole.allocated_bytes)
