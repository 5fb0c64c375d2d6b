"""Stopped, killed, out of space: nothing half-made under a final name, and work goes on after."""

from __future__ import annotations

import json
import os
import resource
import shutil
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from peft_bench import adapters, records
from peft_bench.recipe import parse_recipe
from peft_bench.training import train

FILES = (adapters.CONFIG_FILE, adapters.WEIGHTS_FILE)

# A shell's background job ignores SIGINT, and would hand that on.
_HEARS = """
import signal
signal.signal(signal.SIGINT, signal.default_int_handler)
"""

# Waits after the checkpoint that its last argument names, so that the signal comes in between.
_TRAIN = """
import sys, time
from transformers import Trainer
save = Trainer._save_checkpoint
def slowly(self, *rest, **named):
    save(self, *rest, **named)
    if self.state.global_step == int(sys.argv[3]):
        time.sleep(600)
Trainer._save_checkpoint = slowly
from peft_bench.cli import main
sys.exit(main(["train", sys.argv[1], "--out", sys.argv[2]]))
"""

# The harness' index of its own tasks takes as long as all the rest: it is left out.
_EVAL = """
import functools, sys, time
from lm_eval.tasks import TaskManager
from peft_bench import paths
from peft_bench.beams import BeamSearch
build = TaskManager.__init__
def only_ours(self, *rest, **named):
    named |= {"include_defaults": False, "include_path": str(paths.tasks_dir())}
    build(self, *rest, **named)
TaskManager.__init__ = only_ours
search = BeamSearch.__call__
calls = []
@functools.wraps(search)
def slowly(self, *rest, **named):
    calls.append(1)
    if len(calls) > int(sys.argv[3]):
        time.sleep(600)
    return search(self, *rest, **named)
BeamSearch.__call__ = slowly
from peft_bench.cli import main
sys.exit(main(["eval", sys.argv[1], "--tasks", "conala", "--out", sys.argv[2],
               "--limit", "3", "--gen_kwargs", "max_gen_toks=6"]))
"""


@pytest.fixture()
def recipe_file(recipe_dict: dict[str, Any], conala_data: Path, tmp_path: Path) -> Path:
    """Six checkpoints, at every step."""
    recipe_dict["training"] = {"epochs": 3, "batch_size": 4, "evaluations_per_epoch": 2}
    file = tmp_path / "recipe.yaml"
    file.write_text(json.dumps(recipe_dict), encoding="utf-8")
    return file


@pytest.fixture()
def undisturbed(recipe_file: Path, tmp_path: Path) -> list[bytes]:
    raw = json.loads(recipe_file.read_text(encoding="utf-8"))
    return contents(train(parse_recipe(raw), tmp_path / "undisturbed", progress=False))


def contents(folder: Path) -> list[bytes]:
    return [(folder / name).read_bytes() for name in FILES]


def start(script: str, *arguments: object, **options: Any) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", _HEARS + script, *map(str, arguments)],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        **options,
    )


def wait_for(condition: Callable[[], bool], process: subprocess.Popen[str]) -> None:
    while not condition():
        if process.poll() is not None:
            pytest.fail(f"ended too soon: {process.communicate()[1]}")
        time.sleep(0.02)


def said(errors: str) -> list[str]:
    return [line for line in errors.splitlines() if line.startswith("peft-bench:")]


@pytest.mark.parametrize("sign", [signal.SIGINT, signal.SIGKILL])
def test_stopped_training_goes_on_from_its_last_checkpoint(
    sign: signal.Signals,
    recipe_file: Path,
    undisturbed: list[bytes],
    tmp_path: Path,
    capfd: pytest.CaptureFixture[str],
) -> None:
    out = tmp_path / "a"
    partial = tmp_path / "a.partial"
    process = start(_TRAIN, recipe_file, out, 3)
    wait_for((partial / "checkpoints" / "checkpoint-3" / "trainer_state.json").is_file, process)
    time.sleep(0.2)
    process.send_signal(sign)
    errors = process.communicate()[1]
    assert "Traceback" not in errors
    if sign == signal.SIGINT:
        assert process.returncode == 1
        assert len(said(errors)) == 1
        assert "run the same command again" in said(errors)[0]
    assert not out.exists()
    assert partial.is_dir()

    raw = json.loads(recipe_file.read_text(encoding="utf-8"))
    capfd.readouterr()
    train(parse_recipe(raw), out, progress=False)
    # Only the steps after the third were trained again.
    steps = [line for line in capfd.readouterr().out.splitlines() if line.startswith("{'loss'")]
    assert len(steps) == 3
    assert not partial.exists()
    assert contents(out) == undisturbed
    card = adapters.check_folder(out)
    assert card is not None and card.outcome.steps == 6


@pytest.mark.parametrize(
    "damage",
    [
        "trainer_state.json",
        "adapter_model.safetensors",
        "optimizer.pt",
        "half of the weights",
        "half of optimizer.pt",
        "all",
    ],
)
def test_half_written_checkpoint_is_passed_over(
    damage: str,
    recipe_file: Path,
    undisturbed: list[bytes],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    from transformers import Trainer

    class Stop(Exception):
        pass

    save = Trainer._save_checkpoint

    def stop_at_fourth(self: Any, *rest: Any, **named: Any) -> None:
        save(self, *rest, **named)
        if self.state.global_step == 4:
            raise Stop

    recipe = parse_recipe(json.loads(recipe_file.read_text(encoding="utf-8")))
    out = tmp_path / "a"
    with monkeypatch.context() as patch:
        patch.setattr(Trainer, "_save_checkpoint", stop_at_fourth)
        with pytest.raises(Stop):
            train(recipe, out, progress=False)
    checkpoints = sorted((tmp_path / "a.partial" / "checkpoints").glob("checkpoint-*"))
    assert [folder.name for folder in checkpoints] == ["checkpoint-3", "checkpoint-4"]
    for folder in checkpoints if damage == "all" else checkpoints[-1:]:
        if damage.startswith("half of"):
            name = "optimizer.pt" if "optimizer" in damage else "adapter_model.safetensors"
            content = (folder / name).read_bytes()
            (folder / name).write_bytes(content[: len(content) // 2])
        else:
            (folder / ("trainer_state.json" if damage == "all" else damage)).unlink()
    train(recipe, out, progress=False)
    captured = capsys.readouterr().err
    assert f"{checkpoints[-1]}: not a whole checkpoint" in captured
    assert (f"{checkpoints[0]}: not" in captured) == (damage == "all")
    assert contents(out) == undisturbed


def test_no_space_is_told_and_a_rerun_completes(
    recipe_file: Path, undisturbed: list[bytes], tmp_path: Path
) -> None:
    out = tmp_path / "a"

    def small_files_only() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000))

    process = start(_TRAIN, recipe_file, out, -1, preexec_fn=small_files_only)
    errors = process.communicate()[1]
    assert process.returncode == 1, errors
    assert "Traceback" not in errors
    assert len(said(errors)) == 1
    assert "could not be written" in said(errors)[0] and "free some space" in said(errors)[0]
    assert not out.exists()
    recipe = parse_recipe(json.loads(recipe_file.read_text(encoding="utf-8")))
    train(recipe, out, progress=False)
    assert contents(out) == undisturbed


def test_weights_that_torch_cannot_write_are_told_too(
    recipe_file: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The adapter of some methods is smaller than the optimizer's state, which torch writes."""
    import torch

    from peft_bench.errors import PeftBenchError

    real = torch.save

    def full(thing: Any, file: Any, *rest: Any, **named: Any) -> None:
        if str(file).endswith("optimizer.pt"):
            soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
            resource.setrlimit(resource.RLIMIT_FSIZE, (100, hard))
            try:
                real(thing, file, *rest, **named)
            finally:
                resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        else:
            real(thing, file, *rest, **named)

    monkeypatch.setattr(torch, "save", full)
    recipe = parse_recipe(json.loads(recipe_file.read_text(encoding="utf-8")))
    with pytest.raises(PeftBenchError, match="could not be written") as caught:
        train(recipe, tmp_path / "a", progress=False)
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "a").exists()


def test_folder_that_cannot_be_made_is_told(
    recipe_dict: dict[str, Any], conala_data: Path, tmp_path: Path
) -> None:
    from peft_bench.errors import PeftBenchError

    (tmp_path / "file").write_text("in the way", encoding="utf-8")
    with pytest.raises(PeftBenchError, match="could not be written"):
        train(parse_recipe(recipe_dict), tmp_path / "file" / "a", progress=False)


def test_partial_folder_of_another_recipe_is_not_gone_on_from(
    recipe_file: Path, undisturbed: list[bytes], tmp_path: Path
) -> None:
    partial = tmp_path / "a.partial"
    (partial / "checkpoints" / "checkpoint-3").mkdir(parents=True)
    (partial / "recipe.yaml").write_text("name: other\n", encoding="utf-8")
    recipe = parse_recipe(json.loads(recipe_file.read_text(encoding="utf-8")))
    assert contents(train(recipe, tmp_path / "a", progress=False)) == undisturbed


def test_stopped_evaluation_goes_on_with_the_answers_it_has(
    trained: Callable[..., Path], tiny_data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PEFT_BENCH_DATA", str(tiny_data))
    adapter = trained()
    whole = start(_EVAL, adapter, tmp_path / "whole", 10_000)
    stopped = start(_EVAL, adapter, tmp_path / "stopped", 14)
    partial = tmp_path / "stopped.partial"

    wait_for(lambda: answers_in(partial) > 0, stopped)
    time.sleep(0.5)
    stopped.send_signal(signal.SIGINT)
    errors = stopped.communicate()[1]
    assert stopped.returncode == 1, errors
    assert "Traceback" not in errors
    assert len(said(errors)) == 1
    assert "run the same command again" in said(errors)[0]
    assert not (tmp_path / "stopped").exists()
    kept = shutil.copytree(partial, tmp_path / "kept")
    assert 0 < answers_in(kept) < 30

    again = start(_EVAL, adapter, tmp_path / "stopped", 30 - answers_in(kept))
    errors = again.communicate()[1]
    assert again.returncode == 0, errors
    assert not partial.exists()
    assert whole.communicate()[1] is not None and whole.returncode == 0
    one, two = (records.read_record(tmp_path / name) for name in ("whole", "stopped"))
    assert one.tasks[0].scores == two.tasks[0].scores
    assert one.tasks[0].ids_sha256 == two.tasks[0].ids_sha256
    assert answers(tmp_path / "whole") == answers(tmp_path / "stopped")


def answers_in(folder: Path) -> int:
    """How many answers an evaluation keeps so far; none while their file is being made."""
    try:
        [file] = folder.glob("answers_rank*.db")
        with closing(sqlite3.connect(file)) as connection:
            [count] = connection.execute("SELECT COUNT(*) FROM unnamed").fetchone()
    except (ValueError, sqlite3.OperationalError):
        return 0
    return int(count)


def answers(folder: Path) -> list[Any]:
    [file] = folder.glob("samples_conala_*.jsonl")
    rows = [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()]
    return sorted((row["doc_id"], row["resps"], row["beams"]) for row in rows)


def test_a_run_on_other_rows_is_not_gone_on_with(
    recipe_file: Path, conala_data: Path, tmp_path: Path
) -> None:
    out, partial = tmp_path / "a", tmp_path / "a.partial"
    process = start(_TRAIN, recipe_file, out, 3)
    wait_for((partial / "checkpoints" / "checkpoint-3" / "trainer_state.json").is_file, process)
    process.kill()
    process.communicate()
    rows = conala_data / "conala" / "train.jsonl"
    rows.write_text(rows.read_text(encoding="utf-8").replace("sorted(xs)", "list(sorted(xs))"))

    recipe = parse_recipe(json.loads(recipe_file.read_text(encoding="utf-8")))
    again = contents(train(recipe, out, progress=False))
    assert again == contents(train(recipe, tmp_path / "fresh", progress=False))
