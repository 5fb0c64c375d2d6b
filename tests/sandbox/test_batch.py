"""Tests that share their program's process: the verdicts are those of processes of their own."""

from __future__ import annotations

import dataclasses
import json
import re
import time
from collections.abc import Callable
from typing import Any

import pytest
from peft_bench_sandbox import BadProgram, CallTest, Limits, Program, StdinTest, Verdict
from peft_bench_sandbox.batch import grouped, leaves_nothing, score_batch
from peft_bench_sandbox.engine import Engine
from peft_bench_sandbox.score import Ended
from peft_bench_sandbox.types import AssertTest, Status

Compare = Callable[..., tuple[Verdict, int]]

TWICE = tuple(StdinTest(f"{x}\n", f"{2 * x}\n") for x in range(6))
CALLS = tuple(CallTest("f", [x], 2 * x) for x in range(6))


@pytest.fixture
def compare(engines: Callable[[Limits], Engine], monkeypatch: pytest.MonkeyPatch) -> Compare:
    """Run a program both ways: the verdict, which is the same, and the processes it took shared."""
    sent: list[Any] = []
    send = Engine._send
    monkeypatch.setattr(Engine, "_send", lambda *told: (sent.append(told), send(*told))[1])

    def both(source: str, *tests: Any, **limits: Any) -> tuple[Verdict, int]:
        engine = engines(Limits(**limits))
        [alone] = engine.run([Program("one", source, tests)])
        sent.clear()
        [shared] = engine.run([Program("one", source, tests, isolate="program")])
        assert timeless(shared) == timeless(alone)
        assert shared.cpu_s > 0 and shared.peak_bytes > 0
        return shared, len(sent)

    return both


def timeless(verdict: Verdict) -> dict[str, object]:
    """What of a verdict must not depend on the way it was found."""
    told = dataclasses.asdict(verdict)
    message = re.sub(r"used \S+ s", "used some", verdict.message)
    return told | {"cpu_s": 0, "wall_s": 0, "peak_bytes": 0, "message": message}


# What a program does, and how many processes its six tests take.
SCRIPTS = {
    "input": ("print(int(input()) * 2)", 1),
    "reads ahead": ("import sys\nprint(int(sys.stdin.readline()) * 2)", 1),
    "iterates": ("import sys\nfor line in sys.stdin: print(int(line) * 2)", 1),
    "closes the file": ("print(int(open(0).read()) * 2)", 1),
    "replaces streams": (
        "import io, sys\nsys.stdin = io.StringIO(sys.stdin.read())\n"
        "out, sys.stdout = sys.stdout, io.StringIO()\nprint(int(input()) * 2)\n"
        "out.write(sys.stdout.getvalue())",
        1,
    ),
    "closes it by name": ("with open('/dev/stdin') as file: print(int(file.read()) * 2)", 1),
    "bytes": ("import os\nos.write(1, b'%d' % (2 * int(os.read(0, 99))))", 1),
    "no newline": ("import sys\nsys.stdout.write(str(int(input()) * 2))", 1),
    "recursion": (
        "import sys\nx = int(input())\nassert sys.getrecursionlimit() == 1000\n"
        "sys.setrecursionlimit(5000)\nprint(x * 2)",
        1,
    ),
    "chance": (
        "import random\nx = int(input())\n"
        "assert random.random() == 0.8444218515250481\nprint(x * 2)",
        1,
    ),
    "leaves early": ("import sys\nprint(int(input()) * 2)\nsys.exit()", 1),
    "exit handlers": ("import atexit\natexit.register(print, int(input()) * 2)", 1),
    "closes its output": ("import sys\nprint(int(input()) * 2)\nsys.stdout.close()", 6),
    "thread": (
        "import threading\nthreading.Thread(target=lambda: print(int(input()) * 2)).start()",
        6,
    ),
    "wrong": ("x = int(input())\nprint(x * 2 if x != 3 else 0)", 1),
    "always wrong": ("print(1)", 1),
    "raises": ("print(12 // int(input()), end='')", 1),
    "raises, half printed": ("print('x', end='')\nprint(12 // (int(input()) - 2))", 1),
    "does not compile": ("print(int(input() * 2", 1),
    "out of memory": ("x = int(input())\nif x == 2: bytes(1 << 40)\nprint(x * 2)", 5),
    "leaves for good": ("import os\nx = int(input())\nif x == 2: os._exit(0)\nprint(x * 2)", 5),
    "crashes": ("import os\nx = int(input())\nif x == 2: os.abort()\nprint(x * 2)", 5),
    # What it leaves to its next test makes that fail: then each is run by itself.
    "patches": (
        "import builtins\nn = builtins.n = getattr(builtins, 'n', 0) + 1\n"
        "print(int(input()) * 2 if n == 1 else 'again')",
        6,
    ),
    "a file": ("open('a', 'x').write('x')\nprint(int(input()) * 2)", 6),
    "a late finalizer": (
        "import gc\nclass Late:\n    def __del__(self): print('late')\n"
        "late = Late()\nlate.itself = late\nprint(int(input()) * 2)\ngc.disable()",
        6,  # it prints "late", here as there
    ),
    "a file of its own": ("out = open(1, 'w')\nout.write(str(int(input()) * 2))", 1),
    "a finalizer, raises": (
        "class Last:\n    def __del__(self): print('late')\nlast = Last()\nlast.itself = last\n"
        "print(12 // (int(input()) - 2))",
        1,
    ),
    "a finalizer": (
        "class Last:\n    def __del__(self): print(number * 2)\n"
        "last = Last()\nnumber = int(input())",
        1,
    ),
}


@pytest.mark.parametrize("name", SCRIPTS)
def test_scripts_get_the_verdict_they_get_alone(compare: Compare, name: str) -> None:
    source, processes = SCRIPTS[name]
    _, taken = compare(source, *TWICE)
    assert taken == processes


@pytest.mark.parametrize(
    ("source", "processes"),
    [
        ("def f(x): return x * 2", 1),
        ("def f(x):\n    print(x)\n    return x * 2", 1),
        ("class Solution:\n    def f(self, x): return 7", 1),
        ("def f(x): return x * 2 if x != 3 else print", 1),
        ("def f(x): return 1 // (x - 1)", 1),
        ("import os\ndef f(x): return x * 2 if x != 3 else os._exit(0)", 4),
        ("seen = []\ndef f(x):\n    seen.append(x)\n    return x * 2 * len(seen)", 1),
    ],
)
def test_calls_get_the_verdict_they_get_alone(
    compare: Compare, source: str, processes: int
) -> None:
    _, taken = compare(source, *CALLS)
    assert taken == processes


def test_a_test_that_takes_too_long_has_its_whole_time_alone(compare: Compare) -> None:
    slow = "x = int(input())\nwhile x == 2: pass\nprint(x * 2)"
    verdict, taken = compare(slow, *TWICE, cpu_s=0.3)
    assert (verdict.status, verdict.passed, taken) == (Status.CPU, 5, 5)
    # No further test is begun when the process has used its short time.
    verdict, taken = compare("import time\ntime.sleep(0.3)\nprint(int(input()) * 2)", *TWICE)
    assert (verdict.status, taken) == (Status.PASSED, 6)


def test_output_is_bounded_for_a_test_not_for_all(compare: Compare) -> None:
    flood = "x = int(input())\nprint(x * 2, ' ' * 3000)"
    verdict, taken = compare(flood, *TWICE, output_bytes=4096)
    assert (verdict.status, taken) == (Status.PASSED, 7)
    verdict, _ = compare("print('x' * 5000)", *TWICE, output_bytes=4096)
    assert (verdict.status, verdict.passed) == (Status.OUTPUT, 0)


@pytest.mark.parametrize(
    "after", ["", "\nexcept MemoryError: print('no room')"], ids=["", "caught"]
)
def test_what_a_test_has_held_is_not_missed_by_the_next(compare: Compare, after: str) -> None:
    begin = "try:\n    main()" if after else "main()"
    source = (
        "class Held:\n    def __init__(self):\n        self.itself = self\n"
        "        self.data = bytearray(30 << 20)\n"
        f"def main():\n    held = Held()\n    print(int(input()) * 2)\n{begin}{after}"
    )
    assert leaves_nothing(source)
    limits = {"memory_bytes": 128 << 20, "stack_bytes": 8 << 20}
    verdict, taken = compare(source, *TWICE, **limits)
    assert (verdict.status, taken) == (Status.PASSED, 1), verdict.message


def test_too_little_memory_is_believed_of_the_first_test_alone() -> None:
    tests = [StdinTest("", "a"), StdinTest("", "b"), StdinTest("", "c")]
    told = json.dumps({"outcome": "exception", "message": "MemoryError: no room"}).encode()
    for second in (line(1, "memory"), b"1 " + told + b"\n"):
        results = score_batch(tests, ended(line(1) + second, b"a"), Limits(), clean=True)
        assert [result and result.status for result in results] == [Status.PASSED, None, None]
    first, *_ = score_batch(tests, ended(line(1, "memory"), b"a"), Limits(), clean=True)
    assert first is not None and first.status is Status.MEMORY


def test_kinds_of_tests_do_not_mix() -> None:
    tests = (*TWICE[:2], *CALLS[:2], AssertTest("pass"), AssertTest("pass"), TWICE[0])
    program = Program("p", "", tests, isolate="program")
    assert list(grouped(program)) == [(0, 1), (2, 3), (4,), (5,), (6,)]
    assert [len(group) for group in grouped(dataclasses.replace(program, isolate="test"))] == [
        1
    ] * 7
    many = Program("p", "", (StdinTest("x" * 1000, ""),) * 600, "program")
    sizes = [len(group) for group in grouped(many)]
    assert sum(sizes) == 600 and max(sizes) == 64
    large = Program("p", "", (StdinTest("x" * 200_000, ""),) * 3, "program")
    assert list(grouped(large)) == [(0,), (1,), (2,)]


@pytest.mark.parametrize(
    ("source", "nothing"),
    [
        ("import sys\nfrom collections import *\nsys.stdin = 1\nprint(input())", True),
        ("if __name__ == '__main__': print(1)", True),
        ("import os", False),
        ("import math; math.pi = 3", False),
        ("from math import pi\nx = pi == 3", True),
        ("import collections\ncollections.Counter.x = 3", False),
        ("__builtins__.x = 3", False),
        ("open('a')", False),
        ("import sys\nsys.modules.clear()", False),
    ],
)
def test_what_a_text_tells_of_what_it_leaves(source: str, nothing: bool) -> None:
    assert leaves_nothing(source) is nothing


@pytest.mark.parametrize("part", ["re.", "re.a ", "re", " ", "sys.std.", "__", "re.a\n"])
def test_a_hostile_text_is_gone_over_once(part: str) -> None:
    # From each of its names to the end, 64 KB took the caller 16 s.
    began = time.process_time()
    leaves_nothing(part * (40_000 // len(part)))
    assert time.process_time() - began < 1.0


def ended(report: bytes, out: bytes = b"", **told: Any) -> Ended:
    return Ended(0, "itself", 0.5, 1.0, 7, len(out), "", out, b"", report, **told)


def line(end: object, outcome: str = "completed") -> bytes:
    return f"{end} ".encode() + json.dumps({"outcome": outcome, "message": ""}).encode() + b"\n"


@pytest.mark.parametrize(
    "second",
    [
        b"",
        b"garbage\n",
        line(-1),
        line(99),
        line(0),
        line("\u0661"),
        line("9" * 5000),
        line(4, "passed"),
        line(4)[:-1],
        b"4 " + b"[" * 100_000 + b"\n",
    ],
    ids=range(10),
)
def test_a_forged_report_is_believed_of_nothing(second: bytes) -> None:
    tests = [StdinTest("", "a"), StdinTest("", "bb"), StdinTest("", "c")]
    report = line(1) + second + line(3) + line(3)
    first, *others = score_batch(tests, ended(report, b"abb"), Limits(), clean=False)
    assert first is not None and (first.status, first.cpu_s) == (Status.PASSED, 0.5)
    assert all(result is None or result.status is Status.PASSED for result in others)
    assert others[1] is None


def test_an_unknown_isolation_is_refused() -> None:
    with pytest.raises(BadProgram, match="isolate is 'never'; give 'test' or 'program'"):
        Program("p", "", TWICE, "never")  # type: ignore[arg-type]
