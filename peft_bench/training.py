"""``peft-bench train``: a recipe becomes an adapter folder with its card.

The work happens in ``NAME.partial``, which keeps checkpoints; it is renamed to ``NAME`` when the
adapter is whole. An interrupted run goes on from its last checkpoint when it is started again.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from peft_bench import (
    adapters,
    cards,
    compatibility,
    data,
    mixture,
    models,
    prompts,
    runtime,
    trl_engine,
)
from peft_bench.encoding import Encoded, encode_rows
from peft_bench.errors import MissingError, UsageError
from peft_bench.families import prompt_name
from peft_bench.recipe import Recipe
from peft_bench.training_run import CHECKPOINTS, Finished, Prepared, run
from peft_bench.workfolder import disk_error, open_partial

_RECIPE_FILE = "recipe.yaml"
_ROWS_FILE = "rows.json"


@dataclass(frozen=True, slots=True)
class _Rows:
    """The splits of a recipe, and the prompt that they are shown in."""

    prompt: prompts.PromptTemplate
    splits: tuple[data.Split, ...]


def train(
    recipe: Recipe,
    out: str | Path | None = None,
    *,
    progress: bool = True,
    loggers: Sequence[str] = (),
) -> Path:
    """Trains the adapter that a recipe describes; returns its folder (``adapters/NAME``).

    If the folder exists already and holds the same recipe's adapter, nothing is done. Under
    ``accelerate launch`` or ``torchrun`` every process calls it, and the first one alone writes.

    Args:
        recipe: see :class:`peft_bench.recipe.Recipe`.
        out: the adapter's folder; ``adapters/<recipe name>`` by default.
        progress: whether to show progress bars.
        loggers: where transformers' Trainer reports to besides: ``tensorboard``, ``wandb``, ...

    Raises:
        UsageError: faulty rows or options; or ``out`` holds another recipe's adapter.
        MissingError: the model, the data or a logger cannot be had.
        PeftBenchError: training failed (no space left, out of memory, a loss that is not a
            number).
        KeyboardInterrupt: stopped; checkpoints stay in ``OUT.partial``.
    """
    folder = Path(out) if out is not None else Path("adapters") / recipe.name
    if _is_done(folder, recipe):
        return folder
    _check_loggers(loggers)
    runtime.join()
    prepared, rows = _prepare(recipe)
    partial = folder.with_name(f"{folder.name}.partial")
    if runtime.is_main():
        open_partial(folder, _identity(recipe, rows.splits))
    runtime.wait()
    try:
        shown = progress and runtime.is_main()
        finished = run(recipe, prepared, partial, progress=shown, loggers=loggers)
        if runtime.is_main():
            _write_card(recipe, rows, partial, finished)
            shutil.rmtree(partial / CHECKPOINTS, ignore_errors=True)
            (partial / _ROWS_FILE).unlink()  # the card tells of them
            partial.rename(folder)
    except OSError as error:
        raise disk_error(partial, error) from error
    runtime.wait()
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


def _check_loggers(loggers: Sequence[str]) -> None:
    if not loggers:
        return
    from transformers.integrations import get_available_reporting_integrations

    known = get_available_reporting_integrations()
    for name in loggers:
        if name not in known:
            raise MissingError(
                place=f"--log-to {name}",
                problem="is no logger of transformers, or its package is not installed",
                remedy=f"install it; here are: {', '.join(known) or 'none'}",
            )


def _identity(recipe: Recipe, splits: tuple[data.Split, ...]) -> dict[str, str]:
    """What an interrupted run must share with this one to be gone on with."""
    import yaml

    return {
        _RECIPE_FILE: yaml.safe_dump(recipe.to_dict(), sort_keys=False),
        _ROWS_FILE: json.dumps(data.describe(splits), indent=2) + "\n",
    }


def _prepare(recipe: Recipe) -> tuple[Prepared, _Rows]:
    """Reads rows, configuration and tokenizer: their faults are told before weights load."""
    choice = recipe.data
    splits = mixture.load(choice)
    config = models.load_config(recipe.model)
    compatibility.check(recipe, config)
    trl_engine.check(recipe, config)
    tokenizer = models.load_tokenizer(recipe.model)
    name = choice.prompt or prompt_name(
        config.model_type, is_encoder_decoder=config.is_encoder_decoder
    )
    prompt = prompts.PROMPTS[name]

    def encoded(rows: list[data.Row]) -> Encoded:
        return encode_rows(
            rows,
            tokenizer,
            prompt,
            max_prompt_tokens=choice.max_prompt_tokens,
            max_target_tokens=choice.max_target_tokens,
            is_encoder_decoder=config.is_encoder_decoder,
            max_row_tokens=choice.max_row_tokens,
        )

    train = [split for split in splits if split.name == "train"]
    rows = mixture.weighed(train, choice.weights, recipe.training.seed)
    validation = [row for split in splits if split.name == "validation" for row in split.rows]
    prepared = Prepared(
        config,
        tokenizer,
        encoded(mixture.at_most(rows, choice.max_train_rows, len(train))),
        encoded(validation),
    )
    return prepared, _Rows(prompt, splits)


def _write_card(recipe: Recipe, rows: _Rows, partial: Path, finished: Finished) -> None:
    prompt = rows.prompt
    card = cards.AdapterCard(
        schema_version=cards.CARD_SCHEMA_VERSION,
        name=recipe.name,
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        recipe=recipe.to_dict(),
        recipe_sha256=recipe.sha256,
        method=recipe.method.name,
        base=finished.base,
        prompt=cards.PromptCard(prompt.name, prompt.text, prompt.sha256),
        data=data.describe(rows.splits),
        custom_data=any(split.custom for split in rows.splits),
        trainable_parameters=finished.trainable_parameters,
        adapter_sha256=adapters.content_sha256(partial),
        adapter_bytes=adapters.content_bytes(partial),
        costs=finished.costs,
        outcome=finished.outcome,
        versions=runtime.versions(),
    )
    cards.write_card(partial, card)
