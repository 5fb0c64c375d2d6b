from __future__ import annotations

import gzip
import json
import os
from pathlib import Path
from typing import Any

import pytest

from peft_bench import data
from peft_bench.data import Split, content_sha256, load_split, parse_rows
from peft_bench.errors import MissingError, UsageError

ROWS: list[dict[str, Any]] = [
    {"nl": "one", "cmd": "1", "question_id": "11-1"},
    {"nl": "two", "cmd": "2", "question_id": "11-2"},
    {"nl": "three", "cmd": "3", "question_id": "12-3"},
]

REAL = Path(os.environ.get("PEFT_BENCH_DATA", "")) / "conala" / "test.jsonl"
HAS_REAL = (
    "PEFT_BENCH_DATA" in os.environ
    and REAL.is_file()
    and REAL.read_bytes().count(b"\n") == 543  # other rows may stand in
)


def jsonl(rows: list[Any]) -> str:
    return "".join(json.dumps(row) + "\n" for row in rows)


def write(folder: Path, content: str | bytes, name: str = "train.jsonl") -> Path:
    (folder / "conala").mkdir(exist_ok=True)
    file = folder / "conala" / name
    file.write_bytes(content.encode() if isinstance(content, str) else content)
    return file


def load(folder: Path, split: str = "train") -> Split:
    return load_split("conala", split, data_dir=folder)


def refused(folder: Path, content: str | bytes, name: str = "train.jsonl") -> str:
    file = write(folder, content, name)
    with pytest.raises(UsageError) as caught:
        load(folder)
    assert caught.value.exit_code == 2
    assert str(file) in str(caught.value)
    return str(caught.value)


def test_rows_of_json_lines(tmp_path: Path) -> None:
    write(tmp_path, jsonl(ROWS) + "\n  \n")
    split = load(tmp_path)
    assert [row.nl for row in split.rows] == ["one", "two", "three"]
    assert [row.id for row in split.rows] == ["11-1", "11-2", "12-3"]
    assert [row.question_id for row in split.rows] == ["11", "11", "12"]
    assert (split.task, split.name, split.origin, split.custom) == (
        "conala",
        "train",
        "local files",
        True,
    )
    assert split.sha256 == content_sha256(split.rows)


def test_the_folder_is_named_by_the_environment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(tmp_path, jsonl(ROWS))
    monkeypatch.setenv(data.ENVIRONMENT_VARIABLE, str(tmp_path))
    assert len(load_split("conala", "train").rows) == 3


def test_the_hash_is_of_the_content_whatever_the_format(tmp_path: Path) -> None:
    write(tmp_path, jsonl(ROWS))
    plain = load(tmp_path)
    other = tmp_path / "other"
    other.mkdir()
    more = [{"cmd_name": "x", **dict(reversed(row.items()))} for row in ROWS]
    packed = gzip.compress(jsonl(more).replace("\n", "\r\n").encode())
    write(other, packed, "train.jsonl.gz")
    assert load(other).rows == plain.rows
    assert load(other).sha256 == plain.sha256
    swapped = parse_rows([("a", ROWS[1]), ("b", ROWS[0]), ("c", ROWS[2])], place="x")
    assert content_sha256(swapped) != plain.sha256


@pytest.mark.parametrize("alias", ["validation", "valid", "dev"])
@pytest.mark.parametrize("suffix", [".jsonl", ".jsonl.gz"])
def test_validation_goes_by_other_names(tmp_path: Path, alias: str, suffix: str) -> None:
    content = jsonl(ROWS).encode()
    write(tmp_path, gzip.compress(content) if suffix == ".jsonl.gz" else content, alias + suffix)
    assert len(load(tmp_path, "validation").rows) == 3


def test_a_split_that_is_not_there(tmp_path: Path) -> None:
    write(tmp_path, jsonl(ROWS))
    with pytest.raises(MissingError) as caught:
        load(tmp_path, "validation")
    assert caught.value.exit_code == 3
    said = str(caught.value)
    assert "validation.jsonl" in said and "valid.jsonl.gz" in said
    assert str(tmp_path / "conala") in said and data.ENVIRONMENT_VARIABLE in said


def test_unknown_task_and_split() -> None:
    with pytest.raises(UsageError, match=r"no such data set.*conala"):
        load_split("conela", "train")
    with pytest.raises(UsageError, match=r"no such split.*validation"):
        load_split("conala", "tests")


@pytest.mark.parametrize(
    ("row", "said"),
    [
        ({"cmd": "1"}, "line 2: nl: is missing"),
        ({"nl": "one"}, "line 2: cmd: is missing"),
        ({"nl": " \n", "cmd": "1"}, "line 2: nl: is empty"),
        ({"nl": "one", "cmd": ""}, "line 2: cmd: is empty"),
        ({"nl": "a \ud800", "cmd": "1"}, "line 2: nl: holds '\\ud800', half of a character"),
        ({"nl": "one", "cmd": "\udfff"}, "line 2: cmd: holds '\\udfff'"),
        ({"nl": "one", "cmd": 1}, "line 2: cmd: is int, not text"),
        ({"nl": None, "cmd": "1"}, "line 2: nl: is NoneType, not text"),
        ({"nl": "one", "cmd": "1", "test": " "}, "line 2: test: is empty"),
        ({"nl": "one", "cmd": "1", "test": ["x"]}, "line 2: test: is list, not text. give assert"),
        ({"nl": "one", "cmd": "1", "test": "'\udead'"}, "test: holds '\\udead', half of a char"),
        ({"nl": "one", "cmd": "1", "id": "\udead"}, "line 2: id: holds '\\udead', half of a char"),
        ({"nl": "one", "cmd": "1", "question_id": "\udead-1"}, "question_id: holds '\\udead'"),
        ({"nl": "one", "cmd": "1", "id": [1]}, "line 2: id: is [1], not an id"),
        (["one", "1"], "line 2: not a JSON object"),
        ("one", "line 2: not a JSON object"),
        (None, "line 2: not a JSON object"),
    ],
)
def test_a_faulty_row_is_named(tmp_path: Path, row: Any, said: str) -> None:
    assert said in refused(tmp_path, jsonl([ROWS[0], row]))


@pytest.mark.parametrize("line", ['{"nl": "one", ', "nl: one", "[" * 100_000])
def test_a_line_that_is_not_json(tmp_path: Path, line: str) -> None:
    assert "line 3: is not JSON" in refused(tmp_path, f"{jsonl(ROWS[:1])}\n{line}\n")


def test_faults_of_several_rows_are_told_together(tmp_path: Path) -> None:
    lines = [json.dumps({"cmd": "1"}), "{", json.dumps(ROWS[0]), json.dumps({"nl": "", "cmd": 2})]
    said = refused(tmp_path, "\n".join(lines))
    assert "4 faults" in said
    for part in ("line 1: nl", "line 2: is not JSON", "line 4: nl", "line 4: cmd"):
        assert part in said


def test_not_more_faults_than_one_can_read(tmp_path: Path) -> None:
    said = refused(tmp_path, "{}\n" * 1000)
    assert len(said.splitlines()) <= 12


def test_bytes_that_are_not_utf8(tmp_path: Path) -> None:
    content = jsonl(ROWS[:2]).encode() + b'{"nl": "caf\xe9", "cmd": "1"}\n'
    said = refused(tmp_path, content)
    assert "line 3: is not UTF-8 (byte 0xe9)" in said
    assert "line 3: is not UTF-8" in refused_packed(tmp_path, gzip.compress(content))


def refused_packed(folder: Path, content: bytes) -> str:
    (folder / "conala" / "train.jsonl").unlink(missing_ok=True)
    return refused(folder, content, "train.jsonl.gz")


@pytest.mark.parametrize("content", ["", "\n\n \n"])
def test_an_empty_file(tmp_path: Path, content: str) -> None:
    assert "has no rows" in refused(tmp_path, content)


def test_gzip_files_that_are_cut_broken_or_none(tmp_path: Path) -> None:
    packed = gzip.compress(jsonl(ROWS * 50).encode())
    broken = packed[:20] + bytes(byte ^ 0xFF for byte in packed[20:40]) + packed[40:]
    for content in (packed[:-20], packed[: len(packed) // 2], broken, jsonl(ROWS).encode()):
        assert "is not a whole gzip file" in refused_packed(tmp_path, content)


def test_a_line_separator_inside_a_text_ends_no_line(tmp_path: Path) -> None:
    row = {"nl": "a\u2028b\x85c", "cmd": "x = '\u2029'"}
    write(tmp_path, json.dumps(row, ensure_ascii=False) + "\n")
    [found] = load(tmp_path).rows
    assert (found.nl, found.cmd) == (row["nl"], row["cmd"])


def test_repeated_ids_become_unique() -> None:
    raw = [{"nl": "n", "cmd": "c", "id": name} for name in ("a", "a", "a#2", "a", "b", "a#2")]
    rows = parse_rows([(str(i), row) for i, row in enumerate(raw)], place="x")
    names = [row.id for row in rows]
    assert len(set(names)) == 6
    assert names[:2] == ["a", "a#2"] and names[4] == "b"


def test_question_ids_group_rows() -> None:
    raw = [
        {"nl": "n", "cmd": "c", "question_id": "123-4"},
        {"nl": "n", "cmd": "c", "question_id": "123-4"},
        {"nl": "n", "cmd": "c", "question_id": 77},
        {"nl": "n", "cmd": "c", "question_id": "a-b-9"},
        {"nl": "n", "cmd": "c"},
        {"nl": "n", "cmd": "c", "id": "x", "question_id": "123-5"},
    ]
    rows = parse_rows([(str(i), row) for i, row in enumerate(raw)], place="x")
    assert [row.question_id for row in rows] == ["123", "123", "77", "a-b", "4", "123"]
    assert [row.id for row in rows] == ["123-4", "123-4#2", "77", "a-b-9", "4", "x"]


def test_packaged_rows_come_with_the_task_and_are_not_custom(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(data.ENVIRONMENT_VARIABLE, str(tmp_path))
    split = load_split("quickstart", "test")
    assert (split.origin, split.custom) == ("packaged", False)
    assert all(row.test for row in split.rows)


def test_pinned_rows_are_not_custom_and_a_changed_one_makes_them_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(tmp_path, jsonl(ROWS))
    pinned = data.Source("conala", hub_id="x/y", pinned={"train": load(tmp_path).sha256})
    monkeypatch.setitem(data.SOURCES, "conala", pinned)
    assert not load(tmp_path).custom
    write(tmp_path, jsonl([*ROWS[:2], {**ROWS[2], "cmd": "4"}]))
    assert load(tmp_path).custom


def test_what_a_record_says_of_its_rows(tmp_path: Path) -> None:
    write(tmp_path, jsonl(ROWS))
    split = load(tmp_path)
    said = {"rows": 3, "sha256": split.sha256, "origin": "local files", "custom": True}
    assert data.describe([split]) == {"conala/train": said}


@pytest.mark.skipif(
    not HAS_REAL, reason="PEFT_BENCH_DATA names no folder with CoNaLa's 543 test rows"
)
def test_the_real_conala_is_the_pinned_one() -> None:
    splits = {name: load_split("conala", name) for name in data.SPLITS}
    assert [len(split.rows) for split in splits.values()] == [2135, 201, 543]
    assert not any(split.custom for split in splits.values())
    questions = {name: {row.question_id for row in split.rows} for name, split in splits.items()}
    assert len(questions["test"]) == 350
    assert not questions["test"] & questions["train"]
    for split in splits.values():
        assert len({row.id for row in split.rows}) == len(split.rows)
