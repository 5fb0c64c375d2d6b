"""What running HumanEval's programs would cost with next to no sandbox: the floor under ours.

    python benchmarks/sandbox_floor.py [--rounds N]

A small interpreter with the modules of the profile "stdlib", warmed and without holes in its
memory like our zygotes, forks a process for each program of `sandbox.py`. Nothing is told to
anybody: no verdicts, no judge apart, no time limits. CPU ms a program, as a Markdown table.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from pathlib import Path

import peft_bench_sandbox
from bench_compare import light_rows
from bench_table import Table, machine, spread
from peft_bench_sandbox.profiles import PROFILES

STEPS = {
    "in one process": "no fork: compile and run program and test",
    "fork": "fork, exit, wait",
    "compile": "and compile the program",
    "run": "and run it",
    "test": "and compile and run its test, in the same process",
    "seal": "and set limits, close descriptors, attach a system call filter",
}
_LOOP = """
import ctypes, gc, json, os, resource, sys
os.register_at_fork = lambda **_: None
sys.path.append(sys.argv[1])
from inside import filters, kernel, warm
step, modules, rows = json.load(sys.stdin)
order = ["fork", "compile", "run", "test", "seal"]
reached = order.index(step) if step in order else 3
warm.load(modules, [])
warm.exercise()
program = filters.Program(filters.child_filter(kernel.MACHINE, 0x7FFFFFFF, True))
limits = [kernel.limit_call(what, kernel.limit(what)) for what in (0, 7, 9)]
kernel.prctl(kernel.PR_SET_NO_NEW_PRIVS, 1)
def seal():
    for limit in limits:
        kernel.raw(*limit)
    os.closerange(6, 0x7FFFFFFF)
    program.attach()
def work(source, test):
    if reached >= 4:
        seal()
    if reached >= 1:
        code, names = compile(source, "<program>", "exec"), {"__name__": "program"}
    if reached >= 2:
        exec(code, names)
    if reached >= 3:
        exec(compile(test, "<test>", "exec"), names)
def used():
    both = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(usage.ru_utime + usage.ru_stime for usage in both)
gc.collect()
gc.disable()
warm.fill_holes()
gc.freeze()
before = used()
for source, test in rows:
    if step not in order:
        work(source, test)
        continue
    pid = os.fork()
    if not pid:
        try:
            work(source, test)
            os._exit(0)
        finally:
            os._exit(1)
    if os.waitpid(pid, 0)[1]:
        sys.exit("a reference failed")
print((used() - before) * 1000 / len(rows))
"""


def main() -> None:
    """Measure each step in turn, round after round, and print the table."""
    parser = argparse.ArgumentParser(description="the floor under the sandbox's cost")
    parser.add_argument("--rounds", type=int, default=5)
    rounds = parser.parse_args().rounds
    rows = [
        (row["prompt"] + row["completion"], f"{row['test']}\ncheck({row['entry_point']})\n")
        for row in light_rows()
    ] * 3
    each: dict[str, list[float]] = {step: [] for step in STEPS}
    for _ in range(rounds):
        for step, values in each.items():
            values.append(_cost_ms(step, rows))
    lines = [[STEPS[step], spread(values)] for step, values in each.items()]
    print(Table("Machine", ("what", "value"), list(machine().items())).markdown())
    note = f"{len(rows)} programs a run: median (least to most) of {rounds}."
    print(Table("The floor", ("what is done", "CPU ms a program"), lines, note).markdown())


def _cost_ms(step: str, rows: list[tuple[str, str]]) -> float:
    package = str(Path(peft_bench_sandbox.__file__).parent)
    done = subprocess.run(
        [sys.executable, "-I", "-S", "-c", _LOOP, package],
        input=json.dumps([step, PROFILES["stdlib"].preload, rows]),
        env={"PYTHONHASHSEED": "0", "LD_BIND_NOW": "1"},
        check=True,
        capture_output=True,
        text=True,
        timeout=300,
    )
    return float(done.stdout)


if __name__ == "__main__":
    main()
