"""CoNaLa's scoring, on answers made by hand."""

from __future__ import annotations

import importlib.util
from types import ModuleType
from typing import Any

import pytest

from peft_bench import paths

ROW = {"cmd": "sorted(xs)", "nl": "sort list `xs`"}
WRONG = "xs.sort()"


@pytest.fixture(scope="module")
def utils() -> ModuleType:
    """The task's functions, loaded from their file as the harness does."""
    file = paths.tasks_dir() / "conala" / "utils.py"
    spec = importlib.util.spec_from_file_location("conala_utils", file)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def em(scores: dict[str, float], suffix: str = "") -> list[float]:
    return [scores[f"em@{k}{suffix}"] for k in (1, 2, 5, 10)]


@pytest.mark.parametrize(
    ("rank", "expected"),
    [
        (0, [1, 1, 1, 1]),
        (1, [0, 1, 1, 1]),
        (2, [0, 0, 1, 1]),
        (4, [0, 0, 1, 1]),
        (5, [0, 0, 0, 1]),
        (9, [0, 0, 0, 1]),
        (None, [0, 0, 0, 0]),
    ],
)
def test_the_reference_counts_from_its_rank_on(
    rank: int | None, expected: list[int], utils: ModuleType
) -> None:
    answers = [WRONG] * 10
    if rank is not None:
        answers[rank] = ROW["cmd"]
    scores = utils.process_results(ROW, answers)
    for suffix in ("", "_whitespace", "_ast"):
        assert em(scores, suffix) == expected
    assert set(scores) == {metric["metric"] for metric in utils.METRICS}


@pytest.mark.parametrize(
    ("answer", "raw", "whitespace", "ast"),
    [
        ("sorted(xs)", 1, 1, 1),
        (" sorted(xs) ", 1, 1, 1),
        ("sorted( xs )", 0, 0, 1),
        ("sorted(xs) # done", 0, 0, 1),
        ("(sorted(xs))", 0, 0, 1),
        ("sorted(ys)", 0, 0, 0),
        ("sorted(xs", 0, 0, 0),
        ("", 0, 0, 0),
    ],
)
def test_modes(answer: str, raw: int, whitespace: int, ast: int, utils: ModuleType) -> None:
    scores = utils.process_results(ROW, [answer] * 10)
    assert (scores["em@1"], scores["em@1_whitespace"], scores["em@1_ast"]) == (
        raw,
        whitespace,
        ast,
    )


def test_whitespace_mode_forgives_runs_of_blanks(utils: ModuleType) -> None:
    row: dict[str, Any] = {"cmd": "a = b"}
    scores = utils.process_results(row, ["a  =  b"] * 10)
    assert (scores["em@1"], scores["em@1_whitespace"]) == (0, 1)


@pytest.mark.parametrize(("beams", "ks"), [(1, {1}), (2, {1, 2}), (5, {1, 2, 5}), (7, {1, 2, 5})])
def test_no_score_for_more_answers_than_there_are(
    beams: int, ks: set[int], utils: ModuleType
) -> None:
    scores = utils.process_results(ROW, [ROW["cmd"]] * beams)
    assert {int(name.split("@")[1].split("_")[0]) for name in scores} == ks
    assert set(scores.values()) == {1.0}
