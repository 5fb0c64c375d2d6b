"""From raw rows to :class:`Row`, a reader a schema; faults are collected, ten at once."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from peft_bench.data.fields import FAULTY, Fields
from peft_bench.data.rows import Row
from peft_bench.data.sources import APPS_LEVELS
from peft_bench.errors import Faults, UsageError
from peft_bench.jsonl import NotJson, dump_json

_MOST_FAULTS = 10

Reader = Callable[[Fields, int, str], Row]
"""(the row's fields, its number, the split's name) -> the row; faults are noted in the fields."""


def parse_rows(
    raw: Iterable[tuple[str, object]], *, place: str, schema: str = "plain", split: str = "test"
) -> tuple[Row, ...]:
    """Rows from (where, value) pairs; the first ten faults are told at once.

    Args:
        raw: places, such as ``line 3``, and values.
        place: the whole, such as the file's name.
        schema: a name of :data:`READERS`.
        split: the split's name; rows of test splits must have tests.

    Raises:
        UsageError: a value is no object, or has a field missing or faulty; or there are no rows.
    """
    rows: list[Row] = []
    faults = Faults(place)
    seen: dict[str, int] = {}
    for number, (where, value) in enumerate(raw):
        row = _parse_row(value, where, number, faults, READERS[schema], split)
        if row is not None:
            # Hub ids may repeat (CoNaLa's do): a counter keeps every row's id its own.
            identity = row.id
            while identity in seen:
                seen[row.id] += 1
                identity = f"{row.id}#{seen[row.id]}"
            seen[identity] = 1
            rows.append(dataclasses.replace(row, id=identity))
        if len(faults) >= _MOST_FAULTS:
            break
    faults.raise_if_any()
    if not rows:
        raise UsageError(place=place, problem="has no rows", remedy="give at least one row")
    return tuple(rows)


def _parse_row(
    value: object, where: str, number: int, faults: Faults, reader: Reader, split: str
) -> Row | None:
    if isinstance(value, NotJson):
        faults.add(place=where, problem=f"is not {value.problem}", remedy=value.remedy)
        return None
    if not isinstance(value, Mapping):
        faults.add(place=where, problem="not a JSON object", remedy='write {"nl": ..., "cmd": ...}')
        return None
    fields = Fields(value, where, faults)
    row = reader(fields, number, split)
    return row if fields.sound else None


def read_plain(fields: Fields, number: int, split: str) -> Row:
    """``nl``, ``cmd``, and optionally ``question_id``, ``id`` and ``test`` (assertions).

    A question id is the part of ``question_id`` before its last hyphen.
    """
    nl, cmd = fields.text("nl"), fields.text("cmd")
    value = fields.value
    test = None
    if value.get("test") is not None:
        test = fields.text("test", remedy="give assert statements")
    ids = {
        key: fields.identity(key)
        for key in ("id", "question_id")
        if value.get(key) not in (None, "")
    }
    identity = next(iter(ids.values()), str(number))
    question = ids.get("question_id", "").rpartition("-")[0]
    return Row(identity, nl, cmd, question or identity, test)


_APPS_TESTS = 'give {"inputs": [...], "outputs": [...]}, as many of one as of the other'


def read_apps(fields: Fields, number: int, split: str) -> Row:
    """APPS (Hendrycks et al., arXiv 2105.09938). Rows to train on may go without tests."""
    identity = fields.identity("problem_id", "id")
    question = fields.text("question")
    starter = fields.optional_text("starter_code")
    difficulty = fields.text("difficulty")
    if difficulty.strip() and difficulty not in APPS_LEVELS:
        fields.fault("difficulty", f"is {difficulty!r:.40}", f"one of: {', '.join(APPS_LEVELS)}")
    solutions = fields.texts("solutions", remedy="give a JSON list of programs, or nothing")
    tests = _apps_tests(fields, required=split == "test")
    call_based = bool(tests.get("fn_name")) if tests else bool(starter.strip())
    extra = {
        "question": question,
        "starter_code": starter,
        "input_output": fields.json_text("input_output", tests or None),
        "solutions": dump_json(solutions),
        "difficulty": difficulty,
    }
    intent = apps_intent(question, starter, call_based=call_based)
    return Row(identity, intent, solutions[0] if solutions else "", identity, None, extra)


def _apps_tests(fields: Fields, *, required: bool) -> Mapping[str, Any]:
    """The row's ``input_output``, checked; empty where it has none."""
    key = "input_output"
    tests = fields.json(key, remedy=_APPS_TESTS)
    if tests is FAULTY:
        return {}
    if tests is None or tests == {}:
        if required:
            fields.fault(key, "holds no tests", _APPS_TESTS)
        return {}
    if not isinstance(tests, Mapping):
        fields.fault(key, f"is {type(tests).__name__}, not a JSON object", _APPS_TESTS)
        return {}
    inputs, outputs = tests.get("inputs"), tests.get("outputs")
    if not isinstance(inputs, list) or not isinstance(outputs, list):
        fields.fault(key, "lacks a list of inputs or of outputs", _APPS_TESTS)
    elif len(inputs) != len(outputs):
        problem = f"has {len(inputs)} inputs and {len(outputs)} outputs"
        fields.fault(key, problem, _APPS_TESTS)
    elif required and not inputs:
        fields.fault(key, "holds no tests", _APPS_TESTS)
    name = tests.get("fn_name")
    if name is not None and not isinstance(name, str):
        fields.fault(f"{key}: fn_name", f"is {type(name).__name__}, not text", "name a function")
    return tests


def apps_intent(
    question: str, starter_code: str, *, call_based: bool, swapped: bool = False
) -> str:
    """The whole intent of an APPS problem: question, starter code if any, and the format asked for.

    The parts and the wording of the last line are those of the APPS paper's prompt (Hendrycks et
    al., arXiv 2105.09938). ``swapped`` names the other format, a fault of the study's scripts.
    """
    style = "Call-Based" if call_based != swapped else "Standard Input"
    parts = [question.strip(), starter_code.strip("\n").rstrip(), f"Use {style} format"]
    return "\n".join(part for part in parts if part)


def read_odex(fields: Fields, number: int, split: str) -> Row:
    """ODEX (Wang et al., arXiv 2212.10481); its task ids are those of Stack Overflow questions."""
    identity = fields.identity("task_id")
    intent, code = fields.text("intent"), fields.text("canonical_solution")
    extra = {
        "prompt": fields.text("prompt"),
        "suffix": fields.optional_text("suffix"),
        "canonical_solution": code,
        "test_start": fields.text("test_start"),
        "test": dump_json(fields.texts("test", least=1, remedy="give a list of assertions")),
        "entry_point": fields.text("entry_point"),
        "intent": intent,
        "library": dump_json(fields.texts("library")),
    }
    return Row(identity, intent, code, identity, None, extra)


def read_humaneval(fields: Fields, number: int, split: str) -> Row:
    """HumanEval (Chen et al., arXiv 2107.03374); the intent is the prompt, to be completed."""
    identity = fields.identity("task_id")
    prompt = fields.text("prompt")
    extra = {
        "prompt": prompt,
        "entry_point": fields.text("entry_point"),
        "test": fields.text("test", remedy="give the code of a function check(candidate)"),
    }
    return Row(identity, prompt, fields.text("canonical_solution"), identity, None, extra)


def read_mbpp(fields: Fields, number: int, split: str) -> Row:
    """MBPP (Austin et al., arXiv 2108.07732); the intent lists the tests, as the paper's does."""
    identity = fields.identity("task_id")
    text, code = fields.text("text"), fields.text("code")
    tests = fields.texts("test_list", least=1, remedy="give a list of assertions")
    extra = {
        "text": text,
        "code": code,
        "test_setup_code": fields.optional_text("test_setup_code"),
        "test_list": dump_json(tests),
        "challenge_test_list": dump_json(fields.texts("challenge_test_list")),
    }
    return Row(identity, mbpp_intent(text, tests), code, identity, None, extra)


def mbpp_intent(text: str, tests: Sequence[str]) -> str:
    """The whole intent of an MBPP problem: what to write, and the tests it must pass."""
    return "\n".join([text.strip(), "Your code should pass these tests:", *tests])


READERS: Mapping[str, Reader] = {
    "plain": read_plain,
    "apps": read_apps,
    "odex": read_odex,
    "humaneval": read_humaneval,
    "mbpp": read_mbpp,
}
