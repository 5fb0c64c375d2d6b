"""The report and the channel of a run disturbed by the program itself; see also attacks/."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

import pytest
from peft_bench_sandbox import AssertTest, CallTest, StdinTest, Verdict
from peft_bench_sandbox.runs import job_file

Run = Callable[..., Verdict]
TESTS = {
    "split": AssertTest("assert f() == 'right'"),
    "shared": AssertTest("assert f() == 'wrong'", judge="shared"),
    "stdin": StdinTest("", "right"),
    "call": CallTest("f", [], "right"),
}
RIGHT = """
import os, sys
def f(): return 'right'
if __name__ == '__main__': print('right', flush=True)
"""

# What honest programs do to descriptors by accident, and dishonest ones on purpose.
ATTACKS = {
    "closes everything": "os.closerange(0, 256)",
    "closes both": "os.close(3); os.close(4)",
    "writes garbage": "[os.write(fd, b'garbage') for fd in (3, 4)]",
    "writes no text": "[os.write(fd, bytes(range(256))) for fd in (3, 4)]",
    "writes a report and leaves": (
        'os.write(4, b\'{"outcome": "completed", "message": "", "value": null}\'); os._exit(1)'
    ),
    "writes a frame and leaves": "os.write(3, (2).to_bytes(4, 'little') + b'h{'); os._exit(0)",
    "writes nothing and leaves": "os._exit(0)",
    "writes a flood": "\nwhile True: os.write(4, b'x' * 65536)",
    "replaces os.write": "os.write = lambda *_: 0; os._exit(0)",
    "swaps them": "os.dup2(3, 5); os.dup2(4, 3); os.dup2(5, 4); os.close(5)",
    "puts the output over them": "os.dup2(1, 3); os.dup2(1, 4)",
}


@pytest.mark.parametrize("kind", TESTS)
@pytest.mark.parametrize("attack", ATTACKS)
def test_a_disturbed_channel_is_no_pass(run: Run, attack: str, kind: str) -> None:
    verdict = run(RIGHT + ATTACKS[attack], TESTS[kind], wall_s=5, cpu_s=1)
    assert verdict.passed == 0, verdict.message
    assert verdict.status in ("exited", "exception", "output", "cpu", "crashed", "timeout")


@pytest.mark.parametrize("kind", ["split", "stdin", "call"])
def test_the_undisturbed_twin_passes(run: Run, kind: str) -> None:
    assert run(RIGHT, TESTS[kind]).status == "passed"


SECRET = "S3CRET-9417"


@pytest.mark.parametrize(
    ("test", "there"),
    [
        (StdinTest("in", SECRET), False),
        (CallTest("f", ["in"], [SECRET]), False),
        (AssertTest(f"assert f() == '{SECRET}'"), False),
        (AssertTest(f"assert f() == '{SECRET}'", judge="shared"), True),
        (StdinTest(SECRET, ""), True),
        (CallTest("f", [SECRET], 1), True),
    ],
)
def test_a_reference_is_not_in_what_the_program_is_told(test: Any, there: bool) -> None:
    fd, size = job_file("source", test)
    try:
        data = os.pread(fd, 1 << 16, 0)
    finally:
        os.close(fd)
    assert b"source" in data[-size:]
    assert data[:-size] == (test.stdin.encode() if isinstance(test, StdinTest) else b"")
    assert (SECRET.encode() in data) is there


def test_assertions_switched_off_by_the_program_do_not_matter(run: Run) -> None:
    source = "import builtins\nbuiltins.AssertionError = ValueError\ndef f(): return 1"
    for judge in ("split", "shared"):
        test: Any = AssertTest("assert f() == 2", judge=judge)
        assert run(source, test).passed == 0
