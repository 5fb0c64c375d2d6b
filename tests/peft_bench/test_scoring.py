"""The harness' numbers: values and errors by question, as a plug-in task must bring them."""

from __future__ import annotations

import json
import pickle
from typing import Any

import numpy as np
import pytest

from peft_bench.answers import Answer
from peft_bench.metrics.bootstrap import bootstrap_stderr
from peft_bench.scoring import Metric, count, metric_list, row_scores

RATIO = Metric("ratio", lambda sums: sums[..., 0] / sums[..., 1])


def aggregations(*metrics: Metric) -> dict[str, Any]:
    return {entry["metric"]: entry["aggregation"] for entry in metric_list(metrics)}


def test_a_mean_and_its_error_over_questions() -> None:
    values = [1.0, 1.0, 0.0, 0.0, 1.0, 1.0]
    questions = ["a", "a", "b", "b", "c", "c"]
    rows = [row_scores(q, {"em@1": v}) for q, v in zip(questions, values, strict=True)]
    found = aggregations(Metric("em@1"))
    assert found["em@1"]([row["em@1"] for row in rows]) == pytest.approx(4 / 6)
    error = found["em@1_stderr"]([row["em@1_stderr"] for row in rows])
    assert error == bootstrap_stderr(values, groups=questions)
    assert error > bootstrap_stderr(values)  # taken for independent, rows look surer


def test_a_corpus_metric_is_that_of_the_sums() -> None:
    rows = [row_scores(str(i), {"ratio": [float(i), 10.0]}) for i in range(1, 9)]
    found = aggregations(RATIO)
    assert found["ratio"]([row["ratio"] for row in rows]) == pytest.approx(36 / 80)
    error = found["ratio_stderr"]([row["ratio_stderr"] for row in rows])
    # With equal denominators the corpus value is a mean, whose error is known.
    assert error == pytest.approx(np.std(np.arange(1, 9) / 10) / np.sqrt(8), rel=0.1)


def test_one_question_has_no_error() -> None:
    rows = [row_scores("a", {"m": 1.0}), row_scores("a", {"m": 0.0})]
    assert aggregations(Metric("m"))["m_stderr"]([row["m_stderr"] for row in rows]) == "N/A"


def test_logged_lists_are_counted() -> None:
    entries = metric_list([Metric("m", higher_is_better=False)], logged=("beams",))
    assert [entry["metric"] for entry in entries] == ["m", "m_stderr", "beams"]
    assert [entry["higher_is_better"] for entry in entries] == [False, False, True]
    assert count([[1, 2], [], [3]]) == 3


def test_an_answer_is_its_text_and_keeps_its_facts() -> None:
    answer = Answer("x = 1", score=-0.5, tokens=4, finished=True)
    assert answer == "x = 1" and json.dumps([answer]) == '["x = 1"]'
    assert Answer.of(answer) is answer
    assert pickle.loads(pickle.dumps(answer)).facts() == answer.facts()
    assert Answer.of("y").facts() == {"score": None, "tokens": None, "finished": None}
