"""The comparison "legacy": each rule accepts what it says, no more, and a verdict names it."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any

import pytest
from peft_bench_sandbox import BadProgram, CallTest, StdinTest, Verdict
from peft_bench_sandbox.judge import judge_stdout, judge_value
from peft_bench_sandbox.legacy import (
    CLOSE_LINES,
    EXIT_IGNORED,
    FIRST_ELEMENT,
    ROUNDED_SETS,
    SETS,
    _as_rounded_sets,
    accept_stdout,
    accept_value,
)

Run = Callable[..., Verdict]


@pytest.mark.parametrize(
    ("expected", "got", "rule"),
    [
        ("100000", "100001", CLOSE_LINES),  # whole numbers too
        ("3", "3.00001", CLOSE_LINES),
        ("0", "0.00000001", CLOSE_LINES),
        ("1\n\n2\n", "1.0\n2.0", CLOSE_LINES),  # lines that are empty do not count
        ("inf", "1e999", CLOSE_LINES),
        ("9" * 400, "8" * 400, CLOSE_LINES),  # both are infinite there
        ("1 2", "2 1", SETS),
        ("1\n2\n", "2\n1\n", SETS),
        ("a b\nc", "c\nb a\n", SETS),
        ("1", "1\n1\n1", SETS),
        ("x x y", "y x", SETS),
        ("1 2\r\n3", "3\n2 1", SETS),
        ("0.1234 5", "5 0.1229999", ROUNDED_SETS),
        ("1 2\n3", "3.0\n2.0 1.0", ROUNDED_SETS),
    ],
)
def test_an_output_is_accepted_by_its_rule_alone(expected: str, got: str, rule: str) -> None:
    assert judge_stdout(expected, got) is not None
    assert accept_stdout(expected, got) == rule


@pytest.mark.parametrize(
    ("expected", "got"),
    [
        ("1 2\n3", "3\n1\n2"),  # words stay in their line
        ("1 2\n3", "1\n2\n3 3"),
        ("1 2", "1 2 3"),
        ("100000", "100002"),
        ("100000 7", "100001 7"),  # a line of two numbers is no number
        ("0.1234 5", "5 0.1244"),
        ("1.5 a", "a 1.50"),
        ("YES", "Yes"),
        ("nan 1", "1 nan 2"),
        ("nan", "NaN"),
        ("0 1\n   \n", "1 0"),  # a line of blanks is a line of the reference
        ("1", ""),
        ("", "0"),
    ],
)
def test_an_output_is_wrong_by_every_rule(expected: str, got: str) -> None:
    assert judge_stdout(expected, got) is not None
    assert accept_stdout(expected, got) is None


@pytest.mark.parametrize(
    ("expected", "got"),
    [([5], 5), ([[1, 2]], [1, 2]), ([((1,),)], [[1]]), ([1, 2], 1), ([None], None)],
)
def test_a_value_may_be_the_first_element(expected: Any, got: Any) -> None:
    assert judge_value(expected, got) is not None
    assert accept_value(expected, got) == FIRST_ELEMENT


@pytest.mark.parametrize(
    ("expected", "got"),
    [([1, 2], 2), ([], None), (5, [5]), ("ab", "a"), ([[1, 2]], [2, 1]), ({"a": 1}, 1)],
)
def test_a_value_is_wrong_by_every_rule(expected: Any, got: Any) -> None:
    assert accept_value(expected, got) is None


def test_a_verdict_tells_the_tests_that_only_legacy_passes(run: Run) -> None:
    source = "import sys\nprint(input()[::-1])\nsys.exit(3)"
    [exits] = run(source, StdinTest("12", "21", "legacy")).lenient
    assert exits == (1, EXIT_IGNORED)
    source = "print(input()[::-1])"
    verdict = run(
        source,
        StdinTest("1 2", "2 1", "legacy"),
        StdinTest("1 2", "1 2", "legacy"),
        StdinTest("1 2", "1 2"),
    )
    assert (verdict.status, verdict.passed, verdict.lenient) == ("wrong", 2, ((2, SETS),))
    assert verdict.message.startswith("test 3 of 3: stdout differs")
    verdict = run(source, StdinTest("1 2", "1 2", "legacy"), StdinTest("3 4", "3 4", "legacy"))
    assert (verdict.status, verdict.message) == ("passed", f"2 of 2 tests accepted by: {SETS}")


def test_a_script_that_exits_is_compared_all_the_same(run: Run) -> None:
    source = "import atexit, sys\natexit.register(print, 'b')\nprint('a', end=' ')\nsys.exit('bye')"
    assert run(source, StdinTest("", "a b")).status == "exited"
    verdict = run(source, StdinTest("", "a b", "legacy"), StdinTest("", "b a", "legacy"))
    assert [rule for _, rule in verdict.lenient] == [EXIT_IGNORED, f"{EXIT_IGNORED}, {SETS}"]
    # What would be wrong without the exit code stays what it is by default.
    assert run(source, StdinTest("", "c", "legacy")).status == "exited"


@pytest.mark.parametrize("leave", ["import os\nos._exit(0)", "1/0", "import os\nos.abort()"])
def test_no_other_end_is_forgiven(run: Run, leave: str) -> None:
    verdict = run(f"print(1, flush=True)\n{leave}", StdinTest("", "1", "legacy"))
    assert verdict.passed == 0 and not verdict.lenient


def test_a_call_is_unwrapped_only_when_asked(run: Run) -> None:
    source = "def f(x): return x"
    assert run(source, CallTest("f", [1], [1])).status == "wrong"
    verdict = run(source, CallTest("f", [1], [1], "legacy"), CallTest("f", [1], 1, "legacy"))
    assert verdict.status == "passed" and verdict.lenient == ((1, FIRST_ELEMENT),)
    exits = run("def f(x): raise SystemExit", CallTest("f", [None], [None], "legacy"))
    assert exits.status == "exited"


def test_numbers_chosen_for_their_hashes_do_not_collide() -> None:
    # n and n * 2**61 have one hash; compared one by one, a megabyte of such lines takes its square.
    pairs = [(str(n), str(n << 61)) for n in range(1, 11)]
    lines = [list(words) for words in itertools.product(*pairs)]
    assert len({hash(frozenset(map(float, words))) for words in lines}) == 1
    assert len({hash(words) for words in _as_rounded_sets(lines)}) > len(lines) // 2


def test_there_is_one_zero_and_what_is_no_number_is_equal_to_nothing() -> None:
    assert accept_stdout("0.0001 5", "5 -0.0001") == ROUNDED_SETS
    assert accept_stdout("nan 5.0", "5 NaN") is None


@pytest.mark.parametrize("value", ["old", 7, None, ["legacy"]])
def test_an_unknown_comparison_is_refused(value: Any) -> None:
    said = r"comparison is .*; give 'default' or 'legacy'"
    with pytest.raises(BadProgram, match=said):
        StdinTest("", "", value)
    with pytest.raises(BadProgram, match=said):
        CallTest("f", [], 1, value)
