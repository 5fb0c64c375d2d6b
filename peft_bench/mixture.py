"""The rows of a recipe: tasks and files, what is validated on, and how often a row is seen."""

from __future__ import annotations

import dataclasses
import random
from collections.abc import Sequence
from pathlib import Path

from peft_bench import data
from peft_bench.errors import MissingError, UsageError
from peft_bench.jsonl import read_lines
from peft_bench.recipe import DataChoice

FILES = "files"
"""What the rows of a recipe's own files go by, in weights and in the card."""

_SHARE = 0.1
_SEED = 42


def load(choice: DataChoice) -> tuple[data.Split, ...]:
    """The training and validation splits of a recipe, in this order, tasks before files.

    A task without a validation split has a tenth of its training rows kept apart: the first of
    them as ``numpy.random.default_rng(42)`` permutes them (APPS: 500 of 5000). Rows without code
    are left out.

    Raises:
        UsageError, MissingError: as :func:`peft_bench.data.load_split`; a file that is not there;
            too few rows to keep some apart.
    """
    pairs = [_of_task(task) for task in choice.tasks]
    if choice.files:
        pairs.append(_of_files(choice))
    trains, validations = zip(*pairs, strict=True)
    return (*trains, *validations)


def _of_task(task: str) -> tuple[data.Split, data.Split]:
    source = data.SOURCES[task]
    if "train" not in source.splits:
        raise UsageError(
            place="data.tasks",
            problem=f"{task} has no rows to train on",
            remedy="train on another data set, and score on this one",
        )
    train = _with_code(data.load_split(task, "train"))
    if "validation" in source.splits:
        return train, data.load_split(task, "validation")
    return _kept_apart(train)


def _of_files(choice: DataChoice) -> tuple[data.Split, data.Split]:
    train = _read(choice.files, "train")
    if choice.validation_files:
        return train, _read(choice.validation_files, "validation")
    return _kept_apart(train)


def _read(files: Sequence[str], name: str) -> data.Split:
    rows: list[data.Row] = []
    for file in files:
        try:
            rows += data.parse_rows(read_lines(Path(file)), place=file, split=name)
        except OSError as error:
            raise MissingError(
                place="data.files" if name == "train" else "data.validation_files",
                problem=f"{file} cannot be read: {error.strerror}",
                remedy="name a file of JSON lines with nl and cmd",
            ) from None
    shown = ", ".join(Path(file).name for file in files)
    return data.Split(FILES, name, tuple(rows), data.content_sha256(rows), shown, True)


def _with_code(split: data.Split) -> data.Split:
    rows = tuple(row for row in split.rows if row.cmd.strip())
    if len(rows) == len(split.rows):
        return split
    return dataclasses.replace(split, rows=rows, sha256=data.content_sha256(rows))


def _kept_apart(split: data.Split) -> tuple[data.Split, data.Split]:
    import numpy

    if len(split.rows) < 2:
        raise UsageError(
            place=split.origin,
            problem="has one row: none can be kept apart to validate on",
            remedy="give more rows, or data.validation_files",
        )
    order = numpy.random.default_rng(_SEED).permutation(len(split.rows))
    count = max(1, int(len(order) * _SHARE))
    apart = tuple(split.rows[i] for i in order[:count])
    rest = tuple(split.rows[i] for i in order[count:])

    def part(name: str, rows: tuple[data.Row, ...]) -> data.Split:
        return dataclasses.replace(split, name=name, rows=rows, sha256=data.content_sha256(rows))

    return part("train", rest), part("validation", apart)


def at_most(rows: list[data.Row], limit: int | None, splits: int) -> list[data.Row]:
    """The first ``limit`` rows; of several splits, one after another, as many spread evenly."""
    if limit is None or limit >= len(rows):
        return rows
    if splits == 1:
        return rows[:limit]
    return [rows[i * len(rows) // limit] for i in range(limit)]


def weighed(splits: Sequence[data.Split], weights: dict[str, float], seed: int) -> list[data.Row]:
    """The rows of one epoch: each as often as its task's weight says.

    Of a fraction, as many rows as make it up are drawn once, the same for a seed.
    """
    rows: list[data.Row] = []
    for split in splits:
        weight = weights.get(split.task, 1.0)
        whole = int(weight)
        part = round((weight - whole) * len(split.rows))
        drawn = random.Random(f"{seed} {split.task}").sample(range(len(split.rows)), part)
        rows += split.rows * whole
        rows += [split.rows[i] for i in sorted(drawn)]
    if not rows:
        raise UsageError(
            place="data.weights",
            problem="leave no row to train on",
            remedy="give larger weights",
        )
    return rows
