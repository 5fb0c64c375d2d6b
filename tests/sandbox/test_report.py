"""What a candidate reports is believed only in the one form its own code writes."""

from __future__ import annotations

import json
import random
import sys
import time
from typing import Any

import pytest
from peft_bench_sandbox.report import MAX_DEPTH, OUTCOMES, Report, read_report


def written(outcome: object = "returned", message: object = "m", value: str = "null") -> bytes:
    head = f'{{"outcome": {json.dumps(outcome)}, "message": {json.dumps(message)}'
    return f'{head}, "value": {value}}}'.encode()


def test_a_report_is_read_as_it_was_written() -> None:
    report = read_report(written("returned", "é\ud800", '{"a": [1.5, null]}'), "call")
    assert report == Report("returned", "é\ud800", {"a": [1.5, None]})


@pytest.mark.parametrize("kind", OUTCOMES)
def test_no_report_is_an_end_before_the_tests(kind: str) -> None:
    assert read_report(b"", kind) == "ended before the test had"


@pytest.mark.parametrize(
    "data",
    [
        *(b"x", b"[]", b"{}", b"\n", b"NaN", b"null", b"\xff", "é".encode(), b"\0"),
        written()[:-1],
        written() + b"x",
        written() + written(),
        written("passed"),
        written("completed"),  # not for this kind of test
        written(["returned"]),
        written({}),
        written(None),
        written(message=5),
        written(message=None),
        b"[" + written() + b"]",
    ],
    ids=lambda data: data[:30].decode("ascii", "replace"),
)
def test_anything_else_is_told_as_no_report(data: bytes) -> None:
    said = read_report(data, "call")
    assert isinstance(said, str) and said.startswith("left no report but other data")


@pytest.mark.parametrize(
    ("kind", "outcome", "believed"),
    [
        ("shared", "wrong", True),
        ("shared", "returned", False),
        ("stdin", "wrong", False),
        ("stdin", "completed", True),
        ("call", "completed", False),
        ("call", "output", True),
        *((kind, "passed", False) for kind in OUTCOMES),
        *((kind, "harness_error", False) for kind in OUTCOMES),
    ],
)
def test_an_outcome_must_belong_to_the_kind_of_test(
    kind: str, outcome: str, believed: bool
) -> None:
    assert isinstance(read_report(written(outcome), kind), Report) is believed


def test_depth_is_bounded_before_parsing() -> None:
    # A caller that raised its own recursion limit must not be brought down by nesting.
    before = sys.getrecursionlimit()
    sys.setrecursionlimit(10**6)
    try:
        deep = read_report(written(value="[" * 500_000 + "]" * 500_000), "call")
        torn = read_report(b'{"a":' * 10**6, "call")
    finally:
        sys.setrecursionlimit(before)
    for report in (deep, torn):
        assert isinstance(report, Report) and report.outcome == "wrong"
        assert f"over {MAX_DEPTH} deep" in report.message


def test_brackets_side_by_side_or_in_strings_are_not_depth() -> None:
    value = [[], {}, '["\\' * 500, '\\"['] * 300
    report = read_report(written(value=json.dumps(value)), "call")
    assert isinstance(report, Report) and report.value == value


def test_depth_hidden_behind_a_torn_string_is_no_harm() -> None:
    before = sys.getrecursionlimit()
    sys.setrecursionlimit(10**6)
    try:
        for hidden in (b'"', b'\\"', b'"\\', b'"a" "'):
            data = hidden + b"[" * 300_000 + b'"' + b"]" * 300_000
            read_report(data, "call")
            read_report(b'{"value":' + data, "call")
    finally:
        sys.setrecursionlimit(before)


@pytest.mark.parametrize("end", [b"", b"\\", b"\\\n", b"x", b'"'], ids=repr)
def test_a_string_that_does_not_end_is_gone_over_once(end: bytes) -> None:
    # Going back over it from each of its quotes, a megabyte took an hour of the caller.
    began = time.process_time()
    read_report(b"[" * (MAX_DEPTH + 1) + b'"' + b'\\"' * 30_000 + end, "call")
    assert time.process_time() - began < 1.0


def test_whatever_the_bytes_it_reads_or_tells() -> None:
    chance = random.Random(3)
    valid = written("wrong", 'a "text" \\', '[1, {"b": "\\u00e9"}]')
    for _ in range(5000):
        data = bytearray(valid)
        for _ in range(chance.randint(1, 3)):
            at = chance.randrange(len(data))
            data[at : at + chance.randrange(3)] = chance.randbytes(chance.randrange(3))
        said: Any = read_report(bytes(data), "call")
        assert isinstance(said, str) or said.outcome in OUTCOMES["call"]
