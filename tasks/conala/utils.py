"""CoNaLa: one line of Python from an intent; ten beams, exact match among the first k."""

from __future__ import annotations

from typing import Any

from peft_bench import harness
from peft_bench.beams import BeamTask
from peft_bench.metrics.exact_match import Mode, em_at_k

__all__ = ["METRICS", "BeamTask", "dataset", "process_results"]

KS = (1, 2, 5, 10)
MODES: tuple[tuple[str, Mode], ...] = (("", "raw"), ("_whitespace", "whitespace"), ("_ast", "ast"))
METRICS = [
    {"metric": f"em@{k}{suffix}", "aggregation": "mean", "higher_is_better": True}
    for suffix, _ in MODES
    for k in KS
]


def dataset(**metadata: Any) -> dict[str, Any]:
    """The splits, as the harness calls for them."""
    return harness.dataset("conala", **metadata)


def process_results(doc: dict[str, Any], results: list[str]) -> dict[str, float]:
    """Exact match at each k that there are beams for (fewer with ``--gen_kwargs num_beams=5``)."""
    return {
        f"em@{k}{suffix}": float(em_at_k(doc["cmd"], results, k, mode=mode))
        for suffix, mode in MODES
        for k in KS
        if k <= len(results)
    }
