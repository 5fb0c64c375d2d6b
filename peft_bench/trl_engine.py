"""TRL's SFTTrainer in place of ours (``training.engine: trl``): the peer to compare with.

The same recipe, rows, token ids, batches of rows and card; the loop, the loss and the order of
the rows are TRL's. A batch is padded to its longest row; rows are not grouped by length.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from peft_bench import checkpoints, optimizers
from peft_bench.encoding import IGNORED_LABEL, Collator, Encoded
from peft_bench.errors import MissingError, UsageError
from peft_bench.recipe import Recipe
from peft_bench.trainer import NotANumber, callbacks, checkpointing_name, settings


def check(recipe: Recipe, config: Any) -> None:
    """Stops a recipe that TRL cannot train, before any weight is loaded.

    Raises:
        UsageError: an encoder-decoder model.
        MissingError: TRL is not installed.
    """
    if recipe.training.engine != "trl":
        return
    if config.is_encoder_decoder:
        raise UsageError(
            place="training.engine",
            problem=f"TRL's SFTTrainer trains causal models alone, and {config.model_type} is an "
            "encoder-decoder",
            remedy="leave training.engine out",
        )
    from importlib.util import find_spec

    if find_spec("trl") is None:
        raise MissingError(
            place="training.engine",
            problem="trl is not installed",
            remedy='pip install "peft-bench[trl]"',
        )


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
    **options: Any,
) -> Any:
    """As :func:`peft_bench.trainer.make_trainer`; ``options`` stand over SFTConfig's."""
    from datasets import Dataset
    from trl import SFTConfig

    chosen = settings(recipe, len(train.features), folder, progress=progress, loggers=loggers)
    # The rows are encoded already, and no method but ours of making them is wanted.
    chosen |= {"dataset_kwargs": {"skip_prepare_dataset": True}, "max_length": None}
    # TRL checkpoints unless it is told otherwise.
    chosen.setdefault(checkpointing_name(), False)
    arguments = SFTConfig(**chosen | options)
    arguments._n_gpu = min(arguments.n_gpu, 1)
    if arguments.gradient_checkpointing:
        model.enable_input_require_grads()

    def dataset(encoded: Encoded) -> Dataset:
        return Dataset.from_list(
            [{"input_ids": row["input_ids"], "labels": row["labels"]} for row in encoded.features]
        )

    return _trainer_class(validation)(
        model=model,
        args=arguments,
        train_dataset=dataset(train),
        eval_dataset=dataset(validation),
        data_collator=Collator(pad_token_id),
        processing_class=_tokenizer(recipe),
        optimizers=(optimizers.create(recipe, model), None),
        callbacks=callbacks(recipe, earlier),
    )


def _trainer_class(validation: Encoded) -> type[Any]:
    """SFTTrainer, its validation loss being the mean over label tokens that cards speak of.

    TRL averages the means of batches, so that rows of a batch with few label tokens weigh more.
    """
    from trl import SFTTrainer

    mean_tokens = validation.label_tokens / len(validation.features)

    class Baseline(SFTTrainer):  # type: ignore[misc]
        def prediction_step(
            self,
            model: Any,
            inputs: dict[str, Any],
            prediction_loss_only: bool,
            ignore_keys: list[str] | None = None,
        ) -> tuple[Any, Any, Any]:
            loss, _, _ = super().prediction_step(model, inputs, True, ignore_keys)
            if not math.isfinite(loss.item()):
                raise NotANumber(self.state.global_step, "validation", self.args.output_dir)
            labels = inputs["labels"]
            tokens = int(labels.ne(IGNORED_LABEL).sum())
            return loss * tokens / len(labels) / mean_tokens, None, None

    return Baseline


def _tokenizer(recipe: Recipe) -> Any:
    from peft_bench import models

    return models.load_tokenizer(recipe.model)
