"""One metric item by item, out of the samples that the harness wrote."""

from __future__ import annotations

import hashlib
import json
import math
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from peft_bench.errors import MissingError, PeftBenchError, UsageError
from peft_bench.records.check import is_inside
from peft_bench.records.model import ItemScores, TaskRecord

# CoNaLa's hub rows number the snippets of a question within its id ("11840111-96"): taken whole,
# every row would pass for a question of its own, and the error of a mean would be understated.
_NUMBERED_SNIPPET = re.compile(r"(\d+)-\d+")
_LONGEST_INT = 4000  # Python refuses to parse an integer of more than 4300 digits


def hash_ids(ids: Iterable[str]) -> str:
    """SHA-256 of a set of item ids, whatever their order: equal for the same items scored."""
    return hashlib.sha256(json.dumps(sorted(ids)).encode()).hexdigest()


def per_item_scores(folder: Path, task: TaskRecord, metric: str) -> ItemScores:
    """Reads one metric of one task, item by item.

    The id of an item is its document's ``id``, or the harness' ``doc_id``. Its group is its
    document's ``question_id``, without the number of the snippet (``11840111-96`` belongs to
    ``11840111``), or else its id.

    Args:
        folder: The evaluation's.
        task: Of the evaluation's record.
        metric: A metric whose score is the mean of a number an item; corpus metrics have none.

    Raises:
        MissingError: when the samples were not kept, or lack the metric.
        UsageError: when the samples contradict the record: broken lines, items twice, another
            number of items, other items, a value that is no finite number.
    """
    if task.samples_file is None or not is_inside(task.samples_file):
        raise MissingError(
            place=f"{folder}: {task.task}",
            problem="record names no samples",
            remedy="Evaluate again with --log_samples",
        )
    path = folder / task.samples_file
    try:
        with path.open(encoding="utf-8", newline="\n") as lines:
            rows = [
                _read_line(f"{path}, line {number}", line, metric)
                for number, line in enumerate(lines, 1)
                if line.strip()
            ]
    except (OSError, UnicodeDecodeError) as error:
        # The problem ends up in public tables: no path of this machine may be in it.
        why = error.strerror if isinstance(error, OSError) else error
        raise MissingError(
            place=str(path), problem=f"samples cannot be read ({why})", remedy="Evaluate again"
        ) from error
    scores = ItemScores(
        ids=tuple(row[0] for row in rows),
        groups=tuple(row[1] for row in rows),
        values=tuple(row[2] for row in rows),
    )
    _check_items(path, scores, task)
    return scores


def _read_line(place: str, line: str, metric: str) -> tuple[str, str, float]:
    try:
        sample = json.loads(line, parse_int=_parse_int)
    except (ValueError, RecursionError) as error:
        raise _broken(place, f"is no JSON ({error})") from error
    if not isinstance(sample, dict) or "doc_id" not in sample:
        raise _broken(place, "has no doc_id")
    if metric not in sample:
        raise MissingError(
            place=place, problem=f"has no {metric}", remedy="Choose a metric that is kept by item"
        )
    value = sample[metric]
    # A corpus metric keeps texts here, and NaN would make every mean NaN.
    if not isinstance(value, bool | int | float) or not math.isfinite(value):
        raise _broken(place, f"{metric} is {str(value)[:60]!r}, no finite number")
    document = sample.get("doc")
    if not isinstance(document, dict):
        document = {}
    item = str(_first(document.get("id"), sample["doc_id"]))
    group = str(_first(document.get("question_id"), item))
    snippet = _NUMBERED_SNIPPET.fullmatch(group)
    return item, snippet[1] if snippet else group, float(value)


def _check_items(path: Path, scores: ItemScores, task: TaskRecord) -> None:
    seen: set[str] = set()
    for item in scores.ids:
        if item in seen:
            raise _broken(str(path), f"item {item!r} is there twice")
        seen.add(item)
    if len(scores.ids) != task.n:
        raise _broken(str(path), f"has {len(scores.ids)} items where the record counts {task.n}")
    if task.ids_sha256 is not None and hash_ids(scores.ids) != task.ids_sha256:
        raise _broken(str(path), "has other items than the record's ids_sha256 says")


def _first(value: Any, otherwise: Any) -> Any:
    return otherwise if value is None else value


def _parse_int(digits: str) -> int | str:
    return int(digits) if len(digits) < _LONGEST_INT else digits


def _broken(place: str, problem: str) -> PeftBenchError:
    return UsageError(place=place, problem=problem, remedy="Evaluate again")
