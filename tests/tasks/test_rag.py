"""The tasks that retrieve their examples, through the harness, on rows of our own."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from peft_bench import paths

PAIRS = [
    ("sort list `xs`", "sorted(xs)"),
    ("sort list `xs` from the greatest", "sorted(xs, reverse=True)"),
    ("read file `name`", "open(name).read()"),
    ("join `parts` with commas", '",".join(parts)'),
    ("sort list `ys` by length", "sorted(ys, key=len)"),
]
ASKED = [
    ("sort list `zs` by length", "sorted(zs, key=len)"),
    ("read the file", "open(name).read()"),
    ("Sort  list `xs`", "[*sorted(xs)]"),
]


def write(folder: Path, task: str) -> None:
    (folder / task).mkdir(parents=True)
    for split, pairs in (("train", PAIRS), ("validation", PAIRS), ("test", ASKED)):
        rows = [
            {"nl": nl, "cmd": cmd} | ({"question_id": f"{split}{n}-1"} if task == "conala" else {})
            for n, (nl, cmd) in enumerate(pairs)
        ]
        text = "".join(json.dumps(row) + "\n" for row in rows)
        (folder / task / f"{split}.jsonl").write_text(text, encoding="utf-8")


def load(name: str, folder: Path, **metadata: Any) -> Any:
    from lm_eval.tasks import TaskManager

    manager = TaskManager(
        include_path=str(paths.tasks_dir()),
        include_defaults=False,
        metadata={"data_dir": str(folder), **metadata},
    )
    return manager.load([name])["tasks"][name]


@pytest.mark.parametrize("source", ["conala", "codealpacapy"])
def test_the_nearest_examples_stand_before_the_question(source: str, tmp_path: Path) -> None:
    write(tmp_path, source)
    task = load(f"{source}_rag", tmp_path)
    assert task.config.num_fewshot == 3
    task.build_all_requests()
    asked = {instance.doc["nl"]: instance.args[0] for instance in task.instances}
    first = asked[ASKED[0][0]]
    assert [line for line in first.split("\n") if "(" in line] == [
        PAIRS[1][1],
        PAIRS[0][1],
        PAIRS[4][1],
    ]
    # Its own code is among the examples, and its own intent.
    assert "open(" not in asked[ASKED[1][0]]
    assert PAIRS[0][1] not in asked[ASKED[2][0]]
    scores = [
        task.process_results(doc, ["x"] * task.config.generation_kwargs["num_beams"])
        for doc in task.eval_docs
    ]
    assert [score["shots_excluded"] for score in scores] == [0, 1, 1]
    assert [len(score["shots"]) for score in scores] == [3, 3, 3]
    assert task.dump_config()["metadata"]["examples"]["chosen"].startswith("bm25")


@pytest.mark.parametrize("source", ["conala", "codealpacapy"])
def test_it_asks_and_scores_as_the_task_without_retrieval(source: str, tmp_path: Path) -> None:
    write(tmp_path, source)
    plain, retrieving = load(source, tmp_path), load(f"{source}_rag", tmp_path)
    for task in (plain, retrieving):
        task.set_config("num_fewshot", 0)
        task.build_all_requests()
    assert [one.args[0] for one in plain.instances] == [one.args[0] for one in retrieving.instances]
    doc = plain.eval_docs[0]
    count = plain.config.generation_kwargs["num_beams"]
    answers = [doc["cmd"], *["x"] * (count - 1)]
    assert plain.process_results(doc, answers) == retrieving.process_results(doc, answers)
    for key in ("primary_metric", "data"):
        known = {"data": source} | plain.config.metadata
        assert retrieving.config.metadata[key] == known[key]


def test_the_retriever_is_chosen_by_metadata(tmp_path: Path) -> None:
    write(tmp_path, "conala")
    random = load("conala_rag", tmp_path, retriever="random")
    random.set_fewshot_seed(seed=5)
    random.build_all_requests()
    facts = random.dump_config()["metadata"]["examples"]
    assert (facts["chosen"], facts["seed"]) == ("drawn at random for each document", 5)
    by_metadata = load("conala", tmp_path, retriever="bm25", shots_order="nearest_first")
    by_metadata.set_config("num_fewshot", 1)
    by_metadata.build_all_requests()
    assert PAIRS[4][1] in by_metadata.instances[0].args[0]
