"""The comparison rules, one by one."""

from __future__ import annotations

import math
import time
from typing import Any

import pytest
from peft_bench_sandbox.judge import judge_stdout, judge_value, same_token


@pytest.mark.parametrize(
    ("expected", "got"),
    [
        ("", ""),
        ("a b\n", "a b\n"),
        ("1 2\n3\n", "1  2 3"),  # rule 2: only tokens count
        ("YES\r\n", "YES\n"),
        ("", " \n"),
        ("0.5", "0.50"),  # rule 4, from here on
        ("0.333333333", "0.3333335"),
        ("3.0", "3"),
        ("1e3", "1000"),
        ("1E-9", "0"),
        ("1000000.0", "1000000.9"),
        ("-.5", "-0.5"),
        ("5.", "5"),
        ("x 0.1 y", "x 0.10000001 y"),
    ],
)
def test_right_output(expected: str, got: str) -> None:
    assert judge_stdout(expected, got) is None


@pytest.mark.parametrize(
    ("expected", "got"),
    [
        ("1", ""),
        ("", "1"),
        ("1 2", "2 1"),  # order counts
        ("1 2", "1 2 3"),
        ("1 2 3", "1 2"),
        ("12", "1 2"),
        ("yes", "Yes"),
        ("3", "3.0"),  # whole numbers are exact
        ("3", "03"),
        ("1000000000", "1000000001"),
        ("0.5", "0.500002"),
        ("1000000.0", "1000001.1"),
        ("0.5", "x"),
        ("0.5", "nan"),
        ("0.5", "0.5j"),
        ("1e999", "inf"),
        ("1e999", "2e999"),
        ("inf", "1e999"),
        ("1.5", "1_.5"),
        ("1.5", "\u0661.5"),  # digits are 0 to 9
        ("1.2.3", "1.2.4"),
        ("0.5,", "0.50,"),
    ],
)
def test_wrong_output(expected: str, got: str) -> None:
    assert judge_stdout(expected, got) is not None


def test_the_message_names_the_first_difference_shortly() -> None:
    said = judge_stdout("1 2 3", "1 5 6")
    assert said == "stdout differs at token 2: expected 2, got 5"
    assert len(judge_stdout("1", "9" * 10**6) or "") < 300
    assert judge_stdout("1 2", "1") == "stdout has 1 tokens, expected 2"


def test_a_hostile_token_is_compared_in_linear_time() -> None:
    began = time.process_time()
    assert not same_token("0.5", "1" * 1_000_000 + "x")
    assert not same_token("0.5", "1" * 1_000_000)
    assert time.process_time() - began < 5  # quadratic matching would take hours


@pytest.mark.parametrize(
    ("expected", "got"),
    [
        (1, 1),
        ((1, (2,)), [1, [2]]),  # tuples are lists
        ({"a": (1,)}, {"a": [1]}),
        ({1: "x"}, {"1": "x"}),  # keys are strings
        (1, 1.0),
        (True, 1),
        (None, None),
        ("é", "é"),
    ],
)
def test_right_value(expected: Any, got: Any) -> None:
    assert judge_value(expected, got) is None


@pytest.mark.parametrize(
    ("expected", "got"),
    [
        (1, 2),
        (1, "1"),
        ([1, 2], [2, 1]),
        ([1], [1, 1]),
        (0, None),
        (False, None),
        (0.1, 0.1000000001),
        (math.nan, math.nan),
        ({"a": 1}, {"a": 1, "b": 2}),
        ([1], 1),
    ],
)
def test_wrong_value(expected: Any, got: Any) -> None:
    said = judge_value(expected, got)
    assert said is not None and said.startswith("expected ")


def test_a_long_value_is_shown_shortly() -> None:
    assert len(judge_value([], "x" * 10**6) or "") < 300
