"""What comparisons need of a samples file, small enough to be read by the thousand.

A samples file holds prompts, references and every answer: megabytes, of which a comparison reads
one number an item. ``items_conala_<date>.jsonl`` beside ``samples_conala_<date>.jsonl`` holds
those numbers. Its lines, each JSON:

1. ``{"version": 1, "samples_bytes": 812734}``: the size of the samples it was made from;
2. the items' ids, a list; 3. their groups, a list as long;
4. and on: a metric each, ``{"em@1": "0110"}``: right or wrong; or ``{"bleu": [...]}``: an item's
   number, or its list of statistics where the metric is one of the whole corpus, or null where the
   metric does not score the item.

The samples stay the truth: where their size is another than noted, or they were written after this
file, or anything in it is not as above, it is as though it were not there.
"""

from __future__ import annotations

import json
import math
import os
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

from peft_bench.records.atomic import read_dated, write_text
from peft_bench.records.model import ItemStatistics

_VERSION = 1
_DECODER = json.JSONDecoder()
_OF_DIGIT = {ord("0"): (0.0,), ord("1"): (1.0,)}
_DIGIT_OF: dict[tuple[float, ...] | None, str] = {
    value: chr(digit) for digit, value in _OF_DIGIT.items()
}

#: Of one item: its id, its group, and by metric its statistics or None where it has none.
Row = tuple[str, str, tuple[tuple[float, ...] | None, ...]]


def items_file(samples: Path) -> Path:
    """Where the items of a samples file are kept."""
    return samples.with_name(_name(samples.name))


def _name(samples: str) -> str:
    return f"items_{samples.removeprefix('samples_')}"


def write(samples: Path, metrics: Sequence[str], rows: Sequence[Row]) -> None:
    """Writes the items of a samples file.

    Args:
        samples: The file; its size is noted.
        metrics: Their names, as many as each row has statistics.
        rows: Of the samples, in their order.

    Raises:
        OSError: when it cannot be written, or the samples are not there.
    """
    lines: list[Any] = [
        {"version": _VERSION, "samples_bytes": samples.stat().st_size},
        [row[0] for row in rows],
        [row[1] for row in rows],
    ]
    for column, metric in enumerate(metrics):
        statistics = [row[2][column] for row in rows]
        if all(one in _DIGIT_OF for one in statistics):
            lines.append({metric: "".join(_DIGIT_OF[one] for one in statistics)})
            continue
        lines.append({metric: [one[0] if one and len(one) == 1 else one for one in statistics]})
    write_text(items_file(samples), "".join(f"{json.dumps(line)}\n" for line in lines))


def read(samples: str, metric: str) -> ItemStatistics | None:
    """One metric of the items kept beside a samples file; None where there is nothing to go by."""
    folder, slash, name = samples.rpartition("/")
    try:
        # Thousands of files: no Path for each.
        content, written_ns = read_dated(f"{folder}{slash}{_name(name)}")
        of = os.stat(samples)  # noqa: PTH116
        head, ids, groups, *columns = content.splitlines()
        if written_ns < of.st_mtime_ns or head != _head(of.st_size):
            return None
        start = _start(metric)
        [column] = [line for line in columns if line.startswith(start)]
        if not column.endswith(b"}"):
            return None
        column = column[len(start) : -1]
        found = _names(ids, groups)
        if found is None:
            return None
        if column[:1] == b'"':
            return _right_or_wrong(*found, column)
        return _statistics(*found, _DECODER.decode(column.decode()))
    except (OSError, ValueError, RecursionError):
        return None


@lru_cache(maxsize=64)
def _start(metric: str) -> bytes:
    return f"{{{json.dumps(metric)}: ".encode()


def _head(size: int) -> bytes:
    return b'{"version": %d, "samples_bytes": %d}' % (_VERSION, size)


@lru_cache(maxsize=64)  # thousands of evaluations score the items of a few tasks
def _names(ids: bytes, groups: bytes) -> tuple[tuple[str, ...], tuple[str, ...]] | None:
    items, their_groups = json.loads(ids), json.loads(groups)
    for names in (items, their_groups):
        if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
            return None
    return (tuple(items), tuple(their_groups)) if len(items) == len(their_groups) else None


def _right_or_wrong(
    ids: tuple[str, ...], groups: tuple[str, ...], text: bytes
) -> ItemStatistics | None:
    if len(text) != len(ids) + 2 or text[-1:] != b'"' or not ids:
        return None
    if text[1:-1].strip(b"01"):
        return None
    return ItemStatistics(ids, groups, tuple(map(_OF_DIGIT.__getitem__, text[1:-1])))


def _statistics(
    ids: tuple[str, ...], groups: tuple[str, ...], values: Any
) -> ItemStatistics | None:
    if not isinstance(values, list) or len(values) != len(ids) or not values:
        return None
    kinds = set(map(type, values))
    if kinds == {float}:  # a number of every item
        finite = math.isfinite(sum(values))
        return ItemStatistics(ids, groups, tuple(zip(values))) if finite else None
    scored = []
    for item, group, value in zip(ids, groups, values, strict=True):
        if value is None:
            continue
        numbers = value if isinstance(value, list) else [value]
        if not numbers or not all(type(one) is float and math.isfinite(one) for one in numbers):
            return None
        scored.append((item, group, tuple(numbers)))
    if not scored or len({len(value) for _, _, value in scored}) > 1:
        return None
    return ItemStatistics(*zip(*scored, strict=True))
