"""Kills a sweep at random moments, lets it go on, and compares its leaderboard; for tests.

    python tests/peft_bench/sweep_faults.py GRID OUT [--kills 20] [--seed 0] [--at-once | --ray]

OUT/undisturbed is one sweep; OUT/killed-1 and so on are killed and gone on with until they end, as
many as it takes. Prints a line a kill, and leaves with 0 if all leaderboards and answers are equal
but for times. The sweeps are forks of this process, which has imported everything, so that kills
come while they work. ``--at-once`` starts two into each folder. ``--ray`` kills workers of a local
Ray cluster in OUT/ray-1 and so on, and not the driver.
"""

from __future__ import annotations

import argparse
import csv
import json
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


def start(grid: Path, out: Path, engine: str = "local") -> int:
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
        code = run(grid, out=out, engine=engine)
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


def samples(folder: Path) -> dict[str, list[str]]:
    """The answers of every evaluation, by its name."""
    found = {}
    for file in (folder / "evaluations").glob("*/samples_*.jsonl"):
        rows = [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()]
        found[file.parent.name] = sorted(f"{row['doc_id']} {row['resps']}" for row in rows)
    return found


def same(one: Path, other: Path) -> bool:
    """Whether two sweeps have the same leaderboard, times aside, and the same answers."""
    return board(one) == board(other) and samples(one) == samples(other)


def busy_workers(driver: int) -> list[int]:
    """The workers of a driver's own Ray cluster that are at a cell."""
    parents, busy = {}, []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            words = (folder / "stat").read_text().rpartition(")")[2].split()
            command = (folder / "cmdline").read_bytes()
        except OSError:  # ended meanwhile
            continue
        parents[int(folder.name)] = int(words[1])
        if command.startswith(b"ray::do_cell"):
            busy.append(int(folder.name))
    return [worker for worker in busy if driver in _ancestors(worker, parents)]


def _ancestors(process: int, parents: dict[int, int]) -> set[int]:
    found: set[int] = set()
    while (process := parents.get(process, 0)) and process not in found:
        found.add(process)
    return found


def ended(child: int) -> bool:
    """Whether a process has ended; it can still be waited for."""
    return os.waitid(os.P_PID, child, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None


def kill_drivers(
    grid: Path, out: Path, kills: int, draw: random.Random, many: int, most_s: float
) -> bool:
    """One sweep killed and gone on with until it has ended, over again until it was enough kills.

    With OUT/killed-1 and so on as its folders; whether all are equal to the undisturbed one.
    """
    killed = sweeps = 0
    equal = True
    while killed < kills:
        sweeps += 1
        folder = out / f"killed-{sweeps}"
        codes = [-signal.SIGKILL]
        while -signal.SIGKILL in codes:
            children = [start(grid, folder) for _ in range(many)]
            began = time.monotonic()
            wait = draw.uniform(0, most_s)
            while not all(map(ended, children)):
                if killed < kills and time.monotonic() - began > wait:
                    # Of two at once, one alone or both; what goes on ends or is killed later.
                    going = [child for child in children if not ended(child)]
                    for child in draw.sample(going, draw.randint(1, len(going))):
                        os.kill(child, signal.SIGKILL)
                    killed += 1
                    print(
                        f"kill {killed} in {folder.name}, {time.monotonic() - began:.1f} s after "
                        f"its start: {count(folder)} folders",
                        flush=True,
                    )
                    wait += draw.uniform(0.5, most_s)
                time.sleep(0.01)
            codes = [finish(child) for child in children]
        equal = told(folder, codes, out) and equal
    return equal


def told(folder: Path, codes: list[int], out: Path) -> bool:
    """Whether a sweep has ended well, and equal to the undisturbed one; says so."""
    equal = not any(codes) and same(out / "undisturbed", folder)
    print(
        f"{folder.name}: exit {codes}, {count(folder)} folders, "
        f"leaderboard and answers as undisturbed, times aside: {equal}",
        flush=True,
    )
    return equal


def kill_workers(grid: Path, out: Path, kills: int, draw: random.Random) -> bool:
    """Sweeps on Ray whose workers are killed, until it was enough kills; whether all are equal."""
    killed = sweeps = 0
    equal = True
    while killed < kills:
        sweeps += 1
        folder = out / f"ray-{sweeps}"
        child = start(grid, folder, "ray")
        pause = time.monotonic() + draw.uniform(0, 8)
        while not ended(child):
            workers = busy_workers(child)
            if workers and killed < kills and time.monotonic() > pause:
                os.kill(draw.choice(workers), signal.SIGKILL)
                killed += 1
                pause = time.monotonic() + draw.uniform(1, 12)
                print(f"kill {killed} in {folder.name}: {count(folder)} folders", flush=True)
            time.sleep(0.1)
        code = finish(child)
        if code == 1:  # a cell's worker was killed more often than Ray tries
            print(f"{folder.name}: exit {code}, gone on with", flush=True)
            code = finish(start(grid, folder, "ray"))
        equal = told(folder, [code], out) and equal
    return equal


def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("grid", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--at-once", action="store_true")
    parser.add_argument("--ray", action="store_true")
    given = parser.parse_args()
    # Imported before the forks. No thread may be running then.
    import peft_bench.evaluation
    import peft_bench.sweep.local_engine
    import peft_bench.sweep.shared_base
    import peft_bench.sweep.steps  # noqa: F401

    started = time.monotonic()
    code = finish(start(given.grid, given.out / "undisturbed"))
    took = time.monotonic() - started
    print(f"undisturbed: exit {code}, {count(given.out / 'undisturbed')} folders", flush=True)
    draw = random.Random(given.seed)
    if given.ray:
        equal = kill_workers(given.grid, given.out, given.kills, draw)
    else:
        many = 2 if given.at_once else 1
        equal = kill_drivers(given.grid, given.out, given.kills, draw, many, took)
    return 0 if equal and code == 0 else 1


if __name__ == "__main__":
    sys.exit(main())
