"""One metric item by item, out of the samples that the harness wrote."""

from __future__ import annotations

import hashlib
import json
import math
import re
from collections.abc import Iterable, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

from peft_bench.errors import MissingError, PeftBenchError, UsageError
from peft_bench.records import items
from peft_bench.records.check import is_inside
from peft_bench.records.model import ItemScores, ItemStatistics, TaskRecord

# CoNaLa's hub rows number the snippets of a question within its id ("11840111-96"): taken whole,
# every row would pass for a question of its own, and the error of a mean would be understated.
_NUMBERED_SNIPPET = re.compile(r"(\d+)-\d+")
_DECODER = json.JSONDecoder()
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
        MissingError: when the samples were not kept, or no item has the metric.
        UsageError: when the samples contradict the record: broken lines, items twice, another
            number of items, other items, a value that is no finite number.
    """
    found = per_item_statistics(folder, task, metric)
    for item, value in zip(found.ids, found.values, strict=True):
        # A corpus metric keeps statistics here, whose mean is no score.
        if len(value) != 1:
            raise _broken(
                f"{folder}: {task.task}: {item}", f"{metric} is {str(value)[:60]!r}, no number"
            )
    return ItemScores(found.ids, found.groups, tuple(value[0] for value in found.values))


def per_item_statistics(folder: Path, task: TaskRecord, metric: str) -> ItemStatistics:
    """As :func:`per_item_scores`, for corpus metrics too: an item's statistics, or its number.

    Raises:
        MissingError: as there.
        UsageError: as there, and when items have different numbers of statistics.
    """
    if task.samples_file is None or not is_inside(task.samples_file):
        raise MissingError(
            place=f"{folder}: {task.task}",
            problem="record names no samples",
            remedy="Evaluate again with --log_samples",
        )
    place = f"{folder}/{task.samples_file}"  # thousands of files: no Path for each
    kept = items.read(place, metric)
    if kept is not None:
        _check_items(place, kept, task, metric)
        return kept
    path = Path(place)
    rows = _read_samples(path, (metric,))
    scores = _scored(rows, 0)
    if rows and not scores.ids:
        raise MissingError(
            place=str(path),
            problem=f"has no {metric}",
            remedy="Choose a metric that is kept by item",
        )
    if len({len(value) for value in scores.values}) > 1:
        raise _broken(str(path), f"{metric} has more statistics in some items than in others")
    _check_items(place, scores, task, metric)
    return scores


def keep_items(folder: Path, task: TaskRecord) -> None:
    """Writes what comparisons need of a task's samples into a small file beside them.

    It is read in the samples' place for as long as their size stays the same; see
    :mod:`peft_bench.records.items`. Metrics that are not kept by item are left out, and nothing is
    written where the samples cannot be read: whoever compares them is told why.

    Raises:
        OSError: when the file cannot be written.
    """
    if task.samples_file is None or not is_inside(task.samples_file):
        return
    path = folder / task.samples_file
    metrics = [metric for metric in task.scores if _is_kept(path, metric)]
    if metrics:
        items.write(path, metrics, _read_samples(path, metrics))


def _is_kept(path: Path, metric: str) -> bool:
    try:
        return bool(_scored(_read_samples(path, (metric,)), 0).ids)
    except PeftBenchError:
        return False


def _scored(rows: Sequence[items.Row], column: int) -> ItemStatistics:
    """The rows that one metric scores."""
    scored = [(item, group, value) for item, group, values in rows if (value := values[column])]
    ids, groups, values = zip(*scored, strict=True) if scored else ((), (), ())
    return ItemStatistics(ids, groups, values)


def _read_samples(path: Path, metrics: Sequence[str]) -> list[items.Row]:
    try:
        return _read_lines(path, metrics)
    except (OSError, UnicodeDecodeError) as error:
        # The problem ends up in public tables: no path of this machine may be in it.
        why = error.strerror if isinstance(error, OSError) else error
        raise MissingError(
            place=str(path), problem=f"samples cannot be read ({why})", remedy="Evaluate again"
        ) from error


def _read_lines(path: Path, metrics: Sequence[str]) -> list[items.Row]:
    """Id, group and each metric's statistics of each line."""
    rows = []
    with open(path, "rb") as lines:  # noqa: PTH123 - thousands of files
        for number, line in enumerate(lines, 1):
            text = line.decode()
            try:
                sample, end = _DECODER.raw_decode(text)
                usual = text[end:] in ("\n", "")
            except (ValueError, RecursionError):
                usual = False
            if not usual:
                if not text.strip():
                    continue
                sample = _parse_line(f"{path}, line {number}", text)
            rows.append(_row(path, number, sample, metrics))
    return rows


def _parse_line(place: str, line: str) -> Any:
    try:
        return json.loads(line, parse_int=_parse_int)
    except (ValueError, RecursionError) as error:
        raise _broken(place, f"is no JSON ({error})") from error


def _row(path: Path, number: int, sample: Any, metrics: Sequence[str]) -> items.Row:
    if not isinstance(sample, dict) or "doc_id" not in sample:
        raise _broken(f"{path}, line {number}", "has no doc_id")
    statistics = tuple(_statistics(path, number, sample, metric) for metric in metrics)
    document = sample.get("doc")
    if not isinstance(document, dict):
        document = {}
    item = str(_first(document.get("id"), sample["doc_id"]))
    group = str(_first(document.get("question_id"), item))
    snippet = _NUMBERED_SNIPPET.fullmatch(group)
    return item, snippet[1] if snippet else group, statistics


def _statistics(
    path: Path, number: int, sample: dict[str, Any], metric: str
) -> tuple[float, ...] | None:
    """None for an item that the metric does not score."""
    if metric not in sample:
        return None
    value = sample[metric]
    numbers = value if isinstance(value, list) and value else [value]
    # Other harness tasks keep texts here, and NaN would make every mean NaN.
    if not all(isinstance(one, bool | int | float) and math.isfinite(one) for one in numbers):
        problem = f"{metric} is {str(value)[:60]!r}, no finite number"
        raise _broken(f"{path}, line {number}", problem)
    return tuple(map(float, numbers))


def _check_items(place: str, scores: ItemStatistics, task: TaskRecord, metric: str) -> None:
    digest, twice = _facts(scores.ids)
    if twice is not None:
        raise _broken(place, f"item {twice!r} is there twice")
    n = task.scores[metric].n if metric in task.scores else task.n
    if len(scores.ids) != n:
        raise _broken(place, f"has {len(scores.ids)} items where the record counts {n}")
    # The hash is that of the items that the primary metric scores.
    whole = task.ids_sha256 is not None and n == task.n
    if whole and digest != task.ids_sha256:
        raise _broken(place, "has other items than the record's ids_sha256 says")


@lru_cache(maxsize=64)  # thousands of evaluations score the items of a few tasks
def _facts(ids: tuple[str, ...]) -> tuple[str, str | None]:
    """The hash of ids, and the first that is there twice."""
    seen: set[str] = set()
    for item in ids:
        if item in seen:
            return "", item
        seen.add(item)
    return hash_ids(ids), None


def _first(value: Any, otherwise: Any) -> Any:
    return otherwise if value is None else value


def _parse_int(digits: str) -> int | str:
    return int(digits) if len(digits) < _LONGEST_INT else digits


def _broken(place: str, problem: str) -> PeftBenchError:
    return UsageError(place=place, problem=problem, remedy="Evaluate again")
