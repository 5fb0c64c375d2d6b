"""``peft-bench fit``: from flags to a table, a JSON file and a plot."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, get_args

from peft_bench import models
from peft_bench.errors import MissingError, UsageError, writing
from peft_bench.fit import study, table
from peft_bench.fit.meta_model import base_parameters
from peft_bench.fit.plan import TRAINER_HEAD, Dtype, Head, Length, Quantization
from peft_bench.fit.search import Case, what_fits
from peft_bench.methods import FULL
from peft_bench.recipe import BaseModel

_GIB = 1024**3
_LONGEST = 1 << 20


@dataclass(frozen=True, slots=True)
class Question:
    """The command's flags, as texts where they are lists. Exactly one of ``model``, ``study``."""

    model: str | None = None
    study: bool = False
    gpu_memory: float = 24.0
    method: str = f"{FULL},lora"
    quantization: str = "none,8bit,4bit"
    length: str = "64+64"
    batch_size: int = 8
    dtype: Dtype = "bfloat16"
    optimizer: str = "adafactor"
    head: Head = TRAINER_HEAD
    checkpointing: bool = False
    options: dict[str, Any] = field(default_factory=dict)


def run(question: Question, json_file: Path | None = None, plot_file: Path | None = None) -> int:
    """Prints the table and writes what was asked for; 1 where nothing fits.

    Raises:
        UsageError: a flag is faulty, or its file cannot be written; the model is no language model
            that transformers can build.
        MissingError: no such model.
    """
    if plot_file is not None and plot_file.suffix not in (".svg", ".html"):
        raise UsageError(
            place="--plot", problem=f"{plot_file} is neither .svg nor .html", remedy="name one"
        )
    found = answer(question)
    if json_file is not None:
        _write("--json", json_file, table.to_json(found))
    if plot_file is not None:
        page = table.html(found) if plot_file.suffix == ".html" else f"{table.svg(found)}\n"
        _write("--plot", plot_file, page)
    print(table.format_table(found), end="")
    cases = [case for model in found for case in model.cases]
    return 0 if any(isinstance(case, Case) and case.best for case in cases) else 1


def answer(question: Question) -> list[table.Model]:
    """The cases of one model, or of every model of the study. See :func:`run`."""
    if (question.model is None) != question.study:
        raise UsageError(
            place="fit", problem="needs one of --model and --study", remedy="give --model ID"
        )
    if not 0 < question.gpu_memory < float("inf"):
        raise UsageError(
            place="--gpu-memory",
            problem=f"{question.gpu_memory:g} is not a positive size",
            remedy="give the GPU's memory in GiB, such as 24",
        )
    methods = _items(question.method, "--method")
    quantizations = _quantizations(question.quantization)
    lengths = [_length(text) for text in _items(question.length, "--length")]
    for flag, value, known in (
        ("--dtype", question.dtype, get_args(Dtype)),
        ("--head", question.head, get_args(Head)),
        ("--optimizer", question.optimizer, ("adafactor", "adamw_torch")),
    ):
        if value not in known:
            raise UsageError(
                place=flag, problem=f"{value!r} is unknown", remedy=f"known: {', '.join(known)}"
            )
    found = []
    for model_id in study.NAMES if question.study else (str(question.model),):
        config = load_config(model_id)
        label = study.LABELS[model_id] if question.study else model_id
        cases = what_fits(
            config,
            int(question.gpu_memory * _GIB),
            methods=methods,
            quantizations=quantizations,
            lengths=lengths,
            batch_size=question.batch_size,
            dtype=question.dtype,
            options=question.options,
            optimizer=question.optimizer,
            checkpointing=question.checkpointing,
            head=question.head,
            model_id=model_id,
            progress=lambda line, label=label: _progress(f"{label}: {line}"),  # type: ignore[misc]
        )
        parameters = base_parameters(config, model_id)
        found.append(table.Model(label, parameters, tuple(cases)))
    _progress("")
    return found


def load_config(model_id: str) -> Any:
    """The configuration of a model: built in, in a local folder, or from the hub (no weights).

    Raises:
        MissingError: no such model.
        UsageError: transformers does not know its architecture.
    """
    if study.is_built_in(model_id):
        return study.config(model_id)
    try:
        config = models.load_config(BaseModel(model_id))
    except MissingError as error:
        if "model type" in error.problem or "model_type" in error.problem:
            raise UsageError(
                place=error.place,
                problem=error.problem.replace("cannot be loaded: ", ""),
                remedy="choose a model whose architecture transformers has",
            ) from error
        raise
    return config


def _items(value: str, flag: str) -> list[str]:
    items = [item.strip() for item in value.split(",") if item.strip()]
    if not items:
        raise UsageError(place=flag, problem="is empty", remedy="name at least one")
    return items


def _quantizations(value: str) -> Sequence[Quantization | None]:
    known: dict[str, Quantization | None] = {"none": None, "8bit": "8bit", "4bit": "4bit"}
    items = _items(value, "--quantization")
    for item in items:
        if item not in known:
            raise UsageError(
                place="--quantization",
                problem=f"{item!r} is unknown",
                remedy=f"known: {', '.join(known)}",
            )
    return [known[item] for item in items]


def _length(text: str) -> Length:
    prompt, _, target = text.partition("+")
    try:
        length = Length(int(prompt), int(target))
    except ValueError:
        length = Length(0, 0)
    if not (0 < length.prompt_tokens < _LONGEST and 0 < length.target_tokens < _LONGEST):
        raise UsageError(
            place="--length",
            problem=f"{text!r} is not of the form PROMPT+TARGET, in tokens",
            remedy="write, say, 64+64",
        )
    return length


def _progress(line: str) -> None:
    """One line on a terminal, rewritten each time; an empty one clears it."""
    if sys.stderr.isatty():
        print(f"\r\033[K{line}", end="", file=sys.stderr, flush=True)


def _write(flag: str, file: Path, content: str) -> None:
    with writing(flag, file):
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(content, encoding="utf-8")
