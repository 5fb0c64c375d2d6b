"""``peft-bench train``: a recipe becomes an adapter folder with its card.

The work happens in ``NAME.partial``, which keeps checkpoints; it is renamed to ``NAME`` when the
adapter is whole. An interrupted run goes on from its last checkpoint when it is started again; one
process at a time works on a folder.
"""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from peft_bench import (
    adapters,
    cards,
    checkpoints,
    compatibility,
    data,
    mixture,
    models,
    prompts,
    runtime,
    trl_engine,
)
from peft_bench.encoding import Encoded, encode_rows
from peft_bench.errors import MissingError, PeftBenchError, UsageError
from peft_bench.families import prompt_name
from peft_bench.recipe import Recipe
from peft_bench.training_run import CHECKPOINTS, Finished, Prepared, run
from peft_bench.workfolder import alone, differing, disk_error, open_partial

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

    If the folder exists already and holds the adapter of the same recipe and rows, nothing is done.
    Under ``accelerate launch`` or ``torchrun`` every process calls it, and the first one alone
    writes.

    Args:
        recipe: see :class:`peft_bench.recipe.Recipe`.
        out: the adapter's folder; ``adapters/<recipe name>`` by default.
        progress: whether to show progress bars.
        loggers: where transformers' Trainer reports to besides: ``tensorboard``, ``wandb``, ...

    Raises:
        UsageError: faulty rows or options; ``out`` holds the adapter of another recipe or of other
            rows, or is no adapter; ``OUT.partial`` keeps an interrupted run of another recipe or of
            other rows; another process is making ``out``.
        MissingError: the model, the data or a logger cannot be had.
        PeftBenchError: training failed (a folder that cannot be written, no space left, out of
            memory, a loss that is not a number).
        KeyboardInterrupt: stopped; checkpoints stay in ``OUT.partial``.
    """
    folder = Path(out) if out is not None else Path("adapters") / recipe.name
    if _is_done(folder, recipe):
        return folder
    _check_loggers(loggers)
    runtime.join()
    prepared, rows = _prepare(recipe)
    partial = folder.with_name(f"{folder.name}.partial")
    shown = progress and runtime.is_main()
    try:
        with alone(folder) if runtime.is_main() else nullcontext():
            if runtime.is_main() and not _is_done(folder, recipe):
                _open(partial, folder, recipe, data.describe(rows.splits))
            runtime.wait()
            if not folder.exists():
                finished = run(recipe, prepared, partial, progress=shown, loggers=loggers)
                if runtime.is_main():
                    cards.write_card(partial, _card(recipe, rows, partial, finished))
                    _finish(partial, folder)
            runtime.wait()
    except OSError as error:
        raise disk_error(partial, error) from error
    return folder


def _is_done(folder: Path, recipe: Recipe) -> bool:
    try:
        if not folder.exists():
            return False
    except OSError as error:  # a name too long, or not allowed
        raise disk_error(folder, error) from error
    if not adapters.is_full_model(folder) and not (folder / adapters.CONFIG_FILE).is_file():
        raise UsageError(
            place=str(folder),
            problem="exists, and is no adapter",
            remedy="give another folder: --out DIR",
        )
    card = adapters.check_folder(folder)
    another = None
    if card is None or card.recipe_sha256 != recipe.sha256:
        another = "another adapter (another recipe made it)"
    elif changed := _changed(card, _rows_of(recipe) or card.data):
        another = f"an adapter of this recipe trained on other rows of {', '.join(changed)}"
    if another is not None:
        raise UsageError(
            place=str(folder),
            problem=f"holds {another}",
            remedy="choose another --out or recipe name, or delete the folder",
        )
    return True


def _rows_of(recipe: Recipe) -> dict[str, Any] | None:
    """What a card says of a recipe's rows, as they are now; None where they are not to be had."""
    try:
        return data.describe(mixture.load(recipe.data))
    except MissingError as error:
        print(f"not compared with the rows it was trained on: {error}", file=sys.stderr)
        return None


def _hashes(described: Mapping[str, Any]) -> dict[str, Any]:
    return {name: facts.get("sha256") for name, facts in described.items()}


def _changed(card: cards.AdapterCard, described: Mapping[str, Any]) -> list[str]:
    """The splits whose rows are not those that an adapter was trained on."""
    then, now = _hashes(card.data), _hashes(described)
    return sorted(name for name in then.keys() | now.keys() if then.get(name) != now.get(name))


def _open(partial: Path, folder: Path, recipe: Recipe, described: Mapping[str, Any]) -> None:
    """Begins the working folder or goes on with it; one that lacks nothing but its name is named.

    Raises:
        UsageError: it keeps work on another recipe, or on other rows.
    """
    card = _whole(partial)
    if card and card.recipe_sha256 == recipe.sha256 and not _changed(card, described):
        cards.write_card(partial, card)  # it may have been stopped before the model card
        _finish(partial, folder)
        return
    identity = _identity(recipe, described)
    others = differing(partial, identity)
    kept = checkpoints.newest(partial / CHECKPOINTS)
    if others and (card or kept):
        what = f"{kept.name} of an interrupted run" if kept else "a whole adapter"
        other = "another recipe" if _RECIPE_FILE in others else "other rows"
        raise UsageError(
            place=str(partial),
            problem=f"keeps {what}, made from {other}",
            remedy="choose another --out or recipe name, or delete this folder to begin anew",
        )
    open_partial(folder, identity)


def _whole(partial: Path) -> cards.AdapterCard | None:
    """The card of a working folder whose adapter is whole."""
    try:
        return adapters.check_folder(partial)
    except PeftBenchError:
        return None


def _finish(partial: Path, folder: Path) -> None:
    shutil.rmtree(partial / CHECKPOINTS, ignore_errors=True)
    (partial / _ROWS_FILE).unlink(missing_ok=True)  # the card tells of them
    partial.rename(folder)


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


def _identity(recipe: Recipe, described: Mapping[str, Any]) -> dict[str, str]:
    """What an interrupted run must share with this one to be gone on with."""
    import yaml

    return {
        _RECIPE_FILE: yaml.safe_dump(recipe.to_dict(), sort_keys=False),
        _ROWS_FILE: json.dumps(_hashes(described), indent=2) + "\n",
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


def _card(recipe: Recipe, rows: _Rows, partial: Path, finished: Finished) -> cards.AdapterCard:
    prompt = rows.prompt
    return cards.AdapterCard(
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
