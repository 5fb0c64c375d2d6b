"""``peft-bench train``: a recipe becomes an adapter folder with its card.

The work happens in ``NAME.partial``, which keeps checkpoints; it is renamed to ``NAME`` when the
adapter is whole. An interrupted run goes on from its last checkpoint when it is started again.
"""

from __future__ import annotations

import json
import os
import shutil
import time
import traceback
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from peft_bench import adapters, cards, checkpoints, data, models, peft_model, prompts, runtime
from peft_bench.encoding import Encoded, encode_rows
from peft_bench.errors import PeftBenchError, UsageError
from peft_bench.families import prompt_name
from peft_bench.recipe import Recipe
from peft_bench.trainer import close_bars, make_trainer
from peft_bench.workfolder import disk_error, open_partial

_RECIPE_FILE = "recipe.yaml"
_ROWS_FILE = "rows.json"


@dataclass(frozen=True, slots=True)
class _Prepared:
    """What is known before the weights are loaded."""

    config: Any
    tokenizer: Any
    prompt: prompts.PromptTemplate
    train: Encoded
    validation: Encoded
    splits: tuple[data.Split, ...]


def train(recipe: Recipe, out: str | Path | None = None, *, progress: bool = True) -> Path:
    """Trains the adapter that a recipe describes; returns its folder (``adapters/NAME``).

    If the folder exists already and holds the same recipe's adapter, nothing is done.

    Args:
        recipe: see :class:`peft_bench.recipe.Recipe`.
        out: the adapter's folder; ``adapters/<recipe name>`` by default.
        progress: whether to show progress bars.

    Raises:
        UsageError: faulty rows or options; or ``out`` holds another recipe's adapter.
        MissingError: the model or the data cannot be had.
        PeftBenchError: training failed (no space left, a loss that is not a number).
        KeyboardInterrupt: stopped; checkpoints stay in ``OUT.partial``.
    """
    folder = Path(out) if out is not None else Path("adapters") / recipe.name
    if _is_done(folder, recipe):
        return folder
    prepared = _prepare(recipe)
    partial = open_partial(folder, _identity(recipe, prepared.splits))
    try:
        _run(recipe, prepared, partial, progress=progress)
        shutil.rmtree(partial / "checkpoints", ignore_errors=True)
        (partial / _ROWS_FILE).unlink()  # the card tells of them
        partial.rename(folder)
    except OSError as error:
        raise disk_error(partial, error) from error
    return folder


def _is_done(folder: Path, recipe: Recipe) -> bool:
    if not folder.exists():
        return False
    card = adapters.check_folder(folder)
    if card is None or card.recipe_sha256 != recipe.sha256:
        raise UsageError(
            place=str(folder),
            problem="holds another adapter (another recipe made it)",
            remedy="choose another --out or recipe name, or delete the folder",
        )
    return True


def _identity(recipe: Recipe, splits: tuple[data.Split, ...]) -> dict[str, str]:
    """What an interrupted run must share with this one to be gone on with."""
    import yaml

    return {
        _RECIPE_FILE: yaml.safe_dump(recipe.to_dict(), sort_keys=False),
        _ROWS_FILE: json.dumps(data.describe(splits), indent=2) + "\n",
    }


def _prepare(recipe: Recipe) -> _Prepared:
    """Reads rows, configuration and tokenizer: their faults are told before weights load."""
    splits = tuple(
        data.load_split(task, name)
        for name in ("train", "validation")
        for task in recipe.data.tasks
    )
    config = models.load_config(recipe.model)
    tokenizer = models.load_tokenizer(recipe.model)
    name = recipe.data.prompt or prompt_name(
        config.model_type, is_encoder_decoder=config.is_encoder_decoder
    )
    prompt = prompts.PROMPTS[name]

    def encoded(split: str, limit: int | None) -> Encoded:
        rows = [row for part in splits if part.name == split for row in part.rows]
        return encode_rows(
            rows[:limit],
            tokenizer,
            prompt,
            max_prompt_tokens=recipe.data.max_prompt_tokens,
            max_target_tokens=recipe.data.max_target_tokens,
            is_encoder_decoder=config.is_encoder_decoder,
        )

    train_rows = encoded("train", recipe.data.max_train_rows)
    return _Prepared(config, tokenizer, prompt, train_rows, encoded("validation", None), splits)


def _run(recipe: Recipe, prepared: _Prepared, partial: Path, *, progress: bool) -> None:
    import torch
    from safetensors import SafetensorError
    from transformers import set_seed

    set_seed(recipe.training.seed)
    started = time.perf_counter()
    if torch.cuda.is_available():
        torch.cuda.reset_peak_memory_stats()
    base = models.load_model(recipe.model, prepared.config)
    base_card = _base_card(recipe, base)
    load_wall_s = time.perf_counter() - started
    load_peak = runtime.peak_device_bytes()
    model = peft_model.wrap(recipe, base, prepared.config.model_type)
    checkpoint = checkpoints.last_checkpoint(partial / "checkpoints")
    earlier_wall_s = checkpoints.wall_s(checkpoint) if checkpoint else 0.0
    trainer = make_trainer(
        recipe,
        model,
        prepared.train,
        prepared.validation,
        partial / "checkpoints",
        pad_token_id=prepared.tokenizer.pad_token_id,
        earlier_wall_s=earlier_wall_s,
        progress=progress,
    )
    if torch.cuda.is_available():
        torch.cuda.reset_peak_memory_stats()
    started = time.perf_counter()
    try:
        result = trainer.train(resume_from_checkpoint=str(checkpoint) if checkpoint else None)
        validation_loss = trainer.evaluate()["eval_loss"]
        peft_model.save(model, partial)
    except SafetensorError as error:
        raise disk_error(partial, error) from error
    except RuntimeError as error:
        if not _came_from_saving(error):
            raise
        raise disk_error(partial, error) from error
    finally:
        close_bars(trainer)
    train_wall_s = earlier_wall_s + time.perf_counter() - started
    if not validation_loss == validation_loss:
        raise PeftBenchError(
            place=f"training of {recipe.name}",
            problem="the validation loss is not a number",
            remedy="lower training.learning_rate, or use model.dtype float32 or bfloat16",
        )
    state = trainer.state
    outcome = cards.Outcome(
        steps=state.global_step,
        epochs=float(state.epoch or 0.0),
        train_loss=float(result.training_loss),
        validation_loss=float(validation_loss),
        best_step=state.best_global_step,
        truncated_prompts=prepared.train.truncated_prompts,
        truncated_targets=prepared.train.truncated_targets,
    )
    tokens = prepared.train.tokens * outcome.epochs
    costs = cards.Costs(
        device=_device_name(),
        load_wall_s=load_wall_s,
        train_wall_s=train_wall_s,
        tokens_per_s=tokens / train_wall_s,
        load_peak_bytes=load_peak,
        train_peak_bytes=runtime.peak_device_bytes(),
        reserved_peak_bytes=torch.cuda.max_memory_reserved() if torch.cuda.is_available() else None,
    )
    _write_card(recipe, prepared, partial, base_card, costs, outcome, model)


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


def _write_card(
    recipe: Recipe,
    prepared: _Prepared,
    partial: Path,
    base_card: cards.BaseCard,
    costs: cards.Costs,
    outcome: cards.Outcome,
    model: Any,
) -> None:
    size = sum((partial / n).stat().st_size for n in (adapters.CONFIG_FILE, adapters.WEIGHTS_FILE))
    prompt = prepared.prompt
    card = cards.AdapterCard(
        schema_version=cards.CARD_SCHEMA_VERSION,
        name=recipe.name,
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        recipe=recipe.to_dict(),
        recipe_sha256=recipe.sha256,
        method=recipe.method.name,
        base=base_card,
        prompt=cards.PromptCard(prompt.name, prompt.text, prompt.sha256),
        data=data.describe(prepared.splits),
        custom_data=any(split.custom for split in prepared.splits),
        trainable_parameters=sum(p.numel() for p in model.parameters() if p.requires_grad),
        adapter_sha256=adapters.content_sha256(partial),
        adapter_bytes=size,
        costs=costs,
        outcome=outcome,
        versions=runtime.versions(),
    )
    cards.write_card(partial, card)


def _came_from_saving(error: RuntimeError) -> bool:
    """Whether torch.save raised it: with no space left it says so in many ways, none an OSError."""
    frames = (frame for frame, _ in traceback.walk_tb(error.__traceback__))
    return any(
        frame.f_globals.get("__name__") == "torch.serialization" and frame.f_code.co_name == "save"
        for frame in frames
    )


def _device_name() -> str:
    import torch

    return torch.cuda.get_device_name() if torch.cuda.is_available() else f"cpu x{os.cpu_count()}"
