"""A recipe: one experiment as a YAML file. The dataclasses below are its only schema."""

from __future__ import annotations

import dataclasses
import difflib
import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from peft_bench import data, methods, options, prompts, schema
from peft_bench.errors import Faults, UsageError
from peft_bench.paths import recipes_dir
from peft_bench.yaml_reader import parse_yaml, read_yaml

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,199}")
_POSITIVE = (
    "epochs",
    "batch_size",
    "micro_batch_size",
    "learning_rate",
    "max_steps",
    "evaluations_per_epoch",
    "early_stopping",
    "loraplus_lr_ratio",
)
_RANGES = {"weight_decay": (0, 1), "seed": (0, 2**32 - 1)}


@dataclass(frozen=True, slots=True)
class BaseModel:
    """The model to adapt.

    ``id`` is a hub id or a local folder. ``dtype`` ``auto`` means float32 on a CPU and bfloat16
    on a GPU (float16 where the GPU has no bfloat16). ``quantization`` ``4bit`` is NF4 with
    double quantisation, ``8bit`` is LLM.int8.
    """

    id: str
    revision: str | None = None
    dtype: Literal["auto", "float32", "float16", "bfloat16"] = "auto"
    quantization: Literal["4bit", "8bit"] | None = None


@dataclass(frozen=True, slots=True)
class MethodChoice:
    """A method and its options, passed to PEFT's own configuration class as they are.

    ``targets`` names a set of target modules where ``options`` names none: ``study`` (the query,
    key and value projections), ``revision`` (every projection of a block), ``peft`` (PEFT's own
    table). Left out: the study's.

    ``init_text`` starts prefix tuning from the keys and values that the base computes for a text,
    in place of PEFT's random ones, which are far from any that the model knows.
    """

    name: str
    options: dict[str, Any] = field(default_factory=dict)
    targets: methods.Targets | None = None
    init_text: str | None = None


@dataclass(frozen=True, slots=True)
class DataChoice:
    """What to train on: one task, or several for joint training (concatenated in this order).

    Lengths are in tokens. Where a row is longer, the intent loses its end (the prompt's frame
    stays whole) and the target is cut without an end-of-sequence token; the card counts both.
    Rows of more than ``max_row_tokens``, prompt and target together, are left out; it counts
    those too.

    ``files`` are JSON lines of ``nl`` and ``cmd``, trained on after the tasks' rows, and
    ``validation_files`` the like to validate on. Where a data set or the files have no validation
    rows, a tenth of the training rows (APPS: 500 of 5000), drawn with seed 42, is kept apart.
    ``weights`` say by task (``files`` is the files' name) how often a training row is seen an
    epoch, 1 where it is silent; of a fraction, which rows is drawn once with the training's seed.
    ``max_train_rows`` keeps the first rows, of a mix as many spread evenly over it.
    ``prompt: chat`` asks by the model's own chat template.
    """

    tasks: tuple[str, ...] = ()
    max_prompt_tokens: int = 64
    max_target_tokens: int = 64
    prompt: str | None = None
    max_train_rows: int | None = None
    max_row_tokens: int | None = None
    files: tuple[str, ...] = ()
    validation_files: tuple[str, ...] = ()
    weights: dict[str, float] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Training:
    """How to train. ``batch_size`` is the effective one; ``micro_batch_size`` fits the memory.

    ``loraplus`` (LoRA+, arXiv 2402.12354) is AdamW with a learning rate for LoRA's B matrices
    ``loraplus_lr_ratio`` times that of A; ``lorafa`` (LoRA-FA, arXiv 2308.03303) trains B alone.
    ``max_steps`` ends the training, and its schedule, after so many updates if ``epochs`` are more.
    ``warmup_ratio`` is the share of all updates in which the learning rate rises.
    ``gradient_checkpointing`` computes activations anew to save memory. ``early_stopping`` ends
    the training after so many evaluations without a lower validation loss. ``engine`` ``trl`` is
    TRL's SFTTrainer in place of ours, to compare with.
    """

    epochs: float = 5.0
    batch_size: int = 8
    micro_batch_size: int | None = None
    learning_rate: float | None = None
    optimizer: Literal["adafactor", "adamw_torch", "loraplus", "lorafa"] = "adafactor"
    loraplus_lr_ratio: float = 16.0
    schedule: Literal["linear", "cosine", "constant"] = "linear"
    warmup_ratio: float = 0.05
    weight_decay: float = 0.0
    max_steps: int | None = None
    evaluations_per_epoch: int = 5
    gradient_checkpointing: bool = False
    early_stopping: int | None = None
    engine: Literal["peft-bench", "trl"] = "peft-bench"
    seed: int = 42


@dataclass(frozen=True, slots=True)
class Recipe:
    """One experiment: a base model, a PEFT method, data, and how to train."""

    name: str
    model: BaseModel
    method: MethodChoice
    data: DataChoice
    training: Training = field(default_factory=Training)

    def to_dict(self) -> dict[str, Any]:
        """As plain data, in the YAML file's own form."""
        plain = dataclasses.asdict(self)
        for key in ("tasks", "files", "validation_files"):
            plain["data"][key] = list(plain["data"][key])
        return plain

    @property
    def sha256(self) -> str:
        """Hash of everything but the name: equal hashes mean the same experiment."""
        plain = self.to_dict()
        del plain["name"]
        return hashlib.sha256(json.dumps(plain, sort_keys=True).encode()).hexdigest()


def load_recipe(path: str | Path, overrides: Sequence[str] = ()) -> Recipe:
    """The recipe in a YAML file, changed by ``KEY=VALUE`` overrides such as ``training.seed=7``.

    Raises:
        MissingError: there is no such file.
        UsageError: the file is not YAML, or the recipe is faulty; all faults are told at once.
    """
    file = Path(path)
    names = ", ".join(sorted(found.stem for found in recipes_dir().glob("*.yaml")))
    raw = read_yaml(
        file, kind="recipe", known=f"recipes that come with peft-bench, in {recipes_dir()}: {names}"
    )
    if isinstance(raw, dict):
        for override in overrides:
            _apply(raw, override)
    return parse_recipe(raw, place=str(file))


def parse_recipe(raw: object, *, place: str = "recipe") -> Recipe:
    """A recipe from plain data.

    Raises:
        UsageError: with all faults at once.
    """
    faults = Faults(place)
    recipe = schema.read(Recipe, raw, "", faults)
    if isinstance(raw, Mapping):
        _check_values(raw, faults)
    faults.raise_if_any()
    assert recipe is not None
    return _with_method_s_quantization(recipe)


def _with_method_s_quantization(recipe: Recipe) -> Recipe:
    """The recipe with the quantisation that its method's name implies, where it names none."""
    bits = methods.base_quantization(recipe.method.name, recipe.model.quantization)
    return dataclasses.replace(recipe, model=dataclasses.replace(recipe.model, quantization=bits))


def _apply(raw: dict[str, Any], override: str) -> None:
    key, equals, value = override.partition("=")
    if not equals or not key:
        raise UsageError(
            place=f"--set {override:.60}",
            problem="not of the form KEY=VALUE",
            remedy="write, say, --set training.seed=7",
        )
    *parents, last = key.split(".")
    node = raw
    for parent in parents:
        node = node.setdefault(parent, {})
        if not isinstance(node, dict):
            raise UsageError(
                place=f"--set {override:.60}",
                problem=f"{parent} is not a mapping in the recipe",
                remedy="name a key inside a mapping",
            )
    try:
        node[last] = parse_yaml(value)
    except ValueError as error:
        raise UsageError(
            place=f"--set {override:.60}",
            problem=f"not a YAML value: {error}",
            remedy="mind brackets and quotes, also the shell's",
        ) from None


def _check_values(raw: Mapping[str, Any], faults: Faults) -> None:
    """What types alone cannot say; run on the raw mapping so that it is told with type faults."""
    name = raw.get("name")
    if isinstance(name, str) and not _NAME.fullmatch(name):
        faults.add(
            place="name",
            problem=f"{name!r:.60} cannot name a folder",
            remedy="use letters, digits, '.', '_' and '-', 200 at most",
        )
    method = _section(raw, "method")
    if _check_method(method.get("name"), faults):
        options.check(method["name"], method.get("options"), faults)
    _check_data(_section(raw, "data"), faults)
    training = _section(raw, "training")
    for key in _POSITIVE:
        schema.check_positive(training.get(key), f"training.{key}", faults)
    for key, (least, most) in _RANGES.items():
        number = schema.as_number(training.get(key))
        if number is not None and not least <= number <= most:
            faults.add(
                place=f"training.{key}",
                problem=f"{training[key]!s:.60} is out of range",
                remedy=f"give {least} to {most}",
            )
    warmup = schema.as_number(training.get("warmup_ratio"))
    if warmup is not None and not 0 <= warmup < 1:
        # From 1 on the Trainer takes it for a number of steps.
        faults.add(
            place="training.warmup_ratio",
            problem=f"{training['warmup_ratio']!s:.60} is out of range",
            remedy="give 0 to below 1, the share of all steps",
        )
    batch, micro = training.get("batch_size", 8), training.get("micro_batch_size")
    if isinstance(batch, int) and isinstance(micro, int) and micro > 0 and batch % micro:
        faults.add(
            place="training.micro_batch_size",
            problem=f"{micro} does not divide batch_size {batch}",
            remedy="choose a divisor, so that every update sees the same number of rows",
        )


def _section(raw: Mapping[str, Any], key: str) -> Mapping[str, Any]:
    section = raw.get(key)
    return section if isinstance(section, Mapping) else {}


def _check_data(section: Mapping[str, Any], faults: Faults) -> None:
    tasks = section.get("tasks")
    for task in tasks if isinstance(tasks, list) else ():
        if isinstance(task, str) and task not in data.SOURCES:
            faults.add(
                place="data.tasks",
                problem=f"no data set is named {task!r}",
                remedy=f"known: {', '.join(sorted(data.SOURCES))}",
            )
    for key in ("tasks", "files", "validation_files"):
        _check_once(section.get(key), f"data.{key}", faults)
    files = section.get("files")
    if section.get("validation_files") and not files:
        faults.add(
            place="data.validation_files",
            problem="are of data.files, and these name none",
            remedy="name files to train on, or leave them out: tasks have validation rows of their "
            "own",
        )
    if not tasks and not files and tasks in (None, []):
        faults.add(
            place="data.tasks",
            problem="names no data set",
            remedy="name at least one, or name files in data.files",
        )
    _check_weights(section, faults)
    prompt = section.get("prompt")
    if isinstance(prompt, str) and prompt not in prompts.PROMPTS:
        faults.add(
            place="data.prompt",
            problem=f"no prompt is named {prompt!r}",
            remedy=f"known: {', '.join(prompts.PROMPTS)}; leave it out for the model's own",
        )
    for key in ("max_prompt_tokens", "max_target_tokens", "max_train_rows", "max_row_tokens"):
        schema.check_positive(section.get(key), f"data.{key}", faults)


def _check_once(names: object, place: str, faults: Faults) -> None:
    """Notes what is there twice, and would be trained on twice: ``weights`` say so in the open."""
    names = [name for name in names if isinstance(name, str)] if isinstance(names, list) else []
    for name in sorted({name for name in names if names.count(name) > 1}):
        faults.add(
            place=place,
            problem=f"names {name!r} twice",
            remedy="name each once; data.weights says how often rows are seen",
        )


def _check_weights(section: Mapping[str, Any], faults: Faults) -> None:
    weights = section.get("weights")
    if not isinstance(weights, Mapping):
        return
    tasks = section.get("tasks")
    known = [
        *(tasks if isinstance(tasks, list) else ()),
        *(["files"] if section.get("files") else []),
    ]
    for name, weight in weights.items():
        schema.check_positive(weight, f"data.weights.{name}", faults)
        if name not in known:
            faults.add(
                place=f"data.weights.{name}",
                problem="is not trained on",
                remedy=f"known: {', '.join(map(str, known))}",
            )


def _check_method(name: object, faults: Faults) -> bool:
    """Whether there is a method of that name; any fault is noted."""
    if not isinstance(name, str):
        return False
    if name in methods.METHODS:
        return True
    from peft.utils.peft_types import PeftType

    known = {kind.value.lower() for kind in PeftType}
    if name in known:
        return True
    near = difflib.get_close_matches(name, [*methods.METHODS, *known], n=1)
    faults.add(
        place="method.name",
        problem=f"no PEFT method is named {name!r}",
        remedy=(f"did you mean {near[0]}? " if near else "")
        + f"With defaults: {', '.join(methods.METHODS)}; also any PEFT type: "
        + ", ".join(sorted(known)),
    )
    return False
