"""Training that goes wrong or stops early, and training by several processes."""

from __future__ import annotations

import dataclasses
import json
import os
import shutil
import subprocess
import sys
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from peft_bench import adapters, cards, checkpoints
from peft_bench.errors import MissingError, PeftBenchError, UsageError
from peft_bench.recipe import parse_recipe
from peft_bench.training import train

_TRAIN = """
import json, sys
from peft_bench.recipe import parse_recipe
from peft_bench.training import train
train(parse_recipe(json.loads(sys.argv[1])), sys.argv[2], progress=False)
"""


def test_a_loss_that_is_no_number_stops_and_keeps_the_last_good_checkpoint(
    recipe_dict: dict[str, Any], conala_data: Path, tmp_path: Path
) -> None:
    recipe_dict["training"] |= {"epochs": 20, "learning_rate": 50.0, "schedule": "constant"}
    with pytest.raises(PeftBenchError, match="is not a number") as caught:
        train(parse_recipe(recipe_dict), tmp_path / "a", progress=False)
    folder = tmp_path / "a.partial" / "checkpoints"
    kept = checkpoints.newest(folder)
    assert kept is not None and str(kept) in caught.value.problem
    assert not (tmp_path / "a").exists()
    # Nothing that was saved holds a weight that is no number.
    for checkpoint in folder.iterdir():
        for tensor in adapters.saved_tensors(checkpoint).values():
            assert bool(tensor.isfinite().all())


@pytest.mark.parametrize("options", [{"lora_alpha": 0}, {"alora_invocation_tokens": [3, 2, 3]}])
@pytest.mark.parametrize("epochs", [1, 8])
def test_a_method_that_learns_nothing_is_stopped(
    options: dict[str, Any],
    epochs: int,
    recipe_dict: dict[str, Any],
    conala_data: Path,
    tmp_path: Path,
) -> None:
    recipe_dict["method"]["options"] = options
    recipe_dict["training"]["epochs"] = epochs
    steps = 10 if epochs == 8 else 2
    with pytest.raises(PeftBenchError, match=f"every gradient was 0 in {steps} steps") as caught:
        train(parse_recipe(recipe_dict), tmp_path / "a", progress=False)
    assert caught.value.place == f"training step {steps}"
    assert not (tmp_path / "a").exists()


def test_early_stopping_ends_when_the_loss_no_longer_falls(
    recipe_dict: dict[str, Any], conala_data: Path, tmp_path: Path
) -> None:
    recipe_dict["training"] |= {"epochs": 30, "learning_rate": 2.5, "schedule": "constant"}
    recipe_dict["training"]["early_stopping"] = 1
    card = cards.read_card(train(parse_recipe(recipe_dict), tmp_path / "a", progress=False))
    assert card is not None and card.outcome.best_step is not None
    assert card.outcome.steps == card.outcome.best_step + 2  # one evaluation, an epoch, later
    assert card.outcome.steps < 60


def test_costs_on_the_card_add_up(
    recipe_dict: dict[str, Any], conala_data: Path, tmp_path: Path
) -> None:
    from transformers import AutoModelForCausalLM

    recipe_dict["method"] = {"name": "full"}
    card = cards.read_card(train(parse_recipe(recipe_dict), tmp_path / "a", progress=False))
    assert card is not None
    costs = card.costs
    assert costs.step_wall_s is not None and 0 < costs.step_wall_s < costs.train_wall_s
    assert costs.train_tokens is not None
    assert costs.tokens_per_s == pytest.approx(costs.train_tokens / costs.step_wall_s)
    assert costs.device_s is not None and costs.device_s > 0
    # Every weight is trained: six operations a weight of the body and token, head apart.
    model = AutoModelForCausalLM.from_pretrained(tmp_path / "a")
    body = sum(
        module.weight.numel()
        for name, module in model.named_modules()
        if type(module).__name__ == "Linear" and name != "lm_head"
    )
    assert costs.flops is not None
    head = costs.flops - 6 * body * costs.train_tokens
    labels = head / 6 / model.lm_head.weight.numel()
    assert labels == pytest.approx(round(labels)) and 0 < labels < costs.train_tokens


@pytest.mark.parametrize("kind", ["llama", "codegen", "t5"])
@pytest.mark.parametrize("method", ["full", "lora", "prompt_tuning"])
def test_flops_are_those_that_torch_counts(
    kind: str, method: str, tiny_model: Callable[..., Path]
) -> None:
    from torch.utils.flop_counter import FlopCounterMode

    from peft_bench import models, peft_model
    from peft_bench.encoding import Collator, Encoded
    from peft_bench.flops import training_flops
    from peft_bench.label_head import LabelHead

    folder = str(tiny_model(kind))
    section = {"name": method, "options": {"r": 2} if method == "lora" else {}}
    raw = {"name": "a", "model": {"id": folder}, "method": section, "data": {"tasks": ["conala"]}}
    recipe = parse_recipe(raw)
    config = models.load_config(recipe.model)
    model = peft_model.wrap(recipe, models.load_model(recipe.model, config), kind).train()
    # Rows of one length: what is counted is no padding.
    ask, answer = list(range(5, 105)), list(range(50, 110))
    if kind == "t5":
        row = {"input_ids": ask, "labels": answer, "length": 160}
    else:
        row = {"input_ids": ask + answer, "labels": [-100] * 100 + answer, "length": 160}
    with FlopCounterMode(display=False) as counter:
        LabelHead(model).loss(model, Collator(0)([row, row]))[0].backward()
    counts = counter.get_flop_counts()["Global"]
    products = sum(counts[op] for op in counts if str(op) in ("aten.mm", "aten.addmm"))
    found = training_flops(model, Encoded([row, row], 0, 0), 1.0)
    # Below a frozen model's first trained weight no gradient is needed: two layers feel that.
    least = 0.75 if method == "lora" else 0.95
    assert least * found <= products <= 1.02 * found


_TRAIN_IN_LITTLE_MEMORY = """
import resource, sys
from transformers import Trainer
train = Trainer.train
def bounded(self, *rest, **named):
    pages = int(open("/proc/self/statm").read().split()[0])
    most = pages * resource.getpagesize() + 2**26
    resource.setrlimit(resource.RLIMIT_AS, (most, most))
    return train(self, *rest, **named)
Trainer.train = bounded
from peft_bench.cli import main
sys.exit(main(["train", sys.argv[1], "--out", sys.argv[2]]))
"""


@pytest.mark.skipif(sys.platform != "linux", reason="memory is bounded by Linux's rules")
def test_training_that_runs_out_of_memory_says_so(
    recipe_dict: dict[str, Any], conala_data: Path, tmp_path: Path
) -> None:
    file = conala_data / "conala" / "train.jsonl"
    row = {"nl": "reverse " * 60, "cmd": "xs[::-1] " * 60, "question_id": "1-1"}
    file.write_text((json.dumps(row) + "\n") * 512, encoding="utf-8")
    recipe_dict["data"] |= {"max_prompt_tokens": 200, "max_target_tokens": 200}
    recipe_dict["training"] |= {"batch_size": 512}
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text(json.dumps(recipe_dict), encoding="utf-8")
    done = subprocess.run(
        [sys.executable, "-c", _TRAIN_IN_LITTLE_MEMORY, str(recipe), str(tmp_path / "a")],
        env=os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 1, done.stderr
    [said] = [line for line in done.stderr.splitlines() if line.startswith("peft-bench:")]
    assert "does not hold it at a micro batch of 512" in said
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "a").exists()


def test_memory_that_runs_out_is_told_with_a_remedy(recipe_dict: dict[str, Any]) -> None:
    import torch

    from peft_bench.models import load_config
    from peft_bench.runtime import is_out_of_memory
    from peft_bench.training_run import out_of_memory

    with pytest.raises(RuntimeError) as caught:
        torch.empty(2**55)  # as PyTorch says it on this machine
    assert is_out_of_memory(caught.value)
    assert is_out_of_memory(torch.OutOfMemoryError("CUDA out of memory"))
    assert not is_out_of_memory(RuntimeError("shapes cannot be multiplied"))
    recipe = parse_recipe(recipe_dict)
    error = out_of_memory(recipe, load_config(recipe.model), None)
    assert "micro batch of 4" in error.problem
    assert "training.micro_batch_size" in error.remedy


def test_memory_that_runs_out_on_a_gpu_names_what_would_fit(recipe_dict: dict[str, Any]) -> None:
    from transformers import LlamaConfig

    from peft_bench.training_run import out_of_memory

    recipe_dict["training"]["batch_size"] = 8
    recipe = parse_recipe(recipe_dict)
    config = LlamaConfig(
        hidden_size=1024,
        intermediate_size=4096,
        num_hidden_layers=2,
        num_attention_heads=16,
        vocab_size=32016,
    )
    error = out_of_memory(recipe, config, 2 * 1024**3)
    assert "2.0 GiB" in error.problem
    assert "`peft-bench fit` says: fits at micro batch" in error.remedy


def test_gradient_checkpointing_changes_nothing_and_no_old_name_is_used(
    recipe_dict: dict[str, Any], conala_data: Path, tmp_path: Path
) -> None:
    import torch

    recipe_dict["method"]["options"] = {"lora_dropout": 0.0}
    found = []
    for on in (False, True):
        recipe_dict["training"]["gradient_checkpointing"] = on
        with warnings.catch_warnings():
            warnings.filterwarnings("error", message=".*deprecated", category=FutureWarning)
            folder = train(parse_recipe(recipe_dict), tmp_path / str(on), progress=False)
        found.append(adapters.saved_tensors(folder))
    plain, checkpointed = found
    assert plain.keys() == checkpointed.keys()
    for name in plain:
        assert torch.allclose(plain[name], checkpointed[name], atol=1e-6), name


def test_a_batch_that_processes_cannot_share_is_refused(
    recipe_dict: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    from peft_bench.trainer import batches

    recipe = parse_recipe(recipe_dict)
    assert batches(recipe) == (4, 1)
    monkeypatch.setenv("WORLD_SIZE", "2")
    assert batches(recipe) == (2, 1)
    monkeypatch.setenv("WORLD_SIZE", "3")
    with pytest.raises(UsageError, match="3 processes"):
        batches(recipe)


def two_ranks(script: str, *arguments: object) -> tuple[list[int], list[str]]:
    """Runs a script as two processes that train together; their exit codes, and what they said."""
    command = [sys.executable, "-c", script, *map(str, arguments)]
    environment = os.environ | {
        "PYTHONPATH": os.pathsep.join(filter(None, sys.path)),
        "WORLD_SIZE": "2",
        "LOCAL_WORLD_SIZE": "2",
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(20000 + os.getpid() % 20000),
    }
    processes = [
        subprocess.Popen(
            command,
            env=environment | {"RANK": rank, "LOCAL_RANK": rank},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        for rank in ("0", "1")
    ]
    said = [process.communicate(timeout=120)[0] for process in processes]
    return [process.returncode for process in processes], said


def test_two_processes_train_the_adapter_that_one_does(
    recipe_dict: dict[str, Any], conala_data: Path, tmp_path: Path
) -> None:
    import torch

    recipe_dict["method"]["options"] = {"lora_dropout": 0.0}
    alone = train(parse_recipe(recipe_dict), tmp_path / "alone", progress=False)
    codes, said = two_ranks(_TRAIN, json.dumps(recipe_dict), tmp_path / "two")
    assert codes == [0, 0], said
    one, two = cards.read_card(alone), cards.read_card(tmp_path / "two")
    assert one is not None and two is not None
    assert two.costs.processes == 2
    assert two.outcome.steps == one.outcome.steps
    assert two.outcome.validation_loss == pytest.approx(one.outcome.validation_loss, rel=1e-5)
    assert two.outcome.train_loss == pytest.approx(one.outcome.train_loss, rel=1e-5)
    ours, theirs = adapters.saved_tensors(alone), adapters.saved_tensors(tmp_path / "two")
    for name in ours:
        assert torch.allclose(ours[name], theirs[name], atol=1e-5), name
    assert not (tmp_path / "two.partial").exists()


# Killed once the third checkpoint is whole, at the first start.
_TRAIN_TWICE = """
import os
from transformers import Trainer
begin, save = Trainer.train, Trainer._maybe_log_save_evaluate
def stop(self, *rest, **named):
    save(self, *rest, **named)
    if self.state.global_step == 3:
        os._exit(9)
def tell(self, *rest, resume_from_checkpoint=None, **named):
    print("from", resume_from_checkpoint)
    if resume_from_checkpoint is None:
        Trainer._maybe_log_save_evaluate = stop
    return begin(self, *rest, resume_from_checkpoint=resume_from_checkpoint, **named)
Trainer.train = tell
"""


def test_two_processes_go_on_where_they_were_stopped(
    recipe_dict: dict[str, Any],
    conala_data: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    import torch

    recipe_dict["training"] |= {"evaluations_per_epoch": 2}
    raw = json.dumps(recipe_dict)
    two, alone, whole = tmp_path / "two", tmp_path / "alone", tmp_path / "whole"
    codes, said = two_ranks(_TRAIN_TWICE + _TRAIN, raw, two)
    assert codes == [9, 9], said
    checkpoint = tmp_path / "two.partial" / "checkpoints" / "checkpoint-3"
    shutil.copytree(tmp_path / "two.partial", tmp_path / "alone.partial")
    codes, said = two_ranks(_TRAIN_TWICE + _TRAIN, raw, two)
    assert codes == [0, 0], said
    assert all(f"from {checkpoint}" in one for one in said)
    codes, said = two_ranks(_TRAIN, raw, whole)
    assert codes == [0, 0], said
    assert adapters.content_sha256(two) == adapters.content_sha256(whole)
    stopped, undisturbed = cards.read_card(two), cards.read_card(whole)
    assert stopped is not None and undisturbed is not None
    assert stopped.outcome == undisturbed.outcome

    # One process goes on as well; its dropout is not that of two.
    train(parse_recipe(recipe_dict), alone, progress=False)
    card = cards.read_card(alone)
    assert card is not None and card.costs.device_s is None  # of two and of one
    captured = capsys.readouterr()
    assert captured.out.count("{'loss'") == 1 and "passed over" not in captured.err
    ours, theirs = adapters.saved_tensors(whole), adapters.saved_tensors(alone)
    assert all(torch.allclose(ours[name], theirs[name], atol=1e-2) for name in ours)


def test_a_checkpoint_that_a_process_has_not_finished_is_not_whole(
    trained: Callable[..., Path], tmp_path: Path
) -> None:
    import torch

    checkpoint = tmp_path / "checkpoint-3"
    shutil.copytree(trained(), checkpoint)
    (checkpoint / "trainer_state.json").write_text("{}", encoding="utf-8")
    spent = checkpoints.Spent(processes=2)
    (checkpoint / "spent.json").write_text(json.dumps(dataclasses.asdict(spent)), encoding="utf-8")
    for name in ("optimizer.pt", "scheduler.pt", "rng_state_0.pth"):
        torch.save({}, checkpoint / name)
    assert checkpoints.newest(tmp_path) is None
    torch.save({}, checkpoint / "rng_state_1.pth")
    assert checkpoints.newest(tmp_path) == checkpoint


def test_a_logger_that_is_not_there_is_told_before_anything_loads(
    recipe_dict: dict[str, Any], conala_data: Path, tmp_path: Path
) -> None:
    recipe_dict["model"]["id"] = str(tmp_path / "nothing")
    with pytest.raises(MissingError, match="--log-to loggr"):
        train(parse_recipe(recipe_dict), tmp_path / "a", progress=False, loggers=["loggr"])


def test_the_trainers_own_loggers_are_written_to(
    recipe_dict: dict[str, Any],
    conala_data: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    pytest.importorskip("tensorboard", reason="pip install tensorboard")
    monkeypatch.setenv("TENSORBOARD_LOGGING_DIR", str(tmp_path / "log"))
    recipe = parse_recipe(recipe_dict)
    train(recipe, tmp_path / "a", progress=False, loggers=["tensorboard"])
    files = (tmp_path / "log").rglob("events.out.tfevents.*")
    assert b"eval/loss" in b"".join(file.read_bytes() for file in files)


def test_trl_is_refused_before_anything_loads(recipe_dict: dict[str, Any]) -> None:
    from importlib.util import find_spec

    from transformers import LlamaConfig, T5Config

    from peft_bench import trl_engine

    trl_engine.check(parse_recipe(recipe_dict), T5Config())
    recipe_dict["training"]["engine"] = "trl"
    recipe = parse_recipe(recipe_dict)
    with pytest.raises(UsageError, match="encoder-decoder"):
        trl_engine.check(recipe, T5Config())
    if find_spec("trl") is None:
        with pytest.raises(MissingError, match=r"peft-bench\[trl\]"):
            trl_engine.check(recipe, LlamaConfig())
    else:
        trl_engine.check(recipe, LlamaConfig())


def test_trl_trains_the_same_recipe_to_the_same_card(
    recipe_dict: dict[str, Any], conala_data: Path, tmp_path: Path
) -> None:
    import torch

    pytest.importorskip("trl", reason='pip install "peft-bench[trl]"')
    # All rows in each batch, without dropout: both engines see the same.
    recipe_dict["method"]["options"] = {"lora_dropout": 0.0}
    recipe_dict["training"] |= {"batch_size": 8, "micro_batch_size": 8, "epochs": 3}
    found = []
    for engine in ("peft-bench", "trl"):
        recipe_dict["training"]["engine"] = engine
        folder = train(parse_recipe(recipe_dict), tmp_path / engine, progress=False)
        card = adapters.check_folder(folder)
        assert card is not None and card.costs.engine == engine
        found.append((card, adapters.saved_tensors(folder)))
    (our_card, ours), (card, theirs) = found
    assert "trl" in card.versions
    assert card.outcome.steps == our_card.outcome.steps == 3
    assert card.costs.train_tokens == our_card.costs.train_tokens
    assert card.costs.flops == our_card.costs.flops
    assert card.outcome.validation_loss == pytest.approx(our_card.outcome.validation_loss, rel=1e-5)
    assert card.outcome.train_loss == pytest.approx(our_card.outcome.train_loss, rel=1e-5)
    for name in ours:
        assert torch.allclose(ours[name], theirs[name], atol=1e-5), name


@pytest.mark.parametrize("method", ["prompt_tuning", "prefix_tuning", "full"])
def test_trl_validates_as_we_do(
    method: str, recipe_dict: dict[str, Any], conala_data: Path, tmp_path: Path
) -> None:
    pytest.importorskip("trl", reason='pip install "peft-bench[trl]"')
    # Batches of unlike lengths; nothing is learnt, so both validate the same model.
    recipe_dict["method"] = {"name": method}
    recipe_dict["training"] |= {"micro_batch_size": 2, "max_steps": 1, "learning_rate": 1e-12}
    losses = []
    for engine in ("peft-bench", "trl"):
        recipe_dict["training"]["engine"] = engine
        card = cards.read_card(train(parse_recipe(recipe_dict), tmp_path / engine, progress=False))
        assert card is not None
        losses.append(card.outcome.validation_loss)
    assert losses[0] == pytest.approx(losses[1], rel=1e-5)
