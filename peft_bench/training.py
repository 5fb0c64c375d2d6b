"""``peft-bench train``: a recipe becomes an adapter folder with its card.

The work happens in ``NAME.partial``, which keeps checkpoints; it is renamed to ``NAME`` when the
adapter is whole. An interrupted run goes on from its last checkpoint when it is started again.
"""

from __future__ import annotations

import json
import os
import shutil
import sys
import time
import traceback
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path
from typing import Any

from peft_bench import adapters, data, methods, models, prompts, runtime
from peft_bench.encoding import IGNORED_LABEL, Collator, Encoded, encode_rows
from peft_bench.errors import PeftBenchError, UsageError
from peft_bench.families import prompt_name
from peft_bench.recipe import Recipe

_PARTIAL = ".partial"
_RECIPE_FILE = "recipe.yaml"
_STATE_FILE = "trainer_state.json"
_TORCH_FILES = ("optimizer.pt", "scheduler.pt", "rng_state.pth")


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
    partial = folder.with_name(folder.name + _PARTIAL)
    prepared = _prepare(recipe)
    _open_partial(partial, recipe)
    try:
        _run(recipe, prepared, partial, progress=progress)
        shutil.rmtree(partial / "checkpoints", ignore_errors=True)
        partial.rename(folder)
    except OSError as error:
        raise _disk_error(partial, error) from error
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


def _open_partial(partial: Path, recipe: Recipe) -> None:
    """Makes the working folder, or keeps one that the same recipe left behind."""
    import yaml

    file = partial / _RECIPE_FILE
    mine = yaml.safe_dump(recipe.to_dict(), sort_keys=False)
    if partial.exists() and (not file.is_file() or file.read_text(encoding="utf-8") != mine):
        shutil.rmtree(partial)
    try:
        partial.mkdir(parents=True, exist_ok=True)
        file.write_text(mine, encoding="utf-8")
    except OSError as error:
        raise _disk_error(partial, error) from error


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
    model = _wrap(recipe, base, prepared.config.model_type)
    trainer = _trainer(recipe, prepared, model, partial, progress=progress)
    checkpoint = _last_checkpoint(partial / "checkpoints")
    earlier_wall_s = _earlier_wall_s(checkpoint) if checkpoint else 0.0
    if torch.cuda.is_available():
        torch.cuda.reset_peak_memory_stats()
    started = time.perf_counter()
    try:
        result = trainer.train(resume_from_checkpoint=str(checkpoint) if checkpoint else None)
        validation_loss = trainer.evaluate()["eval_loss"]
        _save(model, prepared.tokenizer, partial)
    except SafetensorError as error:
        raise _disk_error(partial, error) from error
    except RuntimeError as error:
        if not _came_from_saving(error):
            raise
        raise _disk_error(partial, error) from error
    finally:
        _close_bars(trainer)
    train_wall_s = earlier_wall_s + time.perf_counter() - started
    if not validation_loss == validation_loss:
        raise PeftBenchError(
            place=f"training of {recipe.name}",
            problem="the validation loss is not a number",
            remedy="lower training.learning_rate, or use model.dtype float32 or bfloat16",
        )
    state = trainer.state
    outcome = adapters.Outcome(
        steps=state.global_step,
        epochs=float(state.epoch or 0.0),
        train_loss=float(result.training_loss),
        validation_loss=float(validation_loss),
        best_step=state.best_global_step,
        truncated_prompts=prepared.train.truncated_prompts,
        truncated_targets=prepared.train.truncated_targets,
    )
    tokens = prepared.train.tokens * outcome.epochs
    costs = adapters.Costs(
        device=_device_name(),
        load_wall_s=load_wall_s,
        train_wall_s=train_wall_s,
        tokens_per_s=tokens / train_wall_s,
        load_peak_bytes=load_peak,
        train_peak_bytes=runtime.peak_device_bytes(),
        reserved_peak_bytes=torch.cuda.max_memory_reserved() if torch.cuda.is_available() else None,
    )
    _write_card(recipe, prepared, partial, base_card, costs, outcome, model)


def _base_card(recipe: Recipe, base: Any) -> adapters.BaseCard:
    quantization = recipe.model.quantization
    return adapters.BaseCard(
        id=recipe.model.id,
        revision=recipe.model.revision,
        commit=getattr(base.config, "_commit_hash", None),
        dtype=models.resolve_dtype(recipe.model.dtype),
        quantization=quantization,
        model_type=base.config.model_type,
        parameters=base.num_parameters(),
        fingerprint=adapters.fingerprint(base, quantized=quantization is not None),
    )


def _wrap(recipe: Recipe, base: Any, model_type: str) -> Any:
    """The PEFT model: the recipe's options over the method's defaults, as PEFT takes them."""
    from peft import get_peft_config, get_peft_model, prepare_model_for_kbit_training

    if recipe.model.quantization is not None:
        base = prepare_model_for_kbit_training(base, use_gradient_checkpointing=False)
    name = recipe.method.name
    row = methods.METHODS.get(name)
    options: dict[str, Any] = {
        "task_type": "SEQ_2_SEQ_LM" if base.config.is_encoder_decoder else "CAUSAL_LM",
        "base_model_name_or_path": recipe.model.id,
    }
    if row is not None:
        options |= dict(row.options) | models.target_options(row.targets, model_type)
    if methods.peft_type(name) == "PROMPT_TUNING" and "tokenizer_name_or_path" not in options:
        options["tokenizer_name_or_path"] = recipe.model.id
    options |= recipe.method.options
    try:
        config = get_peft_config({"peft_type": methods.peft_type(name), **options})
        model = get_peft_model(base, config)
    except (TypeError, ValueError) as error:
        raise UsageError(
            place="method.options",
            problem=f"PEFT refuses them for {name} on {model_type}: {error}",
            remedy="see PEFT's documentation of this method's configuration",
        ) from error
    return model


def _trainer(
    recipe: Recipe, prepared: _Prepared, model: Any, partial: Path, *, progress: bool
) -> Any:
    import torch
    from transformers import TrainingArguments

    choice = recipe.training
    micro = choice.micro_batch_size or choice.batch_size
    accumulation = choice.batch_size // micro
    steps_per_epoch = max(1, -(-len(prepared.train.features) // choice.batch_size))
    interval = max(1, round(steps_per_epoch / choice.evaluations_per_epoch))
    if choice.max_steps is not None:
        interval = min(interval, choice.max_steps)
    dtype = models.resolve_dtype(recipe.model.dtype)
    arguments = TrainingArguments(
        # Checkpoints name each other: an absolute path holds wherever the command is run again.
        output_dir=str((partial / "checkpoints").absolute()),
        num_train_epochs=choice.epochs,
        max_steps=choice.max_steps or -1,
        per_device_train_batch_size=micro,
        per_device_eval_batch_size=micro,
        gradient_accumulation_steps=accumulation,
        learning_rate=choice.learning_rate or methods.learning_rate(recipe.method.name),
        lr_scheduler_type=choice.schedule,
        warmup_steps=choice.warmup_ratio,
        weight_decay=choice.weight_decay,
        optim=choice.optimizer,
        bf16=dtype == "bfloat16" and torch.cuda.is_available(),
        fp16=dtype == "float16" and torch.cuda.is_available(),
        eval_strategy="steps",
        eval_steps=interval,
        save_strategy="steps",
        save_steps=interval,
        save_total_limit=2,
        load_best_model_at_end=True,
        metric_for_best_model="eval_loss",
        greater_is_better=False,
        logging_steps=interval,
        seed=choice.seed,
        data_seed=choice.seed,
        report_to="none",
        disable_tqdm=not progress,
        remove_unused_columns=False,
        label_names=["labels"],
        dataloader_pin_memory=torch.cuda.is_available(),
    )
    return _trainer_class()(
        model=model,
        args=arguments,
        train_dataset=prepared.train.features,
        eval_dataset=prepared.validation.features,
        data_collator=Collator(prepared.tokenizer.pad_token_id),
        callbacks=[_wall_clock(partial)],
    )


def _trainer_class() -> type[Any]:
    """transformers' Trainer, with two differences.

    Losses are means over label tokens in every case; and the order of the rows depends on seed
    and epoch alone, so that a resumed run sees the batches that an undisturbed one does.
    """
    import torch
    from transformers import Trainer
    from transformers.trainer_pt_utils import get_length_grouped_indices

    def tokens(labels: torch.Tensor) -> int:
        return int((labels != IGNORED_LABEL).sum())

    class ByLength(torch.utils.data.Sampler[int]):
        """Rows of about the same length together, shuffled anew each epoch."""

        def __init__(self, lengths: list[int], batch_size: int, seed: int) -> None:
            self.lengths = lengths
            self.batch_size = batch_size
            self.seed = seed
            self.epoch = 0

        def set_epoch(self, epoch: int) -> None:
            self.epoch = epoch

        def __len__(self) -> int:
            return len(self.lengths)

        def __iter__(self) -> Iterator[int]:
            generator = torch.Generator().manual_seed(1000 * self.seed + self.epoch)
            order = get_length_grouped_indices(self.lengths, self.batch_size, generator=generator)
            return iter(order)

    class PeftBenchTrainer(Trainer):  # type: ignore[misc]
        def _get_train_sampler(self, train_dataset: Any = None) -> ByLength:
            rows = self.train_dataset if train_dataset is None else train_dataset
            batch_size = self.args.train_batch_size * self.args.gradient_accumulation_steps
            return ByLength([row["length"] for row in rows], batch_size, self.args.data_seed)

        def compute_loss(
            self,
            model: Any,
            inputs: dict[str, Any],
            return_outputs: bool = False,
            num_items_in_batch: Any = None,
        ) -> Any:
            loss, outputs = super().compute_loss(
                model, inputs, return_outputs=True, num_items_in_batch=num_items_in_batch
            )
            if model.config.is_encoder_decoder and num_items_in_batch is not None:
                # T5 takes the count of an update's tokens and ignores it: with smaller
                # micro-batches its gradient would be as many times too large.
                loss = torch.nn.functional.cross_entropy(
                    outputs.logits.flatten(0, 1).float(),
                    inputs["labels"].flatten(),
                    ignore_index=IGNORED_LABEL,
                    reduction="sum",
                )
                loss = loss / num_items_in_batch
            return (loss, outputs) if return_outputs else loss

        def prediction_step(
            self,
            model: Any,
            inputs: dict[str, Any],
            prediction_loss_only: bool,
            ignore_keys: list[str] | None = None,
        ) -> tuple[Any, Any, Any]:
            loss, logits, labels = super().prediction_step(
                model, inputs, prediction_loss_only, ignore_keys
            )
            # The loop averages over rows whatever their lengths; weighed so, over tokens.
            here = tokens(inputs["labels"]) / len(inputs["labels"])
            return loss * here / self.mean_tokens, logits, labels

        @cached_property
        def mean_tokens(self) -> float:
            rows = self.eval_dataset
            return sum(tokens(torch.tensor(row["labels"])) for row in rows) / len(rows)

    return PeftBenchTrainer


def _wall_clock(partial: Path) -> Any:
    """Keeps the wall time spent so far beside each checkpoint, so that a resumed run adds up."""
    from transformers import TrainerCallback

    class WallClock(TrainerCallback):  # type: ignore[misc]
        def __init__(self) -> None:
            self.started = time.perf_counter()

        def on_save(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
            folder = Path(args.output_dir) / f"checkpoint-{state.global_step}"
            spent = time.perf_counter() - self.started
            (folder / "wall_s.json").write_text(json.dumps(spent), encoding="utf-8")

    return WallClock()


def _last_checkpoint(folder: Path) -> Path | None:
    """The newest checkpoint to go on from; half-written ones are told of and deleted."""
    for checkpoint in sorted(folder.glob("checkpoint-*"), key=_step_of, reverse=True):
        if _is_usable(checkpoint):
            return checkpoint
        print(f"{checkpoint}: not a whole checkpoint, passed over", file=sys.stderr)
        shutil.rmtree(checkpoint)
    return None


def _is_usable(checkpoint: Path) -> bool:
    """Whether a checkpoint is whole, and so is the best one so far, which it names."""
    if not _is_whole(checkpoint):
        return False
    state = json.loads((checkpoint / _STATE_FILE).read_text(encoding="utf-8"))
    best = state.get("best_model_checkpoint")
    return best is None or Path(best) == checkpoint.absolute() or _is_whole(Path(best))


def _is_whole(checkpoint: Path) -> bool:
    try:
        json.loads((checkpoint / _STATE_FILE).read_text(encoding="utf-8"))
        adapters.saved_tensors(checkpoint)
    except (OSError, ValueError, PeftBenchError):
        return False
    # The directory of a zip file stands at its end.
    return all(zipfile.is_zipfile(checkpoint / name) for name in _TORCH_FILES)


def _earlier_wall_s(checkpoint: Path) -> float:
    file = checkpoint / "wall_s.json"
    return float(json.loads(file.read_text(encoding="utf-8"))) if file.is_file() else 0.0


def _step_of(checkpoint: Path) -> int:
    return int(checkpoint.name.rpartition("-")[2])


def _save(model: Any, tokenizer: Any, partial: Path) -> None:
    """PEFT's own files, with the configuration in one order whatever the hash seed."""
    model.save_pretrained(partial, save_embedding_layers=False)
    file = partial / adapters.CONFIG_FILE
    config = json.loads(file.read_text(encoding="utf-8"))
    for key, value in config.items():
        # PEFT keeps these as sets, whose order changes from run to run.
        if key.endswith("_modules") and isinstance(value, list):
            config[key] = sorted(value)
    file.write_text(json.dumps(config, indent=2, sort_keys=True) + "\n", encoding="utf-8")


def _write_card(
    recipe: Recipe,
    prepared: _Prepared,
    partial: Path,
    base_card: adapters.BaseCard,
    costs: adapters.Costs,
    outcome: adapters.Outcome,
    model: Any,
) -> None:
    size = sum((partial / n).stat().st_size for n in (adapters.CONFIG_FILE, adapters.WEIGHTS_FILE))
    prompt = prepared.prompt
    card = adapters.AdapterCard(
        schema_version=adapters.CARD_SCHEMA_VERSION,
        name=recipe.name,
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        recipe=recipe.to_dict(),
        recipe_sha256=recipe.sha256,
        method=recipe.method.name,
        base=base_card,
        prompt=adapters.PromptCard(prompt.name, prompt.text, prompt.sha256),
        data=data.describe(prepared.splits),
        custom_data=any(split.custom for split in prepared.splits),
        trainable_parameters=sum(p.numel() for p in model.parameters() if p.requires_grad),
        adapter_sha256=adapters.content_sha256(partial),
        adapter_bytes=size,
        costs=costs,
        outcome=outcome,
        versions=runtime.versions(),
    )
    adapters.write_card(partial, card)


def _came_from_saving(error: RuntimeError) -> bool:
    """Whether torch.save raised it: with no space left it says so in many ways, none an OSError."""
    frames = (frame for frame, _ in traceback.walk_tb(error.__traceback__))
    return any(
        frame.f_globals.get("__name__") == "torch.serialization" and frame.f_code.co_name == "save"
        for frame in frames
    )


def _close_bars(trainer: Any) -> None:
    """Ends bars that an error left open, so that its message has a line of its own."""
    for callback in trainer.callback_handler.callbacks:
        for name in ("prediction_bar", "training_bar"):
            bar = getattr(callback, name, None)
            if bar is not None:
                bar.close()


def _device_name() -> str:
    import torch

    return torch.cuda.get_device_name() if torch.cuda.is_available() else f"cpu x{os.cpu_count()}"


def _disk_error(partial: Path, error: Exception) -> PeftBenchError:
    return PeftBenchError(
        place=str(partial),
        problem=f"could not be written: {str(error).splitlines()[0]}",
        remedy="free some space and run the same command again: checkpoints are kept",
    )
