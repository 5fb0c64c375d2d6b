"""The parts of data sets that tasks are scored on."""

from __future__ import annotations

from collections.abc import Iterable
from functools import cache
from importlib.resources import files

from peft_bench.data.rows import Row
from peft_bench.data.sources import APPS_LEVELS
from peft_bench.errors import UsageError


def apps_level(rows: Iterable[Row], level: str, *, first: int | None = None) -> tuple[Row, ...]:
    """APPS' rows of one difficulty, in the file's order; at most the ``first`` of them.

    Raises:
        UsageError: no such level, or ``first`` is negative.
    """
    if level not in APPS_LEVELS:
        raise UsageError(
            place=level, problem="no such level of APPS", remedy=f"known: {', '.join(APPS_LEVELS)}"
        )
    if first is not None and first < 0:
        raise UsageError(place="first", problem=f"is {first}", remedy="give 0 or more")
    return tuple(row for row in rows if row.extra["difficulty"] == level)[:first]


def odex_clean(rows: Iterable[Row]) -> tuple[Row, ...]:
    """ODEX's rows whose Stack Overflow question has no row in CoNaLa's training split.

    The same rows for everyone, whatever a model was trained on: the questions are listed in this
    package.
    """
    seen = conala_train_questions()
    return tuple(row for row in rows if row.question_id not in seen)


@cache
def conala_train_questions() -> frozenset[str]:
    """The Stack Overflow questions of CoNaLa's training split (neulab/docprompting-conala)."""
    file = files("peft_bench.data").joinpath("conala_train_questions.txt")
    lines = file.read_text("ascii").split()
    return frozenset(lines)
