"""MBPP sealed: whole programs, through the harness; its references on the real rows."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

import pytest
from peft_bench_sandbox import Level, best_level

from peft_bench import data

pytestmark = pytest.mark.skipif(
    best_level() < Level.STRONG, reason="this machine gives no strong sandbox level"
)
Ask = Callable[..., dict[str, Any]]
TASK = "mbpp_sealed"
CODE = "def area(a, b):\n    return a * b"


def row(name: int, **changes: Any) -> dict[str, Any]:
    fields = {
        "task_id": name,
        "text": "Write a function to find the area of a rectangle.",
        "code": CODE,
        "test_setup_code": "",
        "test_list": ["assert area(2, 3) == 6", "assert area(0, 5) == 0"],
        "challenge_test_list": [],
    }
    return fields | changes


def test_answers_and_hostile_ones(ask: Ask, verdicts: Any) -> None:
    equal = "class Same:\n    def __eq__(self, other):\n        return True\n\n\n"
    answers = {
        "1": [CODE],
        "2": [f"```python\n{CODE}\n\n\nprint(area(1, 2))\n```"],
        "3": ["def area(a, b):\n    return a + b"],
        "4": ["import os\nos._exit(0)"],
        "5": [f"{equal}def area(a, b):\n    return Same()"],
        "6": ["def assert_(*_): ...\nraise SystemExit"],
    }
    results = ask(TASK, "mbpp", [row(int(name)) for name in answers], answers)
    found = {name: one["status"] for name, [one] in verdicts(results, TASK).items()}
    assert [name for name, status in found.items() if status == "passed"] == ["1", "2"]
    assert found["4"] == "exited"
    assert results["results"][TASK]["pass@1,executed"] == pytest.approx(1 / 3)


def test_a_function_with_a_built_in_s_name_must_be_the_answer_s(ask: Ask, verdicts: Any) -> None:
    changes = {
        "code": "def max(a, b):\n    return a if a > b else b",
        "test_list": ["assert max(1, 2) == 2"],
    }
    answers = {"1": ["x = 1"], "2": [changes["code"]]}
    results = ask(TASK, "mbpp", [row(1, **changes), row(2, **changes)], answers)
    found = {name: one["status"] for name, [one] in verdicts(results, TASK).items()}
    assert found == {"1": "exception", "2": "passed"}


def test_the_prompt_lists_the_tests_and_examples_come_from_the_prompt_split(ask: Ask) -> None:
    results = ask(TASK, "mbpp", [row(1), row(2, text="Another one.")], {"1": [CODE], "2": [CODE]})
    [first, _] = results["samples"][TASK]
    asked = first["arguments"][0][0]
    assert "rectangle.\nYour code should pass these tests:\nassert area(2, 3) == 6\n" in asked
    assert results["configs"][TASK]["fewshot_split"] == "prompt"


@pytest.mark.skipif("PEFT_BENCH_DATA" not in os.environ, reason="PEFT_BENCH_DATA is not set")
def test_references_of_the_real_rows(ask: Ask) -> None:
    rows = data.load_split("mbpp", "test").rows
    folder = os.environ["PEFT_BENCH_DATA"]
    answers = {one.id: [one.cmd] for one in rows}
    results = ask(TASK, "mbpp", [row(1)], answers, metadata={"data_dir": folder}, limit=80)
    scores = results["results"][TASK]
    assert [one.id for one in rows] == [str(number) for number in range(11, 511)]
    assert scores["pass@1,executed"] == 1.0
    assert scores["reference_fails,executed"] == 0.0
    assert scores["shared_passes,executed"] == 0.0
