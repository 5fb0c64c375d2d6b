from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

from peft_bench import audit, data
from peft_bench.errors import MissingError, UsageError

TRAIN: list[dict[str, Any]] = [
    {"nl": "Sort the list `xs`", "cmd": "xs.sort()", "question_id": "1-1"},
    {"nl": "sum all numbers of list `xs`", "cmd": "sum(xs)  # of all", "question_id": "2-1"},
    {"nl": "sum all numbers of list `ys`", "cmd": "total = sum(ys)", "question_id": "2-2"},
    {"nl": "sort the  list `xs`", "cmd": "sorted(xs, reverse=True)", "question_id": "3-1"},
]
TEST: list[dict[str, Any]] = [
    {"nl": "sort the list\n`XS`", "cmd": "sorted(xs)", "question_id": "9-1"},
    {"nl": "add up numbers", "cmd": "sum( xs )", "question_id": "8-1"},
    {"nl": "length", "cmd": "len(xs)", "question_id": "3-2"},
    {"nl": "descending", "cmd": "ys = sorted(xs, reverse=True)", "question_id": "7-1"},
]


def write(file: Path, rows: list[dict[str, Any]]) -> Path:
    file.parent.mkdir(exist_ok=True)
    file.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return file


@pytest.fixture()
def folder(tmp_path: Path) -> Path:
    write(tmp_path / "conala" / "train.jsonl", TRAIN)
    write(tmp_path / "conala" / "test.jsonl", TEST)
    return tmp_path


def run(folder: Path, *sides: str, **options: Any) -> tuple[int, str]:
    lines: list[str] = []
    code = audit.run(*sides, data_dir=folder, say=lines.append, **options)
    return code, "\n".join(lines)


def findings(folder: Path, *sides: str, **options: Any) -> dict[tuple[str, str], Any]:
    """Of the only comparison: by what and kind, pairs of lists of ids."""
    file = folder / "audit.json"
    run(folder, *sides, json_file=file, **options)
    [comparison] = json.loads(file.read_text("utf-8"))["comparisons"]
    return {
        (found["of"], found["kind"]): [(one["left"], one["right"]) for one in found["matches"]]
        for found in comparison["findings"]
    }


def test_what_train_and_test_share(folder: Path) -> None:
    assert findings(folder, "conala:train", "conala:test", threshold=0.75) == {
        ("question", "question"): [(["3-1"], ["3-2"])],
        ("intent", "exact"): [(["1-1", "3-1"], ["9-1"])],
        ("intent", "near"): [],
        ("code", "exact"): [(["2-1"], ["8-1"])],
        # 7 of the 9 pairs of `ys = sorted(xs, reverse=True)` and those of the other.
        ("code", "near"): [(["3-1"], ["7-1"])],
    }


def test_the_report_counts_rows_and_names_some(folder: Path) -> None:
    code, said = run(folder, "conala:train", "conala:test", threshold=0.75)
    assert code == 0
    assert ">= 0.75" in said
    assert "conala:train (4 rows) | conala:test (4 rows)" in said
    shown = [" ".join(line.split()) for line in said.splitlines()]
    assert "question 1 | 1 rows 3-1 = 3-2" in shown
    assert "intent, exact 2 | 1 rows 1-1 = 9-1" in shown
    assert "intent, near 0 | 0 rows" in shown
    assert "code, near 1 | 1 rows 3-1 ~0.78 7-1" in shown


def test_a_task_alone_is_all_its_splits_each_with_each_and_itself(folder: Path) -> None:
    file = folder / "audit.json"
    _, said = run(folder, "conala", json_file=file, threshold=0.6)
    written = json.loads(file.read_text("utf-8"))
    pairs = [(one["left"], one["right"]) for one in written["comparisons"]]
    assert pairs == [
        ("conala:train", "conala:train"),
        ("conala:train", "conala:test"),
        ("conala:test", "conala:test"),
    ]
    assert "conala:train (4 rows), within" in said
    within = {
        (one["of"], one["kind"]): one["matches"] for one in written["comparisons"][0]["findings"]
    }
    assert ("question", "question") not in within  # rows of one question are no finding there
    assert [one["left"] for one in within["intent", "exact"]] == [["1-1", "3-1"]]
    # The two sums share 5 of the 9 pairs of words and signs that they have.
    assert within["intent", "near"] == []
    assert written["sets"]["conala:train"]["rows"] == 4
    assert written["sets"]["conala:train"]["custom"] is True


def test_a_pool_is_compared_with_both_sides(folder: Path) -> None:
    pool = write(folder / "pool.jsonl", [{"intent": "length", "snippet": "sum(xs)"}])
    file = folder / "audit.json"
    run(folder, "conala:train", "conala:test", pool=str(pool), json_file=file)
    comparisons = json.loads(file.read_text("utf-8"))["comparisons"]
    assert [(one["left"], one["right"]) for one in comparisons] == [
        ("conala:train", "conala:test"),
        (str(pool), "conala:train"),
        (str(pool), "conala:test"),
    ]
    found = {(one["of"], one["kind"]): one["matches"] for one in comparisons[2]["findings"]}
    assert [one["right"] for one in found["intent", "exact"]] == [["3-2"]]
    assert [one["right"] for one in found["code", "exact"]] == [["8-1"]]
    assert ("question", "question") not in found  # the pool does not number its questions


@pytest.mark.parametrize(
    ("kinds", "code"),
    [((), 0), (("question",), 1), (("exact",), 1), (("near",), 1), (("near", "question"), 1)],
)
def test_the_exit_code_where_something_is_found(
    folder: Path, kinds: tuple[str, ...], code: int
) -> None:
    assert run(folder, "conala:train", "conala:test", fail_on=kinds)[0] == code


def test_the_exit_code_where_nothing_is_found(folder: Path) -> None:
    other = write(folder / "other.jsonl", [{"nl": "nothing alike", "cmd": "pass"}] * 2)
    # What is repeated within a set leaks nothing.
    assert run(folder, str(other), fail_on=audit.KINDS)[0] == 0
    assert run(folder, "conala:test", str(other), fail_on=audit.KINDS)[0] == 0
    # Near means exact ones as well, but no shared questions.
    same = write(folder / "same.jsonl", [{"nl": "LENGTH"}])
    assert run(folder, "conala:test", str(same), fail_on=["near"])[0] == 1
    asked = write(folder / "asked.jsonl", [{"nl": "something new", "question_id": 9}])
    assert run(folder, "conala:test", str(asked), fail_on=["near", "exact"])[0] == 0
    assert run(folder, "conala:test", str(asked), fail_on=["question"])[0] == 1


def test_files_in_the_schemas_of_others(folder: Path) -> None:
    rows: list[dict[str, Any]] = [
        {"instruction": "Length", "input": "", "output": "len(xs)"},
        {"question_id": 3, "intent": "long", "rewritten_intent": None, "snippet": "max(xs)"},
        {"problem_id": 5, "question": "Q", "solutions": '["a = 1", "sum(xs)"]'},
        {"task_id": "HumanEval/9", "prompt": "def f():", "canonical_solution": "[xs]"},
    ]
    file = write(folder / "rows.jsonl", rows)
    assert findings(folder, str(file), "conala:test") == {
        ("question", "question"): [(["3"], ["3-2"])],
        ("intent", "exact"): [(["line 1"], ["3-2"])],
        ("intent", "near"): [],
        ("code", "exact"): [(["line 1"], ["3-2"]), (["5"], ["8-1"])],
        ("code", "near"): [],
    }


def test_faulty_files_are_told_by_line(folder: Path) -> None:
    file = folder / "rows.jsonl"
    file.write_text('{"nl": "x"}\n{"a": 1}\n{\n[]\n', encoding="utf-8")
    with pytest.raises(UsageError) as caught:
        run(folder, str(file))
    said = str(caught.value)
    assert "3 faults" in said
    for part in (
        "line 2: has neither intent nor code. give one of nl, ",
        "line 3: is not JSON",
        "line 4: not a JSON object",
    ):
        assert part in said
    file.write_text("\n", encoding="utf-8")
    with pytest.raises(UsageError, match="has no rows"):
        run(folder, str(file))


def test_what_cannot_be_audited(folder: Path) -> None:
    with pytest.raises(UsageError, match=r"conela: no such data set.*conala"):
        run(folder, "conela")
    with pytest.raises(UsageError, match="no such split of conala"):
        run(folder, "conala:tests")
    with pytest.raises(MissingError, match="no validation split"):
        run(folder, "conala:validation")
    with pytest.raises(MissingError, match="no such file"):
        run(folder, str(folder / "none.jsonl"))
    with pytest.raises(MissingError, match="mbpp"):
        run(folder, "mbpp")
    with pytest.raises(UsageError, match=r"--threshold: is 0"):
        run(folder, "conala", threshold=0)
    with pytest.raises(UsageError, match=r"--fail-on: no 'all'.*question, exact, near"):
        run(folder, "conala", fail_on=["all"])
    with pytest.raises(UsageError, match=r"--json .*: cannot be written"):
        run(folder, "conala", json_file=folder / "conala" / "test.jsonl" / "matches.json")


REAL = os.environ.get(data.ENVIRONMENT_VARIABLE, "")


@pytest.mark.skipif(
    not all((Path(REAL) / name).is_file() for name in ("conala/train.jsonl", "odex/test.jsonl"))
    or not REAL,
    reason="PEFT_BENCH_DATA names no folder with rows of CoNaLa and ODEX",
)
def test_real_odex_asks_what_conala_trains_on(tmp_path: Path) -> None:
    """The rows that odex_clean leaves out are those that the audit finds, counted another way."""
    rows = data.load_split("odex", "test", REAL).rows
    seen = {row.id for row in rows} - {row.id for row in data.odex_clean(rows)}
    file = tmp_path / "audit.json"
    audit.run("odex", "conala:train", data_dir=REAL, json_file=file, say=lambda line: None)
    [comparison] = json.loads(file.read_text("utf-8"))["comparisons"]
    found = {(one["of"], one["kind"]): one for one in comparison["findings"]}
    shared = found["question", "question"]
    assert {name for match in shared["matches"] for name in match["left"]} == seen
    assert shared["left_rows"] == len(seen) > 200
    # Most of them are the same texts, and nothing else there is.
    exact = {name for match in found["intent", "exact"]["matches"] for name in match["left"]}
    assert exact <= seen and len(exact) > len(seen) / 2
