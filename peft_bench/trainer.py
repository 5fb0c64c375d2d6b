"""The Trainer that a recipe asks for: transformers' own, with exact losses and row order."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cached_property
from pathlib import Path
from typing import Any

from peft_bench import checkpoints, methods, models
from peft_bench.encoding import IGNORED_LABEL, Collator, Encoded
from peft_bench.recipe import Recipe


def make_trainer(
    recipe: Recipe,
    model: Any,
    train: Encoded,
    validation: Encoded,
    folder: Path,
    *,
    pad_token_id: int,
    earlier_wall_s: float,
    progress: bool,
) -> Any:
    """A Trainer for ``model`` that keeps its checkpoints in ``folder``.

    ``earlier_wall_s`` is what interrupted runs spent before, in seconds.
    """
    import torch
    from transformers import TrainingArguments

    choice = recipe.training
    micro = choice.micro_batch_size or choice.batch_size
    accumulation = choice.batch_size // micro
    steps_per_epoch = max(1, -(-len(train.features) // choice.batch_size))
    interval = max(1, round(steps_per_epoch / choice.evaluations_per_epoch))
    if choice.max_steps is not None:
        interval = min(interval, choice.max_steps)
    dtype = models.resolve_dtype(recipe.model.dtype)
    arguments = TrainingArguments(
        # Checkpoints name each other: an absolute path holds wherever the command is run again.
        output_dir=str(folder.absolute()),
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
        train_dataset=train.features,
        eval_dataset=validation.features,
        data_collator=Collator(pad_token_id),
        callbacks=[checkpoints.wall_clock(earlier_wall_s)],
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


def close_bars(trainer: Any) -> None:
    """Ends bars that an error left open, so that its message has a line of its own."""
    for callback in trainer.callback_handler.callbacks:
        for name in ("prediction_bar", "training_bar"):
            bar = getattr(callback, name, None)
            if bar is not None:
                bar.close()
