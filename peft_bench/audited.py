"""What an audit compares: the intents, codes and questions of a data set's split or a file."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from peft_bench import data
from peft_bench.errors import Faults, MissingError, UsageError
from peft_bench.jsonl import NotJson, parse_json, read_lines

# The fields that hold intent and code in the schemas of the data sets here, and in others' files.
_INTENTS = ("nl", "question", "rewritten_intent", "intent", "instruction", "text", "prompt")
_CODES = ("cmd", "solutions", "canonical_solution", "code", "snippet", "output", "completion")
_IDS = ("id", "question_id", "task_id", "problem_id")
# An APPS problem may have hundreds of solutions, which are copies of one another more often than
# of other problems'.
_MOST_CODES = 5


@dataclass(frozen=True, slots=True)
class AuditRow:
    """A row as an audit sees it; ``question`` is empty where no other data set numbers the same."""

    id: str
    intent: str
    codes: tuple[str, ...]
    question: str


@dataclass(frozen=True, slots=True)
class AuditSet:
    """The rows of a split or file, by the name that the user gave; ``facts`` go into the report."""

    name: str
    rows: tuple[AuditRow, ...]
    facts: Mapping[str, Any]


def read_sets(spec: str, *, data_dir: str | Path | None = None) -> list[AuditSet]:
    """What ``TASK``, ``TASK:SPLIT`` or ``FILE.jsonl[.gz]`` names; a task alone is all its splits.

    Splits that a local folder lacks are left out where the task alone was named.

    Raises:
        UsageError: no such task or split, or faulty rows.
        MissingError: the rows are not to be had.
    """
    if spec.endswith((".jsonl", ".jsonl.gz")):
        return [_read_file(spec)]
    task, _, split = spec.partition(":")
    if split or task not in data.SOURCES:
        return [_read_split(task, split or "test", data_dir)]
    sets, missing = [], None
    for name in data.SOURCES[task].splits:
        try:
            sets.append(_read_split(task, name, data_dir))
        except MissingError as error:
            missing = error
    if not sets and missing is not None:
        raise missing
    return sets


def _read_split(task: str, name: str, data_dir: str | Path | None) -> AuditSet:
    split = data.load_split(task, name, data_dir)
    numbered = data.SOURCES[task].questions is not None
    rows = tuple(_of_row(row, numbered) for row in split.rows)
    facts = data.describe([split])[f"{task}/{name}"]
    return AuditSet(f"{task}:{name}", rows, facts)


def _of_row(row: data.Row, numbered: bool) -> AuditRow:
    # The question itself, without what every intent of the data set ends in.
    intent = row.extra.get("question") or row.extra.get("text") or row.nl
    codes = parse_json(row.extra["solutions"]) if "solutions" in row.extra else [row.cmd]
    question = row.question_id if numbered else ""
    return AuditRow(row.id, intent, tuple(codes[:_MOST_CODES]), question)


def _read_file(name: str) -> AuditSet:
    file = Path(name)
    if not file.is_file():
        raise MissingError(place=name, problem="no such file", remedy="give a file of JSON lines")
    faults = Faults(name)
    rows: list[AuditRow] = []
    for where, value in read_lines(file):
        row = _parse(value, where, faults)
        if row is not None:
            rows.append(row)
        if len(faults) >= 10:
            break
    faults.raise_if_any()
    if not rows:
        raise UsageError(place=name, problem="has no rows", remedy="give at least one row")
    return AuditSet(name, tuple(rows), {"rows": len(rows), "origin": "file"})


def _parse(value: object, where: str, faults: Faults) -> AuditRow | None:
    if isinstance(value, NotJson):
        faults.add(place=where, problem=f"is not {value.problem}", remedy=value.remedy)
        return None
    if not isinstance(value, Mapping):
        faults.add(place=where, problem="not a JSON object", remedy='write {"nl": ..., "cmd": ...}')
        return None
    intent = next((value[key] for key in _INTENTS if _is_text(value.get(key))), "")
    codes = next(filter(None, (_codes(value.get(key)) for key in _CODES)), ())
    if not intent and not codes:
        remedy = f"give one of {', '.join(_INTENTS)}, or of {', '.join(_CODES)}"
        faults.add(place=where, problem="has neither intent nor code", remedy=remedy)
        return None
    identity = next((str(value[key]) for key in _IDS if value.get(key) is not None), where)
    question = str(value.get("question_id") or "")
    # CoNaLa's own number is QUESTION-SNIPPET, or QUESTION alone.
    return AuditRow(identity, intent, codes, question.rpartition("-")[0] or question)


def _is_text(value: object) -> bool:
    return isinstance(value, str) and bool(value.strip())


def _codes(value: object) -> tuple[str, ...]:
    """A code, or several as a list or as the JSON text of one."""
    if isinstance(value, str) and value.lstrip().startswith("["):
        try:
            parsed = parse_json(value)
        except ValueError:
            parsed = None  # code that begins with a list
        if isinstance(parsed, list) and all(isinstance(code, str) for code in parsed):
            value = parsed
    several: Sequence[object] = value if isinstance(value, list) else [value]
    return tuple(code for code in several if isinstance(code, str) and code.strip())[:_MOST_CODES]
