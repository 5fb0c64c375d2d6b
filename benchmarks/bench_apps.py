"""The sides of apps.py: APPS' published metric, and the sandbox with APPS' tests.

A row is a problem: {"id", "input_output", "starter_code", "programs"}. What is said of a program is
"passed", or how many tests passed of how many, and what became of the others.

The metric is run as its own front end runs it (`evaluate.load`, then a process and a manager for
each program), from a folder that holds it. What it needs to run at all today is put in at run
time: `pyext`, which no longer installs, in the one function that is used; the problems, which it
would load from the hub.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import re
import sys
import tempfile
import types
import warnings
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, Literal

Rows = Sequence[dict[str, Any]]
Run = Callable[[Rows], list[str]]
# The metric's alarm for a test; it ends a whole program after 11 s.
CPU_S = 4.0
_ERROR = re.compile(r"(?:error|exception) = (.*)")
_KINDS = {-2: "no compilation", -1: "exception or too long", False: "wrong"}


def ours(
    job: dict[str, Any],
    isolate: Literal["test", "program"] = "program",
    *,
    legacy: bool = False,
    cpu_s: float = CPU_S,
) -> Run:
    """The sandbox with every layer. isolate: "test" has a process for each test."""
    from peft_bench_sandbox import Limits, Program, Verdict, WeakSandboxWarning, run_all

    from peft_bench.executed import problems

    warnings.simplefilter("ignore", WeakSandboxWarning)

    def programs(row: dict[str, Any]) -> Iterator[Program]:
        solutions = row["programs"]
        doc = {**row, "solutions": json.dumps(solutions)}
        made = problems.apps(doc, legacy=legacy, tried=len(solutions))
        for source in made.solutions:
            yield dataclasses.replace(made.program(source), isolate=isolate)

    def run(rows: Rows) -> list[str]:
        verdicts = run_all(
            [program for row in rows for program in programs(row)],
            limits=Limits(cpu_s=cpu_s),
            workers=job["workers"],
            require=job["require"],
        )
        return [said(verdict) for verdict in verdicts]

    def said(verdict: Verdict) -> str:
        text = f"{verdict.status.value}: {verdict.message}".removesuffix(": ")
        passed = verdict.passed == verdict.total
        return text if passed else f"{verdict.passed}/{verdict.total} {text}"

    return run


def apps_metric(job: dict[str, Any]) -> Run:
    """The published metric."""
    utils = _load(job["apps_metric"])

    def run(rows: Rows) -> list[str]:
        utils.load_dataset = lambda *_, **__: list(rows)
        results = utils.evaluate_generations([row["programs"] for row in rows])
        return [_said(result, row) for place, row in enumerate(rows) for result in results[place]]

    return run


def apps_metric_told(job: dict[str, Any]) -> Run:
    """What the metric prints of a program's errors when asked to; the first of them."""
    utils = _load(job["apps_metric"])

    def told(row: dict[str, Any], program: str) -> str:
        with _printed() as text:
            utils.check_correctness(row, program, utils.TIMEOUT, debug=True)
            found = _ERROR.search(text())
        return found.group(1)[:200] if found else ""

    return lambda rows: [told(row, program) for row in rows for program in row["programs"]]


def _said(result: list[Any], row: dict[str, Any]) -> str:
    total = len(json.loads(row["input_output"])["inputs"])
    passed = sum(one is True for one in result)
    if passed == len(result):
        return "passed"
    kinds = Counter(_KINDS[one] for one in result if one is not True)
    return f"{passed}/{total} {', '.join(f'{kind} {count}' for kind, count in kinds.items())}"


def _load(folder: str) -> Any:
    """The metric's module `utils`."""
    os.environ |= {"HF_HOME": tempfile.mkdtemp(), "HF_HUB_OFFLINE": "1"}
    sys.modules["pyext"] = _pyext()
    import evaluate

    metric = evaluate.load(str(Path(folder).resolve()))
    package = type(metric).__module__.rpartition(".")[0]
    return sys.modules[f"{package}.utils"]


def _pyext() -> types.ModuleType:
    """The one function of pyext that is used: a module of this name from this source."""

    def from_string(name: str, doc: str, source: str) -> types.ModuleType:
        module = types.ModuleType(name, doc)
        exec(source, module.__dict__)
        return module

    made = types.ModuleType("pyext")
    made.RuntimeModule = types.SimpleNamespace(from_string=from_string)  # type: ignore[attr-defined]
    return made


@contextlib.contextmanager
def _printed() -> Iterator[Callable[[], str]]:
    """What this process and its children print to standard output."""
    with tempfile.TemporaryFile() as file:
        before = os.dup(1)
        os.dup2(file.fileno(), 1)

        def text() -> str:
            sys.stdout.flush()
            file.seek(0)
            return file.read().decode("utf-8", "replace")

        try:
            yield text
        finally:
            os.dup2(before, 1)
            os.close(before)


SIDES: dict[str, Callable[[dict[str, Any]], Run]] = {
    "ours": ours,
    "ours alone": lambda job: ours(job, "test"),
    "ours short": lambda job: ours(job, cpu_s=0.2),
    "ours legacy": lambda job: ours(job, legacy=True),
    "apps_metric": apps_metric,
    "apps_metric told": apps_metric_told,
}
