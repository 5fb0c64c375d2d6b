"""One training run: base, adapter and trainer put together; its errors told, its costs summed."""

from __future__ import annotations

import os
import time
import traceback
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from peft_bench import adapters, cards, checkpoints, fit, models, peft_model, runtime, trl_engine
from peft_bench.encoding import Encoded
from peft_bench.errors import PeftBenchError
from peft_bench.flops import training_flops
from peft_bench.recipe import Recipe
from peft_bench.trainer import batches, close_bars, make_trainer
from peft_bench.workfolder import disk_error

CHECKPOINTS = "checkpoints"


@dataclass(frozen=True, slots=True)
class Prepared:
    """What a run needs before the weights are loaded."""

    config: Any
    tokenizer: Any
    train: Encoded
    validation: Encoded


@dataclass(frozen=True, slots=True)
class Finished:
    """What a run tells of itself."""

    base: cards.BaseCard
    costs: cards.Costs
    outcome: cards.Outcome
    trainable_parameters: int


def run(
    recipe: Recipe,
    prepared: Prepared,
    partial: Path,
    *,
    progress: bool,
    loggers: Sequence[str] = (),
) -> Finished:
    """Trains, from the last whole checkpoint in ``partial`` if there is one, and saves there.

    Of several processes only the first one writes. ``loggers``: see
    :func:`peft_bench.trainer.make_trainer`.

    Raises:
        PeftBenchError: no space left; out of memory, with what would fit; a loss that is not a
            number, with the last good checkpoint.
    """
    import torch
    from transformers import set_seed

    set_seed(recipe.training.seed)
    started = time.perf_counter()
    _forget_peak()
    with _telling_of_memory(recipe, prepared):
        base = models.load_model(recipe.model, prepared.config)
        base_card = _base_card(recipe, base)
        load_wall_s = time.perf_counter() - started
        load_peak = runtime.peak_device_bytes()
        model = peft_model.wrap(recipe, base, prepared.config.model_type)
        peft_model.begin_from_text(recipe, model, prepared.tokenizer)
        folder = partial / CHECKPOINTS
        if runtime.is_main():
            checkpoints.last_checkpoint(folder)  # clears away what is half written
        runtime.wait()
        checkpoint = checkpoints.newest(folder)
        trainer = _make(recipe, model, prepared, folder, checkpoint, progress, loggers)
        _forget_peak()
        validation_loss = _train(trainer, checkpoint, model, partial, prepared.tokenizer)
    spent = next(found for found in map(_spent, trainer.callback_handler.callbacks) if found)
    state = trainer.state
    epochs = float(state.epoch or 0.0)
    tokens = prepared.train.tokens * epochs
    cuda = torch.cuda.is_available()
    processes = runtime.processes()
    costs = cards.Costs(
        device=torch.cuda.get_device_name() if cuda else f"cpu x{os.cpu_count()}",
        load_wall_s=load_wall_s,
        train_wall_s=spent.wall_s if spent.known else None,
        tokens_per_s=tokens / spent.step_wall_s if spent.known and spent.step_wall_s else None,
        load_peak_bytes=load_peak,
        train_peak_bytes=runtime.peak_device_bytes(),
        reserved_peak_bytes=torch.cuda.max_memory_reserved() if cuda else None,
        engine=recipe.training.engine,
        processes=processes,
        step_wall_s=spent.step_wall_s if spent.known else None,
        device_s=processes * (spent.wall_s if cuda else spent.cpu_s) if spent.known else None,
        train_tokens=round(tokens),
        flops=training_flops(model, prepared.train, epochs),
    )
    outcome = cards.Outcome(
        steps=state.global_step,
        epochs=epochs,
        train_loss=checkpoints.train_loss(state),
        validation_loss=validation_loss,
        best_step=state.best_global_step,
        truncated_prompts=prepared.train.truncated_prompts,
        truncated_targets=prepared.train.truncated_targets,
        dropped_rows=prepared.train.dropped_rows,
    )
    trainable = sum(p.numel() for p in model.parameters() if p.requires_grad)
    return Finished(base_card, costs, outcome, trainable)


def _make(
    recipe: Recipe,
    model: Any,
    prepared: Prepared,
    folder: Path,
    checkpoint: Path | None,
    progress: bool,
    loggers: Sequence[str],
) -> Any:
    make = trl_engine.make_trainer if recipe.training.engine == "trl" else make_trainer
    return make(
        recipe,
        model,
        prepared.train,
        prepared.validation,
        folder,
        pad_token_id=prepared.tokenizer.pad_token_id,
        earlier=checkpoints.spent(checkpoint),
        progress=progress,
        loggers=loggers,
    )


def _train(
    trainer: Any, checkpoint: Path | None, model: Any, partial: Path, tokenizer: Any
) -> float:
    """Trains, and saves the best checkpoint's adapter; returns its validation loss."""
    from safetensors import SafetensorError

    try:
        if checkpoint is not None and checkpoints.is_last(checkpoint):
            checkpoints.load_last(trainer, checkpoint)
        else:
            trainer.train(resume_from_checkpoint=str(checkpoint) if checkpoint else None)
        validation_loss = float(trainer.evaluate()["eval_loss"])
        if runtime.is_main():
            peft_model.save(model, partial, tokenizer)
    except SafetensorError as error:
        raise disk_error(partial, error) from error
    except RuntimeError as error:
        if not _came_from_saving(error):
            raise
        raise disk_error(partial, error) from error
    finally:
        close_bars(trainer)
    return validation_loss


def _spent(callback: Any) -> checkpoints.Spent | None:
    tell = getattr(callback, "spent", None)
    return None if tell is None else tell()


def _forget_peak() -> None:
    import torch

    if torch.cuda.is_available():
        torch.cuda.reset_peak_memory_stats()


@contextmanager
def _telling_of_memory(recipe: Recipe, prepared: Prepared) -> Iterator[None]:
    """Turns an allocation that failed into an error that says what would fit."""
    import torch

    try:
        yield
    except (RuntimeError, MemoryError) as error:
        if not runtime.is_out_of_memory(error):
            raise
        cuda = torch.cuda.is_available()
        total = torch.cuda.get_device_properties(0).total_memory if cuda else None
        raise out_of_memory(recipe, prepared.config, total) from error


def out_of_memory(recipe: Recipe, config: Any, gpu_memory_bytes: int | None) -> PeftBenchError:
    """What to raise when memory ran out; of a GPU's, with the mildest change that would fit.

    ``gpu_memory_bytes`` is None on a CPU, for which nothing is reckoned.
    """
    micro, _ = batches(recipe)
    device, total = "the GPU's memory", gpu_memory_bytes
    remedy = "lower training.micro_batch_size, or set training.gradient_checkpointing=true"
    if gpu_memory_bytes is None:
        device, total = "memory", runtime.total_memory_bytes()
    else:
        # A model that cannot be reckoned: the remedy stands without figures.
        with suppress(PeftBenchError):
            told = fit.remedy(fit.plan_of(recipe, config), gpu_memory_bytes)
            remedy = f"{remedy}; `peft-bench fit` says: {told}"
    have = "" if total is None else f" ({total / 1024**3:.1f} GiB)"
    return PeftBenchError(
        place=f"training of {recipe.name}",
        problem=f"{device}{have} does not hold it at a micro batch of {micro}",
        remedy=remedy,
    )


def _base_card(recipe: Recipe, base: Any) -> cards.BaseCard:
    quantization = recipe.model.quantization
    return cards.BaseCard(
        id=recipe.model.id,
        revision=recipe.model.revision,
        commit=getattr(base.config, "_commit_hash", None),
        dtype=models.resolve_dtype(recipe.model.dtype),
        quantization=quantization,
        model_type=base.config.model_type,
        parameters=base.num_parameters(),
        fingerprint=adapters.fingerprint(base, quantized=quantization is not None),
    )


def _came_from_saving(error: RuntimeError) -> bool:
    """Whether torch.save raised it: with no space left it says so in many ways, none an OSError."""
    frames = (frame for frame, _ in traceback.walk_tb(error.__traceback__))
    return any(
        frame.f_globals.get("__name__") == "torch.serialization" and frame.f_code.co_name == "save"
        for frame in frames
    )
