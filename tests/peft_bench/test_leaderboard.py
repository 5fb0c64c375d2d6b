from __future__ import annotations

import csv
import dataclasses
import io
import json
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from peft_bench.leaderboard import (
    LEADERBOARD_SCHEMA_VERSION,
    LeaderboardRow,
    build_board,
    build_rows,
    format_table,
    to_csv,
    to_markdown,
    write_csv,
    write_html,
    write_markdown,
)
from peft_bench.metrics.paired import paired_bootstrap
from peft_bench.records import (
    AdapterRecord,
    ModelRecord,
    RunRecord,
    Score,
    StoredRecord,
    TaskRecord,
    find_records,
    write_record,
)

BASE = [0, 0, 1, 0, 0, 1, 0, 0, 0, 0, 1, 0]
LORA = [1, 0, 1, 1, 0, 1, 1, 0, 0, 1, 1, 0]
QUESTIONS = [f"q{i // 2}" for i in range(12)]
ADAPTER = AdapterRecord("lora", "a" * 64, "lora", "b" * 64, 1000, 4096, 60.0, 100.0, 1 << 30)


def stored(
    folder: Path,
    name: str,
    values: Sequence[float],
    *,
    adapter: AdapterRecord | None = None,
    run: dict[str, Any] | None = None,
    task: dict[str, Any] | None = None,
    ids: Sequence[str] | None = None,
) -> StoredRecord:
    """Writes an evaluation as the harness and the evaluation verb leave it."""
    ids = ids or [f"i{i}" for i in range(len(values))]
    n = len(values)
    settings: dict[str, Any] = {
        "task": "conala",
        "version": "1.0",
        "n": n,
        "scores": {"em@1": Score(sum(values) / n, 0.1, n, 1)},
        "primary_metric": "em@1",
        "num_fewshot": 0,
        "decoding": {"num_beams": 10},
        "prompt_hash": None,
        "sandbox_level": "strong",
        "profile": "stdlib",
        "custom_data": False,
        "demonstration": False,
        "data_sha256": {"test": "0" * 64},
        "samples_file": "samples.jsonl",
    }
    record = RunRecord(
        schema_version=1,
        name=name,
        created="2025-01-31T12:00:00+00:00",
        status="complete",
        model=ModelRecord("org/model", "rev", "bfloat16"),
        adapter=adapter,
        tasks=(TaskRecord(**settings | (task or {})),),
        harness={},
        versions={},
    )
    record = dataclasses.replace(record, **run or {})
    where = folder / name
    write_record(where, record)
    samples = (
        {"doc_id": i, "doc": {"id": ids[i], "question_id": QUESTIONS[i % 12]}, "em@1": value}
        for i, value in enumerate(values)
    )
    text = "".join(json.dumps(each) + "\n" for each in samples)
    (where / "samples.jsonl").write_text(text, encoding="utf-8")
    return StoredRecord(record, where)


def row_of(rows: Sequence[LeaderboardRow], run: str) -> LeaderboardRow:
    (row,) = (row for row in rows if row.run == run)
    return row


def test_the_difference_is_the_paired_bootstrap_over_questions(tmp_path: Path) -> None:
    base = stored(tmp_path, "base", BASE)
    lora = stored(tmp_path, "lora", LORA, adapter=ADAPTER)
    rows = build_rows([base, lora])
    assert [row.run for row in rows] == ["lora", "base"]
    found = paired_bootstrap(BASE, LORA, groups=QUESTIONS)
    row = rows[0]
    assert row.baseline_run == "base"
    assert (row.difference, row.difference_p) == (found.difference, found.p_value)
    assert (row.difference_low, row.difference_high) == (found.low, found.high)
    assert row.difference == pytest.approx(4 / 12)
    assert row.marks == ""
    assert rows[1].baseline_run is None
    assert rows[1].difference is None


def test_items_are_paired_by_id_not_by_place(tmp_path: Path) -> None:
    ids = [f"i{i}" for i in range(12)]
    base = stored(tmp_path, "base", BASE[::-1], ids=ids[::-1])
    lora = stored(tmp_path, "lora", LORA, adapter=ADAPTER)
    row = row_of(build_rows([base, lora]), "lora")
    assert row.difference_p == paired_bootstrap(BASE, LORA, groups=QUESTIONS).p_value


OTHER_BASES: list[dict[str, Any]] = [
    {"run": {"model": ModelRecord("org/other", "rev", "bfloat16")}},
    {"run": {"model": ModelRecord("org/model", "old", "bfloat16")}},
    {"run": {"model": ModelRecord("org/model", None, "bfloat16")}},
    {"run": {"model": ModelRecord("org/model", "rev", "bfloat16", quantization="nf4")}},
    {"run": {"status": "failed"}},
    {"task": {"task": "codealpacapy"}},
    {"task": {"version": "1.1"}},
    {"task": {"num_fewshot": 3}},
    {"task": {"profile": "scientific"}},
    {"task": {"sandbox_level": "limits"}},
    {"task": {"sandbox_level": None}},
    {"task": {"data_sha256": {"test": "1" * 64}}},
    {"task": {"scores": {"em@2": Score(0.25, None, 12, 2)}, "primary_metric": "em@2"}},
    {"ids": [f"j{i}" for i in range(12)]},
    {"adapter": dataclasses.replace(ADAPTER, name="other")},
]


@pytest.mark.parametrize("change", OTHER_BASES, ids=str)
def test_a_run_that_differs_in_more_than_the_adapter_is_no_baseline(
    change: dict[str, Any], tmp_path: Path
) -> None:
    base = stored(tmp_path, "base", BASE, **change)
    lora = stored(tmp_path, "lora", LORA, adapter=ADAPTER)
    row = row_of(build_rows([base, lora]), "lora")
    assert (row.baseline_run, row.difference, row.difference_p) == (None,) * 3
    assert "no difference" not in row.marks


def test_known_fingerprints_must_agree(tmp_path: Path) -> None:
    model = ModelRecord("./model", None, "bfloat16", fingerprint="one")
    lora = stored(tmp_path, "lora", LORA, adapter=ADAPTER, run={"model": model})
    for fingerprint, baseline in (("one", "base"), (None, "base"), ("two", None)):
        other = dataclasses.replace(model, fingerprint=fingerprint)
        base = stored(tmp_path, "base", BASE, run={"model": other})
        assert row_of(build_rows([base, lora]), "lora").baseline_run == baseline


def test_the_most_alike_then_newest_baseline_is_taken(tmp_path: Path) -> None:
    def base(name: str, day: int, **changes: Any) -> StoredRecord:
        run = {"created": f"2025-02-{day:02}T00:00:00+00:00"} | changes.pop("run", {})
        return stored(tmp_path, name, BASE, run=run, **changes)

    float32 = {"model": ModelRecord("org/model", "rev", "float32")}
    lora = stored(tmp_path, "lora", LORA, adapter=ADAPTER)
    bases = [
        base("old", 1),
        base("new", 2),
        base("greedy", 3, task={"decoding": {}}),
        base("wide", 4, run=float32),
    ]
    assert row_of(build_rows([*bases, lora]), "lora").baseline_run == "new"
    row = row_of(build_rows([*bases[2:], lora]), "lora")
    assert (row.baseline_run, row.marks) == ("greedy", "baseline decoded otherwise")
    row = row_of(build_rows([bases[3], lora]), "lora")
    assert (row.baseline_run, row.marks) == ("wide", "baseline in float32")


def test_a_metric_that_is_no_mean_of_items_has_no_difference(tmp_path: Path) -> None:
    corpus = {"scores": {"em@1": Score(0.9, None, 12)}}
    base = stored(tmp_path, "base", BASE)
    lora = stored(tmp_path, "lora", LORA, adapter=ADAPTER, task=corpus)
    row = row_of(build_rows([base, lora]), "lora")
    assert row.difference is None
    assert row.marks == "no difference: em@1 is not the mean of its items"


def test_missing_samples_are_told_as_a_mark(tmp_path: Path) -> None:
    base = stored(tmp_path, "base", BASE)
    lora = stored(tmp_path, "lora", LORA, adapter=ADAPTER, task={"marks": ("10 of 20",)})
    (lora.folder / "samples.jsonl").rename(lora.folder / "moved")
    row = row_of(build_rows([base, lora]), "lora")
    assert row.marks.startswith("10 of 20; no difference: samples cannot be read")
    (lora.folder / "moved").rename(lora.folder / "samples.jsonl")
    (base.folder / "samples.jsonl").unlink()
    row = row_of(build_rows([base, lora]), "lora")
    assert "no difference: baseline samples cannot be read" in row.marks
    assert str(tmp_path) not in row.marks


def test_one_question_gives_no_difference(tmp_path: Path) -> None:
    base = stored(tmp_path, "base", BASE[:2])
    lora = stored(tmp_path, "lora", LORA[:2], adapter=ADAPTER)
    row = row_of(build_rows([base, lora]), "lora")
    assert row.difference is None
    assert "one group" in row.marks


def test_rows_hold_what_the_records_say_and_are_sorted(tmp_path: Path) -> None:
    stored(tmp_path, "lora", LORA, adapter=ADAPTER, task={"demonstration": True})
    stored(tmp_path, "apps", BASE, task={"task": "apps"})
    stored(tmp_path, "better", [1] * 12)
    records, problems = find_records([tmp_path])
    rows = build_rows(records)
    assert problems == []
    assert [row.run for row in rows] == ["apps", "better", "lora"]
    row = rows[2]
    assert (row.method, row.adapter_bytes, row.train_peak_bytes) == ("lora", 4096, 1 << 30)
    assert (row.demonstration, row.primary_stderr, row.n) == (True, 0.1, 12)
    assert (rows[0].method, rows[0].adapter) == ("none", None)


def row(**changes: Any) -> LeaderboardRow:
    values: dict[str, Any] = dict.fromkeys(
        field.name
        for field in dataclasses.fields(LeaderboardRow)
        if field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING
    )
    values |= {
        "run": "run",
        "task": "conala",
        "task_version": "1.0",
        "demonstration": False,
        "model": "org/model",
        "method": "lora",
        "num_fewshot": 0,
        "profile": "stdlib",
        "custom_data": False,
        "n": 543,
        "primary_metric": "em@1",
        "primary_value": 0.1,
        "marks": "",
        "status": "complete",
        "created": "2025-01-31T12:00:00+00:00",
        "metrics": {"em@1": Score(0.1, None, 543, 1)},
    }
    return LeaderboardRow(**values | changes)


def parsed(rows: Sequence[LeaderboardRow]) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(to_csv(rows), newline="")))


SCHEMA_1 = """
    run task task_version demonstration model model_revision dtype quantization method adapter
    adapter_sha256 recipe_sha256 trainable_parameters total_parameters adapter_bytes train_wall_s
    train_tokens_per_s train_peak_bytes eval_wall_s num_fewshot profile sandbox_level custom_data
    n primary_metric primary_value primary_stderr baseline_run difference difference_low
    difference_high difference_p marks status created
    approach comparable rank difference_p_holm seed seeds seeds_mean seeds_low seeds_high
    seeds_stderr seeds_difference seeds_difference_low seeds_difference_high seeds_p trained_on
    kept_apart reserved_peak_bytes eval_peak_bytes pscp
"""


def test_the_columns_are_those_of_the_schema() -> None:
    assert LEADERBOARD_SCHEMA_VERSION == 1
    header = to_csv([]).rstrip("\r\n").split(",")
    assert header == SCHEMA_1.split()


def test_every_column_is_documented() -> None:
    documented = {
        line.strip().split(":")[0] for line in (LeaderboardRow.__doc__ or "").splitlines()
    }
    assert [name for name in SCHEMA_1.split() if name not in documented] == []


def test_metric_columns_are_a_union_in_natural_order() -> None:
    first = row(metrics={f"em@{k}": Score(k / 100, 0.5, 543, k) for k in (10, 2, 1)})
    second = row(metrics={"codebleu": Score(0.25, None, 543)})
    rows = parsed([first, second])
    names = [name for name in rows[0] if name not in SCHEMA_1.split()]
    assert names[::2] == ["codebleu", "em@1", "em@2", "em@10"]
    assert names[1::2] == [f"{name}_stderr" for name in names[::2]]
    assert (rows[0]["em@10"], rows[0]["em@10_stderr"], rows[0]["codebleu"]) == ("0.1", "0.5", "")
    assert (rows[1]["codebleu"], rows[1]["codebleu_stderr"], rows[1]["em@1"]) == ("0.25", "", "")


def test_csv_keeps_numbers_exact_and_texts_whole() -> None:
    value = 1 / 3
    odd = 'a,"b"\r\nc;é'
    text = to_csv([row(primary_value=value, difference=-0.5, run=odd, demonstration=True)])
    assert text.count("\r\n") == 3  # two lines, and the one inside the quoted name
    (read,) = parsed([row(primary_value=value, difference=-0.5, run=odd, demonstration=True)])
    assert float(read["primary_value"]) == value
    assert (read["difference"], read["run"], read["demonstration"]) == ("-0.5", odd, "true")
    assert (read["model_revision"], read["custom_data"]) == ("", "false")


@pytest.mark.parametrize("start", ["=", "+", "-", "@", "\t", "\r", "\n"])
def test_texts_cannot_start_a_formula(start: str) -> None:
    evil = f'{start}HYPERLINK("x")'
    (read,) = parsed([row(model=evil, marks=evil, metrics={evil: Score(0.5, None, 1)})])
    assert read["model"] == read["marks"] == f"'{evil}"
    assert f"'{evil}" in read
    assert evil not in read


def test_markdown_tables_hold_their_shape_whatever_the_names() -> None:
    evil = "a|b\n<img src=x onerror=y> [l](http://e.example) `c` @user www.e.example \\"
    rows = [row(), row(run=evil, model=evil, marks=evil), row(task="t|2", run="z")]
    text = to_markdown(rows)
    tables = [line for line in text.splitlines() if line.startswith("|")]
    assert len(tables) == 4 + 3  # header, rule and rows of two tables
    for line in tables:
        assert line.replace("\\\\", "").replace("\\|", "").count("|") == 12
    for raw in ("<img", "](", "http://", " `c`", " @user", "www."):
        assert raw not in text.replace("\\<", "").replace("\\]", "").replace("\\`", "")


def test_markdown_shows_scores_out_of_100() -> None:
    shown = row(
        primary_value=0.1842,
        primary_stderr=0.0167,
        difference=0.1,
        difference_low=-0.02,
        difference_high=0.22,
        difference_p_holm=0.0001,
        trainable_parameters=1_310_720,
    )
    text = to_markdown([shown])
    for part in ("18.4 ± 1.7", "+10.0 \\[\N{MINUS SIGN}2.0, +22.0\\]", "\\<0.001", "1.31 M"):
        assert f"| {part} |" in text


def test_terminal_table_is_aligned_and_says_demonstration() -> None:
    rows = [
        row(run="one", primary_value=0.5, primary_stderr=0.1, marks="10 of 543"),
        row(run="twelve", method="none", demonstration=True, custom_data=True),
        row(run="x" * 40, model="y" * 80, task="apps", quantization="nf4", status="failed"),
    ]
    lines = format_table(rows).splitlines()
    assert len(lines) == 4
    assert lines[0].split()[:2] == ["task", "run"]
    assert "difference" not in lines[0]  # no row has one
    column = lines[0].index("score in %") + len("score in %")
    assert lines[1][:column].endswith("em@1 50.0 ± 10.0")
    assert lines[2][:column].endswith("em@1 10.0")
    assert lines[1].endswith("10 of 543")
    assert "base model" in lines[2]
    assert lines[2].endswith("demonstration; custom data")
    assert "lora, nf4" in lines[3]
    assert "failed" in lines[3]
    assert lines[2].startswith(" ")  # the task is named once
    assert max(map(len, lines)) < 160


def test_names_of_runs_can_be_copied_from_the_terminal() -> None:
    name = "smollm2-135m--prompt_tuning--conala--s42--6676f716"
    assert f" {name} " in format_table([row(run=name)])


def test_the_terminal_shows_pscp_where_it_was_asked_for() -> None:
    lines = format_table([row(run="a", pscp=0.1234), row(run="b")]).splitlines()
    assert "PSCP" in lines[0]
    assert lines[1].split()[-1] == "12.3"
    assert "PSCP" not in format_table([row()])


def test_names_cannot_steer_the_terminal() -> None:
    text = format_table([row(run="\x1b[2J\x07a\u202eb\nc", marks="\x9b31m")])
    assert len(text.splitlines()) == 2
    assert not any(char in text for char in "\x1b\x07\u202e\x9b")


@pytest.mark.parametrize("value", ["NaN", "Infinity", "-Infinity", "1" + "0" * 400, "1e999"])
def test_a_page_is_made_of_samples_with_scores_that_are_no_numbers(
    value: str, tmp_path: Path
) -> None:
    base = stored(tmp_path, "base", BASE)
    samples = base.folder / "samples.jsonl"
    text = samples.read_text(encoding="utf-8")
    samples.write_text(text.replace('"em@1": 1', f'"em@1": {value}', 1), encoding="utf-8")
    board = build_board([base])
    write_html(board.rows, tmp_path / "b.html", board=board)
    page = (tmp_path / "b.html").read_text(encoding="utf-8")
    assert '"values":[0.0]' in page
    assert '"values":[null]' in page


def test_no_rows_are_a_leaderboard_too() -> None:
    assert format_table([]) == "no runs\n"
    assert "No runs." in to_markdown([])


def test_files_are_written(tmp_path: Path) -> None:
    rows = [row()]
    write_csv(rows, tmp_path / "l.csv")
    write_markdown(rows, tmp_path / "l.md")
    write_html(rows, tmp_path / "l.html", title="Mine")
    assert (tmp_path / "l.csv").read_bytes() == to_csv(rows).encode()
    assert (tmp_path / "l.md").read_text(encoding="utf-8") == to_markdown(rows)
    assert "<h1>Mine</h1>" in (tmp_path / "l.html").read_text(encoding="utf-8")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["l.csv", "l.html", "l.md"]


def test_the_leaderboard_needs_no_heavy_package() -> None:
    code = (
        "import sys, peft_bench.leaderboard; "
        "print([n for n in ('torch', 'transformers', 'datasets', 'lm_eval', 'peft') "
        "if n in sys.modules])"
    )
    ran = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        check=True,
        env=_environment(),
    )
    assert ran.stdout.strip() == "[]"


def _environment() -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
