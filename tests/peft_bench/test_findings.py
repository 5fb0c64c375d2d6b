from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import pytest

from peft_bench.findings import report
from peft_bench.leaderboard import build_board
from peft_bench.metrics.paired import paired_bootstrap
from peft_bench.records import AdapterRecord, ModelRecord, StoredRecord
from peft_bench.report import text

MakeRun = Callable[..., StoredRecord]

N = 20
GROUPS = [i // 2 for i in range(N)]
LOW = [float(i % 5 == 0) for i in range(N)]
MIDDLE = [float(i % 2) for i in range(N)]
HIGH = [float(i % 5 != 0) for i in range(N)]
SMALL = ModelRecord("org/small", parameters=350_000_000)
LARGE = ModelRecord("org/large", parameters=7_000_000_000)
QUANTISED = dataclasses.replace(LARGE, quantization="4bit")


def tuned(method: str, gib: int, *data: str) -> AdapterRecord:
    digest = f"{hash((method, gib, data)) & (2**64 - 1):064x}"
    return AdapterRecord(
        "a", digest, method, train_peak_bytes=gib << 30, trained_on=data or ("conala",)
    )


@pytest.fixture
def study(make_run: MakeRun) -> list[StoredRecord]:
    def run(name: str, values: list[float], model: ModelRecord, **changes: Any) -> StoredRecord:
        return make_run(name, values, run={"model": model}, **changes)

    return [
        run("small-full", LOW, SMALL, adapter=tuned("full", 9)),
        run("small-lora", MIDDLE, SMALL, adapter=tuned("lora", 4)),
        run("large-lora", HIGH, LARGE, adapter=tuned("lora", 20)),
        run("large-ia3", LOW, LARGE, adapter=tuned("ia3", 18)),
        run("large-heavy", [1.0] * N, LARGE, adapter=tuned("dora", 40)),
        run("large-3", MIDDLE, LARGE, num_fewshot=3),
        run("large-rag", LOW, LARGE, num_fewshot=3, task="conala_rag", version="1.0"),
        run("large-joint", MIDDLE, LARGE, adapter=tuned("lora", 21, "codealpacapy", "conala")),
        run("large-4bit", MIDDLE, QUANTISED, adapter=tuned("qlora", 10)),
    ]


def section(said: str, question: str) -> str:
    return next(part for part in said.split("## ") if part.startswith(question))


def test_the_four_questions_are_answered_with_their_figures(study: list[StoredRecord]) -> None:
    said = report(build_board(study)).replace("\\", "")
    first = section(said, "RQ1")
    assert "the best tuned large model is large-lora (lora, 80.0" in first  # dora needs 40 GiB
    assert "the best fully tuned small model is small-full" in first
    assert "(+300.0 % relative to it)" in first  # 80 against 20
    found = paired_bootstrap(LOW, HIGH, groups=GROUPS)
    assert text.interval(found.difference, found.low, found.high) in first
    second = section(said, "RQ2")
    assert "(large-heavy (dora, 100.0" in second
    assert "against the best run with examples drawn (large-3 (3 examples, 50.0" in second
    assert "against the best run with retrieval (large-rag (3 retrieved examples, 20.0" in second
    third = section(said, "RQ3")
    assert "the joint adapter large-joint (joint lora, 50.0" in third
    assert "against large-lora (lora, 80.0" in third
    worse = paired_bootstrap(HIGH, MIDDLE, groups=GROUPS)
    assert text.interval(worse.difference, worse.low, worse.high) in third
    assert "p = 0.12, which may be chance." in third  # few of ten questions changed; six tests
    fourth = section(said, "RQ4")
    assert "4bit (large-4bit (qlora, 4bit, 50.0" in fourth
    assert "took 10.0 GiB against 20.0 GiB: 50 %" in fourth
    assert "The largest model tuned within 24 GB is org/large (7.00 G parameters" in fourth


@pytest.mark.parametrize(
    ("task", "data"), [("conala_sampled", "conala"), ("apps_introductory", "apps")]
)
def test_an_adapter_for_the_task_alone_is_one_of_its_data_set(
    task: str, data: str, make_run: MakeRun
) -> None:
    runs = [
        make_run("joint", HIGH, adapter=tuned("lora", 2, "apps", "conala"), task=task),
        make_run("alone", LOW, adapter=tuned("lora", 3, data), task=task),
        make_run("other", HIGH, adapter=tuned("lora", 4, "codealpacapy"), task=task),
    ]
    third = section(report(build_board(runs)).replace("\\", ""), "RQ3")
    assert "against alone (lora, 20.0" in third
    assert "no record" not in third


def test_our_tasks_are_named_after_their_data_sets() -> None:
    """As the question of joint adapters supposes, which knows tasks by their records alone."""
    from peft_bench.catalog import leaf_tasks, task_config
    from peft_bench.questions import is_of

    for task in leaf_tasks(["peft_bench"]):
        config = task_config(task) or {}
        data = config["metadata"].get("data", task)
        assert is_of(task, data)
    assert not is_of("conala", "con")


def test_methods_that_came_first_as_often_are_in_order(make_run: MakeRun) -> None:
    runs = []
    for i, method in enumerate(("dora", "vera", "lora", "boft", "oft", "hra")):
        run = {"model": ModelRecord(f"org/m{i}", parameters=1)}
        runs.append(make_run(f"{method}-first", HIGH, run=run, adapter=tuned(method, i)))
        runs.append(make_run(f"ia3-{i}", LOW, run=run, adapter=tuned("ia3", i)))
    said = report(build_board(runs))
    assert "is by boft (1), dora (1), hra (1), lora (1), oft (1), vera (1)." in said


def test_what_is_lacking_is_said(study: list[StoredRecord]) -> None:
    said = report(build_board(study[1:2])).replace("\\", "")
    assert "no record of a large model tuned within 24 GB or of a fully tuned small" in said
    assert "no record of a run with examples drawn or of a run with retrieval" in said
    assert "none is of an adapter trained on several sets" in said
    assert "no adapter of a quantised base" in said
    assert "0 tests made" in said


def test_demonstrations_and_odd_rows_are_left_out_and_counted(
    study: list[StoredRecord], make_run: MakeRun
) -> None:
    demo = make_run("demo", HIGH, task="quickstart", demonstration=True)
    odd = make_run(
        "odd", [1.0] * N, run={"model": SMALL}, adapter=tuned("full", 1), profile="study"
    )
    said = report(build_board([*study, demo, odd]), skipped=2)
    assert "1 rows of demonstrations" in said
    assert "1 rows not comparable" in said
    assert "2 records that could not be read" in said
    assert "odd" not in said
    assert "quickstart" not in said.split("\n", 3)[3]


def test_rows_without_a_record_are_left_out_and_counted(study: list[StoredRecord]) -> None:
    board = build_board(study)
    [large] = [row for row in board.rows if row.run == "large-lora"]
    other = dataclasses.replace(large, run="elsewhere", primary_value=1.0, rank=None)
    with_it = report(build_board(study, more=[other]))
    assert "1 rows without a record" in with_it
    assert with_it.replace(" Left out: 1 rows without a record.", "") == report(board)
    assert report(build_board([], more=[other])).count("cannot answer") == 4


def test_two_folders_with_runs_of_one_name_are_two_sides(make_run: MakeRun) -> None:
    one = make_run("a", HIGH, run={"model": LARGE}, adapter=tuned("lora", 2))
    two = make_run("b", LOW, run={"model": LARGE}, num_fewshot=2)
    same = dataclasses.replace(two.record, name="a")
    said = report(build_board([one, two._replace(record=same)])).replace("\\", "")
    found = paired_bootstrap(LOW, HIGH, groups=GROUPS)
    assert text.interval(found.difference, found.low, found.high) in section(said, "RQ2")


def test_no_runs_are_told_as_such() -> None:
    said = report(build_board([]))
    assert said.count("cannot answer") == 4


def test_names_cannot_become_markup(make_run: MakeRun) -> None:
    evil = "<img src=x>|[l](http://e.example)"
    run = {"model": dataclasses.replace(LARGE, id=evil)}
    said = report(
        build_board(
            [
                make_run("a", HIGH, run=run, adapter=tuned("lora", 2)),
                make_run("b", LOW, run=run, num_fewshot=2),
            ]
        )
    )
    assert "\\<img src=x\\>" in said
    assert "<img" not in said.replace("\\<", "")
    assert "http://" not in said
