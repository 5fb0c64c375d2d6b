"""The built wheel beside the harness: the command line of the README, as typed."""

from __future__ import annotations

import csv
import json
import os
import subprocess
import sys
from collections.abc import Callable
from importlib import metadata
from pathlib import Path
from typing import Any

import pytest

from peft_bench import paths, records


def is_installed_from_wheel() -> bool:
    try:
        origin = metadata.distribution("peft-bench").read_text("direct_url.json")
    except metadata.PackageNotFoundError:
        return False
    editable = origin is not None and json.loads(origin).get("dir_info", {}).get("editable", False)
    return not editable and paths.tasks_are_installed()


pytestmark = [
    pytest.mark.wheel,
    pytest.mark.skipif(
        not is_installed_from_wheel(),
        reason="peft-bench is not installed from its wheel beside lm_eval (tox -e py does it)",
    ),
]


def run(folder: Path, data: Path, name: str, *arguments: str) -> str:
    """Runs a console script of this environment from a folder that is not the checkout."""
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    done = subprocess.run(
        [str(Path(sys.executable).with_name(name)), *arguments],
        cwd=folder,
        env={**environment, "PEFT_BENCH_DATA": str(data)},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def scores_in(folder: Path) -> dict[str, float]:
    [file] = folder.rglob("results_*.json")
    found: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))["results"]["conala"]
    return {
        key.split(",")[0]: value
        for key, value in found.items()
        if isinstance(value, float) and "_stderr" not in key
    }


def test_plain_lm_eval_finds_the_task_and_agrees_with_ours(
    trained: Callable[..., Path],
    tiny_model: Callable[..., Path],
    tiny_data: Path,
    tmp_path: Path,
) -> None:
    adapter = str(trained())
    arguments = f"pretrained={tiny_model()},peft={adapter}"
    plain = ["--model", "hf", "--model_args", arguments, "--tasks", "conala", "--limit", "4"]
    run(tmp_path, tiny_data, "lm_eval", *plain, "--output_path", "plain", "--log_samples")
    run(tmp_path, tiny_data, "peft-bench", "eval", adapter, "--tasks", "conala", "--limit", "4")
    [folder] = (tmp_path / "evaluations").iterdir()
    [task] = records.read_record(folder).tasks
    expected = scores_in(tmp_path / "plain")
    assert {"em@1", "em@10_ast", "codebleu", "bleu", "chrf++"} <= set(expected)
    assert {metric: score.value for metric, score in task.scores.items()} == expected
    # A tiny random model scores nothing: its answers say more.
    assert answers_in(tmp_path / "plain") == answers_in(folder)

    run(tmp_path, tiny_data, "peft-bench", "leaderboard", "evaluations", "--csv", "board.csv")
    with (tmp_path / "board.csv").open(encoding="utf-8", newline="") as file:
        [row] = csv.DictReader(file)
    assert row["run"] == folder.name
    assert row["task"] == "conala"
    assert row["method"] == "lora"
    assert float(row["primary_value"]) == expected["em@10"]


def answers_in(folder: Path) -> list[Any]:
    [file] = folder.rglob("samples_conala_*.jsonl")
    rows = [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()]
    assert all(len(row["resps"]) == 10 for row in rows)
    return sorted((row["doc_id"], row["resps"]) for row in rows)


def test_package_comes_with_its_tasks_and_recipes() -> None:
    installed = {str(file) for file in metadata.files("peft-bench") or ()}
    for name in (
        "lm_eval/tasks/peft_bench/conala/conala.yaml",
        "lm_eval/tasks/peft_bench/quickstart/data/test.jsonl",
        "peft_bench/recipes/quickstart.yaml",
        "peft_bench/py.typed",
        "peft_bench_sandbox/py.typed",
    ):
        assert name in installed
    assert not any(name.startswith(("tasks/", "tests/", "recipes/")) for name in installed)
