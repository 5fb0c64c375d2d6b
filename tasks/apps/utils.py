"""APPS: programming problems, several samples each, run against all of their tests."""

from __future__ import annotations

import dataclasses
import sys
from collections.abc import Mapping, Sequence
from functools import cache
from typing import Any, ClassVar

from peft_bench import data, harness
from peft_bench.errors import UsageError
from peft_bench.executed import problems, scores
from peft_bench.executed.problems import Problem
from peft_bench.executed.running import Run
from peft_bench.executed.task import ExecutedTask
from peft_bench.quirks import active_quirks
from peft_bench.scoring import Metric

__all__ = ["Apps", "dataset"]


class Apps(ExecutedTask):
    """The problems of one level, or of all; ``--metadata '{"first": 10}'`` takes so many."""

    data = "apps"
    metrics: ClassVar[tuple[Metric, ...]] = (
        *scores.METRICS,
        Metric("avg_tests_passed"),
        Metric("strict_accuracy"),
        Metric("empty_levels", higher_is_better=False),
    )
    unlogged = ("input_output", "solutions")

    def __init__(self, config: dict[str, Any] | None = None) -> None:
        task, metadata = str((config or {}).get("task")), (config or {}).get("metadata") or {}
        own, level = task.removeprefix("apps_"), metadata.get("level")
        if own in data.APPS_LEVELS and level != own:
            raise UsageError(
                place=f"--metadata level={level}",
                problem=f"{task} asks the level {own}",
                remedy="leave it out, or ask apps_full",
            )
        super().__init__(config)

    def problem(self, row: Mapping[str, Any]) -> Problem:
        """The answer alone, against the row's inputs and outputs."""
        legacy = "legacy_comparison" in _quirks(self.config.metadata or {})
        return problems.apps(row, legacy=legacy)

    def process_results(self, doc: dict[str, Any], results: Sequence[Run]) -> dict[str, Any]:
        """Beside pass@k, the shares of tests, and how many levels have no problem here."""
        found = dict(super().process_results(doc, results))
        if "bypass" in self._metric_fn_list:
            return found
        more = {"empty_levels": float(doc["empty_levels"])}
        if "pass@1" in found:
            more |= scores.test_shares(results)
        return found | scores.row_scores(str(doc["question_id"]), more)


def dataset(**metadata: Any) -> dict[str, Any]:
    """The splits of a level (``level``, None for all), at most its ``first`` problems."""
    level, first = metadata.get("level"), _first(metadata.get("first"))
    swapped = "swapped_formats" in _quirks(metadata)
    empty = 0

    def select(rows: tuple[data.Row, ...]) -> tuple[data.Row, ...]:
        nonlocal empty
        lacking = [one for one in data.APPS_LEVELS if not data.apps_level(rows, one, first=1)]
        empty = len(lacking)
        _tell_partial(tuple(lacking))
        chosen = data.apps_level(rows, level, first=first) if level else rows[:first]
        return tuple(map(_swapped, chosen)) if swapped else chosen

    splits = harness.dataset("apps", select=select, **metadata)
    docs = splits["test"]
    if "empty_levels" not in docs.column_names:
        splits["test"] = docs.add_column("empty_levels", [empty] * len(docs))
    return splits


def _quirks(metadata: Mapping[str, Any]) -> frozenset[str]:
    named = {key: metadata[key] for key in ("profile", "quirks") if key in metadata}
    return active_quirks("apps", **named)


def _first(given: Any) -> int | None:
    if given is None:
        return None
    if isinstance(given, bool) or not isinstance(given, int) or given < 1:
        raise UsageError(
            place=f"--metadata first={given}",
            problem="is no number of problems",
            remedy="give 1 or more, or null for all",
        )
    return given


def _swapped(row: data.Row) -> data.Row:
    """The row with the format line of the other kind, as one of the study's scripts has it."""
    call_based = row.nl.endswith("Use Call-Based format")
    intent = data.apps_intent(
        row.extra["question"], row.extra["starter_code"], call_based=call_based, swapped=True
    )
    return dataclasses.replace(row, nl=intent)


@cache
def _tell_partial(lacking: tuple[str, ...]) -> None:
    """Once a run, for the group's tasks read the same rows."""
    if lacking:
        print(
            f"apps: partial: there are no problems of level {', '.join(lacking)} here (n = 0)",
            file=sys.stderr,
        )
