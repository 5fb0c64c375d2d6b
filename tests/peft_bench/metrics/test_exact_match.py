from __future__ import annotations

import time
import warnings

import pytest

from peft_bench.metrics.exact_match import Mode, em_at_k, exact_match

# reference, hypothesis, and what raw, whitespace and ast say
CASES = [
    ("x = 1", "x = 1", True, True, True),
    ("x = 1", "x = 1\n\n", True, True, True),
    ("  x = 1", "x = 1", True, True, True),
    ("x = 1\ny = 2", "x = 1 y = 2", False, True, True),  # one is no Python: white space decides
    ("x = 1", "x=1", False, False, True),
    ("x = 'a'", 'x = "a"', False, False, True),
    ("x = (1)", "x = 1", False, False, True),
    ("x = 1", "x = 1  # one", False, False, True),
    ("x = 'a  b'", "x = 'a b'", False, True, False),  # blanks in a string are part of the program
    ("if a:\n    b()", "if a:\n\tb()", False, True, True),
    ("x = 1", "x = 2", False, False, False),
    ("x = 1", "", False, False, False),
    ("x = 1", "X = 1", False, False, False),
    ("cd  /tmp", "cd /tmp", False, True, True),  # no Python on either side
    ("f(a b)", "f(a  b)", False, True, True),
    ("", "\n", True, True, True),
]
EXPECTED = [
    (reference, hypothesis, mode, said)
    for reference, hypothesis, *results in CASES
    for mode, said in zip(("raw", "whitespace", "ast"), results, strict=True)
]


@pytest.mark.parametrize(("reference", "hypothesis", "mode", "said"), EXPECTED)
def test_modes(reference: str, hypothesis: str, mode: Mode, said: bool) -> None:
    assert exact_match(reference, hypothesis, mode=mode) is said
    assert exact_match(hypothesis, reference, mode=mode) is said


@pytest.mark.parametrize(
    "hostile",
    [
        "(" * 90_000,
        "-" * 90_000 + "1",
        "1" + "+1" * 40_000,
        "a" + ".b" * 40_000,
        "lambda:" * 10_000 + "1",
        "f'{" * 100,
        "x = 1\0",
        "x = " + "9" * 5000,
        "x = 0x" + "f" * 5000,
        "[" * 99_000 + "]" * 99_000,
        "\ud800",
    ],
    ids=range(11),
)
def test_hostile_answers_are_only_wrong(hostile: str) -> None:
    started = time.perf_counter()
    assert not exact_match("x = 1", hostile, mode="ast")
    assert exact_match(hostile, hostile + "\n", mode="ast")  # compared by white space
    assert time.perf_counter() - started < 5


def test_parsing_warns_nobody() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert exact_match(r"re.sub('\d', '', x) is 1", r're.sub("\d", "", x) is 1', mode="ast")


def test_unknown_mode_is_refused() -> None:
    with pytest.raises(ValueError, match=r"'tree'.*raw, whitespace, ast"):
        exact_match("", "", mode="tree")  # type: ignore[arg-type]


def test_em_at_k_looks_at_the_first_k_only() -> None:
    answers = ["a", "b", "c\n", "d"]
    assert [em_at_k("c", answers, k) for k in (1, 2, 3, 4)] == [False, False, True, True]
    assert em_at_k("c", ["'c'", "c  "], 2)
    assert em_at_k("f( 1 )", ["f(2)", "f(1)"], 2, mode="ast")
    assert not em_at_k("f( 1 )", ["f(2)", "f(1)"], 2, mode="whitespace")


@pytest.mark.parametrize("k", [0, -1])
def test_em_at_k_refuses_k_below_one(k: int) -> None:
    with pytest.raises(ValueError, match=f"k is {k}"):
        em_at_k("a", ["a"], k)


def test_em_at_k_refuses_too_few_answers() -> None:
    with pytest.raises(ValueError, match="EM@10 needs 10 answers; there are 5"):
        em_at_k("a", ["a"] * 5, 10)
