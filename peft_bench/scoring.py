"""From rows to the harness' numbers: means and corpus metrics, each with its standard error.

The harness knows errors of its own metrics alone, and takes rows for independent. So a task's
``process_results`` returns, beside each metric ``m``, an entry ``m_stderr`` that names the row's
question; its aggregation resamples questions, and replaces what the harness would have written
there. Lists that are to be seen in the samples log (beams, verdicts) are aggregated to their
number.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from peft_bench.answers import Answer
from peft_bench.metrics.bootstrap import bootstrap_corpus_stderr, bootstrap_stderr

Floats = NDArray[np.float64]

#: Lists in the samples log; their aggregate is a number of entries and no score.
LOGGED = frozenset({"answers", "beams", "shots", "verdicts"})


@dataclass(frozen=True, slots=True)
class Metric:
    """One number of a task.

    Attributes:
        name: its key in the harness' results.
        combine: None for the mean of the rows' values. For a corpus metric, the score of summed
            statistics: [..., statistics] -> [...]; a row's value is then its statistics, a list
            of floats.
        higher_is_better: what the harness shows by an arrow.
    """

    name: str
    combine: Callable[[Floats], Floats] | None = None
    higher_is_better: bool = True


def metric_list(metrics: Sequence[Metric], *, logged: Sequence[str] = ()) -> list[dict[str, Any]]:
    """The YAML's ``metric_list``: each metric, its error, and lists that are only logged."""
    entries: list[dict[str, Any]] = []
    for metric in metrics:
        shown = {"higher_is_better": metric.higher_is_better}
        entries.append({"metric": metric.name, "aggregation": _value(metric), **shown})
        entries.append({"metric": f"{metric.name}_stderr", "aggregation": _stderr(metric), **shown})
    for name in logged:
        entries.append({"metric": name, "aggregation": count, "higher_is_better": True})
    return entries


def row_scores(question: str, values: Mapping[str, float | Sequence[float]]) -> dict[str, Any]:
    """What ``process_results`` returns for a row: each value, and again with its question."""
    scores: dict[str, Any] = {}
    for name, value in values.items():
        scores[name] = value
        scores[f"{name}_stderr"] = {"question": question, "value": value}
    return scores


def count(lists: Sequence[Sequence[Any]]) -> int:
    """How many entries there are over all rows."""
    return sum(map(len, lists))


class LoggedAnswers:
    """Under ``--predict_only``, keeps in the samples log what is known of each answer.

    A mixin before ``ConfigurableTask``: the harness then takes all of a task's metrics away, and
    a later ``peft-bench rescore`` would not know which answers were cut.
    """

    def override_metric(self, metric_name: str) -> None:
        """As the harness', besides the aggregation of the logged list."""
        super().override_metric(metric_name)  # type: ignore[misc]
        if metric_name == "bypass":
            self._aggregation_list["answers"] = count
            self._higher_is_better["answers"] = True

    def process_results(self, doc: dict[str, Any], results: Any) -> dict[str, Any]:
        """The task's own scores; with no metric but ``bypass``, the answers' facts."""
        if "bypass" not in self._metric_fn_list:
            scores: dict[str, Any] = super().process_results(doc, results)  # type: ignore[misc]
            return scores
        return {"bypass": None, "answers": [Answer.of(answer).facts() for answer in results]}

    _metric_fn_list: dict[str, Any]
    _aggregation_list: dict[str, Any]
    _higher_is_better: dict[str, Any]


def _value(metric: Metric) -> Callable[[Sequence[Any]], float]:
    def aggregate(values: Sequence[Any]) -> float:
        rows = np.asarray(values, dtype=np.float64)
        if metric.combine is None:
            return math.fsum(values) / len(values)
        return float(metric.combine(rows.sum(axis=0)))

    return aggregate


def _stderr(metric: Metric) -> Callable[[Sequence[Mapping[str, Any]]], float | str]:
    def aggregate(entries: Sequence[Mapping[str, Any]]) -> float | str:
        values = np.asarray([entry["value"] for entry in entries], dtype=np.float64)
        groups = [entry["question"] for entry in entries]
        if metric.combine is None:
            error = bootstrap_stderr(values, groups=groups)
        else:
            error = bootstrap_corpus_stderr(values, metric.combine, groups=groups)
        return error if math.isfinite(error) else "N/A"

    return aggregate
