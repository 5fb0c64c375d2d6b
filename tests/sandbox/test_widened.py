"""The judges between split and shared: mocks, arguments and files go over; each to its own end."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from peft_bench_sandbox import AssertTest, Limits, Program, Verdict, best_level, settle
from peft_bench_sandbox.engine import Engine

Run = Callable[..., Verdict]

MOCKS, ARGUMENTS, FILES = "split-mocks", "split-arguments", "split-files"


def said(run: Run, source: str, code: str, judge: Any, **limits: Any) -> str:
    verdict = run(source, AssertTest(code, judge=judge), **limits)
    assert verdict.judge == judge and verdict.total == 1
    return f"{verdict.status} {verdict.message}".strip()


# Arguments

# name: what the program does to x, the test
CHANGES = {
    "a list": ("x.append(4)", "x = [3]\nf(x)\nassert x == [3, 4]"),
    "a list in another order": ("x.sort()", "x = [2, 1]\nassert f(x) is None and x == [1, 2]"),
    "a list by its slice": (
        "x[:] = [n - 1 for n in x]",
        "x = [2, 3.5]\nf(x)\nassert x == [1, 2.5]",
    ),
    "a dictionary": ("x['b'] = x.pop('a')", "x = {'a': (1, 2)}\nf(x)\nassert x == {'b': (1, 2)}"),
    "a dictionary's order": (
        "x['a'] = x.pop('a')",
        "x = {'a': 1, 'b': 2}\nf(x)\nassert [*x] == ['b', 'a']",
    ),
    "a set": ("x -= {1}; x.add('é')", "x = {1, 2}\nf(x)\nassert x == {2, 'é'}"),
    "bytes": ("x += b'\\xff'; x[0] = 0", "x = bytearray(b'a')\nf(x)\nassert x == b'\\0\\xff'"),
    "what is inside": (
        "x[0]['k'][1].append(2)",
        "x = [{'k': (0, [1])}]\nf(x)\nassert x[0]['k'][1][1] == 2",
    ),
    "what is inside a tuple": ("x[1].clear()", "x = (1, [2])\nf(x)\nassert x == (1, [])"),
    "what is inside a subclass": (
        "x['k'].append(1)",
        "from collections import Counter\nx = Counter(k=[])\nf(x)\nassert x['k'] == [1]",
    ),
    "the type of a number": (
        "x[0] = True; x[1] = 1.0",
        "x = [1, 1]\nf(x)\nassert repr(x) == '[True, 1.0]'",
    ),
    "something new inside": ("x.append([{1: ()}])", "x = []\nf(x)\nassert x == [[{1: ()}]]"),
    "into itself": ("x.append(x)", "x = []\nf(x)\nassert x[0] is x"),
    "into each other": ("x[0].append(x[1])", "x = [[], []]\nf(x)\nassert x[0][0] is x[1]"),
    "in a longer way": (
        "x[0], x[1] = x[1], x[0]",
        "a, b = [1], [2]\nx = [a, b]\nf(x)\nassert x[0] is b",
    ),
    "before it raises": (
        "x.append(1); x[9]",
        "x = []\ntry: f(x)\nexcept IndexError: assert x == [1]\nelse: assert 0",
    ),
    "not at all": ("0", "a = [1]\nx = [a, a]\nf(x)\nassert x[0] is x[1] is a and x == [[1], [1]]"),
}


@pytest.mark.parametrize("change", CHANGES)
def test_what_changes_in_an_argument_changes_in_the_test(run: Run, change: str) -> None:
    act, code = CHANGES[change]
    source = f"def f(x):\n    {act}"
    assert said(run, source, code, ARGUMENTS) == "passed"


@pytest.mark.parametrize("change", sorted(CHANGES.keys() - {"not at all"}))
def test_but_not_with_the_split_judge(run: Run, change: str) -> None:
    act, code = CHANGES[change]
    source = f"def f(x):\n    {act}"
    for judge in ("split", MOCKS):
        assert not said(run, source, code, judge).startswith("passed")


def test_one_object_twice_is_one_object_over_there(run: Run) -> None:
    source = "def f(x, y, *, z):\n    x.append(1)\n    return x is y is z[0]"
    assert (
        said(run, source, "x = []\nassert f(x, x, z=[x])\nassert x == [1]", ARGUMENTS) == "passed"
    )
    assert said(run, source, "x = []\nassert not f(x, [], z=[[]])", ARGUMENTS) == "passed"


def test_an_argument_that_is_returned_is_the_tests_own(run: Run) -> None:
    source = "def f(x): return [x, [*x]]"
    code = "x = [1]\na, b = f(x)\nassert a is x and b == x and b is not x"
    assert said(run, source, code, ARGUMENTS) == "passed"


def test_what_a_program_keeps_of_a_call_is_its_own_afterwards(run: Run) -> None:
    source = "kept = []\ndef f(x):\n    kept.append(x)\n    kept[0].append(len(kept))"
    code = "a, b = [], []\nf(a)\nf(b)\nassert a == [1] and b == []"
    assert said(run, source, code, ARGUMENTS) == "passed"


def test_what_is_left_in_an_argument_has_to_be_plain(run: Run) -> None:
    source = "def f(x): x.append(f)"
    told = said(run, source, "x = []\nf(x)", ARGUMENTS)
    assert told.startswith("wrong f left what is no plain data in an argument: function")
    deep = "def f(x):\n    for _ in range(10**5): x[:] = [[*x]]"
    assert said(run, deep, "f([])", ARGUMENTS).startswith("wrong f left what is no plain data")


def test_what_comes_back_is_bounded(run: Run) -> None:
    source = "def f(x): x.append('x' * 3000)"
    assert said(run, source, "f([])", ARGUMENTS, output_bytes=2000).startswith("output ")
    assert said(run, source, "x = []\nf(x)\nassert len(x[0]) == 3000", ARGUMENTS) == "passed"


def test_other_containers_stay_as_they_are(run: Run) -> None:
    source = "def f(x):\n    x.clear()\n    return 1"
    code = "from collections import Counter\nx = Counter('aab')\nassert f(x) == 1 and x['a'] == 2"
    assert said(run, source, code, ARGUMENTS) == "passed"


def test_data_and_names_are_seen_as_by_the_split_judge(run: Run) -> None:
    source = "import math\nn = [1, {2: 3}]\ndef f(x): return n[0] + x"
    code = "assert f(4) == 5 and n == [1, {2: 3}] and math.pi > 3"
    for judge in (MOCKS, ARGUMENTS):
        assert said(run, source, code, judge) == "passed"
        assert said(run, source, "f(1) / 0", judge).startswith("exception in the test: ZeroDiv")
        assert said(run, "def f(): 1 / 0", "f()", judge).startswith("exception ZeroDivision")
        assert said(run, "1 +", "f()", judge).startswith("exception SyntaxError")
        assert said(run, source, "f(f)", judge).startswith("harness_error f is given what is no pl")
        assert said(run, "def f(): return f", "f()", judge).startswith("wrong f gave what is no pl")
        assert said(run, "def f(): exit()", "f()", judge).startswith("exited ")


def test_what_a_program_changes_in_a_module_is_no_other_tests(
    engines: Callable[[Limits], Engine],
) -> None:
    # A module that judges have loaded before any test: with what was done to it goes its process.
    code = "import keyword\nf(keyword.kwlist)\nassert not keyword.kwlist"
    changes = Program("changes", "def f(x): x.clear()", (AssertTest(code, judge=ARGUMENTS),))
    code = "import keyword\nassert keyword.kwlist and f()"
    after = Program("after", "def f(): return 1", (AssertTest(code),))
    # One after the other: the judge that waits last is given the next test.
    verdicts = [*engines(Limits()).run([changes]), *engines(Limits()).run([after])]
    assert [verdict.status for verdict in verdicts] == ["passed", "passed"], verdicts


# Mocks

USES = "import os, subprocess\ndef f(x): return subprocess.call(x), os.path.exists('/x')"
_MOCK = "import os, subprocess\nfrom unittest import mock\n"


@pytest.mark.parametrize("judge", [MOCKS, ARGUMENTS])
def test_functions_that_the_test_replaces_are_replaced_for_the_program(
    run: Run, judge: str
) -> None:
    code = _MOCK + (
        "subprocess.call = mock.Mock(return_value=(3, [4]))\n"
        "os.path.exists = mock.MagicMock(return_value=True)\n"
        "assert f('ls') == ((3, [4]), True)"
    )
    assert said(run, USES, code, judge) == "passed"
    assert not said(run, USES, code, "split").startswith("passed")


def test_they_are_put_back_when_the_test_does_so(run: Run) -> None:
    code = _MOCK + (
        "with mock.patch('subprocess.call', return_value=7) as call:\n"
        "    assert f(1) == (7, False)\n"
        "    call.return_value = 8\n"
        "    assert f(1) == (8, False)\n"
        "try: f(['ls'])\n"
        "except PermissionError: pass\n"
        "else: assert 0"
    )
    assert said(run, USES, code, MOCKS) == "passed"


def test_a_mock_without_a_value_gives_none(run: Run) -> None:
    code = _MOCK + "subprocess.call = mock.Mock()\nassert f(1) == (None, False)"
    assert said(run, USES, code, MOCKS) == "passed"


def test_what_is_more_than_a_value_does_not_go_over(run: Run) -> None:
    for made in ("mock.Mock(side_effect=abs)", "mock.Mock(return_value=abs)", "lambda *_: 7"):
        code = _MOCK + f"subprocess.call = {made}\nf(['ls'])"
        assert said(run, USES, code, MOCKS).startswith("exception PermissionError"), made


# Which one a test needs

NEEDS = {
    "split": ("def f(): return 1", "assert f() == 1"),
    MOCKS: (USES, _MOCK + "subprocess.call = mock.Mock(return_value=1)\nassert f(1)[0] == 1"),
    ARGUMENTS: ("def f(x): x.append(1)", "x = []\nf(x)\nassert x"),
    FILES: ("def f(): open('a', 'w').close()", "f()\nopen('a').close()"),
    "shared": ("def f(g): return g()", "assert f(lambda: 1) == 1"),
}


def test_the_strictest_judge_that_the_reference_passes_is_settled(works: None) -> None:
    references = [
        Program(name, source, (AssertTest(code),)) for name, (source, code) in NEEDS.items()
    ]
    references.append(Program("at fault", "def f(): return 1", (AssertTest("assert f() == 2"),)))
    settled = settle(references, require=best_level())
    assert [(one.verdict.judge, one.verdict.status) for one in settled] == [
        *((name, "passed") for name in NEEDS),
        ("split", "wrong"),
    ]
    assert [bool(one.reason) for one in settled] == [False, True, True, True, True, False]
    assert [one.program.judge for one in settled] == [*NEEDS, "split"]
