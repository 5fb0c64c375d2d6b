"""From runs to numbers: pass@k, and what else is counted of a problem's answers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from peft_bench.executed.running import Run
from peft_bench.metrics.pass_at_k import pass_at_k
from peft_bench.scoring import Metric, row_scores

#: pass@k is given for the k of these that there are answers for.
KS = (1, 2, 5, 10, 50, 100)

METRICS = (
    *(Metric(f"pass@{k}") for k in KS),
    Metric("shared_passes", higher_is_better=False),
    Metric("empty_answers", higher_is_better=False),
    Metric("truncated_answers", higher_is_better=False),
    Metric("missing_answers", higher_is_better=False),
    Metric("reference_fails", higher_is_better=False),
)


def values(runs: Sequence[Run]) -> dict[str, float]:
    """The metrics of one problem's answers; without pass@k where its references fail here.

    pass@k: the unbiased estimator for n answers (:func:`peft_bench.metrics.pass_at_k`), for
    k <= n. The others are shares of the answers: that passed, judged where a pass can be forged
    (``shared_passes``); that were empty, truncated or missing, and so are wrong.
    """
    gold = runs[0].gold
    checked = {"reference_fails": float(gold.outcome == "failed")}
    if gold.outcome == "unchecked":
        checked = {}
    if gold.outcome == "failed":
        return checked
    n, passed = len(runs), sum(run.passed for run in runs)
    found = {f"pass@{k}": pass_at_k(n, passed, k) for k in KS if k <= n}
    found["shared_passes"] = passed / n if gold.judge == "shared" else 0.0
    for kind in ("empty", "truncated", "missing"):
        found[f"{kind}_answers"] = sum(run.kind == kind for run in runs) / n
    return found | checked


def test_shares(runs: Sequence[Run]) -> dict[str, float]:
    """APPS' other metrics: the mean share of tests passed, and of answers that pass all.

    Source: Hendrycks et al., arXiv 2105.09938, section 4, as means over a problem's answers.
    """
    return {
        "avg_tests_passed": sum(run.share for run in runs) / len(runs),
        "strict_accuracy": sum(run.passed for run in runs) / len(runs),
    }


def score(doc: Mapping[str, Any], runs: Sequence[Run]) -> dict[str, Any]:
    """What ``process_results`` returns for a problem."""
    return logged(doc, runs, values(runs))


def logged(
    doc: Mapping[str, Any], runs: Sequence[Run], found: Mapping[str, float]
) -> dict[str, Any]:
    """The values with their question, and the verdicts for the samples log."""
    scores = row_scores(str(doc["question_id"]), found)
    scores["verdicts"] = [run.logged() for run in runs]
    return scores
