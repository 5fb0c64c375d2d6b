"""Code out of chat answers."""

from __future__ import annotations

import pytest

from peft_bench.answers import Answer
from peft_bench.fences import first_block


@pytest.mark.parametrize(
    ("answer", "code"),
    [
        ("sorted(xs)", "sorted(xs)"),
        ("  x = 1\n", "  x = 1\n"),
        ("```python\nsorted(xs)\n```", "sorted(xs)"),
        ("Sure!\n```\na = 1\nb = 2\n```\nThis sorts.", "a = 1\nb = 2"),
        ("```py\nx\n```\n```python\ny\n```", "x"),
        ("```bash\npip install x\n```\nthen\n```python\nimport x\n```", "import x"),
        ("```bash\nls\n```", "ls"),
        ("~~~python\nx\n~~~", "x"),
        ("````python\ns = '''\n```\n'''\n````", "s = '''\n```\n'''"),
        ("```python\nprint('```')\n```", "print('```')"),
        ("```python\nx = 1", "x = 1"),
        ("```python\nx = 1```", "x = 1"),
        ("```python\n```", ""),
        ("Use ```sorted(xs)``` here", "sorted(xs)"),
        ("`sorted(xs)`", "sorted(xs)"),
        ("use `sorted`, or `sort`", "use `sorted`, or `sort`"),
        ("", ""),
        ("```", "```"),
    ],
)
def test_first_block(answer: str, code: str) -> None:
    assert first_block(answer) == code


def test_what_is_known_of_an_answer_is_kept() -> None:
    answer = first_block(Answer("```\nx\n```", score=-0.5, tokens=7, finished=True))
    assert isinstance(answer, Answer)
    assert (str(answer), answer.facts()) == ("x", {"score": -0.5, "tokens": 7, "finished": True})


@pytest.mark.parametrize(
    "unit", ["`", "~", "```", "``` ", "~~~ ", "```a\nx```b ", "```a\n", "``` a ", "~~~a\n"]
)
def test_a_hostile_megabyte_is_linear(unit: str) -> None:
    # Quadratic time would be hours here, and end by the suite's own limit.
    text = unit * (1_000_000 // len(unit))
    assert len(first_block(text)) <= len(text)
