"""Integers of any length go there, come back, and are compared; the process' limit stays."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from peft_bench_sandbox import BadProgram, CallTest, Verdict, exec_jsonl
from peft_bench_sandbox.jsonlike import number_of, parse_json, plain_json

Run = Callable[..., Verdict]
LONG = 10**5000


@pytest.fixture(autouse=True)
def _limit_stays() -> Any:
    limit = sys.get_int_max_str_digits()
    assert 0 < limit < 5000
    yield
    assert sys.get_int_max_str_digits() == limit


def test_long_integers_are_arguments_and_answers(run: Run) -> None:
    source = "def f(x, d): return [x + 1, {'a': -x}]"
    args = [LONG, {"k": (LONG,)}]
    verdict = run(
        source,
        CallTest("f", args, [LONG + 1, {"a": -LONG}]),
        CallTest("f", args, ((LONG + 1, {"a": -LONG}), 5), "legacy"),
        CallTest("f", args, [LONG + 2, {"a": -LONG}]),
    )
    assert (verdict.passed, verdict.status) == (2, "wrong"), verdict.message
    assert len(verdict.message) < 300


def test_a_program_has_the_limit_it_knows(run: Run) -> None:
    source = "def f():\n    try: return len(str(10**5000))\n    except ValueError: return 0"
    assert run(source, CallTest("f", [], 0), CallTest("f", [], 0)).status == "passed"


@pytest.mark.parametrize("value", [{1: (2,), None: [LONG]}, [True, 1.5, None, "é", {"a": LONG}]])
def test_plain_is_what_json_would_be(value: Any) -> None:
    assert repr_short(plain_json(value)) == json.loads(json.dumps(repr_short(value)))


def repr_short(value: Any) -> Any:
    """The same with 7 for the long integer."""
    if isinstance(value, dict):
        return {key: repr_short(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [repr_short(each) for each in value]
    return 7 if value == LONG else value


def test_what_json_cannot_say_is_refused_all_the_same() -> None:
    circle: list[Any] = [LONG]
    circle.append(circle)
    for value in (circle, [LONG, object()], {"a": {LONG, 1}}):
        with pytest.raises(BadProgram, match="give data that JSON can say"):
            CallTest("f", [value], None)


def test_a_long_number_is_read_in_linear_time() -> None:
    digits = "9" * 900_000
    assert number_of(digits) == number_of(digits) != number_of("-" + digits)
    assert number_of("1" + "0" * 5000) == LONG
    assert parse_json(b'{"a": [1' + b"0" * 5000 + b"]}") == {"a": [LONG]}


def test_a_line_of_a_file_may_hold_one(tmp_path: Path) -> None:
    test = {"kind": "call", "function": "f", "args": [7], "expected": 8}
    program = {"id": "p", "source": "def f(x): return x + 1", "tests": [test]}
    text = json.dumps(program).replace("7", "1" + "0" * 5000).replace("8", "1" + "0" * 4999 + "1")
    source, out = tmp_path / "in.jsonl", tmp_path / "out.jsonl"
    source.write_text(text + "\n")
    summary = exec_jsonl(source, out, require="limits")
    assert not summary.bad, summary
    assert json.loads(out.read_text())["status"] == "passed"
