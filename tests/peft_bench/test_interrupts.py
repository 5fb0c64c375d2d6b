"""Stopped, killed, out of space: nothing half-made under a final name, and work goes on after."""

from __future__ import annotations

import dataclasses
import errno
import functools
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

from peft_bench import adapters, cards, checkpoints, records, workfolder
from peft_bench.errors import PeftBenchError, UsageError
from peft_bench.recipe import Recipe, parse_recipe
from peft_bench.training import train

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
def recipe(recipe_file: Path) -> Recipe:
    return parse_recipe(json.loads(recipe_file.read_text(encoding="utf-8")))


@pytest.fixture()
def undisturbed(recipe_file: Path, tmp_path: Path) -> list[bytes]:
    raw = json.loads(recipe_file.read_text(encoding="utf-8"))
    return contents(train(parse_recipe(raw), tmp_path / "undisturbed", progress=False))


def contents(folder: Path) -> list[bytes]:
    return [file.read_bytes() for file in adapters.content_files(folder)]


def stopped(recipe: Recipe, out: Path, step: int) -> Path:
    """Trains until the checkpoint of a step is whole, which is returned."""
    from transformers import Trainer

    save = Trainer._maybe_log_save_evaluate

    def stop(self: Any, *rest: Any, **named: Any) -> None:
        save(self, *rest, **named)
        if self.state.global_step >= step:
            raise KeyboardInterrupt

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Trainer, "_maybe_log_save_evaluate", stop)
        with pytest.raises(KeyboardInterrupt):
            train(recipe, out, progress=False)
    checkpoint = out.with_name(f"{out.name}.partial") / "checkpoints" / f"checkpoint-{step}"
    assert checkpoint.is_dir()
    return checkpoint


def steps_to_end(recipe: Recipe, out: Path) -> int:
    """Trains to the end; how many steps that took."""
    from transformers import Trainer

    one_step, steps = Trainer.training_step, []

    def step(self: Any, *rest: Any, **named: Any) -> Any:
        steps.append(1)
        return one_step(self, *rest, **named)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Trainer, "training_step", step)
        train(recipe, out, progress=False)
    assert not list(out.parent.glob(f"*{out.name}.*"))  # neither working folder nor lock
    return len(steps)


def card_of(folder: Path) -> cards.AdapterCard:
    card = adapters.check_folder(folder)
    assert card is not None
    return card


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


def test_folder_that_cannot_be_made_is_told(recipe: Recipe, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way", encoding="utf-8")
    for out in (tmp_path / "file" / "a", tmp_path / ("a" * 300), tmp_path / ("a" * 250)):
        with pytest.raises(PeftBenchError, match="could not be written") as caught:
            train(recipe, out, progress=False)
        assert caught.value.remedy == "give another folder: --out DIR"


def test_a_disk_that_is_full_after_a_checkpoint_spoils_no_later_run(
    recipe: Recipe, undisturbed: list[bytes], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write = records.write_text

    def full(file: Path, text: str) -> None:
        if file.name == "spent.json" and file.parent.name == "checkpoint-3":
            raise OSError(errno.ENOSPC, "No space left on device")
        write(file, text)

    with monkeypatch.context() as patch:
        patch.setattr(records, "write_text", full)
        with pytest.raises(PeftBenchError, match="free some space"):
            train(recipe, tmp_path / "a", progress=False)
    assert steps_to_end(recipe, tmp_path / "a") == 3
    assert contents(tmp_path / "a") == undisturbed


def test_partial_folder_without_a_checkpoint_is_begun_anew(
    recipe: Recipe, undisturbed: list[bytes], tmp_path: Path
) -> None:
    partial = tmp_path / "a.partial"
    (partial / "checkpoints" / "checkpoint-3").mkdir(parents=True)
    (partial / "recipe.yaml").write_text("name: other\n", encoding="utf-8")
    assert contents(train(recipe, tmp_path / "a", progress=False)) == undisturbed


@pytest.mark.parametrize(
    ("method", "training", "step", "left"),
    [
        ("lora", {}, 3, 3),
        ("lora", {}, 6, 0),
        ("full", {}, 3, 3),
        ("lora", {"max_steps": 3}, 3, 0),  # in the midst of an epoch
        ("lora", {"batch_size": 2, "max_steps": 5}, 4, 1),  # checkpoints at 2, 4, 5
        ("lora", {"batch_size": 2, "max_steps": 5}, 5, 0),
    ],
)
def test_a_run_that_was_stopped_ends_as_an_undisturbed_one(
    method: str,
    training: dict[str, Any],
    step: int,
    left: int,
    recipe_dict: dict[str, Any],
    conala_data: Path,
    tmp_path: Path,
) -> None:
    recipe_dict["method"] = {"name": method}
    recipe_dict["training"] = {"epochs": 3, "batch_size": 4, "evaluations_per_epoch": 2} | training
    recipe = parse_recipe(recipe_dict)
    whole = train(recipe, tmp_path / "whole", progress=False)
    stopped(recipe, tmp_path / "a", step)
    assert steps_to_end(recipe, tmp_path / "a") == left
    assert card_of(tmp_path / "a").outcome == card_of(whole).outcome
    assert contents(tmp_path / "a") == contents(whole)


def test_early_stopping_counts_on(
    recipe_dict: dict[str, Any], conala_data: Path, tmp_path: Path
) -> None:
    recipe_dict["training"] |= {"epochs": 30, "learning_rate": 2.5, "schedule": "constant"}
    recipe_dict["training"]["early_stopping"] = 3
    recipe = parse_recipe(recipe_dict)
    whole = card_of(train(recipe, tmp_path / "whole", progress=False))
    for step, left in ((whole.outcome.steps - 2, 2), (whole.outcome.steps, 0)):
        out = tmp_path / f"stopped-{step}"
        stopped(recipe, out, step)
        assert steps_to_end(recipe, out) == left
        assert card_of(out).outcome == whole.outcome
        assert contents(out) == contents(tmp_path / "whole")


def test_whole_models_in_several_files_are_gone_on_with_while_none_is_missing(
    recipe_dict: dict[str, Any],
    conala_data: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from transformers import PreTrainedModel

    save = PreTrainedModel.save_pretrained
    small = functools.partialmethod(save, max_shard_size="50KB")
    monkeypatch.setattr(PreTrainedModel, "save_pretrained", small)
    recipe_dict["method"] = {"name": "full"}
    recipe_dict["training"] |= {"epochs": 2, "evaluations_per_epoch": 2}
    recipe = parse_recipe(recipe_dict)
    whole = train(recipe, tmp_path / "whole", progress=False)
    checkpoint = stopped(recipe, tmp_path / "a", 3)
    first, *others = sorted(checkpoint.glob("model-*.safetensors"))
    assert others
    kept = shutil.copytree(checkpoint.parent, tmp_path / "kept")
    assert steps_to_end(recipe, tmp_path / "a") == 1
    assert contents(tmp_path / "a") == contents(whole)

    assert checkpoints.newest(kept) == kept / checkpoint.name
    (kept / checkpoint.name / first.name).unlink()
    assert checkpoints.newest(kept) != kept / checkpoint.name


@pytest.mark.parametrize(
    ("left", "step"), [(None, 6), ("", 3), ('{"wall_s": 3', 6), ('{"wall_s": "long"}', 6)]
)
def test_costs_that_a_checkpoint_does_not_tell_are_left_out(
    left: str | None, step: int, recipe: Recipe, tmp_path: Path
) -> None:
    spent = stopped(recipe, tmp_path / "a", step) / "spent.json"
    if left is None:
        spent.unlink()
    else:
        spent.write_text(left, encoding="utf-8")
    if step == 3:  # it is still unknown after one more interruption
        stopped(recipe, tmp_path / "a", 4)
    train(recipe, tmp_path / "a", progress=False)
    costs = card_of(tmp_path / "a").costs
    assert (costs.train_wall_s, costs.step_wall_s, costs.device_s) == (None, None, None)
    assert costs.tokens_per_s is None
    assert costs.train_tokens
    card = (tmp_path / "a" / "README.md").read_text(encoding="utf-8")
    assert "| Training time | - on cpu" in card and "| Tokens a second | - |" in card


def test_costs_of_a_run_that_was_stopped_add_up(recipe: Recipe, tmp_path: Path) -> None:
    file = stopped(recipe, tmp_path / "a", 3) / "spent.json"
    spent = json.loads(file.read_text(encoding="utf-8"))
    file.write_text(json.dumps(spent | {"wall_s": 1000.0, "step_wall_s": 900.0}), encoding="utf-8")
    train(recipe, tmp_path / "a", progress=False)
    costs = card_of(tmp_path / "a").costs
    assert costs.train_wall_s is not None and 1000 < costs.train_wall_s < 1100
    assert costs.step_wall_s is not None and 900 < costs.step_wall_s < 1000


@pytest.mark.parametrize("method", ["unlink", "rename"])
def test_a_whole_adapter_that_lacks_its_name_is_not_trained_anew(
    method: str, recipe: Recipe, undisturbed: list[bytes], tmp_path: Path
) -> None:
    real = getattr(Path, method)

    def stop(self: Path, *rest: Any, **named: Any) -> None:
        if self.name in ("a.partial", "rows.json"):
            raise KeyboardInterrupt
        real(self, *rest, **named)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Path, method, stop)
        with pytest.raises(KeyboardInterrupt):
            train(recipe, tmp_path / "a", progress=False)
    assert not (tmp_path / "a").exists()
    other = dataclasses.replace(recipe, training=dataclasses.replace(recipe.training, seed=7))
    with pytest.raises(UsageError, match="keeps a whole adapter, made from another recipe"):
        train(other, tmp_path / "a", progress=False)
    assert steps_to_end(recipe, tmp_path / "a") == 0
    assert contents(tmp_path / "a") == undisturbed
    assert not (tmp_path / "a" / "rows.json").exists()


def test_two_runs_do_not_work_on_one_folder(
    recipe: Recipe, undisturbed: list[bytes], tmp_path: Path
) -> None:
    stopped(recipe, tmp_path / "a", 3)
    with (
        workfolder.alone(tmp_path / "a"),
        pytest.raises(UsageError, match=r"a: another process is making it") as caught,
    ):
        train(recipe, tmp_path / "a", progress=False)
    assert str(tmp_path / "a") == caught.value.place
    (tmp_path / ".a.lock").touch()  # as kill -9 leaves it
    assert steps_to_end(recipe, tmp_path / "a") == 3
    assert contents(tmp_path / "a") == undisturbed


def test_what_another_run_has_finished_meanwhile_is_taken(
    recipe: Recipe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from peft_bench import training

    real = training._prepare

    def slowly(one: Recipe) -> Any:
        monkeypatch.setattr(training, "_prepare", real)
        train(recipe, tmp_path / "a", progress=False)
        return real(one)

    monkeypatch.setattr(training, "_prepare", slowly)
    assert steps_to_end(recipe, tmp_path / "a") == 6  # the other's


def test_checkpoints_of_another_recipe_are_kept(
    recipe: Recipe, undisturbed: list[bytes], tmp_path: Path
) -> None:
    checkpoint = stopped(recipe, tmp_path / "a", 3)
    other = dataclasses.replace(recipe, training=dataclasses.replace(recipe.training, seed=7))
    told = "keeps checkpoint-3 of an interrupted run, made from another recipe"
    with pytest.raises(UsageError, match=told) as caught:
        train(other, tmp_path / "a", progress=False)
    assert caught.value.place == str(tmp_path / "a.partial")
    assert checkpoint.is_dir()
    assert steps_to_end(recipe, tmp_path / "a") == 3
    assert contents(tmp_path / "a") == undisturbed


@pytest.mark.parametrize("copied", [False, True])
def test_a_folder_that_has_moved_is_gone_on_with(
    copied: bool, recipe_dict: dict[str, Any], conala_data: Path, tmp_path: Path
) -> None:
    # The loss climbs, so that the best checkpoint is an earlier one.
    recipe_dict["training"] |= {"epochs": 6, "learning_rate": 2.5, "schedule": "constant"}
    recipe = parse_recipe(recipe_dict)
    whole = train(recipe, tmp_path / "whole", progress=False)
    best = card_of(whole).outcome.best_step
    assert best is not None and best < 10
    old = stopped(recipe, tmp_path / "old" / "a", 10).parent
    if copied:
        shutil.copytree(tmp_path / "old", tmp_path / "new")
        for file in (old / f"checkpoint-{best}").iterdir():
            file.write_bytes(b"of the old place")
    else:
        (tmp_path / "old").rename(tmp_path / "new")
    assert steps_to_end(recipe, tmp_path / "new" / "a") == 2
    assert contents(tmp_path / "new" / "a") == contents(whole)


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
    recipe: Recipe, conala_data: Path, tmp_path: Path
) -> None:
    out = tmp_path / "a"
    stopped(recipe, out, 3)
    rows = conala_data / "conala" / "train.jsonl"
    rows.write_text(rows.read_text(encoding="utf-8").replace("sorted(xs)", "list(sorted(xs))"))
    with pytest.raises(UsageError, match="made from other rows"):
        train(recipe, out, progress=False)
    shutil.rmtree(tmp_path / "a.partial")
    again = contents(train(recipe, out, progress=False))
    assert again == contents(train(recipe, tmp_path / "fresh", progress=False))
