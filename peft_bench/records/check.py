"""What the types of a record cannot say: ranges, forms, and values that must agree."""

from __future__ import annotations

import math
import re
from datetime import datetime
from functools import lru_cache
from pathlib import PurePosixPath, PureWindowsPath

from peft_bench.errors import Faults
from peft_bench.records.model import RunRecord, Score, TaskRecord

_SHA256 = re.compile(r"[0-9a-f]{64}")
_ADAPTER_COSTS = (
    "trainable_parameters",
    "size_bytes",
    "train_wall_s",
    "train_tokens_per_s",
    "train_peak_bytes",
    "reserved_peak_bytes",
    "train_tokens",
)


def check(record: RunRecord, faults: Faults) -> None:
    """Notes every value of a record that is out of range or contradicts another."""
    _check_created(record.created, faults)
    _check_costs(record, faults)
    if not record.name:
        faults.add(place="name", problem="is empty", remedy="Give the evaluation's name")
    if not record.model.id:
        faults.add(place="model.id", problem="is empty", remedy="Give the model's id")
    if record.adapter is not None:
        _check_sha256("adapter.sha256", record.adapter.sha256, faults)
        _check_sha256("adapter.recipe_sha256", record.adapter.recipe_sha256, faults)
        _check_sha256("adapter.variant_sha256", record.adapter.variant_sha256, faults)
        seed = record.adapter.seed
        if seed is not None and not -(2**63) <= seed < 2**63:
            faults.add(
                place="adapter.seed", problem=f"is {seed}", remedy="Give one of 64 bits, or null"
            )
    names = [task.task for task in record.tasks]
    for name in sorted({name for name in names if names.count(name) > 1}):
        faults.add(place="tasks", problem=f"{name} is there twice", remedy="Keep one of them")
    for i, task in enumerate(record.tasks):
        _check_task(f"tasks[{i}]", task, faults)


def _check_created(created: str, faults: Faults) -> None:
    try:
        offset = datetime.fromisoformat(created).utcoffset()
    except ValueError:
        offset = None
    if offset is None:
        faults.add(
            place="created",
            problem=f"is {created!r}",
            remedy="Give a date and time with its offset, such as 2025-01-31T12:00:00+00:00",
        )


def _check_costs(record: RunRecord, faults: Faults) -> None:
    parts: tuple[tuple[str, object, tuple[str, ...]], ...] = (
        ("model.", record.model, ("parameters",)),
        ("", record, ("eval_wall_s", "eval_peak_bytes")),
        ("adapter.", record.adapter, _ADAPTER_COSTS if record.adapter else ()),
    )
    for place, part, names in parts:
        for name in names:
            cost = getattr(part, name)
            if cost is not None and not 0 <= cost < 2**63:  # NaN is neither
                faults.add(
                    place=f"{place}{name}", problem=f"is {cost}", remedy="Give 0 or more, or null"
                )


def _check_task(place: str, task: TaskRecord, faults: Faults) -> None:
    if not (1 if task.scores else 0) <= task.n < 2**63:
        faults.add(
            place=f"{place}.n",
            problem=f"is {task.n}",
            remedy="Give 1 or more, or 0 and no scores",
        )
    if not 0 <= task.kept_apart < 2**63:
        faults.add(
            place=f"{place}.kept_apart", problem=f"is {task.kept_apart}", remedy="Give 0 or more"
        )
    if not 0 <= task.num_fewshot < 2**63:
        faults.add(
            place=f"{place}.num_fewshot", problem=f"is {task.num_fewshot}", remedy="Give 0 or more"
        )
    if task.primary_metric not in task.scores and task.n:
        faults.add(
            place=f"{place}.primary_metric",
            problem=f"{task.primary_metric!r} has no score",
            remedy=f"Choose a metric that has one: {', '.join(task.scores) or 'there is none'}",
        )
    for metric, score in task.scores.items():
        if not metric or metric.endswith("_stderr"):
            faults.add(
                place=f"{place}.scores.{metric}",
                problem="is no metric",
                remedy="Put a standard error into the stderr of its metric",
            )
        if not _is_sound(score):
            _check_score(f"{place}.scores.{metric}", score, faults)
    for split, digest in task.data_sha256.items():
        _check_sha256(f"{place}.data_sha256.{split}", digest, faults)
    _check_sha256(f"{place}.ids_sha256", task.ids_sha256, faults)
    if task.samples_file is not None and not is_inside(task.samples_file):
        faults.add(
            place=f"{place}.samples_file",
            problem=f"is {task.samples_file!r}, no path that is sure to lie in the evaluation",
            remedy="Give a path relative to the evaluation's folder",
        )


def _is_sound(score: Score) -> bool:
    """Whether :func:`_check_score` would find nothing, told without naming places."""
    stderr, k = score.stderr, score.k
    return (
        0 <= score.value <= 1
        and (stderr is None or 0 <= stderr < math.inf)
        and score.n >= 1
        and (k is None or k >= 1)
    )


def _check_score(place: str, score: Score, faults: Faults) -> None:
    if not (math.isfinite(score.value) and 0 <= score.value <= 1):
        faults.add(
            place=f"{place}.value",
            problem=f"is {score.value}",
            remedy="Give a share from 0 to 1; a score out of 100 is divided by 100",
        )
    if score.stderr is not None and not (math.isfinite(score.stderr) and score.stderr >= 0):
        faults.add(
            place=f"{place}.stderr",
            problem=f"is {score.stderr}",
            remedy="Give 0 or more, or null where it is unknown",
        )
    if score.n < 1:
        faults.add(place=f"{place}.n", problem=f"is {score.n}", remedy="Give 1 or more")
    if score.k is not None and score.k < 1:
        faults.add(place=f"{place}.k", problem=f"is {score.k}", remedy="Give 1 or more, or null")


def _check_sha256(place: str, digest: str | None, faults: Faults) -> None:
    if digest is not None and not _SHA256.fullmatch(digest):
        faults.add(
            place=place, problem=f"is {digest!r}", remedy="Give 64 hexadecimal digits in lower case"
        )


@lru_cache(maxsize=1024)  # thousands of records name a few files
def is_inside(relative: str) -> bool:
    """Whether a path as written can be one, and cannot leave the folder it is relative to."""
    try:
        if b"\0" in relative.encode():
            return False
    except UnicodeEncodeError:  # a lone surrogate
        return False
    paths = PurePosixPath(relative), PureWindowsPath(relative)
    return bool(relative) and not any(path.anchor or ".." in path.parts for path in paths)
