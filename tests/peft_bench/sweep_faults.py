"""Kills a sweep at random moments, lets it go on, and compares its leaderboard; for tests.

    python tests/peft_bench/sweep_faults.py GRID OUT [--kills 20] [--seed 0] [--at-once]

OUT/undisturbed and OUT/killed are the two sweeps. Prints a line a kill, and leaves with 0 if the
two leaderboards are equal but for times. The sweeps are forks of this process, which has imported
everything, so that kills come while they work. ``--at-once`` starts two into each folder.
"""

from __future__ import annotations

import argparse
import csv
import os
import random
import signal
import sys
import time
from pathlib import Path

# What two runs of the same work may differ in.
TIMES = ("created", "wall_s", "_s", "peak_bytes", "tokens_per_s")


def board(folder: Path) -> list[dict[str, str]]:
    """The leaderboard's rows without times and memory."""
    with (folder / "leaderboard.csv").open(encoding="utf-8", newline="") as file:
        return [
            {key: value for key, value in row.items() if not key.endswith(TIMES)}
            for row in csv.DictReader(file)
        ]


def start(grid: Path, out: Path) -> int:
    """A sweep in a process of its own; returns its id."""
    child = os.fork()
    if child:
        return child
    code = 70
    try:
        from peft_bench.sweep import run

        quiet = os.open(os.devnull, os.O_WRONLY)
        os.dup2(quiet, 1)
        os.dup2(quiet, 2)
        code = run(grid, out=out)
    finally:
        os._exit(code)


def finish(child: int) -> int:
    """Waits for a process; its exit code, negative for a signal."""
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def count(folder: Path) -> int:
    """Finished evaluations and adapters."""
    return sum(
        not path.name.endswith(".partial")
        for part in ("evaluations", "adapters")
        for path in (folder / part).glob("*")
    )


def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("grid", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--at-once", action="store_true")
    given = parser.parse_args()
    # Imported before the forks. No thread may be running then.
    import peft_bench.evaluation
    import peft_bench.sweep.local_engine
    import peft_bench.sweep.shared_base
    import peft_bench.sweep.steps  # noqa: F401

    many = 2 if given.at_once else 1
    started = time.monotonic()
    codes = [finish(child) for child in [start(given.grid, given.out / "undisturbed")]]
    took = time.monotonic() - started
    print(f"undisturbed: exit {codes}, {count(given.out / 'undisturbed')} folders", flush=True)
    draw = random.Random(given.seed)
    out = given.out / "killed"
    for number in range(given.kills):
        children = [start(given.grid, out) for _ in range(many)]
        wait = draw.uniform(0, 2 * took / given.kills)
        time.sleep(wait)
        for child in children:
            os.kill(child, signal.SIGKILL)
        codes = [finish(child) for child in children]
        print(
            f"kill {number + 1} after {wait:.1f} s: exit {codes}, {count(out)} folders", flush=True
        )
    codes = [finish(child) for child in [start(given.grid, out) for _ in range(many)]]
    print(f"gone on with: exit {codes}, {count(out)} folders", flush=True)
    equal = board(given.out / "undisturbed") == board(out)
    print(f"leaderboards equal, times aside: {equal}")
    return 0 if equal and codes == [0] * many else 1


if __name__ == "__main__":
    sys.exit(main())
