"""What a child says is believed only in the one form its own code writes."""

from __future__ import annotations

import json
import sys

import pytest
from peft_bench_sandbox.channel import MAX_DEPTH, Kind, read_channel

TOKEN = "t0ken"
READY = json.dumps({"token": TOKEN, "event": "ready", "peak_bytes": 1, "baseline": 2}) + "\n"


def end(outcome: str = "completed", value: str = "null", token: str = TOKEN) -> str:
    return (
        f'{{"token": "{token}", "event": "end", "outcome": "{outcome}", "message": "m", '
        f'"value": {value}, "peak_bytes": 3}}\n'
    )


def test_both_lines_are_read() -> None:
    said = read_channel((READY + end("returned", "[1]")).encode(), TOKEN, "call")
    assert said.ready is not None and said.ready.baseline_bytes == 2
    assert said.report is not None and said.report.value == [1] and said.fault == ""


@pytest.mark.parametrize("data", ["", READY])
def test_a_line_that_did_not_come_is_none_and_no_fault(data: str) -> None:
    said = read_channel(data.encode(), TOKEN, "asserts")
    assert (said.ready is not None, said.report, said.fault) == (bool(data), None, "")


@pytest.mark.parametrize(
    "after",
    [
        "x",
        end()[:-1],  # a torn line
        end() + "x",
        end() + end(),
        end(token="guess"),
        READY,
        "[]\n",
        "{}\n",
        "\n",
        "NaN\n",
        "\udcff\n",
        end("passed"),
        end("returned"),  # not for this kind of test
        end().replace("3}", "-3}"),
        end().replace("3}", "true}"),
        end().replace('"m"', "5"),
        end(value="1" * 5000),  # longer than Python reads
    ],
)
def test_anything_else_is_a_fault_and_no_report(after: str) -> None:
    data = (READY + after).encode("utf-8", "surrogateescape")
    said = read_channel(data, TOKEN, "asserts")
    assert said.ready is not None and said.report is None and said.fault


@pytest.mark.parametrize(
    ("kind", "outcome", "believed"),
    [
        ("asserts", "wrong", True),
        ("stdin", "wrong", False),
        ("stdin", "completed", True),
        ("call", "completed", False),
        ("call", "output", True),
    ],
)
def test_an_outcome_must_belong_to_the_kind_of_test(
    kind: Kind, outcome: str, believed: bool
) -> None:
    said = read_channel((READY + end(outcome)).encode(), TOKEN, kind)
    assert (said.report is not None) is believed


def test_depth_is_bounded_before_parsing() -> None:
    # A caller that raised its own recursion limit must not be brought down by nesting.
    before = sys.getrecursionlimit()
    sys.setrecursionlimit(10**6)
    try:
        deep = read_channel(
            (READY + end("returned", "[" * 500_000 + "]" * 500_000)).encode(), TOKEN, "call"
        )
    finally:
        sys.setrecursionlimit(before)
    assert deep.report is not None and deep.report.outcome == "wrong"
    assert f"more than {MAX_DEPTH} deep" in deep.report.message


def test_brackets_side_by_side_or_in_strings_are_not_depth() -> None:
    value = json.dumps([[], {}, '["\\' * 500] * 300)
    said = read_channel((READY + end("returned", value)).encode(), TOKEN, "call")
    assert said.report is not None and said.report.value == json.loads(value)
