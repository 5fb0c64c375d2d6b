"""What comparisons need of samples, kept in a small file beside them."""

from __future__ import annotations

import dataclasses
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from peft_bench.errors import MissingError, UsageError
from peft_bench.leaderboard import build_board
from peft_bench.records import (
    AdapterRecord,
    Score,
    StoredRecord,
    TaskRecord,
    hash_ids,
    keep_items,
    per_item_scores,
    per_item_statistics,
)
from peft_bench.records.items import items_file

MakeRun = Callable[..., StoredRecord]

SAMPLES = [
    {"doc_id": i, "doc": {"id": f"q{i}ü", "question_id": f"{7 + i // 2}-{i}"}, **scores}
    for i, scores in enumerate(
        [
            {"em@1": 1, "bleu": [1, 2.5], "some": 0.25},
            {"em@1": 0.0, "bleu": [0, 1]},
            {"em@1": True, "bleu": [3, 4.0], "some": 1.0},
        ]
    )
]
TASK = TaskRecord(
    task="conala",
    version="2.0",
    n=3,
    scores={
        "em@1": Score(2 / 3, None, 3),
        "bleu": Score(0.5, None, 3),
        "some": Score(0.625, None, 2),
    },
    primary_metric="em@1",
    num_fewshot=0,
    decoding={},
    prompt_hash=None,
    sandbox_level=None,
    profile="default",
    custom_data=False,
    demonstration=False,
    data_sha256={},
    samples_file="samples_conala_2025.jsonl",
    ids_sha256=hash_ids(["q0ü", "q1ü", "q2ü"]),
)


def save(folder: Path, samples: list[dict[str, Any]] = SAMPLES) -> Path:
    file = folder / "samples_conala_2025.jsonl"
    file.write_text("".join(json.dumps(each) + "\n" for each in samples), encoding="utf-8")
    return file


def spoil(samples: Path) -> None:
    """Leaves the samples' size and time as they are, and nothing in them that could be read."""
    was = samples.stat()
    samples.write_bytes(b"x" * was.st_size)
    os.utime(samples, ns=(was.st_atime_ns, was.st_mtime_ns))


def test_items_are_read_in_the_samples_place(tmp_path: Path) -> None:
    samples = save(tmp_path)
    plain = {metric: per_item_statistics(tmp_path, TASK, metric) for metric in TASK.scores}
    keep_items(tmp_path, TASK)
    assert items_file(samples).name == "items_conala_2025.jsonl"
    spoil(samples)
    for metric, expected in plain.items():
        assert per_item_statistics(tmp_path, TASK, metric) == expected
    assert plain["em@1"].groups == ("7", "7", "8")
    assert plain["some"].ids == ("q0ü", "q2ü")  # the others are not scored
    assert per_item_scores(tmp_path, TASK, "em@1").values == (1.0, 0.0, 1.0)
    assert '{"em@1": "101"}' in items_file(samples).read_text(encoding="utf-8")


def test_samples_of_another_size_are_read_themselves(tmp_path: Path) -> None:
    samples = save(tmp_path)
    keep_items(tmp_path, TASK)
    save(tmp_path, [{**sample, "em@1": 0.125} for sample in SAMPLES])
    assert per_item_scores(tmp_path, TASK, "em@1").values == (0.125,) * 3
    samples.unlink()
    with pytest.raises(MissingError, match="samples cannot be read"):
        per_item_scores(tmp_path, TASK, "em@1")


def test_samples_changed_afterwards_are_read_themselves(tmp_path: Path) -> None:
    samples = save(tmp_path)
    keep_items(tmp_path, TASK)
    later = items_file(samples).stat().st_mtime_ns + 1
    text = samples.read_text(encoding="utf-8").replace('"em@1": 0.0', '"em@1": 1.0')
    samples.write_text(text, encoding="utf-8")  # of the same size
    os.utime(samples, ns=(later, later))
    assert per_item_scores(tmp_path, TASK, "em@1").values == (1.0, 1.0, 1.0)


SPOILT: list[Callable[[list[str]], list[str]]] = [
    lambda lines: [],
    lambda lines: lines[:2],
    lambda lines: [lines[0].replace('"version": 1', '"version": 2'), *lines[1:]],
    lambda lines: [lines[0], "[1, 2, 3]", *lines[2:]],
    lambda lines: [lines[0], lines[1], '["7", "8"]', *lines[3:]],
    lambda lines: [lines[0], '{"a": "b"}', *lines[2:]],
    lambda lines: [lines[0], lines[1][:-3], *lines[2:]],
    lambda lines: [*lines[:3], '{"em@1": "10"}'],
    lambda lines: [*lines[:3], '{"em@1": "1011"}'],
    lambda lines: [*lines[:3], '{"em@1": "121"}'],
    lambda lines: [*lines[:3], '{"em@1": "1 1"}'],
    lambda lines: [*lines[:3], '{"em@1": "1"1}'],
    lambda lines: [*lines[:3], '{"em@1": "101'],
    lambda lines: [*lines[:3], '{"em@1": [1.0, 0.0]}'],
    lambda lines: [*lines[:3], '{"em@1": [1.0, 0.0, NaN]}'],
    lambda lines: [*lines[:3], '{"em@1": [1.0, 0.0, 1e999]}'],
    lambda lines: [*lines[:3], '{"em@1": [1.0, 0.0, "1"]}'],
    lambda lines: [*lines[:3], '{"em@1": [1.0, 0.0, []]}'],
    lambda lines: [*lines[:3], '{"em@1": [[1.0], [0.0, 1.0], [0.5, 2.0]]}'],
    lambda lines: [*lines[:3], '{"em@1": [null, null, null]}'],
    lambda lines: [*lines[:3], '{"em@1": 1.0}'],
    lambda lines: [*lines[:3], '{"em@1": [1.0, 0.0, 1.0]'],
    lambda lines: [*lines[:3], lines[3], lines[3]],
    lambda lines: [*lines[:3], '{"em@1": ' + "[" * 100_000 + "}"],
    lambda lines: [line.replace("em@1", "em@2") for line in lines],
]


@pytest.mark.parametrize("change", SPOILT)
def test_a_file_that_is_not_as_written_is_as_though_it_were_not_there(
    change: Callable[[list[str]], list[str]], tmp_path: Path
) -> None:
    samples = save(tmp_path)
    keep_items(tmp_path, TASK)
    kept = items_file(samples)
    lines = kept.read_text(encoding="utf-8").splitlines()
    kept.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
    spoil(samples)
    assert per_item_scores(tmp_path, TASK, "em@1").values == (1.0, 0.0, 1.0)  # as written
    kept.write_text("".join(f"{line}\n" for line in change(lines)), encoding="utf-8")
    with pytest.raises(UsageError, match="line 1: is no JSON"):
        per_item_scores(tmp_path, TASK, "em@1")


def test_items_that_contradict_the_record_are_refused(tmp_path: Path) -> None:
    save(tmp_path)
    keep_items(tmp_path, TASK)
    other = dataclasses.replace(TASK, ids_sha256=hash_ids(["a", "b", "c"]))
    with pytest.raises(UsageError, match="has other items"):
        per_item_scores(tmp_path, other, "em@1")
    twice = dataclasses.replace(TASK, scores={"em@1": Score(1.0, None, 2)}, ids_sha256=None)
    with pytest.raises(UsageError, match="has 3 items where the record counts 2"):
        per_item_scores(tmp_path, twice, "em@1")


def test_a_changed_number_is_noticed_by_its_mean(make_run: MakeRun) -> None:
    lora = AdapterRecord("lora", "a" * 64, "lora")
    runs = [make_run("base", [0.0, 1.0] * 4), make_run("lora", [1.0] * 8, adapter=lora)]
    for run in runs:
        keep_items(run.folder, run.record.tasks[0])
    samples = runs[1].folder / str(runs[1].record.tasks[0].samples_file)
    kept = items_file(samples)
    text = kept.read_text(encoding="utf-8")
    kept.write_text(text.replace('"11111111"', '"10111111"'), encoding="utf-8")
    assert kept.read_text(encoding="utf-8") != text
    row = {row.run: row for row in build_board(runs).rows}["lora"]
    assert row.difference is None
    assert "is not the mean of its items" in row.marks


def test_boards_are_the_same_with_and_without(make_run: MakeRun) -> None:
    lora = AdapterRecord("lora", "a" * 64, "lora")
    runs = [
        make_run("base", [0.0, 1.0] * 4),
        make_run("lora", [1.0, 1.0, 0.5, 1.0] * 2, adapter=lora),
    ]
    plain = build_board(runs).rows
    for run in runs:
        keep_items(run.folder, run.record.tasks[0])
        spoil(run.folder / str(run.record.tasks[0].samples_file))
    assert build_board(runs).rows == plain
    assert [row.difference for row in plain if row.run == "lora"] == [0.375]


def test_what_no_item_has_is_not_kept(tmp_path: Path) -> None:
    """Other tasks of the harness keep texts by item, and metrics of the whole corpus not at all."""
    samples = save(tmp_path, [{**sample, "bleu": ["gold", "answer"]} for sample in SAMPLES])
    scores = {**TASK.scores, "other": Score(0.5, None, 3)}
    keep_items(tmp_path, dataclasses.replace(TASK, scores=scores))
    kept = items_file(samples).read_text(encoding="utf-8").splitlines()[3:]
    assert [list(json.loads(line)) for line in kept] == [["em@1"], ["some"]]
    for task in (
        dataclasses.replace(TASK, samples_file=None),
        dataclasses.replace(TASK, samples_file="../samples_conala_2025.jsonl"),
        dataclasses.replace(TASK, samples_file="samples_gone.jsonl"),
        dataclasses.replace(TASK, scores={}),
    ):
        items_file(samples).unlink(missing_ok=True)
        keep_items(tmp_path, task)
        assert [path.name for path in tmp_path.iterdir()] == [samples.name]
