"""ODEX: functions from a Stack Overflow intent, executed against the set's tests."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from peft_bench import data
from peft_bench.executed import problems
from peft_bench.executed.problems import Problem
from peft_bench.executed.task import CompletionTask, completion_dataset

__all__ = ["Odex", "clean_dataset", "dataset"]


class Odex(CompletionTask):
    """A head, the intent as docstring, and the rest to be written."""

    data = "odex"

    def problem(self, row: Mapping[str, Any]) -> Problem:
        """Prompt, answer and suffix, and the row's ``check``."""
        return problems.odex(row)

    def chat_question(self, doc: Mapping[str, Any]) -> str:
        """The user's turn: the whole function is asked for, so an open ``return`` is left out."""
        return super().chat_question({"prompt": problems.odex_head(doc)})


def dataset(**metadata: Any) -> dict[str, Any]:
    """All rows of the test split, as the harness calls for them."""
    return _with_prompts(completion_dataset("odex", metadata))


def clean_dataset(**metadata: Any) -> dict[str, Any]:
    """The rows whose question is not one of CoNaLa's training split: the same for everyone."""
    return _with_prompts(completion_dataset("odex", metadata, select=data.odex_clean))


def _with_prompts(splits: dict[str, Any]) -> dict[str, Any]:
    """The rows' intents as the prompts of :func:`peft_bench.executed.problems.odex_prompt`."""
    docs = splits["test"]
    shown = [problems.odex_prompt(doc) for doc in docs]
    return {**splits, "test": docs.remove_columns("prompt").add_column("prompt", shown)}
