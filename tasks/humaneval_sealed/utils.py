"""HumanEval, its programs run sealed: functions completed from their head and docstring."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from peft_bench.executed import problems
from peft_bench.executed.problems import Problem
from peft_bench.executed.task import CompletionTask, completion_dataset

__all__ = ["HumanEval", "dataset"]


class HumanEval(CompletionTask):
    """The prompt is completed; chat models are asked for the whole function."""

    data = "humaneval"

    def problem(self, row: Mapping[str, Any]) -> Problem:
        """Prompt, answer, and the row's ``check``."""
        return problems.humaneval(row)


def dataset(**metadata: Any) -> dict[str, Any]:
    """The splits, as the harness calls for them."""
    return completion_dataset("humaneval", metadata)
