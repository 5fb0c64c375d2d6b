"""Each limit, and its twin: the same attack goes through once the limit is lifted."""

from __future__ import annotations

import ctypes
import os
import resource
import sys
from collections.abc import Callable
from typing import Any

import pytest
from peft_bench_sandbox import AssertTest, CallTest, Program, StdinTest, Verdict, worker
from peft_bench_sandbox.pool import run_programs

Run = Callable[..., Verdict]
MIB = 2**20
PASS = AssertTest("pass")

# Recursion that goes through C at every turn, so that it needs the C stack; shallow enough for the
# bound that Python 3.12 sets on such turns whatever the recursion limit.
RECURSE = """
import sys
sys.setrecursionlimit(100_000)
def down(n): return n and 1 + max(map(down, [n - 1]))
depth = down(390)
"""

TWINS: dict[str, tuple[str, Any, dict[str, Any], str, dict[str, Any]]] = {
    "cpu": (
        "import time\nwhile time.process_time() < 1.5: pass",
        PASS,
        {"cpu_s": 1},
        "cpu",
        {"cpu_s": 20},
    ),
    "wall": ("import time; time.sleep(0.8)", PASS, {"wall_s": 0.3}, "timeout", {"wall_s": 30}),
    "memory": (
        f"block = bytes({300 * MIB})",
        PASS,
        {"memory_bytes": 200 * MIB},
        "memory",
        {"memory_bytes": 1000 * MIB},
    ),
    "stack": (RECURSE, PASS, {"stack_bytes": 256 * 1024}, "crashed", {"stack_bytes": 256 * MIB}),
    "output": (
        f"import os\nfor _ in range(50): os.write(1, bytes({MIB}))",
        PASS,
        {"output_bytes": MIB},
        "output",
        {"output_bytes": 60 * MIB},
    ),
    "file": (
        f"with open('big', 'wb') as file: file.write(bytes({2 * MIB}))",
        PASS,
        {"file_bytes": MIB},
        "exception",
        {"file_bytes": 3 * MIB},
    ),
    "value": (
        "def f(): return 'x' * 10_000",
        CallTest("f", [], "x" * 10_000),
        {"output_bytes": 10_000},
        "output",
        {"output_bytes": 10_100},
    ),
}


@pytest.mark.parametrize("name", TWINS)
def test_a_limit_holds_and_lifted_lets_through(run: Run, name: str) -> None:
    source, test, tight, status, lifted = TWINS[name]
    held = run(source, test, **tight)
    assert held.status == status, held.message
    passed = run(source, test, **lifted)
    assert passed.status == "passed", passed.message


def test_memory_that_is_full_to_the_last_byte_is_still_reported(run: Run) -> None:
    source = """
hold, size = [], 2**20
while size:
    try:
        hold.append(bytearray(size))
    except MemoryError:
        size //= 2
raise MemoryError('full')
"""
    verdict = run(source, PASS, memory_bytes=100 * MIB)
    assert (verdict.status, verdict.message) == ("memory", "MemoryError: full")


def test_printing_50_mb_is_cut_early(run: Run) -> None:
    verdict = run("print('x' * 50_000_000)", StdinTest("", ""))
    assert verdict.status == "output"
    assert len(verdict.message) < 200


def test_output_just_at_the_limit_is_right(run: Run) -> None:
    source, expected = "print('x' * 4999)", "x" * 4999
    assert run(source, StdinTest("", expected), output_bytes=5000).status == "passed"
    assert run(source, StdinTest("", expected), output_bytes=4999).status == "output"


@pytest.mark.parametrize("judge", ["split", "shared"])
@pytest.mark.parametrize("size", [100, 6_000_000])
def test_an_exceptions_message_is_cut_at_its_limit(run: Run, size: int, judge: Any) -> None:
    source, test = "raise ValueError('é' * 2_500_000)", AssertTest("pass", judge=judge)
    # What is said to a judge in one go is bounded by output_bytes; é is 6 bytes of it.
    verdict = run(source, test, message_bytes=size, output_bytes=16 * MIB)
    length = len(verdict.message.encode())
    assert verdict.status == "exception"
    assert verdict.message.startswith("ValueError: ééé")
    assert 98 <= length <= 100 if size == 100 else length == len("ValueError: ") + 5_000_000


@pytest.mark.parametrize("limits", [{}, {"file_bytes": 0, "output_bytes": 100}])
def test_an_input_may_be_larger_than_what_a_program_may_write(run: Run, limits: Any) -> None:
    source = """
import mmap, os, sys
size = os.fstat(0).st_size
with mmap.mmap(0, 0, prot=mmap.PROT_READ) as seen: print(seen.size() == size, seen[-3:].decode())
print(size, os.lseek(0, 0, os.SEEK_CUR), len(sys.stdin.read()))
try:
    os.pwrite(0, b'x', size + (1 << 26))
except OSError as error:
    print(error.errno)
"""
    size = (17 << 20) + 5
    text = "x" * (size - 3) + "end"
    verdict = run(source, StdinTest(text, f"True end {size} 0 {size} 27"), **limits)
    assert verdict.status == "passed", verdict.message


def test_an_exceptions_message_is_part_of_the_output(run: Run) -> None:
    verdict = run("raise ValueError('x' * 5000)", PASS, message_bytes=10_000, output_bytes=1000)
    assert verdict.status == "output" and "a message of 50" in verdict.message


def test_a_message_is_cut_between_characters(run: Run) -> None:
    for size in range(20, 25):
        verdict = run("raise ValueError('€' * 50)", PASS, message_bytes=size)
        assert set(verdict.message.removeprefix("ValueError: ")) == {"€"}


def test_a_message_may_hold_half_a_character(run: Run) -> None:
    verdict = run("raise ValueError('\\ud800')", PASS)
    assert verdict.message == "ValueError: ?"


def test_deep_recursion_has_the_stack_it_was_promised(run: Run) -> None:
    source = "import resource\nsoft, _ = resource.getrlimit(resource.RLIMIT_STACK)"
    assert run(source, AssertTest(f"assert soft == {64 * MIB}"), stack_bytes=64 * MIB).passed


# What programs begin with that recurse.
@pytest.mark.parametrize("stack", ["(-1, -1)", "[0x10000000, -1]", "(2**29, -1)"])
def test_a_program_may_raise_its_stack(run: Run, stack: str) -> None:
    if resource.getrlimit(resource.RLIMIT_STACK)[1] != resource.RLIM_INFINITY:
        pytest.skip("the stack is bounded here for all that this process starts")
    source = f"import resource\nresource.setrlimit(resource.RLIMIT_STACK, {stack})\n" + RECURSE
    verdict = run(source, AssertTest("assert depth == 390"), stack_bytes=256 * 1024)
    assert verdict.status == "passed", verdict.message


@pytest.mark.skipif(sys.version_info >= (3, 12), reason="Python ends such recursion by itself")
def test_a_raised_stack_is_bounded_by_memory(run: Run) -> None:
    source = (
        "import resource\n_, hard = resource.getrlimit(resource.RLIMIT_STACK)\n"
        "resource.setrlimit(resource.RLIMIT_STACK, (hard, hard))\n"
    ) + RECURSE.replace("390", "depths").replace("100_000", "10**9")
    tight = {"stack_bytes": 1 << 20, "memory_bytes": 200 * MIB}
    verdict = run("depths = 10_000\n" + source, AssertTest("assert depth == 10_000"), **tight)
    assert verdict.status == "passed", verdict.message
    verdict = run("depths = 10**8\n" + source, PASS, **tight)
    assert verdict.status in ("crashed", "memory"), verdict.message
    assert verdict.peak_bytes < 200 * MIB


@pytest.mark.skipif(not hasattr(ctypes.CDLL(None), "mallopt"), reason="no heap for each thread")
def test_threads_do_not_each_reserve_a_heap(monkeypatch: pytest.MonkeyPatch) -> None:
    source = """
import threading
count = int(input())
all_there = threading.Barrier(count)
def work(): all_there.wait(); made.append([0] * 1000)
made = []
threads = [threading.Thread(target=work) for _ in range(count)]
for thread in threads: thread.start()
for thread in threads: thread.join()
print(len(made))
"""
    environment = worker._environment
    # As many heaps as on a machine with 64 processors.
    many = {"GLIBC_TUNABLES": "glibc.malloc.arena_max=512"}
    monkeypatch.setattr(worker, "_environment", lambda setting: environment(setting) | many)
    [verdict] = run_programs([Program("p", source, (StdinTest("60", "60"),))])
    assert verdict.status == "passed", verdict.message


def test_the_hard_limits_are_set_too(run: Run) -> None:
    source = """
import resource
for kind in (resource.RLIMIT_AS, resource.RLIMIT_FSIZE, resource.RLIMIT_CPU, resource.RLIMIT_CORE):
    soft, hard = resource.getrlimit(kind)
    assert hard != resource.RLIM_INFINITY
"""
    assert run(source, PASS).status == "passed"


def test_nothing_of_the_callers_environment_is_there(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SECRET_TOKEN", "s")
    source = """
import os, sys, tempfile
from pathlib import Path
def names(): return dict(os.environ), dict(os.environb)
def same(): return os.path.samefile(tempfile.gettempdir(), os.getcwd())
def listing(): return os.listdir()
def arguments(): return sys.argv, sys.orig_argv
def kernels():
    try:
        return Path('/proc/self/environ').read_text()
    except OSError:
        return ''
"""
    tests = [
        "assert names() == ({}, {})",
        "assert same()",
        "assert listing() == []",
        "assert 'SECRET' not in kernels()",
        "assert arguments() == (['program.py'], [])",
    ]
    verdict = run(source, *map(AssertTest, tests))
    assert verdict.status == "passed", verdict.message
    assert os.environ["SECRET_TOKEN"] == "s"


def test_only_the_standard_library_can_be_imported(run: Run) -> None:
    assert "pytest" in sys.modules  # it can be imported here
    verdict = run("import pytest", PASS)
    assert verdict.status == "exception" and "No module named 'pytest'" in verdict.message
    assert run("import json, ctypes, asyncio, sqlite3", PASS).status == "passed"


def test_no_process_can_be_started(sealed: None, run: Run) -> None:
    verdict = run("import subprocess\nsubprocess.run(['/bin/true'])", PASS)
    assert verdict.status == "exception" and "PermissionError" in verdict.message


OPEN = """
import os
def is_open(fd):
    try:
        os.fstat(fd)
    except OSError:
        return False
    return True
def open_ones(): return [fd for fd in range(4096) if is_open(fd)]
"""


def test_no_descriptor_of_the_caller_is_there(run: Run) -> None:
    read_end, write_end = os.pipe()
    os.set_inheritable(write_end, True)
    try:
        # The standard three, the job's socket, the report.
        verdict = run(OPEN, AssertTest("assert open_ones() == [0, 1, 2, 3, 4]"))
    finally:
        os.close(read_end)
        os.close(write_end)
    assert verdict.status == "passed", verdict.message
