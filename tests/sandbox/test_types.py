"""Limits, levels and programs: what is accepted, and how a refusal reads."""

from __future__ import annotations

import dataclasses
import math
from typing import Any

import pytest
from peft_bench_sandbox import AssertTest, BadProgram, CallTest, Level, Limits, Program, StdinTest

PASS = AssertTest("pass")


def test_limits_have_the_agreed_defaults() -> None:
    assert dataclasses.asdict(Limits()) == {
        "cpu_s": 5.0,
        "wall_s": 15.0,
        "memory_bytes": 2 * 1024**3,
        "stack_bytes": 256 * 1024**2,
        "output_bytes": 1024**2,
        "file_bytes": 16 * 1024**2,
        "message_bytes": 4096,
    }


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("cpu_s", 0),
        ("cpu_s", math.nan),
        ("cpu_s", "5"),
        ("wall_s", -1),
        ("wall_s", math.inf),
        ("memory_bytes", 1),
        ("memory_bytes", 1e9),
        ("stack_bytes", 0),
        ("output_bytes", 0),
        ("output_bytes", True),
        ("file_bytes", -1),
        ("message_bytes", 0),
    ],
)
def test_a_bad_limit_is_named_with_its_value(name: str, value: object) -> None:
    wrong: dict[str, Any] = {name: value}
    with pytest.raises(ValueError, match=rf"Limits\.{name} is {value!r}; give .* at least"):
        Limits(**wrong)


def test_all_bad_limits_are_told_at_once() -> None:
    with pytest.raises(ValueError, match=r"cpu_s.*wall_s"):
        Limits(cpu_s=-1, wall_s=-1)


def test_levels_are_ordered_by_strength_and_named() -> None:
    assert Level.NONE < Level.LIMITS < Level.STRONG
    assert Level.STRONG >= "limits" and not Level.LIMITS > "strong"
    assert sorted(Level) == ["none", "limits", "strong"]
    assert f"{Level.LIMITS}" == "limits"
    with pytest.raises(ValueError, match="medium"):
        _ = Level.NONE < "medium"


def test_a_program_needs_tests() -> None:
    with pytest.raises(BadProgram, match="tests is empty; give at least one"):
        Program("p", "", ())


@pytest.mark.parametrize(
    ("build", "fields", "said"),
    [
        (Program, (3, "", (PASS,)), "id is 3; give a string"),
        (Program, ("p", None, (PASS,)), "source is None; give a string"),
        (Program, ("p", "", ("assert True",)), r"tests\[0\] is str; give an AssertTest"),
        (AssertTest, (b"pass",), "code is b'pass'; give a string"),
        (AssertTest, ("pass", 1), "entry_point is 1; give a string"),
        (AssertTest, ("pass", None, "me"), "judge is 'me'; give one of split, split-mocks, "),
        (
            AssertTest,
            ("pass", None, ["split"]),
            r"judge is \['split'\]; give one of split, ",
        ),
        (StdinTest, ("", 5), "stdout is 5; give a string"),
        (CallTest, ("f", "ab", 1), "args is str; give a list"),
        (CallTest, ("f", [{1}], 1), "args is .*; give data that JSON can say"),
        (CallTest, ("f", [], object()), "expected is .*; give data that JSON can say"),
        (CallTest, ("A.b.c", [], 1), "function is 'A.b.c'; give a function's name"),
        (CallTest, ("f()", [], 1), r"function is 'f\(\)'; give a function's name"),
    ],
)
def test_a_bad_field_is_named_with_value_and_remedy(
    build: Any, fields: tuple[Any, ...], said: str
) -> None:
    with pytest.raises(BadProgram, match=said):
        build(*fields)


def test_the_judge_is_settled_by_the_tests() -> None:
    split = StdinTest("", "")
    assert PASS.judge == "split"
    assert Program("p", "", (split, CallTest("f", [], 1), PASS)).judge == "split"
    shared = AssertTest("pass", judge="shared")
    assert Program("p", "", (split, PASS, shared)).judge == "shared"


def test_of_several_judges_the_least_strict_counts() -> None:
    ladder = ["split", "split-mocks", "split-arguments", "split-files", "shared"]
    tests = [AssertTest("pass", judge=name) for name in ladder]  # type: ignore[arg-type]
    for count in range(1, 6):
        assert Program("p", "", tuple(reversed(tests[:count]))).judge == ladder[count - 1]
