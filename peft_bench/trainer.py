"""The Trainer that a recipe asks for: transformers' own, with exact losses and row order."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

from peft_bench import checkpoints, methods, models, optimizers, runtime
from peft_bench.encoding import Collator, Encoded, order_by_length
from peft_bench.errors import PeftBenchError, UsageError
from peft_bench.families import FAMILIES
from peft_bench.label_head import LabelHead
from peft_bench.recipe import Recipe

_ZEROS = 10  # so many steps without any gradient are enough


def make_trainer(
    recipe: Recipe,
    model: Any,
    train: Encoded,
    validation: Encoded,
    folder: Path,
    *,
    pad_token_id: int,
    earlier: checkpoints.Spent,
    progress: bool,
    loggers: Sequence[str] = (),
) -> Any:
    """A Trainer for ``model`` that keeps its checkpoints in ``folder``.

    ``earlier`` is what interrupted runs spent before; ``loggers`` are transformers' (``report_to``
    of its TrainingArguments), ``tensorboard`` say. The validation rows are taken by length,
    which saves padding and changes no mean.
    """
    import torch
    from transformers import TrainingArguments

    if not torch.cuda.is_available():
        runtime.keep_freed_memory()
    arguments = TrainingArguments(
        **settings(recipe, len(train.features), folder, progress=progress, loggers=loggers)
    )
    # One process drives one GPU; several are for `accelerate launch` or torchrun.
    arguments._n_gpu = min(arguments.n_gpu, 1)
    if recipe.training.gradient_checkpointing:
        # Frozen embeddings give outputs without a gradient, at which checkpointing would stop.
        model.enable_input_require_grads()
    return _trainer_class()(
        model=model,
        args=arguments,
        train_dataset=train.features,
        eval_dataset=sorted(validation.features, key=lambda row: -row["length"]),
        data_collator=Collator(pad_token_id),
        optimizers=(optimizers.create(recipe, model), None),
        callbacks=callbacks(recipe, earlier),
    )


def settings(
    recipe: Recipe, rows: int, folder: Path, *, progress: bool, loggers: Sequence[str] = ()
) -> dict[str, Any]:
    """The recipe as arguments of transformers' TrainingArguments.

    Raises:
        UsageError: the batch cannot be shared out among the processes.
    """
    import torch

    choice = recipe.training
    micro, accumulation = batches(recipe)
    steps_per_epoch = max(1, -(-rows // choice.batch_size))
    interval = max(1, round(steps_per_epoch / choice.evaluations_per_epoch))
    if choice.max_steps is not None:
        interval = min(interval, choice.max_steps)
    # The Trainer would go on for `max_steps`, whatever the epochs.
    steps = math.ceil(steps_per_epoch * choice.epochs)
    sooner = choice.max_steps is not None and choice.max_steps < steps
    dtype = models.resolve_dtype(recipe.model.dtype)
    return {
        # Checkpoints name each other: an absolute path holds wherever the command is run again.
        "output_dir": str(folder.absolute()),
        "num_train_epochs": choice.epochs,
        "max_steps": choice.max_steps if sooner else -1,
        "per_device_train_batch_size": micro,
        "per_device_eval_batch_size": micro,
        "gradient_accumulation_steps": accumulation,
        "learning_rate": choice.learning_rate or methods.learning_rate(recipe.method.name),
        "lr_scheduler_type": choice.schedule,
        "warmup_steps": choice.warmup_ratio,
        "weight_decay": choice.weight_decay,
        "optim": "adamw_torch" if choice.optimizer in optimizers.OWN else choice.optimizer,
        **_checkpointing(choice.gradient_checkpointing),
        "bf16": dtype == "bfloat16" and torch.cuda.is_available(),
        "fp16": dtype == "float16" and torch.cuda.is_available(),
        "eval_strategy": "steps",
        "eval_steps": interval,
        "save_strategy": "steps",
        "save_steps": interval,
        "save_total_limit": 2,
        # Early stopping's count; nothing else here keeps a state.
        "restore_callback_states_from_checkpoint": True,
        "load_best_model_at_end": True,
        "metric_for_best_model": "eval_loss",
        "greater_is_better": False,
        "logging_steps": interval,
        "seed": choice.seed,
        "data_seed": choice.seed,
        "report_to": list(loggers) or "none",
        "run_name": recipe.name,
        "disable_tqdm": not progress,
        "remove_unused_columns": False,
        "label_names": ["labels"],
        "dataloader_pin_memory": torch.cuda.is_available(),
        "ddp_find_unused_parameters": False,
        # Several processes on a CPU find each other only if told that it is one.
        "use_cpu": runtime.processes() > 1 and not torch.cuda.is_available(),
    }


def checkpointing_name() -> str:
    """What the installed transformers calls gradient checkpointing: it warns of its older name."""
    from transformers import TrainingArguments

    new = "activation_checkpointing"
    return new if new in TrainingArguments.__dataclass_fields__ else "gradient_checkpointing"


def _checkpointing(on: bool) -> dict[str, Any]:
    name = checkpointing_name()
    return {name: True, f"{name}_kwargs": {"use_reentrant": False}} if on else {}


def batches(recipe: Recipe) -> tuple[int, int]:
    """Rows of a process' forward pass, and how many of them make its share of an update.

    Raises:
        UsageError: the effective batch cannot be shared out among the processes.
    """
    choice, processes = recipe.training, runtime.processes()
    micro = choice.micro_batch_size or choice.batch_size // processes
    if not micro or choice.batch_size % (micro * processes):
        raise UsageError(
            place="training.batch_size",
            problem=f"{choice.batch_size} rows cannot be shared out among {processes} processes"
            + (f" in parts of {micro}" if micro else ""),
            remedy="choose a multiple, or set training.micro_batch_size",
        )
    return micro, choice.batch_size // (micro * processes)


def callbacks(recipe: Recipe, earlier: checkpoints.Spent) -> list[Any]:
    """What keeps count of the time spent, and what stops early if the recipe wants it."""
    from transformers import EarlyStoppingCallback

    found: list[Any] = [checkpoints.clock(earlier), _gradient_watch()]
    if recipe.training.early_stopping is not None:
        found.append(EarlyStoppingCallback(recipe.training.early_stopping))
    return found


class NotANumber(PeftBenchError):
    """A loss that is infinite or not a number: what came before it is still good."""

    def __init__(self, step: int, name: str, folder: str) -> None:
        kept = checkpoints.newest(Path(folder))
        where = f"; the last good checkpoint is {kept}" if kept else ""
        super().__init__(
            place=f"training step {step}",
            problem=f"the {name} loss is not a number{where}",
            remedy="lower training.learning_rate, or use model.dtype float32 or bfloat16",
        )


def _gradient_watch() -> Any:
    """Stops a training whose every gradient is 0: nothing would be learnt, and nobody told."""
    from transformers import TrainerCallback

    class GradientWatch(TrainerCallback):  # type: ignore[misc]
        def __init__(self) -> None:
            self.zeros = 0
            self.seen = False

        def on_pre_optimizer_step(
            self, args: Any, state: Any, control: Any, *, model: Any, **kwargs: Any
        ) -> None:
            if self.seen:
                return
            # An optimizer that works in the backward pass leaves none: that tells nothing.
            given = [weight.grad for weight in model.parameters() if weight.grad is not None]
            self.seen = not given or any(bool(gradient.any()) for gradient in given)
            self.zeros += 1
            if not self.seen and self.zeros >= min(_ZEROS, state.max_steps):
                raise PeftBenchError(
                    place=f"training step {state.global_step + 1}",
                    problem=f"every gradient was 0 in {self.zeros} steps: nothing is learnt",
                    remedy="look for an option of the method that switches it off, such as "
                    "lora_alpha=0, or tokens that no prompt holds",
                )

    return GradientWatch()


def _trainer_class() -> type[Any]:
    """transformers' Trainer, with these differences.

    Losses are means over label tokens in every case, and logits are computed for these alone; the
    order of the rows depends on seed and epoch alone, so that a resumed run sees the batches that
    an undisturbed one does; and a loss that is not a number stops it before weights are saved.
    """
    import torch
    from transformers import Trainer

    class ByLength(torch.utils.data.Sampler[int]):
        """Rows of about the same length together, shuffled anew each epoch."""

        def __init__(
            self, lengths: list[int], batch_size: int, seed: int, epoch: Callable[[], int]
        ) -> None:
            self.lengths = lengths
            self.batch_size = batch_size
            self.seed = seed
            self.epoch = epoch

        def __len__(self) -> int:
            return len(self.lengths)

        def __iter__(self) -> Iterator[int]:
            seed = f"{self.seed} {self.epoch()}"
            return iter(order_by_length(self.lengths, self.batch_size, seed))

    class PeftBenchTrainer(Trainer):  # type: ignore[misc]
        def __init__(self, *arguments: Any, **named: Any) -> None:
            super().__init__(*arguments, **named)
            # Means the Trainer to count an update's label tokens, and not to divide again.
            self.model_accepts_loss_kwargs = True

        @cached_property
        def label_head(self) -> LabelHead:
            model = self.accelerator.unwrap_model(self.model)
            causal = model.config.model_type in FAMILIES and not model.config.is_encoder_decoder
            return LabelHead(model, right_padded_causal=causal)

        def _get_train_sampler(self, train_dataset: Any = None) -> ByLength:
            rows = self.train_dataset if train_dataset is None else train_dataset
            args = self.args
            batch_size = args.train_batch_size * args.gradient_accumulation_steps * args.world_size
            # Asked for, since nobody tells it to the sampler of several processes that go on.
            return ByLength(
                [row["length"] for row in rows],
                batch_size,
                args.data_seed,
                lambda: int(self.state.epoch or 0),
            )

        def compute_loss(
            self,
            model: Any,
            inputs: dict[str, Any],
            return_outputs: bool = False,
            num_items_in_batch: Any = None,
        ) -> Any:
            total, count = self.label_head.loss(model, inputs)
            if num_items_in_batch is None:
                loss = total / count
            else:
                # Gradients are averaged over processes, whose tokens were counted together.
                loss = total * self.accelerator.num_processes / num_items_in_batch
            if model.training and not math.isfinite(loss.item()):
                raise NotANumber(self.state.global_step + 1, "training", self.args.output_dir)
            return (loss, {}) if return_outputs else loss

        def prediction_step(
            self,
            model: Any,
            inputs: dict[str, Any],
            prediction_loss_only: bool,
            ignore_keys: list[str] | None = None,
        ) -> tuple[Any, Any, Any]:
            inputs = self._prepare_inputs(inputs)
            with torch.no_grad(), self.compute_loss_context_manager():
                total, _ = self.label_head.loss(model, inputs)
            # The loop averages over rows whatever their lengths; weighed so, over tokens.
            loss = total / len(inputs["labels"]) / self.mean_tokens
            if not math.isfinite(loss.item()):
                raise NotANumber(self.state.global_step, "validation", self.args.output_dir)
            return loss.detach(), None, None

        @cached_property
        def mean_tokens(self) -> float:
            rows = self.eval_dataset
            return Encoded(rows, 0, 0).label_tokens / len(rows)

    return PeftBenchTrainer


def close_bars(trainer: Any) -> None:
    """Ends bars that an error left open, so that its message has a line of its own."""
    for callback in trainer.callback_handler.callbacks:
        for name in ("prediction_bar", "training_bar"):
            bar = getattr(callback, name, None)
            if bar is not None:
                bar.close()
