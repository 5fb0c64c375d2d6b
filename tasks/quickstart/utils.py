"""The quickstart's task: short Python snippets, executed against assertions. A demonstration.

A test calls ``run(**variables)``: the answer is executed in a fresh namespace that holds those
variables, and what it left behind comes back as a dict, with ``"_"`` for the value of its last
statement (an expression, or an assignment to one name).
"""

from __future__ import annotations

import ast
import warnings
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from lm_eval.api.filter import Filter
from peft_bench_sandbox import AssertTest, Program, Verdict, WeakSandboxWarning, run_all

from peft_bench import harness
from peft_bench.executed.extraction import extract
from peft_bench.metrics.exact_match import exact_match

# The level that answers run at; set by dataset(), which is given the harness' metadata.
_level: str | None = None


def dataset(**metadata: Any) -> dict[str, Any]:
    """The splits, as the harness calls for them; settles the sandbox level of the run."""
    global _level
    _level = harness.sandbox_level(**metadata)
    return harness.dataset("quickstart", **metadata)


def extract_code(answer: str) -> str:
    """The first fenced block of an answer, or all of it: chat models like to fence their code."""
    return extract(answer).text.strip()


def build_source(answer: str) -> str:
    """A program that defines ``run``, which executes the answer (see the module's docstring)."""
    return _RUN.format(answer=bind_last_value(answer))


def bind_last_value(answer: str) -> str:
    """The answer with its last value bound to ``_``; as it is where it does not parse."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            tree = ast.parse(answer)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return answer
    if not tree.body:
        return answer
    match tree.body[-1]:
        case ast.Expr(value=value):
            tree.body[-1] = ast.Assign([ast.Name("_", ast.Store())], value)
        case ast.Assign(targets=[ast.Name(id=name)]):
            tree.body.append(ast.Assign([ast.Name("_", ast.Store())], ast.Name(name, ast.Load())))
    return ast.unparse(ast.fix_missing_locations(tree))


# Modules, functions and other objects stay behind: the test gets what is plain data.
_RUN = """\
def run(**variables):
    exec(compile({answer!r}, "<answer>", "exec"), variables)
    return {{name: value for name, value in variables.items() if plain(value)}}


def plain(value):
    if isinstance(value, dict):
        return all(map(plain, value)) and all(map(plain, value.values()))
    if isinstance(value, (list, tuple, set, frozenset)):
        return all(map(plain, value))
    return value is None or isinstance(value, (int, float, complex, str, bytes, range))
"""


def build_test(row_id: str, code: str) -> AssertTest:
    """The row's test, judged apart from the answer's process wherever that can be."""
    return AssertTest(code, "run", judge="shared" if row_id in _SHARED else "split")


# Rows whose test asks whether two things are one and the same, which no copy can tell.
_SHARED = frozenset({"qs-test-103"})


class Execute(Filter):  # type: ignore[misc]
    """Runs all answers of the task in one pool; a response becomes (answer, verdict or None)."""

    def apply(self, resps: Iterable[Sequence[str]], docs: list[dict[str, Any]]) -> Iterator[Any]:
        answers = [extract_code(responses[0]) for responses in resps]
        verdicts: list[Verdict | None] = [None] * len(answers)
        if _level is not None:
            programs = [
                Program(doc["id"], build_source(answer), (build_test(doc["id"], doc["test"]),))
                for answer, doc in zip(answers, docs, strict=True)
            ]
            with warnings.catch_warnings():
                # The level stands in the record and in every row.
                warnings.simplefilter("ignore", WeakSandboxWarning)
                verdicts = list(run_all(programs, require=_level, progress=True))
        for answer, verdict in zip(answers, verdicts, strict=True):
            if verdict is not None and verdict.status == "harness_error":
                raise RuntimeError(f"the sandbox failed on {verdict.id}: {verdict.message}")
            yield {"answer": answer, "verdict": verdict}


def process_results(doc: dict[str, Any], results: list[dict[str, Any]]) -> dict[str, float]:
    """Exact match, and pass@1 where the sandbox ran the answer."""
    [result] = results
    scores = {
        f"em@1{suffix}": float(exact_match(doc["cmd"], result["answer"], mode=mode))
        for suffix, mode in (("", "raw"), ("_whitespace", "whitespace"), ("_ast", "ast"))
    }
    if result["verdict"] is not None:
        scores["pass@1"] = float(result["verdict"].status == "passed")
    return scores
