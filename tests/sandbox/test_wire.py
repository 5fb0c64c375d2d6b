"""The JSONL forms, there and back, and how a bad line is refused."""

from __future__ import annotations

import dataclasses
import json
from typing import Any

import pytest
from peft_bench_sandbox import (
    AssertTest,
    BadProgram,
    CallTest,
    Program,
    Status,
    StdinTest,
    Verdict,
    program_from_json,
    program_to_json,
    verdict_from_json,
    verdict_to_json,
)

LINE: dict[str, Any] = {
    "id": "p/1",
    "source": "def f(x): return x",
    "tests": [
        {"kind": "asserts", "code": "check(f)", "entry_point": "f"},
        {"kind": "asserts", "code": "pass", "entry_point": None, "judge": "shared"},
        {"kind": "stdin", "stdin": "1\n", "stdout": "é\n"},
        {"kind": "call", "function": "Solution.f", "args": [[1, None]], "expected": {"a": 0.5}},
        {"kind": "stdin", "stdin": "", "stdout": "", "comparison": "legacy"},
    ],
}
PROGRAM = Program(
    "p/1",
    "def f(x): return x",
    (
        AssertTest("check(f)", "f"),
        AssertTest("pass", judge="shared"),
        StdinTest("1\n", "é\n"),
        CallTest("Solution.f", [[1, None]], {"a": 0.5}),
        StdinTest("", "", "legacy"),
    ),
)
VERDICT = Verdict("p/1", Status.WRONG, 1, 3, "no", 0.25, 0.5, 1024, "shared")


def test_a_line_is_read_as_agreed() -> None:
    assert program_from_json(LINE) == PROGRAM


def test_a_program_goes_there_and_back() -> None:
    assert json.loads(json.dumps(program_to_json(PROGRAM))) == LINE


def test_the_isolation_goes_there_and_back() -> None:
    program = dataclasses.replace(PROGRAM, isolate="program")
    line = {**LINE, "isolate": "program"}
    assert program_to_json(program) == line and program_from_json(line) == program
    with pytest.raises(BadProgram, match="isolate is 3; give 'test' or 'program'"):
        program_from_json({**LINE, "isolate": 3})


def test_the_entry_point_and_the_judge_may_be_left_out() -> None:
    line = {"id": "p", "source": "", "tests": [{"kind": "asserts", "code": "pass"}]}
    assert program_from_json(line).tests == (AssertTest("pass", None, "split"),)


def test_a_verdict_is_written_as_agreed_and_read_back() -> None:
    line = verdict_to_json(VERDICT)
    assert line == {
        "id": "p/1",
        "status": "wrong",
        "passed": 1,
        "total": 3,
        "message": "no",
        "cpu_s": 0.25,
        "wall_s": 0.5,
        "peak_bytes": 1024,
        "judge": "shared",
    }
    assert verdict_from_json(json.loads(json.dumps(line))) == VERDICT


def test_the_tests_that_only_legacy_passed_go_there_and_back() -> None:
    verdict = dataclasses.replace(VERDICT, lenient=((2, "some rule"), (3, "another")))
    line = json.loads(json.dumps(verdict_to_json(verdict)))
    assert line["lenient"] == [[2, "some rule"], [3, "another"]]
    assert verdict_from_json(line) == verdict


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ([], "the line is .*; give an object with id, source, tests"),
        ({"id": "p"}, "the line lacks source, tests; add it"),
        ({**LINE, "langauge": "py"}, "the line has unknown langauge; keep to id, source, tests"),
        ({**LINE, "tests": {}}, "tests is {}; give a list"),
        ({**LINE, "tests": []}, "tests is empty; give at least one"),
        ({**LINE, "tests": ["x"]}, r"tests\[0\] is 'x'; give an object with a kind"),
        ({**LINE, "tests": [{"kind": "shell"}]}, r"tests\[0\].kind is 'shell'; give one of ass"),
        ({**LINE, "tests": [{"kind": ["stdin"]}]}, r"tests\[0\].kind is \['stdin'\]; give one"),
        ({**LINE, "tests": [{"kind": "asserts"}]}, r"tests\[0\] lacks code; add it"),
        (
            {**LINE, "tests": [{"kind": "asserts", "code": "", "timeout": 1}]},
            r"tests\[0\] has unknown timeout; keep to kind, code, entry_point",
        ),
        (
            {**LINE, "tests": [LINE["tests"][0], {"kind": "stdin", "stdin": 1, "stdout": ""}]},
            r"tests\[1\].stdin is 1; give a string",
        ),
        (
            {**LINE, "tests": [{"kind": "asserts", "code": "", "judge": "me"}]},
            r"tests\[0\].judge is 'me'; give one of split, split-mocks, ",
        ),
        (
            {**LINE, "tests": [{"kind": "stdin", "stdin": "", "stdout": "", "judge": "split"}]},
            r"tests\[0\] has unknown judge",
        ),
        (
            {**LINE, "tests": [{"kind": "asserts", "code": "", "comparison": "legacy"}]},
            r"tests\[0\] has unknown comparison",
        ),
        (
            {**LINE, "tests": [{"kind": "stdin", "stdin": "", "stdout": "", "comparison": "x"}]},
            r"tests\[0\].comparison is 'x'; give 'default' or 'legacy'",
        ),
        ({**LINE, "id": 7}, "id is 7; give a string"),
    ],
)
def test_a_bad_line_is_refused_by_place_value_and_remedy(line: Any, said: str) -> None:
    with pytest.raises(BadProgram, match=said):
        program_from_json(line)


@pytest.mark.parametrize(
    "change",
    [
        {"status": "fine"},
        {"passed": "1"},
        {"judge": "me"},
        {"extra": 1},
        {"lenient": 1},
        {"lenient": [[1]]},
    ],
)
def test_a_bad_verdict_line_is_refused(change: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=next(iter(change)) if "status" not in change else "fine"):
        verdict_from_json({**verdict_to_json(VERDICT), **change})
