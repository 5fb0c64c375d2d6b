from __future__ import annotations

import dataclasses
import hashlib
import json
import os
import stat
from pathlib import Path
from typing import Any

import pytest

from peft_bench.errors import MissingError, UsageError
from peft_bench.records import (
    SCHEMA_VERSION,
    AdapterRecord,
    ModelRecord,
    RunRecord,
    Score,
    TaskRecord,
    find_records,
    hash_ids,
    per_item_scores,
    read_record,
    write_record,
    write_text,
)

TASK = TaskRecord(
    task="conala",
    version="1.0",
    n=3,
    scores={"em@1": Score(2 / 3, 0.27, 3, 1), "codebleu": Score(0.5, None, 3)},
    primary_metric="em@1",
    num_fewshot=0,
    decoding={"num_beams": 10, "until": ["\n"], "nested": {"a": None}},
    prompt_hash="p",
    sandbox_level=None,
    profile="stdlib",
    custom_data=True,
    demonstration=False,
    data_sha256={"test": "0" * 64},
    marks=("10 of 543 problems (--limit)", "ünïcode"),
    samples_file="model/samples_conala.jsonl",
)
RECORD = RunRecord(
    schema_version=SCHEMA_VERSION,
    name="run",
    created="2025-01-31T12:00:00+00:00",
    status="complete",
    model=ModelRecord("org/model", "abc", "bfloat16", "nf4", "llama", 7, "f"),
    adapter=AdapterRecord("lora", "a" * 64, "lora", None, 5, 6, 1.5, None, 8),
    tasks=(TASK,),
    harness={"model_args": {"pretrained": "org/model"}, "seeds": [0, 1], "limit": None},
    versions={"peft": "0.21"},
    eval_wall_s=12.5,
)


def with_task(**changes: Any) -> RunRecord:
    return dataclasses.replace(RECORD, tasks=(dataclasses.replace(TASK, **changes),))


def as_json(record: RunRecord = RECORD) -> dict[str, Any]:
    value: dict[str, Any] = json.loads(json.dumps(dataclasses.asdict(record)))
    return value


def save(folder: Path, value: Any) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / "record.json"
    file.write_text(value if isinstance(value, str) else json.dumps(value), encoding="utf-8")
    return file


def test_what_is_written_is_read_again(tmp_path: Path) -> None:
    file = write_record(tmp_path / "new" / "run", RECORD)
    assert read_record(file) == RECORD
    assert read_record(file.parent) == RECORD
    assert [path.name for path in file.parent.iterdir()] == ["record.json"]


def test_a_base_model_without_adapter_or_tasks_is_a_record(tmp_path: Path) -> None:
    record = dataclasses.replace(RECORD, adapter=None, tasks=(), status="failed")
    write_record(tmp_path, record)
    assert read_record(tmp_path) == record


def test_absent_keys_that_may_be_absent_are_none(tmp_path: Path) -> None:
    value = as_json()
    value["model"] = {"id": "m"}
    del value["eval_wall_s"], value["tasks"][0]["marks"]
    record = read_record(save(tmp_path, value))
    assert (record.model.revision, record.eval_wall_s, record.tasks[0].marks) == (None, None, ())


def test_a_failed_write_leaves_the_old_file_and_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_text(tmp_path / "a.txt", "old")

    def fail(descriptor: int) -> None:
        raise OSError("disk full")

    monkeypatch.setattr("os.fsync", fail)
    with pytest.raises(OSError, match="disk full"):
        write_text(tmp_path / "a.txt", "new")
    assert [path.name for path in tmp_path.iterdir()] == ["a.txt"]
    assert (tmp_path / "a.txt").read_text(encoding="utf-8") == "old"


def test_write_text_keeps_every_character(tmp_path: Path) -> None:
    write_text(tmp_path / "a.txt", "é\r\n\n\ud800")
    assert (tmp_path / "a.txt").read_bytes() == b"\xc3\xa9\r\n\n\\ud800"


def test_a_link_stays_and_its_file_is_written(tmp_path: Path) -> None:
    (tmp_path / "far").mkdir()
    for name in ("old", "new"):
        (tmp_path / name).symlink_to(f"far/{name}.txt")
    (tmp_path / "far" / "old.txt").write_text("old", encoding="utf-8")
    for name in ("old", "new"):
        write_text(tmp_path / name, "text")
        assert (tmp_path / name).is_symlink()
        assert (tmp_path / "far" / f"{name}.txt").read_text(encoding="utf-8") == "text"
    assert len(list((tmp_path / "far").iterdir())) == 2
    (tmp_path / "loop").symlink_to("loop")
    with pytest.raises(OSError, match="symbolic links"):
        write_text(tmp_path / "loop", "text")


@pytest.mark.parametrize("linked", [False, True])
def test_a_pipe_is_written_into(linked: bool, tmp_path: Path) -> None:
    path = tmp_path / "pipe"
    os.mkfifo(path)
    if linked:
        (tmp_path / "link").symlink_to("pipe")
        path = tmp_path / "link"
    reader = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    try:
        write_text(path, "text\r\n\ud800")
        assert os.read(reader, 100) == b"text\r\n\\ud800"
    finally:
        os.close(reader)
    assert stat.S_ISFIFO((tmp_path / "pipe").stat().st_mode)


def test_a_device_stays_one(tmp_path: Path) -> None:
    try:
        os.mknod(tmp_path / "null", stat.S_IFCHR | 0o600, os.makedev(1, 3))
        write_text(tmp_path / "null", "text")
    except PermissionError:
        pytest.skip("no device can be made, or opened, here")
    assert stat.S_ISCHR((tmp_path / "null").stat().st_mode)


assert RECORD.adapter is not None
LONG_SEED = dataclasses.replace(RECORD.adapter, seed=10**30)

FAULTY: list[tuple[RunRecord, str]] = [
    (dataclasses.replace(RECORD, created="yesterday"), "created: is 'yesterday'"),
    (dataclasses.replace(RECORD, created="2025-01-31T12:00:00"), "created: is"),
    (dataclasses.replace(RECORD, name=""), "name: is empty"),
    (dataclasses.replace(RECORD, eval_wall_s=float("nan")), "eval_wall_s: is nan"),
    (dataclasses.replace(RECORD, eval_peak_bytes=10**400), "eval_peak_bytes: is 1000"),
    (dataclasses.replace(RECORD, tasks=(TASK, TASK)), "tasks: conala is there twice"),
    (with_task(n=0), r"tasks\[0\].n: is 0"),
    (with_task(n=10**400), r"tasks\[0\].n: is 1000"),
    (with_task(num_fewshot=10**400), r"num_fewshot: is 1000"),
    (with_task(kept_apart=10**400), r"kept_apart: is 1000"),
    (with_task(primary_metric="em@9"), "'em@9' has no score.*em@1, codebleu"),
    (with_task(samples_file="../other/s.jsonl"), "samples_file: is '../other/s.jsonl'"),
    (with_task(samples_file="/etc/passwd"), "samples_file: is '/etc/passwd'"),
    (with_task(samples_file="C:\\s.jsonl"), "samples_file"),
    (with_task(samples_file="s\0.jsonl"), "samples_file: is 's.x00.jsonl'"),
    (with_task(samples_file="s\ud800.jsonl"), "samples_file: is 's.ud800.jsonl'"),
    (dataclasses.replace(RECORD, adapter=LONG_SEED), r"adapter\.seed: is 1000"),
    (with_task(data_sha256={"test": "xyz"}), "data_sha256.test: is 'xyz'"),
    (with_task(ids_sha256="A" * 64), "ids_sha256"),
    (with_task(scores={"em@1": Score(41.6, 1.0, 3)}), "value: is 41.6.*divided by 100"),
    (with_task(scores={"em@1": Score(float("nan"), None, 3)}), "value: is nan"),
    (with_task(scores={"em@1": Score(0.5, float("nan"), 3)}), "stderr: is nan"),
    (with_task(scores={"em@1": Score(0.5, -0.1, 3)}), "stderr: is -0.1"),
    (with_task(scores={"em@1": Score(0.5, None, 3, 0)}), "k: is 0"),
    (
        with_task(scores={"em@1": Score(0.5, None, 3), "em@1_stderr": Score(0, None, 3)}),
        "no metric",
    ),
]


@pytest.mark.parametrize(("record", "said"), FAULTY)
def test_faulty_values_are_refused_when_written_and_when_read(
    record: RunRecord, said: str, tmp_path: Path
) -> None:
    with pytest.raises(UsageError, match=said):
        write_record(tmp_path / "out", record)
    assert not (tmp_path / "out").exists()
    file = save(tmp_path, as_json(record))
    with pytest.raises(UsageError, match=r"record\.json"):
        read_record(file)


def test_values_json_cannot_hold_are_refused(tmp_path: Path) -> None:
    record = dataclasses.replace(RECORD, harness={"gen_kwargs": {"custom_generate": print}})
    with pytest.raises(UsageError, match="no JSON"):
        write_record(tmp_path, record)
    assert list(tmp_path.iterdir()) == []


def test_all_faults_of_a_file_are_told_at_once(tmp_path: Path) -> None:
    value = as_json()
    value["colour"] = "red"
    value["status"] = "fine"
    value["model"]["parameters"] = True
    value["tasks"][0]["n"] = "3"
    del value["versions"]
    with pytest.raises(UsageError) as caught:
        read_record(save(tmp_path, value))
    places = {fault.place for fault in caught.value.faults}
    assert places == {"colour", "status", "model.parameters", "tasks[0].n", "versions"}
    assert str(tmp_path / "record.json") in str(caught.value)


def test_a_newer_schema_is_refused_as_such(tmp_path: Path) -> None:
    value = as_json() | {"schema_version": SCHEMA_VERSION + 1, "unheard_of": 1}
    with pytest.raises(
        UsageError, match=r"schema_version: is 2; .* up to 1\. Use a newer"
    ) as caught:
        read_record(save(tmp_path, value))
    assert "unheard_of" not in str(caught.value)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{",
        "[]",
        "null",
        "3",
        "[" * 100_000,
        '{"schema_version": NaN}',
        '{"schema_version": ' + "9" * 5000 + "}",
        '{"schema_version": 0}',
        '{"eval_wall_s": ' + "9" * 400 + "}",
    ],
    ids=range(10),
)
def test_what_is_no_record_is_refused(text: str, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"record\.json"):
        read_record(save(tmp_path, text))


def test_bytes_that_are_no_text_are_refused(tmp_path: Path) -> None:
    (tmp_path / "record.json").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(UsageError, match="cannot be read"):
        read_record(tmp_path)


def test_no_file_is_missing_not_faulty(tmp_path: Path) -> None:
    with pytest.raises(MissingError, match="no such file"):
        read_record(tmp_path)


def test_records_are_found_in_folders_and_given_once_sorted(tmp_path: Path) -> None:
    for name in ("b", "a", "deep/er/c", ".unfinished"):
        write_record(tmp_path / name, dataclasses.replace(RECORD, name=name))
    write_record(tmp_path / "a" / "inside", RECORD)  # an evaluation holds no other
    save(tmp_path / "broken", "{")
    given = [tmp_path, tmp_path / "b", tmp_path / "a" / "record.json"]
    records, problems = find_records(given)
    assert [record.name for record, _ in records] == ["a", "b", "deep/er/c"]
    assert [folder for _, folder in records] == [tmp_path / n for n in ("a", "b", "deep/er/c")]
    assert len(problems) == 1
    assert "broken" in problems[0].place
    assert find_records(reversed(given))[0] == records


def test_an_evaluation_may_be_given_twice(tmp_path: Path) -> None:
    write_record(tmp_path / "a", RECORD)
    records, problems = find_records([tmp_path / "a", tmp_path / "a"])
    assert (len(records), problems) == (1, [])


def test_paths_without_evaluations_are_problems(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    records, problems = find_records([tmp_path / "empty", tmp_path / "nowhere"])
    assert records == []
    assert [problem.problem for problem in problems] == ["no evaluation there", "no such folder"]
    assert all(isinstance(problem, MissingError) for problem in problems)


def sample(doc_id: int, value: Any, **doc: Any) -> dict[str, Any]:
    return {"doc_id": doc_id, "doc": {"nl": "x", **doc}, "filter": "none", "em@1": value}


def save_samples(folder: Path, samples: list[dict[str, Any]]) -> None:
    file = folder / "model" / "samples_conala.jsonl"
    file.parent.mkdir(parents=True, exist_ok=True)
    text = "".join(json.dumps(each, ensure_ascii=False) + "\n" for each in samples)
    file.write_text(text, encoding="utf-8", newline="\n")


def test_items_are_read_with_ids_and_groups(tmp_path: Path) -> None:
    save_samples(
        tmp_path,
        [
            sample(0, 1.0, id="a", question_id="q", cmd="'\u2028\x85'"),
            sample(1, True, id="b", question_id="q"),
            sample(2, 0, question_id=17),
        ],
    )
    scores = per_item_scores(tmp_path, TASK, "em@1")
    assert scores == (("a", "b", "2"), ("q", "q", "17"), (1.0, 1.0, 0.0))


def test_without_question_each_item_is_its_own_group(tmp_path: Path) -> None:
    save_samples(tmp_path, [sample(5, 1), sample(7, 0, id="x"), {"doc_id": 9, "em@1": 0.5}])
    scores = per_item_scores(tmp_path, TASK, "em@1")
    assert scores.ids == scores.groups == ("5", "x", "9")


def test_numbered_snippets_of_a_question_are_one_group(tmp_path: Path) -> None:
    questions = ("11840111-96", "11840111-75", "HumanEval-3")
    save_samples(tmp_path, [sample(i, 1, question_id=q) for i, q in enumerate(questions)])
    groups = per_item_scores(tmp_path, TASK, "em@1").groups
    assert groups == ("11840111", "11840111", "HumanEval-3")


def test_integers_too_long_for_python_do_no_harm(tmp_path: Path) -> None:
    save_samples(tmp_path, [sample(0, 1), sample(1, 0), sample(2, 0)])
    file = tmp_path / "model" / "samples_conala.jsonl"
    text = file.read_text(encoding="utf-8").replace('"x"', "9" * 5000)
    file.write_text(text, encoding="utf-8")
    assert per_item_scores(tmp_path, TASK, "em@1").values == (1.0, 0.0, 0.0)


THREE = [sample(0, 1), sample(1, 0), sample(2, 0)]


@pytest.mark.parametrize(
    ("samples", "said"),
    [
        (THREE[:2], "has 2 items where the record counts 3"),
        ([*THREE[:2], sample(1, 1)], "item '1' is there twice"),
        ([*THREE[:2], sample(2, float("nan"))], "line 3: em@1 is 'nan', no finite number"),
        ([*THREE[:2], sample(2, ["ref", "answer"])], "no finite number"),
        ([*THREE[:2], sample(2, "1.0")], "no finite number"),
        ([*THREE[:2], {"em@1": 1}], "line 3: has no doc_id"),
    ],
)
def test_samples_that_contradict_the_record_are_refused(
    samples: list[dict[str, Any]], said: str, tmp_path: Path
) -> None:
    save_samples(tmp_path, samples)
    with pytest.raises(UsageError, match=said):
        per_item_scores(tmp_path, TASK, "em@1")


def test_a_cut_line_is_refused(tmp_path: Path) -> None:
    save_samples(tmp_path, THREE)
    file = tmp_path / "model" / "samples_conala.jsonl"
    file.write_bytes(file.read_bytes()[:-5])
    with pytest.raises(UsageError, match="line 3: is no JSON"):
        per_item_scores(tmp_path, TASK, "em@1")


def lines_of(folder: Path, form: str) -> Path:
    """The three samples, written in another form."""
    save_samples(folder, THREE)
    file = folder / "model" / "samples_conala.jsonl"
    first, second, third = file.read_text(encoding="utf-8").splitlines()
    file.write_bytes(form.format(first, second, third).encode())
    return file


@pytest.mark.parametrize(
    "form", ["{}\n{}\n{}", "{}\r\n{}\r\n{}\r\n", "\n {}\n\n{}  \n \n{}\n\n", "\t{}\n{}\n{} "]
)
def test_lines_may_end_and_stand_in_any_way(form: str, tmp_path: Path) -> None:
    lines_of(tmp_path, form)
    assert per_item_scores(tmp_path, TASK, "em@1").values == (1.0, 0.0, 0.0)


@pytest.mark.parametrize(
    ("form", "line"),
    [
        ("{} {}\n{}\n", 1),
        ("{},\n{}\n{}\n", 1),
        ("\n{}\n{}\n{}]", 4),
        ("{}\n{}\n{}x", 3),
        ("{}\n[\n{}\n,{}]\n", 2),
        ("{}\n{}\n{}\n{{", 4),
    ],
)
def test_a_line_that_is_no_value_of_its_own_is_refused(
    form: str, line: int, tmp_path: Path
) -> None:
    lines_of(tmp_path, form)
    with pytest.raises(UsageError, match=f"line {line}: is no JSON"):
        per_item_scores(tmp_path, TASK, "em@1")


def test_other_items_than_recorded_are_refused(tmp_path: Path) -> None:
    save_samples(tmp_path, THREE)
    right = dataclasses.replace(TASK, ids_sha256=hash_ids(["2", "0", "1"]))
    wrong = dataclasses.replace(TASK, ids_sha256=hash_ids(["0", "1", "3"]))
    assert per_item_scores(tmp_path, right, "em@1").values == (1.0, 0.0, 0.0)
    with pytest.raises(UsageError, match="ids_sha256"):
        per_item_scores(tmp_path, wrong, "em@1")


def test_what_is_not_kept_is_missing(tmp_path: Path) -> None:
    with pytest.raises(MissingError, match="samples cannot be read"):
        per_item_scores(tmp_path, TASK, "em@1")
    save_samples(tmp_path, THREE)
    with pytest.raises(MissingError, match="has no codebleu"):
        per_item_scores(tmp_path, TASK, "codebleu")
    for file in (None, "../samples.jsonl"):
        with pytest.raises(MissingError, match="record names no samples"):
            per_item_scores(tmp_path, dataclasses.replace(TASK, samples_file=file), "em@1")


def test_hash_of_ids_has_a_fixed_form() -> None:
    assert hash_ids(["b", "a"]) == hashlib.sha256(b'["a", "b"]').hexdigest()
