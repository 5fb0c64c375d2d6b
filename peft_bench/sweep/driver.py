"""``peft-bench sweep``: the cells of a grid, what is left of them, done; then the leaderboard."""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from peft_bench.errors import PeftBenchError, UsageError
from peft_bench.sweep import cells, dry_run
from peft_bench.sweep.grid import Grid, load_grid
from peft_bench.sweep.identity import Planned, identify, shard
from peft_bench.sweep.layout import Layout
from peft_bench.sweep.stand_ins import standing_in

ENGINES = ("local", "ray")


@dataclass(frozen=True, slots=True)
class Failure:
    """A cell that has no record: why, and where to read on."""

    cell: str
    cause: str
    log: Path | None


def run(
    grid_file: str | Path,
    *,
    out: str | Path | None = None,
    engine: str = "local",
    shard_of: str | None = None,
    dry_run_only: bool = False,
    gpus: float | None = None,
) -> int:
    """Does what is left of a grid, and writes ``leaderboard.csv``, ``.md`` and ``.html``.

    What is finished stays finished whatever happens; a second call goes on, and several calls at
    once share the work.

    Args:
        grid_file: see :class:`peft_bench.sweep.grid.Grid`.
        out: the sweep's folder; ``sweeps/<grid's name>`` by default.
        engine: ``local`` (this process) or ``ray`` (docs/sweep.md).
        shard_of: ``I/N``, one part of N, counted from 1; a part done alone writes no leaderboard
            of the others' cells that are not there yet.
        dry_run_only: lists the cells, whether they fit, and what is done, and does nothing.
        gpus: with Ray, the GPUs that a cell needs; by default 1 where the cluster has any.

    Returns:
        0 when all cells are done, 1 when some failed.

    Raises:
        UsageError: a faulty grid, shard or engine.
        MissingError: no such grid; Ray is not installed.
        PeftBenchError: the folder cannot be written.
        KeyboardInterrupt: stopped; what is finished is kept.
    """
    if engine not in ENGINES:
        raise UsageError(
            place="--engine",
            problem=f"{engine!r} is unknown",
            remedy=f"known: {', '.join(ENGINES)}",
        )
    part = parse_shard(shard_of)
    grid = load_grid(grid_file)
    layout = Layout(Path(out) if out is not None else Path("sweeps") / grid.name)
    expanded = cells.expand(grid, place=str(grid_file))
    if dry_run_only:
        with tempfile.TemporaryDirectory() as folder, standing_in(grid.stand_ins, Path(folder)):
            planned = shard(identify(expanded), part)
            for line in dry_run.listing(grid, planned, layout):
                print(line, flush=True)
        return 0
    layout.make()
    with standing_in(grid.stand_ins, layout.data):
        planned = identify(expanded)
        work = shard(planned, part)
        failures = _engine(engine, grid, work, layout, gpus)
        _board(grid, planned, layout)
    return _report(work, failures, layout)


def parse_shard(text: str | None) -> tuple[int, int] | None:
    """``I/N`` as numbers.

    Raises:
        UsageError: it is not of that form, or I is not one of 1 to N.
    """
    if text is None:
        return None
    number, _, of = text.partition("/")
    if number.isdecimal() and of.isdecimal() and 1 <= int(number) <= int(of):
        return int(number), int(of)
    raise UsageError(
        place=f"--shard {text}",
        problem="is not of the form I/N with I from 1 to N",
        remedy="write, say, --shard 1/4",
    )


def _engine(
    name: str, grid: Grid, work: Sequence[Planned], layout: Layout, gpus: float | None
) -> list[Failure]:
    if name == "ray":
        from peft_bench.sweep import ray_engine

        return ray_engine.work_off(grid, work, layout, gpus=gpus)
    from peft_bench.sweep import local_engine

    return local_engine.work_off(work, layout)


def _board(grid: Grid, planned: Sequence[Planned], layout: Layout) -> None:
    """The leaderboard of all of the grid's cells that are done, whichever shard did them."""
    from peft_bench import leaderboard, records

    folders = [
        layout.evaluations / item.evaluation
        for item in planned
        if item.evaluation is not None
        and item.same_as is None
        and (layout.evaluations / item.evaluation).is_dir()
    ]
    if not folders:
        return
    found, problems = records.find_records(folders)
    for problem in problems:
        say(f"skipped: {problem}")
    board = leaderboard.build_board(found)
    rows = board.rows
    title = grid.title or grid.name
    try:
        leaderboard.write_csv(rows, layout.out / "leaderboard.csv")
        leaderboard.write_markdown(rows, layout.out / "leaderboard.md")
        leaderboard.write_html(rows, layout.out / "leaderboard.html", title=title, board=board)
    except OSError as error:
        raise PeftBenchError(
            place=str(layout.out),
            problem=f"the leaderboard could not be written: {error.strerror}",
            remedy="free some space and run the same command again: what is done is kept",
        ) from error


def _report(work: Sequence[Planned], failures: Sequence[Failure], layout: Layout) -> int:
    done = sum(
        item.evaluation is not None and (layout.evaluations / item.evaluation).is_dir()
        for item in work
    )
    print(f"{done} of {len(work)} cells done, {len(failures)} failed: {layout.out}")
    for failure in failures:
        log = f" (log: {failure.log})" if failure.log is not None else ""
        print(f"  failed: {failure.cell}: {failure.cause}{log}")
    if done:
        print(f"leaderboard: {layout.out / 'leaderboard.html'}, .csv, .md")
    return 0 if done == len(work) else 1


def say(text: str) -> None:
    """One line of progress."""
    print(text, file=sys.stderr, flush=True)
