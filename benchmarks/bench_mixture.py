"""Programs whose end is known: passing, failing, crashing, sleeping, flooding, hungry, leaving."""

from __future__ import annotations

import random
from dataclasses import dataclass

from peft_bench_sandbox import AssertTest, CallTest, Limits, Program, Status, StdinTest, Test

MIB = 1 << 20
# Every kind keeps well away from the limits that it is not meant to meet.
LIMITS = Limits(cpu_s=2.0, wall_s=6.0, memory_bytes=256 * MIB, output_bytes=64 << 10)
# Long enough for a machine with four times the load.
PATIENT = Limits(cpu_s=2.0, wall_s=8.0, memory_bytes=256 * MIB, output_bytes=64 << 10)


@dataclass(frozen=True, slots=True)
class Kind:
    """One kind of program: its body of `f(x)`, how it ends, and how many of a thousand."""

    body: str
    status: Status
    share: int


KINDS: dict[str, Kind] = {
    "passes": Kind("return x + 1", Status.PASSED, 640),
    "is wrong": Kind("return x + 2", Status.WRONG, 100),
    "returns nothing": Kind("pass", Status.WRONG, 20),
    "raises": Kind("return x + None", Status.EXCEPTION, 60),
    "recurses": Kind("return f(x)", Status.EXCEPTION, 20),
    "aborts": Kind("import os; os.abort()", Status.CRASHED, 20),
    "segfaults": Kind("import faulthandler; faulthandler._sigsegv()", Status.CRASHED, 20),
    "sleeps": Kind("import time; time.sleep(60)", Status.TIMEOUT, 6),
    "spins": Kind("while True: pass", Status.CPU, 6),
    "floods": Kind("while True: print('x' * 4096)", Status.OUTPUT, 28),
    "takes all memory": Kind("bytearray(1 << 32)", Status.MEMORY, 20),
    "grows": Kind("xs = []\n    while True: xs.append(bytearray(1 << 20))", Status.MEMORY, 10),
    "exits": Kind("import sys; sys.exit(0)", Status.EXITED, 25),
    "exits at once": Kind("import os; os._exit(0)", Status.EXITED, 25),
}


_SLOW = (Status.TIMEOUT, Status.CPU)


def mixture(count: int, seed: int = 0) -> tuple[list[Program], dict[str, Status]]:
    """So many programs, no two the same, and how each must end, by id."""
    chance = random.Random(seed)
    names = list(KINDS)
    drawn = chance.choices(names, [KINDS[name].share for name in names], k=count)
    programs = [
        _program(f"{number}: {name}", KINDS[name], number) for number, name in enumerate(drawn)
    ]
    return programs, {p.id: KINDS[name].status for p, name in zip(programs, drawn, strict=True)}


def some_of_each(each: int = 30) -> tuple[list[Program], dict[str, Status]]:
    """Every kind with every kind of test, in a fixed order; three of those that take long."""
    programs, ends = [], {}
    for name, kind in KINDS.items():
        for number in range(3 if kind.status in _SLOW else each):
            program = _program(f"{name} {number}", kind, number)
            programs.append(program)
            ends[program.id] = kind.status
    return programs, ends


def trivial(count: int) -> list[Program]:
    """So many programs that do next to nothing and pass, of every kind of test."""
    return [_program(f"{number}", KINDS["passes"], number) for number in range(count)]


def _program(name: str, kind: Kind, number: int) -> Program:
    source = f"# program {number}\ndef f(x):\n    {kind.body}\n"
    tests: tuple[Test, ...] = (
        AssertTest(f"assert f({number}) == {number + 1}", "f"),
        CallTest("f", [number], number + 1),
        StdinTest(f"{number}\n", f"{number + 1}\n"),
    )
    test = tests[number % len(tests)]
    if not isinstance(test, StdinTest):
        return Program(name, source, (test,))
    if kind.status is Status.EXITED:  # a script may end by exit code 0
        source = source.replace("exit(0)", "exit(3)")
    return Program(name, f"{source}print(f(int(input())))\n", (test,))
