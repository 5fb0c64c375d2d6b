"""ODEX: expressions, statements with a suffix, whole functions; the clean part on real rows."""

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


def expression(name: int, **changes: Any) -> dict[str, Any]:
    fields = {
        "task_id": name,
        "prompt": "def f(text):\n\treturn ",
        "suffix": "",
        "canonical_solution": "re.findall('[0-9]+', text)",
        "test_start": "\nimport re\n\ndef check(candidate):",
        "test": ["\n    assert candidate('a1b22') == ['1', '22']\n"],
        "entry_point": "f",
        "intent": 'numbers in `text`, such as "7"',
        "library": [],
    }
    return fields | changes


def statement(name: int) -> dict[str, Any]:
    return expression(
        name,
        prompt="def f(xs):\n\t",
        suffix="\n\treturn xs",
        canonical_solution="xs.sort()",
        test_start="\ndef check(candidate):",
        test=["\n    assert candidate([2, 1]) == [1, 2]\n"],
        intent="sort list `xs` in place",
    )


def test_answers_go_on_from_where_the_prompt_ends(ask: Ask, verdicts: Any) -> None:
    rows = [expression(number) for number in range(1, 6)]
    rows += [statement(number) for number in range(6, 10)]
    answers = {
        "1": [r" re.findall(r'\d+', text)"],
        "2": ["re.findall('[0-9]+', text)\n"],
        "3": [" return re.findall('[0-9]+', text)"],
        "4": ["```python\ndef f(text):\n    return re.findall('[0-9]+', text)\n```"],
        "5": [" __import__('os')._exit(0)"],
        "6": ["    xs.sort()"],
        "7": ["```python\nxs.sort()\n```"],
        "8": ["xs.sort()"],
        "9": ["    xs.reverse()\n    xs.append(3)"],
    }
    results = ask("odex", "odex", rows, answers)
    found = {name: one["status"] for name, [one] in verdicts(results, "odex").items()}
    passed = {name for name, status in found.items() if status == "passed"}
    assert passed == {"1", "2", "3", "4", "6", "7"}
    assert found["5"] == "exited"
    assert found["8"] == "exception", "a line that is not indented is no part of the function"
    samples = {one["doc"]["id"]: one["arguments"][0][0] for one in results["samples"]["odex"]}
    assert samples["1"] == ('def f(text):\n    """numbers in `text`, such as "7" """\n    return')
    assert samples["6"] == 'def f(xs):\n    """sort list `xs` in place"""\n'


def test_an_intent_cannot_leave_its_docstring(ask: Ask) -> None:
    intent = 'end """ it\\'
    row = expression(1, intent=intent)
    results = ask("odex", "odex", [row], {"1": [" re.findall('[0-9]+', text)"]})
    [sample] = results["samples"]["odex"]
    assert sample["pass@1"] == 1.0
    namespace: dict[str, Any] = {}
    exec(sample["arguments"][0][0] + " 1", namespace)
    assert namespace["f"].__doc__ == intent


def test_clean_leaves_out_questions_that_conala_trains_on(ask: Ask) -> None:
    known = int(min(data.conala_train_questions()))
    rows = [expression(known), expression(1)]
    answers = {"1": [" []"], str(known): [" []"]}
    results = ask("odex_clean", "odex", rows, answers)
    assert [one["doc"]["id"] for one in results["samples"]["odex_clean"]] == ["1"]


@pytest.mark.skipif("PEFT_BENCH_DATA" not in os.environ, reason="PEFT_BENCH_DATA is not set")
def test_references_of_the_real_clean_rows(ask: Ask) -> None:
    folder = os.environ["PEFT_BENCH_DATA"]
    rows = data.odex_clean(data.load_split("odex", "test").rows)
    answers = {one.id: [f"```python\n{one.cmd}\n```"] for one in rows}
    results = ask("odex_clean", "odex", [expression(1)], answers, metadata={"data_dir": folder})
    scores = results["results"]["odex_clean"]
    assert len(rows) == 84
    failed = results["configs"]["odex_clean"]["metadata"]["references_failed"]
    assert scores["reference_fails,executed"] == pytest.approx(len(failed) / 84)
    assert len(failed) <= 40  # most of them need a third-party package
    assert scores["pass@1,executed"] > 0.95
