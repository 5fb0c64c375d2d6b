"""The rows of the quickstart's task: enough, apart from each other, and tested by execution."""

from __future__ import annotations

import importlib.util
from types import ModuleType

import pytest
from peft_bench_sandbox import (
    AssertTest,
    Level,
    Program,
    Verdict,
    best_level,
    run_all,
    settle,
)

from peft_bench.data import SPLITS, Row, load_split
from peft_bench.paths import tasks_dir

ROWS: dict[str, tuple[Row, ...]] = {split: load_split("quickstart", split).rows for split in SPLITS}
# Rows to train on may go without a test; those that have one are held to it.
TESTED = [row for rows in ROWS.values() for row in rows if row.test is not None]
# An answer that does something else, and no answer at all.
WRONG = ("pass", "")


def task_utils() -> ModuleType:
    spec = importlib.util.spec_from_file_location(
        "quickstart_utils", tasks_dir() / "quickstart" / "utils.py"
    )
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize(("split", "least"), [("train", 200), ("validation", 40), ("test", 60)])
def test_there_are_enough_rows(split: str, least: int) -> None:
    assert len(ROWS[split]) >= least


def test_ids_are_unique() -> None:
    ids = [row.id for rows in ROWS.values() for row in rows]
    assert len(set(ids)) == len(ids)
    assert not [name for name in ids if "#" in name]  # what the loader makes of a repeated one


@pytest.mark.parametrize("field", ["nl", "cmd"])
def test_no_two_splits_share_an_intent_or_a_code(field: str) -> None:
    found: dict[str, str] = {}
    for split, rows in ROWS.items():
        for row in rows:
            text = " ".join(getattr(row, field).split())
            assert found.setdefault(text, split) == split, f"{row.id}: {text!r} is also in {split}"


def test_every_row_is_python() -> None:
    for rows in ROWS.values():
        for row in rows:
            compile(row.cmd, row.id, "exec")


def test_every_row_that_is_scored_has_a_test() -> None:
    for row in ROWS["test"]:
        assert row.test is not None, row.id
    for row in TESTED:
        assert row.test is not None
        compile(row.test, row.id, "exec")
        assert "assert" in row.test and "run(" in row.test, row.id


needs_sandbox = pytest.mark.skipif(
    best_level() < Level.LIMITS, reason="no sandbox on this machine: nothing can be executed"
)
our_own_programs = pytest.mark.filterwarnings("ignore::peft_bench_sandbox.WeakSandboxWarning")


@pytest.fixture(scope="module")
def verdicts() -> dict[tuple[str, str], Verdict]:
    """Of every row with a test: its reference, and the answers that must fail; by id and answer."""
    utils = task_utils()
    keys: list[tuple[str, str]] = []
    programs: list[Program] = []
    for row in TESTED:
        assert row.test is not None
        for answer in (row.cmd, *WRONG):
            keys.append((row.id, answer))
            tests = (utils.build_test(row.id, row.test),)
            programs.append(Program(str(len(keys)), utils.build_source(answer), tests))
    return dict(zip(keys, run_all(programs, require="limits"), strict=True))


@needs_sandbox
@our_own_programs
def test_only_the_rows_that_need_it_are_judged_in_the_answers_own_process() -> None:
    utils = task_utils()
    references = [
        Program(row.id, utils.build_source(row.cmd), (AssertTest(row.test or "", "run"),))
        for row in TESTED
    ]
    settled = settle(references, require="limits")
    assert {one.program.id for one in settled if one.reason} == utils._SHARED


@needs_sandbox
@our_own_programs
def test_every_reference_passes_its_test(verdicts: dict[tuple[str, str], Verdict]) -> None:
    failed = [
        f"{row.id}: {verdict.status}: {verdict.message}"
        for row in TESTED
        if (verdict := verdicts[row.id, row.cmd]).status != "passed"
    ]
    assert failed == []


@needs_sandbox
@our_own_programs
@pytest.mark.parametrize("answer", WRONG)
def test_no_test_passes_an_answer_that_does_nothing(
    verdicts: dict[tuple[str, str], Verdict], answer: str
) -> None:
    passed = [
        f"{row.id}: {verdict.status}"
        for row in TESTED
        if (verdict := verdicts[row.id, answer]).status not in ("wrong", "exception")
    ]
    assert passed == []
