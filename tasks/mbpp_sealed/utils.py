"""MBPP, its programs run sealed: a function from a sentence and the tests it must pass."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from peft_bench import harness
from peft_bench.executed import problems
from peft_bench.executed.problems import Problem
from peft_bench.executed.task import ExecutedTask

__all__ = ["Mbpp", "dataset"]


class Mbpp(ExecutedTask):
    """A whole program is asked for."""

    data = "mbpp"

    def problem(self, row: Mapping[str, Any]) -> Problem:
        """The answer alone, against the row's assertions."""
        return problems.mbpp(row)


def dataset(**metadata: Any) -> dict[str, Any]:
    """The splits, as the harness calls for them; ``prompt`` holds the rows for examples."""
    return harness.dataset("mbpp", **metadata)
