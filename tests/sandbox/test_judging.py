"""An assert test judged apart from its program: what it sees, what it may do, how it ends."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from peft_bench_sandbox import AssertTest, Limits, Program, Verdict
from peft_bench_sandbox.pool import run_programs

Run = Callable[..., Verdict]
ONE = "def f(): return 1"
TIGHT: dict[str, Any] = {"cpu_s": 0.5, "wall_s": 3.0, "memory_bytes": 512 << 20}


def status(run: Run, source: str, code: str, entry_point: str | None = None, **limits: Any) -> str:
    verdict = run(source, AssertTest(code, entry_point), **limits)
    assert verdict.judge == "split" and verdict.total == 1
    return f"{verdict.status} {verdict.message}".strip()


# What the test sees


def test_functions_are_called_and_data_is_seen(run: Run) -> None:
    source = (
        "n = [1, {2: 3}]\ndef f(x): return n[0] + help(x)\ndef help(x): return x * 2\nclass C: 0"
    )
    code = "assert f(4) == 9\nassert n == [1, {2: 3}]\nassert callable(C) and f.__name__ == 'f'"
    assert status(run, source, code) == "passed"


def test_what_the_program_keeps_stays_between_calls(run: Run) -> None:
    source = "seen = []\ndef f(x):\n    seen.append(x)\n    return len(seen)"
    assert status(run, source, "assert [f('a'), f('b'), f('c')] == [1, 2, 3]") == "passed"
    # Data is a copy from before the test's first line.
    assert status(run, source, "f(1)\nseen.append(2)\nassert (seen, f(3)) == ([2], 2)") == "passed"


def test_an_argument_is_a_copy(run: Run) -> None:
    source = "def f(x): x.append(1)"
    assert status(run, source, "x = []\nf(x)\nassert x == []") == "passed"
    assert run(source, AssertTest("x = []\nf(x)\nassert x == [1]", judge="shared")).passed == 1


def test_a_helper_of_the_program_can_be_used(run: Run) -> None:
    source = "def parse(s): return [*map(int, s.split())]\ndef f(x): return sum(x)"
    assert status(run, source, "assert f(parse('1 2 3')) == 6", "f") == "passed"


def test_names_the_test_defines_itself_are_its_own(run: Run) -> None:
    source = "def helper(x): return 'no'\ndef f(x): return helper(x)"
    code = (
        "def helper(x): return x + 1\ndef check(c): assert (c(1), helper(1)) == ('no', 2)\ncheck(f)"
    )
    assert status(run, source, code, "f") == "passed"


def test_a_stand_in_has_no_attributes_of_the_program(run: Run) -> None:
    source = "def f(x: int): 'Doc'\nf.mark = 1"
    assert status(run, source, "assert f.mark == 1").startswith("exception in the test: Attribute")
    assert status(run, source, "assert 'x' not in f.__annotations__") == "passed"


def test_a_missing_entry_point_is_the_programs_exception(run: Run) -> None:
    said = "exception NameError: the program defines no 'f'"
    assert status(run, "g = 1", "pass", "f") == said
    assert status(run, "def f(): 0\ndel f", "pass", "f") == said
    assert status(run, "def F(): 0", "assert f() == 1").startswith("exception in the test: NameE")


def test_a_built_in_is_the_programs_only_as_entry_point(run: Run) -> None:
    source = "abs = len = lambda x: 0\ndef f(): return abs(-5)"
    assert status(run, source, "assert abs(-1) == 1 and len('ab') == 2 and f() == 0") == "passed"
    assert status(run, source, "assert abs(-1) == 0 and len('ab') == 2", "abs") == "passed"
    shadow = "class AssertionError(Exception): pass\nFalse_ = print = lambda *_: 1"
    assert status(run, shadow, "assert False").startswith("wrong AssertionError")


def test_a_module_is_the_judges_own_and_only_under_its_name(run: Run) -> None:
    assert status(run, "import math", "assert math.sqrt(4) == 2.0") == "passed"
    patched = "import math\nmath.sqrt = lambda x: 42"
    assert status(run, patched, "assert math.sqrt(4) == 42.0").startswith("wrong")
    for source in ("import cmath as math", "import sys as math", "math = 5; del math"):
        assert status(run, source, "math.sqrt(4)").startswith("exception in the test: NameError")
    forged = "import types\nmath = types.ModuleType('math')\nmath.sqrt = lambda x: 42"
    assert status(run, forged, "assert math.sqrt(4) == 2.0") == "passed"
    own = "import types\nmine = types.ModuleType('mine')"
    assert status(run, own, "mine").startswith("exception in the test: NameError")


def test_data_with_the_name_of_a_method_is_no_harm(run: Run) -> None:
    source = "items = object()\ndef f(): return {}"
    assert status(run, source, "assert list(f().items()) == []") == "passed"


def test_data_that_is_not_plain_is_wrong_where_the_test_wants_it(run: Run) -> None:
    source = "made = object()\ndef f(): return 1"
    assert status(run, source, "assert f() == 1") == "passed"
    assert status(run, source, "assert made") == "wrong made gave object: object is not plain data"


# Exceptions


def test_a_test_can_expect_an_exception(run: Run) -> None:
    source = (
        "class Mine(LookupError): pass\nclass Odd(Exception):\n"
        "    def __init__(self, a, b): pass\n"
        "def f(x): raise {0: ValueError('boo'), 1: Mine('m'), 2: Odd(1, 2), 3: OSError(2, 'x'),"
        " 4: UnicodeDecodeError('utf-8', b'', 0, 1, 'r'), 5: KeyError('k')}[x]"
    )
    code = """
def kind(x):
    try:
        f(x)
    except Exception as error:
        return type(error)
assert [kind(x) for x in range(4)] == [ValueError, LookupError, Exception, FileNotFoundError]
assert issubclass(kind(4), ValueError) and kind(5) is KeyError
"""
    assert status(run, source, code) == "passed"
    missed = "try: f(0)\nexcept KeyError: pass"
    assert status(run, source, missed) == "exception ValueError: boo"


def test_an_exceptions_text_is_its_own(run: Run) -> None:
    source = "def f(): raise ValueError('boo')"
    code = "try: f()\nexcept ValueError as error: assert str(error) == 'boo', str(error)"
    assert status(run, source, code) == "passed"


def test_an_assertion_of_the_program_is_an_exception_not_wrong(run: Run) -> None:
    source = "def f(x):\n    assert x, 'own'\n    return x"
    assert status(run, source, "f(0)") == "exception AssertionError: own"
    assert status(run, source, "f(1)\nassert 0, 'test'").startswith("wrong AssertionError: test")
    assert status(run, "assert 0, 'own'", "f(0)") == "exception AssertionError: own"


@pytest.mark.parametrize("name", ["StopIteration", "StopAsyncIteration", "GeneratorExit"])
def test_an_exception_never_ends_a_loop_of_the_test(run: Run, name: str) -> None:
    source = f"def f(x): raise {name}"
    for code in ("for _ in map(f, [1]): pass", "list(f(x) for x in [1])", "[*map(f, [1])]"):
        assert status(run, source, code).startswith("exception"), code


@pytest.mark.parametrize(
    ("source", "wanted"),
    [
        ("def f(): raise KeyboardInterrupt", "exception KeyboardInterrupt"),
        ("import sys\ndef f(): sys.exit(0)", "exited SystemExit: 0 before"),
        ("import os\ndef f(): os._exit(0)", "exited the program left its test"),
        ("def f(): raise MemoryError('full')", "memory MemoryError: full"),
        ("import os, signal\ndef f(): os.kill(os.getpid(), signal.SIGABRT)", "crashed killed by"),
        ("def f(): return object()", "wrong f gave object"),
    ],
)
def test_no_test_can_catch_the_end_of_its_program(run: Run, source: str, wanted: str) -> None:
    for code in ("try: f()\nexcept BaseException: pass", "try: f()\nexcept BaseException: f()"):
        assert status(run, source, code, **TIGHT).startswith(wanted)


@pytest.mark.parametrize(
    "end", ["raise ValueError", "raise KeyboardInterrupt", "sys.exit()", "object()"]
)
def test_a_test_that_tries_again_for_ever_is_the_programs_doing(run: Run, end: str) -> None:
    source = f"import sys\ndef f(): {end.replace('object', 'return object')}"
    code = "while True:\n    try:\n        f()\n        break\n    except BaseException: pass"
    assert status(run, source, code, **TIGHT).startswith("cpu")


# Tests that cannot be judged apart


def test_a_test_that_does_not_compile_is_no_fault_of_the_program(run: Run) -> None:
    for code in ("assert (", "x = '\0'", "return 1", "(" * 500):
        assert status(run, ONE, code).startswith("harness_error the test does not compile")


def test_a_test_that_runs_text_needs_a_shared_judge(run: Run) -> None:
    for code in ("eval('f()')", "exec('f()')", "def g(): return lambda: eval('1')"):
        said = status(run, ONE, code)
        assert said.startswith("harness_error") and "judge='shared'" in said
    assert run(ONE, AssertTest("assert eval('f()') == 1", judge="shared")).passed == 1


@pytest.mark.parametrize(
    "given",
    ["lambda x: x", "[object()]", "f", "bytearray(b'x')", "memoryview(b'x')", "array('i', [1])"],
)
def test_an_argument_that_is_not_plain_is_the_tests_fault_before_any_answer(
    run: Run, given: str
) -> None:
    source = "def f(x=0): return 1"
    said = "f is given what is no plain data; such a test needs judge='shared'"
    code = f"from array import array\nx = {given}\n"
    assert status(run, source, code + "f(x)") == f"harness_error {said}"
    assert status(run, source, code + "f()\nf(x)") == f"wrong {said}"


# How a test ends


def test_a_test_that_computes_for_ever_is_the_programs_doing_after_an_answer(run: Run) -> None:
    endless = "while True: pass"
    assert status(run, ONE, f"f()\n{endless}", **TIGHT).startswith("cpu")
    assert status(run, ONE, endless, **TIGHT).startswith("harness_error")


def test_a_program_that_speaks_byte_by_byte_has_the_judge_to_itself_for_a_moment_only() -> None:
    # Each byte with a descriptor, so that the judge reads it alone: reading costs more than saying.
    size = 1 << 20
    source = f"""
import socket, time
end = socket.socket(fileno=3)
end.send(({size}).to_bytes(4, 'little'))
sent = 0
while sent < {size}:
    try: sent += socket.send_fds(end, [b'x'], [0])
    except OSError as error:
        if error.errno != 109: raise  # too many are under way
        time.sleep(0.0001)
def f(): return 1"""
    program = Program("drip", source, (AssertTest("assert f() == 1"),))
    [verdict] = run_programs([program], limits=Limits(cpu_s=1.0), without={"messages"})
    assert (verdict.status, verdict.passed) == ("exited", 0), verdict
    assert "parts" in verdict.message and verdict.cpu_s < 0.5, verdict


def test_a_test_that_sleeps_is_ended(run: Run) -> None:
    sleep = "import time\ntime.sleep(600)"
    assert status(run, ONE, f"f()\n{sleep}", **TIGHT).startswith("timeout")
    assert status(run, ONE, sleep, **TIGHT).startswith("harness_error")


def test_a_test_that_sleeps_a_little_is_fine(run: Run) -> None:
    assert status(run, ONE, "import time\ntime.sleep(0.2)\nassert f() == 1") == "passed"


def test_a_test_out_of_memory_on_an_answer_is_never_the_sandboxs_failure(run: Run) -> None:
    source = "def f(): return 'x' * 10**5"
    for grow in ("hold.append(x * 200)", "hold.append(bytes(10**8))", "x = x + x"):
        said = status(run, source, f"x, hold = f(), []\nwhile True: {grow}", **TIGHT)
        # On a loaded machine, filling the memory can take all of its CPU time.
        assert said.split()[0] in ("memory", "crashed", "cpu"), said


def test_a_test_that_exits_does_not_pass(run: Run) -> None:
    assert status(run, ONE, "f()\nraise SystemExit").startswith("exception in the test: SystemExit")
    assert status(run, ONE, "import sys\nf()\nsys.exit(0)").startswith("exception in the test")
    assert status(run, ONE, "import os\nf()\nos._exit(0)").startswith("crashed")
    assert status(run, ONE, "import os\nos._exit(0)").startswith("harness_error")


@pytest.mark.parametrize(
    "attempt",
    [
        "open('/etc/passwd')",
        "open('/tmp/x', 'w')",
        "open('x', 'w')",
        "os.fork()",
        "os.execv('/bin/true', ['true'])",
        "socket.socket()",
    ],
)
def test_the_judge_is_sealed_too(sealed: None, run: Run, attempt: str) -> None:
    code = f"import os, socket\ntry: {attempt}\nexcept OSError: pass\nelse: assert False"
    assert status(run, ONE, code) == "passed"


# Nothing passes from one test to the next

CHANGES = {
    "recursion limit": (
        "import sys\nsys.setrecursionlimit(54_321)",
        "import sys\nassert sys.getrecursionlimit() < 54_321",
    ),
    "built-in": ("import builtins\nbuiltins.abs = lambda x: 7", "assert abs(-1) == 1"),
    "built-in by setattr": (
        "import builtins\nsetattr(builtins, 'abs', lambda x: 7)",
        "assert abs(-1) == 1",
    ),
    "module": ("import wave", "import sys\nassert 'wave' not in sys.modules"),
    "attribute": ("import math\nmath.pi = 3", "import math\nassert math.pi > 3.1"),
    "deleted attribute": ("import math\ndel math.pi", "import math\nassert math.pi > 3.1"),
    "attribute in a function": (
        "def g():\n    import math\n    for math.pi in [3]: pass\ng()",
        "import math\nassert math.pi > 3.1",
    ),
    "dictionary": ("import math\nvars(math)['pi'] = 3", "import math\nassert math.pi > 3.1"),
    "stand-in": ("f.mark = 1", "assert not hasattr(f, 'mark')"),
    "variable": ("x = 1", "try: x\nexcept NameError: pass\nelse: assert False"),
    "random": ("import random\nrandom.seed(5)", "import random\nassert random.random() == {first}"),
    "more random": (
        "import random\nrandom.random()",
        "import random\nassert random.random() == {first}",
    ),
    "failure": ("import math\nmath.pi = 3\nassert f() == 2", "import math\nassert math.pi > 3.1"),
}


@pytest.fixture(scope="module")
def first(engines: Any) -> str:
    """The first random number of a test."""
    test = AssertTest("import random\nassert False, repr(random.random())")
    [verdict] = engines(Limits()).run([Program("p", ONE, (test,))])
    number: str = verdict.message.split(": ")[1].split(" ")[0]
    assert 0 <= float(number) < 1
    return number


@pytest.mark.parametrize("name", CHANGES)
def test_a_change_of_the_process_does_not_reach_the_next_test(
    run: Run, first: str, name: str
) -> None:
    change, look = CHANGES[name]
    run(ONE, AssertTest(change))
    said = status(run, ONE, look.format(first=first))
    assert said == "passed"


def test_random_numbers_are_the_same_each_time_on_both_sides(run: Run) -> None:
    source = "import random\ndef f(): return [random.random() for _ in range(3)]"
    code = "import random\nassert False, repr([f(), random.random(), random.sample(range(99), 5)])"
    assert len({status(run, source, code) for _ in range(4)}) == 1


def test_hashes_of_strings_are_the_same_each_time(run: Run) -> None:
    source = "def f(): return list({'a', 'b', 'c', 'd', 'e', 'f'})"
    code = "assert False, repr([f(), list({'a', 'b', 'c', 'd', 'e', 'f'})])"
    assert len({status(run, source, code) for _ in range(3)}) == 1
