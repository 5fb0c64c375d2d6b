"""Attempts at a pass that was not earned, and at harming the caller with an answer."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from peft_bench_sandbox import AssertTest, CallTest, Limits, StdinTest, Verdict
from peft_bench_sandbox.score import make_job

Run = Callable[..., Verdict]
FAIL = AssertTest("assert False")
TESTS = [FAIL, StdinTest("", "right"), CallTest("f", [], "right")]

# Finds the descriptor of the result channel: the only pipe beyond the standard three.
FIND = """
import os, stat
fds = [int(n) for n in os.listdir('/proc/self/fd')]
fds = [n for n in fds if n > 2 and os.path.exists(f'/proc/self/fd/{n}')]
[fd] = [n for n in fds if stat.S_ISFIFO(os.fstat(n).st_mode)]
def f(): return 'right'
"""

ATTACKS = {
    "closes everything": "os.closerange(0, 256)",
    "closes the channel": "os.close(fd)",
    "writes garbage": "os.write(fd, b'garbage')",
    "writes a line of garbage": "os.write(fd, b'garbage\\n')",
    "writes bytes that are no text": "os.write(fd, bytes(range(256)) + b'\\n')",
    "writes a report without the token": (
        'os.write(fd, b\'{"token": "", "event": "end", "outcome": "completed", "message": "", '
        '"value": null, "peak_bytes": 0}\\n\'); os._exit(0)'
    ),
    "writes nothing and leaves": "os._exit(0)",
    "writes a flood": "\nwhile True: os.write(fd, b'x' * 65536)",
    "replaces os.write": "os.write = lambda *a: 0; os._exit(0)",
    "duplicates stdout over it": "os.dup2(1, fd)",
    "lets a fork of itself finish": ("pid = os.fork()\nif pid: os.waitpid(pid, 0); os._exit(0)\n"),
}


@pytest.mark.parametrize("test", TESTS, ids=["asserts", "stdin", "call"])
@pytest.mark.parametrize("attack", ATTACKS)
def test_a_disturbed_channel_is_no_pass(run: Run, attack: str, test: Any) -> None:
    source = FIND + ("print('right', flush=True)\n" if isinstance(test, StdinTest) else "")
    verdict = run(source + ATTACKS[attack], test, wall_s=5)
    assert verdict.passed == 0
    assert verdict.status in ("exited", "output", "crashed", "wrong"), verdict.message
    assert verdict.status != "wrong" or test is FAIL


@pytest.mark.parametrize("test", TESTS[1:], ids=["stdin", "call"])
def test_the_undisturbed_twin_passes(run: Run, test: Any) -> None:
    source = FIND + ("print('right', flush=True)\n" if isinstance(test, StdinTest) else "")
    assert run(source, test).status == "passed"


@pytest.mark.parametrize(
    ("test", "secret"),
    [
        (StdinTest("in", "S3CRET-9417"), b"S3CRET-9417"),
        (CallTest("f", ["in"], ["S3CRET-9417"]), b"S3CRET-9417"),
        (CallTest("f", ["in"], 94170612), (94170612).to_bytes(4, "little")),
    ],
)
def test_the_reference_is_not_in_what_the_child_is_told(test: Any, secret: bytes) -> None:
    assert secret not in make_job("source", test, Limits(), "token")


@pytest.mark.parametrize(
    ("test", "found"),
    [
        (CallTest("f", ["S3CRET-in"], "S3CRET-out"), "S3CRET-in"),
        (StdinTest("", "S3CRET-out"), ""),
    ],
)
def test_the_reference_is_not_in_the_childs_memory(run: Run, test: Any, found: str) -> None:
    # The pieces are put together late, so that the search does not find itself.
    source = """
import re
def f(*_):
    text = b''
    for line in open('/proc/self/maps'):
        at, mode = line.split()[:2]
        if 'rw' in mode and 'vvar' not in line:
            begin, end = (int(n, 16) for n in at.split('-'))
            with open('/proc/self/mem', 'rb') as memory:
                memory.seek(begin)
                try:
                    text += memory.read(end - begin)
                except OSError:
                    pass
    wanted = b'S3' + b'CRET-' + b'(?:in|out)'
    return sorted({m.decode() for m in re.findall(wanted, text)})
if __name__ == '__main__': print('seen', *f())
"""
    verdict = run(source, test)
    assert verdict.status == "wrong"
    shown = f'["{found}"]' if isinstance(test, CallTest) else "seen"
    assert verdict.message.endswith(f"got {shown}"), verdict.message


# The runner's frames hold what a report begins with: at this level the candidate can look.
FORGE = (
    FIND
    + """
import sys
frame = sys._getframe()
while 'head' not in frame.f_locals: frame = frame.f_back
report = '"end", "outcome": "completed", "message": "", "value": null, "peak_bytes": 0}'
os.write(fd, (frame.f_locals['head'] + report + chr(10)).encode())
"""
)


@pytest.mark.parametrize(
    ("leave", "status"),
    [
        ("os._exit(0)", "passed"),
        ("os._exit(1)", "exited"),
        ("os.abort()", "crashed"),
        ("", "exited"),
    ],
)
def test_a_forged_report_passes_an_assertion_only_with_a_clean_exit(
    run: Run, leave: str, status: str
) -> None:
    # The first is the weakness that README.md names; no exit but the runner's own is believed.
    assert run(FORGE + leave, FAIL).status == status


@pytest.mark.parametrize("test", TESTS[1:], ids=["stdin", "call"])
def test_a_forged_report_does_not_help_where_the_caller_compares(run: Run, test: Any) -> None:
    assert run(FORGE + "os._exit(0)", test).passed == 0


EQUAL_TO_ALL = "class E:\n    __eq__ = lambda s, o: True\ndef f(): return E()"


def test_an_object_equal_to_everything_fools_assertions_only(run: Run) -> None:
    # README.md: an assert-style test is judged where the candidate is, and can be fooled.
    fooled = run(EQUAL_TO_ALL, AssertTest("assert f() == 42"))
    assert (fooled.status, fooled.judge) == ("passed", "shared")
    held = run(EQUAL_TO_ALL, CallTest("f", [], 42))
    assert (held.status, held.judge) == ("wrong", "split")
    assert "returned E, not plain data" in held.message


@pytest.mark.parametrize(
    "value",
    [
        "{1, 2}",
        "b'x'",
        "1j",
        "object()",
        "(n for n in 'ab')",
        "lambda: 0",
        "{(1, 2): 3}",
        "[object()]",
        "10 ** 5000",  # more digits than Python reads back
        "loop",
    ],
)
def test_a_value_that_is_not_plain_is_wrong(run: Run, value: str) -> None:
    source = f"loop = []\nloop.append(loop)\ndef f(): return {value}"
    verdict = run(source, CallTest("f", [], 1))
    assert verdict.status == "wrong" and "not plain data" in verdict.message


def test_a_value_whose_own_methods_fail_is_an_exception(run: Run) -> None:
    source = (
        "class Hostile(dict):\n    def items(self): raise LookupError('boo')\n"
        "def f(): return Hostile(a=1)"
    )
    verdict = run(source, CallTest("f", [], {"a": 1}))
    assert verdict.status == "exception" and "LookupError: boo" in verdict.message


def test_a_value_nested_too_deep_is_wrong(run: Run) -> None:
    source = (
        "import sys\nsys.setrecursionlimit(10**6)\n"
        "def f(n):\n    x = []\n    for _ in range(n): x = [x]\n    return x"
    )
    deep = run(source, CallTest("f", [5000], []))
    assert deep.status == "wrong", deep.message
    assert run(source, CallTest("f", [2], [[[]]])).status == "passed"


def test_assertions_switched_off_by_the_program_do_not_matter(run: Run) -> None:
    source = "import builtins\nbuiltins.AssertionError = ValueError"
    assert run(source, AssertTest("assert 1 == 2")).passed == 0
