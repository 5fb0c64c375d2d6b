"""Results of other programs, and what is no result."""

from __future__ import annotations

import dataclasses
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from peft_bench import method_comparison
from peft_bench.errors import UsageError
from peft_bench.importing import Found, find_runs
from peft_bench.leaderboard import build_board
from peft_bench.records import AdapterRecord, StoredRecord, TaskRecord
from peft_bench.report import text
from peft_bench.showing import show, tell

MakeRun = Callable[..., StoredRecord]


def experiment(**changes: Any) -> dict[str, Any]:
    """A file as PEFT's script writes it, its figures made up."""
    return {
        "run_info": {
            "created_at": "2025-06-19T19:15:35+00:00",
            "total_time": 200.0,
            "experiment_name": "lora/some-model-rank32",
            "peft_branch": "main",
            "train_config": {"model_id": "org/model", "dtype": "bfloat16", "seed": 3},
            "peft_config": {"peft_type": "LORA", "r": 32},
            "error_msg": "",
        },
        "train_info": {
            "accelerator_memory_reserved_avg": 10,
            "accelerator_memory_max": 22 << 30,
            "accelerator_memory_reserved_99th": 20,
            "train_time": 100.0,
            "file_size": 4096,
            "num_trainable_params": 1000,
            "num_total_params": 2_000_000,
            "status": "success",
            "metrics": [
                {"step": 1, "valid accuracy": 0.1},
                {"test accuracy": 0.25, "train loss": 0.5, "train total tokens": 5000},
            ],
        }
        | changes,
        "meta_info": {"model_info": {"sha": "abc"}, "package_info": {}},
    }


def results(**changes: Any) -> dict[str, Any]:
    """What ``lm_eval`` writes, as far as it is read."""
    return {
        "results": {
            "gsm8k": {
                "alias": "gsm8k",
                "exact_match,strict": 0.5,
                "exact_match_stderr,strict": 0.1,
                "perplexity,none": 12.5,
            }
        },
        "configs": {"gsm8k": {"metadata": {"version": 3.0}, "generation_kwargs": {}}},
        "versions": {"gsm8k": 3.0},
        "n-shot": {"gsm8k": 5},
        "n-samples": {"gsm8k": {"original": 1319, "effective": 20}},
        "config": {"model_args": {"pretrained": "org/model", "peft": "org/adapter"}},
        "date": 1738324800.0,
        "total_evaluation_time_seconds": "12.5",
    } | changes


def put(path: Path, value: Any) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(value if isinstance(value, str) else json.dumps(value), encoding="utf-8")
    return path


def test_peft_results_are_rows(tmp_path: Path) -> None:
    file = put(tmp_path / "MetaMathQA" / "results" / "lora--x.json", experiment())
    for path in (file, file.parent):
        found = find_runs([path])
        assert found.problems == []
        (row,) = found.rows
        assert (row.task, row.run, row.method) == ("MetaMathQA", "lora/some-model-rank32", "lora")
        assert (row.primary_value, row.n, row.seed) == (0.25, None, 3)
        assert (row.train_peak_bytes, row.trainable_parameters) == (22 << 30, 1000)
        assert row.train_tokens_per_s == 50.0
        assert row.marks == "imported from PEFT's method_comparison"
    assert build_board([], more=found.rows).rows[0].rank == 1


def test_the_former_names_and_full_fine_tuning_are_known(tmp_path: Path) -> None:
    value = experiment()
    value["run_info"]["peft_config"] = None
    value["train_info"]["cuda_memory_max"] = value["train_info"].pop("accelerator_memory_max")
    (row,) = find_runs([put(tmp_path / "full.json", value)]).rows
    assert (row.method, row.approach, row.train_peak_bytes) == (
        "full",
        "full fine-tuning",
        22 << 30,
    )


@pytest.mark.parametrize(
    "value",
    [
        experiment(status="failed"),
        experiment(metrics=[]),
        experiment(metrics=[{"test accuracy": 48}]),
        {**experiment(), "run_info": {}},
        {**experiment(), "meta_info": {"model_info": "x"}},
        experiment(metrics=[{"test accuracy": 10**400}]),
        {"some": "json"},
        [1, 2],
        "{broken",
        "[" * 100_000,
        results(results={}),
        results(configs=3),
        results(date="x", total_evaluation_time_seconds="long"),
    ],
    ids=lambda value: str(value)[:30],
)
def test_what_is_no_result_is_named_and_skipped(value: Any, tmp_path: Path) -> None:
    good = put(tmp_path / "good.json", experiment())
    bad = put(tmp_path / "bad.json", value)
    found = find_runs([bad, good])
    assert (len(found.rows), len(found.records)) == (1, 0)
    (problem,) = found.problems
    assert problem.place.startswith(str(bad))


def test_what_is_written_is_read_again(make_run: MakeRun, tmp_path: Path) -> None:
    adapter = AdapterRecord(
        *("a", "a" * 64, "lora", "b" * 64, 1000, 4096, 60.0, 100.0, 1 << 30),
        seed=7,
        reserved_peak_bytes=2 << 30,
        train_tokens=6000,
        train_loss=0.5,
    )
    runs = [make_run("base", [0.0, 1.0]), make_run("lora", [1.0, 1.0], adapter=adapter)]
    (path,) = method_comparison.write_results([run.record for run in runs], tmp_path / "results")
    value = json.loads(path.read_text(encoding="utf-8"))
    assert value["train_info"]["metrics"][-1]["train total tokens"] == 6000
    assert value["train_info"]["accelerator_memory_max"] == 2 << 30
    assert "accelerator_memory_reserved_avg" in value["peft_bench"]["unknown"]
    (row,) = find_runs([path]).rows
    assert (row.primary_value, row.method, row.seed) == (1.0, "lora", 7)
    assert (row.train_wall_s, row.adapter_bytes, row.created) == (
        60.0,
        4096,
        "2025-01-31T12:00:00+00:00",
    )


def test_what_is_written_of_several_tasks_stays_apart(make_run: MakeRun, tmp_path: Path) -> None:
    adapter = AdapterRecord("a", "a" * 64, "lora", train_peak_bytes=1 << 30)
    runs = [
        make_run("one", [1.0, 0.0], adapter=adapter),
        make_run("two", [1.0, 1.0], metric="pass@1", adapter=adapter, task="odex"),
        make_run("demo", [0.0], adapter=adapter, task="quickstart", demonstration=True),
        make_run("rows", [0.0], adapter=adapter, task="t", custom_data=True, marks=("1 of 2",)),
    ]
    method_comparison.write_results([run.record for run in runs], tmp_path / "results")
    *rows, demo, custom = find_runs([tmp_path / "results"]).rows
    assert text.remarks(demo) == ["demonstration", "imported from PEFT's method_comparison"]
    assert text.remarks(custom)[::2] == ["custom data", "1 of 2"]
    assert [(row.task, row.task_version, row.primary_metric, row.n) for row in rows] == [
        ("conala", "2.0", "em@10", 2),
        ("odex", "2.0", "pass@1", 2),
    ]
    assert [(row.primary_stderr, row.metrics.keys()) for row in rows] == [
        (0.1, {"em@10"}),
        (0.1, {"pass@1"}),
    ]
    assert {(row.train_peak_bytes, row.reserved_peak_bytes) for row in rows} == {(1 << 30, None)}


@pytest.mark.parametrize(
    "ours", ["x", None, {}, {"task": 3, "n": -1, "stderr": 2, "marks": [3, "", None]}]
)
def test_what_peft_bench_says_of_a_file_may_be_anything(ours: Any, tmp_path: Path) -> None:
    file = put(tmp_path / "MetaMathQA" / "results" / "x.json", experiment() | {"peft_bench": ours})
    (row,) = find_runs([file]).rows
    assert (row.task, row.primary_metric, row.n) == ("MetaMathQA", "accuracy", None)
    assert (row.primary_stderr, row.reserved_peak_bytes) == (None, 22 << 30)


@pytest.mark.parametrize(
    "names",
    [
        ("\u0442\u0435\u0441\u0442-\u0430", "\u0442\u0435\u0441\u0442-\u0431"),
        ("same", "same", "same"),
        ("Same", "same"),
        ("x" * 300, "x" * 300 + "y", "x" * 300),
        ("\ud800", "a/b", "a-b", "..", ""),
    ],
    ids=lambda names: ascii(names)[:30],
)
def test_every_run_has_a_file_of_its_own(
    names: tuple[str, ...], make_run: MakeRun, tmp_path: Path
) -> None:
    adapter = AdapterRecord("a", "a" * 64, "lora")
    runs = [make_run(f"run{i}", [1.0, 0.0], adapter=adapter) for i in range(len(names))]
    records = [
        dataclasses.replace(run.record, name=name) for run, name in zip(runs, names, strict=True)
    ]
    first = method_comparison.write_results(records, tmp_path / "results")
    assert len({str(path).lower() for path in first}) == len(names)
    rows = find_runs([tmp_path / "results"]).rows
    assert sorted(row.run for row in rows) == sorted(f"lora/{name}" for name in names)
    assert method_comparison.write_results(records, tmp_path / "results") == first


def test_harness_results_are_records(tmp_path: Path) -> None:
    put(tmp_path / "old" / "results_2025-01-01.json", results(date=1.0))
    put(tmp_path / "old" / "results_2025-02-01.json", results())
    found = find_runs([tmp_path])
    assert found.problems == []
    ((record, folder),) = found.records  # the newest of a folder
    (task,) = record.tasks
    assert folder == tmp_path / "old"
    assert record.created == "2025-01-31T12:00:00+00:00"
    assert (task.task, task.version, task.num_fewshot, task.n) == ("gsm8k", "3.0", 5, 20)
    assert list(task.scores) == ["exact_match"]  # a perplexity is no share
    assert task.scores["exact_match"].stderr == 0.1
    assert task.marks == (
        "imported from lm_eval: rows not verified",
        "20 of 1319 problems",
        "adapter not seen",
    )
    assert (record.model.id, record.eval_wall_s) == ("org/model", 12.5)
    assert record.adapter is not None
    assert (record.adapter.name, record.adapter.method) == ("adapter", "unknown")


def test_samples_are_those_of_the_task_and_the_invocation(tmp_path: Path) -> None:
    value = results()
    for part in value.values():
        if isinstance(part, dict) and "gsm8k" in part:
            part["gsm8k[a]"] = part["gsm8k"]
    put(tmp_path / "results_2025-01-01T10-00-00.5.json", value)
    for name in ("gsm8k", "gsm8k_cot", "gsm8k[a]"):
        put(tmp_path / f"samples_{name}_2025-01-01T10-00-00.5.jsonl", "")
    put(tmp_path / "samples_gsm8k_2025-02-01T10-00-00.5.jsonl", "")
    ((record, _),) = find_runs([tmp_path]).records
    assert [task.samples_file for task in record.tasks] == [
        "samples_gsm8k_2025-01-01T10-00-00.5.jsonl",
        "samples_gsm8k[a]_2025-01-01T10-00-00.5.jsonl",
    ]


def of_task(name: str, **changes: Any) -> dict[str, Any]:
    """:func:`results` of another task."""
    value = results(**changes)
    for part in value.values():
        if isinstance(part, dict) and "gsm8k" in part:
            part[name] = part.pop("gsm8k")
    return value


@pytest.mark.usefixtures("kept_apart")
def test_the_newest_of_each_task_in_a_folder_counts_and_the_rest_is_told(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model = tmp_path / "lm" / "org__model"
    two = of_task("drop")
    for part in two.values():
        if isinstance(part, dict) and "drop" in part:
            part["mmlu"] = part["drop"]
    put(model / "results_2025-01-01T10-00-00.json", two)
    put(model / "results_2025-01-01T10-00-00.5.json", of_task("drop", date=2.0))
    put(model / "results_2025-01-02T10-00-00.5.json", results())
    put(model / "results_2025-01-03T10-00-00.5.json", "{broken")
    put(tmp_path / "lm" / "other" / "results_2024-01-01T10-00-00.5.json", of_task("drop"))
    found = find_runs([tmp_path / "lm"])
    assert sorted((s.folder.name, s.record.created[:4], t.task) for s, t in _tasks(found)) == [
        ("org__model", "1970", "drop"),
        ("org__model", "2025", "gsm8k"),
        ("org__model", "2025", "mmlu"),
        ("other", "2025", "drop"),
    ]
    assert len(found.problems) == 1
    assert len(found.superseded) == len(find_runs([tmp_path / "lm", model]).superseded) == 1
    assert show([tmp_path / "lm"]) == 0
    assert "1 older result of lm_eval left out" in capsys.readouterr().err


def _tasks(found: Found) -> list[tuple[StoredRecord, TaskRecord]]:
    return [(stored, task) for stored in found.records for task in stored.record.tasks]


@pytest.mark.usefixtures("kept_apart")
@pytest.mark.parametrize("above", [False, True])
def test_a_record_that_cannot_be_read_is_not_replaced_by_what_lies_beside_it(
    above: bool, make_run: MakeRun
) -> None:
    folder = make_run("base", [0.0, 1.0]).folder
    value = json.loads((folder / "record.json").read_text(encoding="utf-8"))
    put(folder / "record.json", value | {"schema_version": 9})
    put(folder / "results_2025-01-01T10-00-00.5.json", results())
    path = folder.parent if above else folder
    found = find_runs([path])
    assert (found.records, found.rows) == ([], [])
    (problem,) = found.problems
    assert "schema_version" in problem.place
    assert show([path], strict=True) == 1


@pytest.mark.parametrize("raw", [False, True])
def test_folders_that_cannot_be_looked_into_are_told(
    raw: bool, make_run: MakeRun, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if raw:
        put(tmp_path / "runs" / "lm" / "results_2025-01-01T10-00-00.5.json", results())
    else:
        make_run("base", [0.0, 1.0])
    (tmp_path / "runs" / "closed").mkdir()
    (tmp_path / "runs" / "listed").mkdir()
    scandir, lstat = os.scandir, os.lstat

    def closed_scandir(path: Any) -> Any:
        if str(path).endswith("closed"):
            raise PermissionError(13, "Permission denied", str(path))
        return scandir(path)

    def closed_lstat(path: Any) -> Any:  # may be listed, and that is all
        if "listed/" in str(path):
            raise PermissionError(13, "Permission denied", str(path))
        return lstat(path)

    monkeypatch.setattr("os.scandir", closed_scandir)
    monkeypatch.setattr("os.lstat", closed_lstat)
    found = find_runs([tmp_path / "runs"])
    assert len(found.records) == 1
    assert sorted(Path(problem.place).name for problem in found.problems) == ["closed", "listed"]


def test_a_table_is_no_run(tmp_path: Path) -> None:
    (problem,) = find_runs([put(tmp_path / "board.csv", "run,task")]).problems
    assert "is a file" in problem.problem and "folder" in problem.remedy


def test_a_folder_with_records_gives_those_alone(make_run: MakeRun) -> None:
    run = make_run("base", [0.0, 1.0])
    put(run.folder / "results_2025-01-01.json", results())
    found = find_runs([run.folder, run.folder.parent])
    assert [stored.record for stored in found.records] == [run.record]
    assert (found.rows, found.problems) == ([], [])


@pytest.mark.usefixtures("kept_apart")
def test_bad_input_is_told_counted_and_fails_under_strict(
    make_run: MakeRun, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = make_run("base", [0.0, 1.0])
    runs = run.folder.parent
    text = (run.folder / "record.json").read_text(encoding="utf-8")
    put(runs / "broken" / "record.json", text[:100])
    put(runs / "newer" / "record.json", json.dumps(json.loads(text) | {"schema_version": 99}))
    (tmp_path / "empty").mkdir()
    foreign = put(tmp_path / "foreign.json", {"some": "json"})
    paths = [runs, tmp_path / "empty", foreign]
    assert show(paths, csv=tmp_path / "b.csv") == 0
    assert show(paths, strict=True) == 1
    assert tell(paths, out=tmp_path / "report.md", strict=True) == 1
    told = capsys.readouterr()
    for place in ("broken", "newer", "empty", "foreign.json"):
        assert told.err.count(f"{place}") >= 3
    assert "use a newer peft-bench" in told.err.lower()
    assert "1 read, 4 skipped" in told.err
    assert "base" in told.out
    assert (tmp_path / "b.csv").read_text(encoding="utf-8").count("\n") == 2
    assert "4 records that could not be read" in (tmp_path / "report.md").read_text("utf-8")
    assert show([tmp_path / "empty"]) == 1  # nothing to show


@pytest.mark.usefixtures("kept_apart")
def test_everything_is_written_at_once(
    make_run: MakeRun, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    adapter = AdapterRecord("a", "a" * 64, "lora", trainable_parameters=10, train_peak_bytes=10)
    make_run("base", [0.0, 1.0] * 5)
    make_run("lora", [1.0, 1.0] * 5, adapter=adapter)
    code = show(
        [tmp_path / "runs"],
        md=tmp_path / "b.md",
        html=tmp_path / "b.html",
        comparisons=tmp_path / "peft",
        compare=[("base", "lora")],
        pscp=True,
    )
    assert code == 0
    said = capsys.readouterr().out
    assert "PSCP (arXiv 2511.21285)" in said
    assert said.count("+50.0 [") == 2  # against the baseline, and on request
    assert "PSCP" in (tmp_path / "b.md").read_text(encoding="utf-8")
    assert len(list((tmp_path / "peft").iterdir())) == 1
    assert "lora" in (tmp_path / "b.html").read_text(encoding="utf-8")


@pytest.mark.usefixtures("kept_apart")
@pytest.mark.parametrize("flag", ["csv", "md", "html", "method-comparison", "out"])
@pytest.mark.parametrize("place", ["none/x", "file/x", "folder", "x" * 300])
def test_what_cannot_be_written_is_told_by_its_flag(
    flag: str, place: str, make_run: MakeRun, tmp_path: Path
) -> None:
    make_run("lora", [1.0, 0.0], adapter=AdapterRecord("a", "a" * 64, "lora"))
    (tmp_path / "file").write_text("in the way", encoding="utf-8")
    (tmp_path / "folder").mkdir()
    path = tmp_path / place
    if flag == "method-comparison" and place in ("none/x", "folder"):
        path = tmp_path / "file"  # folders are made
    with pytest.raises(UsageError, match="cannot be written") as caught:
        if flag == "out":
            tell([tmp_path / "runs"], out=path)
        else:
            name = "comparisons" if flag == "method-comparison" else flag
            show([tmp_path / "runs"], **{name: path})
    assert caught.value.place == f"--{flag} {path}" and caught.value.remedy


@pytest.fixture
def kept_apart(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Comparisons are kept in the test's folder, not the user's."""
    monkeypatch.setenv("PEFT_BENCH_CACHE", str(tmp_path / "cache"))


def test_a_name_is_no_way_out_of_the_folder(make_run: MakeRun, tmp_path: Path) -> None:
    run = make_run("lora", [1.0, 0.0], adapter=AdapterRecord("a", "a" * 64, "lora"))
    evil = dataclasses.replace(run.record, name="../../evil")
    (path,) = method_comparison.write_results([evil], tmp_path / "results")
    assert path.resolve().parent == (tmp_path / "results").resolve()
