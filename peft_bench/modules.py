"""A model's modules by name, known from its configuration alone; which of them are targets."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from peft_bench import methods, models, peft_model
from peft_bench.errors import Faults
from peft_bench.families import FAMILIES
from peft_bench.recipe import Recipe

_ALL_LINEAR = "all-linear"


def check_targets(recipe: Recipe, config: Any, faults: Faults) -> None:
    """Notes targets that match no module, and targets that nobody knows.

    PEFT itself takes a list of which one name matches, and silently leaves the others out.
    """
    kind = methods.peft_type(recipe.method.name)
    choice = recipe.method.targets
    if not methods.has_targets(kind):
        if choice is not None:
            faults.add(
                place="method.targets",
                problem=f"{recipe.method.name} has no target modules",
                remedy="leave it out",
            )
        return
    if choice in ("study", "revision") and config.model_type not in FAMILIES:
        faults.add(
            place="method.targets",
            problem=f"the study has no targets for {config.model_type}",
            remedy=f"name them in method.options.target_modules: {_shown(config, kind)}",
        )
        return
    options = peft_model.peft_options(recipe, config.model_type, config.is_encoder_decoder)
    _check_known(kind, options, config, faults)
    _check_named(recipe.method.options, kind, config, faults)


_MODULES = ("target_modules", "feedforward_modules", "modules_to_save", "exclude_modules")
_PATTERNS = (
    "rank_pattern",
    "alpha_pattern",
    "block_size_pattern",
    "lambda_pattern",
    "n_frequency_pattern",
)
_OTHERS = ("target_parameters", "layers_to_transform", "layers_pattern")


def _check_named(own: Mapping[str, Any], kind: str, config: Any, faults: Faults) -> None:
    """Notes what a recipe's options name and the model has not."""
    keys = (*_MODULES, *_PATTERNS, *_OTHERS)
    given = {key: own[key] for key in keys if own.get(key) not in (None, [], {}, "")}
    if not given:
        return
    model = models.empty_model(config)
    modules = [name for name, _ in model.named_modules()]
    parameters = [name for name, _ in model.named_parameters()]

    def note(key: str, missing: Iterable[object], what: str, there: str) -> None:
        for name in missing:
            faults.add(
                place=f"method.options.{key}",
                problem=f"{name!r} matches no {what} of {config.model_type}",
                remedy=f"there are: {there}",
            )

    shown = _shown(config, kind)
    for key in _MODULES:
        note(key, _unmatched(given.get(key, []), modules), "module", shown)
    for key in _PATTERNS:
        every = [*modules, *parameters]
        missing = [name for name in given.get(key, {}) if _unmatched(rf"(.*\.)?({name})", every)]
        note(key, missing, "module", shown)
    ends = dict.fromkeys(".".join(name.split(".")[-2:]) for name in parameters)
    missing = _unmatched(given.get("target_parameters", []), parameters)
    note("target_parameters", missing, "parameter", ", ".join(ends))
    _check_layers(given, modules, note)


def _check_layers(
    given: Mapping[str, Any],
    modules: Sequence[str],
    note: Callable[[str, Iterable[object], str, str], None],
) -> None:
    lists = _list(given.get("layers_pattern", r"[^.]*"))
    absent = [name for name in lists if _unmatched(rf"(.*\.)?{name}\.\d+", modules)]
    known = dict.fromkeys(name.split(".")[-2] for name in modules if re.fullmatch(r".+\.\d+", name))
    note("layers_pattern", absent, "layers", ", ".join(known))
    if absent or "layers_to_transform" not in given:
        return
    # The first number of a name is the layer's; a later one may be an expert's.
    found = [
        re.match(rf"(?:.*?\.)??{name}\.(?P<layer>\d+)", module)
        for name in lists
        for module in modules
    ]
    layers = sorted({int(match["layer"]) for match in found if match})
    missing = [layer for layer in _list(given["layers_to_transform"]) if layer not in layers]
    note("layers_to_transform", missing, "layer", ", ".join(map(str, layers)))


def _list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [value]


def _check_known(kind: str, options: dict[str, Any], config: Any, faults: Faults) -> None:
    if options.get("target_modules") or options.get("target_parameters"):
        known = True
    else:
        known = config.model_type in methods.peft_targets(kind)
    if not known:
        faults.add(
            place="method.options.target_modules",
            problem=f"neither peft-bench nor PEFT knows targets of {kind} for {config.model_type}",
            remedy=f"name them; there are: {_shown(config, kind)}",
        )
    elif kind == "IA3" and options.get("feedforward_modules") is None:
        from peft.utils import constants

        table = constants.TRANSFORMERS_MODELS_TO_IA3_FEEDFORWARD_MODULES_MAPPING
        if config.model_type not in table:
            faults.add(
                place="method.options.feedforward_modules",
                problem=f"nobody knows the feed-forward modules of {config.model_type}",
                remedy="name those of the targets whose input is to be scaled; [] for none",
            )


def _unmatched(targets: str | Sequence[str], names: Iterable[str]) -> list[str]:
    """Those of the targets that match none of the names, by PEFT's rules."""
    if isinstance(targets, str):
        if targets == _ALL_LINEAR:
            return []
        try:
            pattern = re.compile(targets)
        except re.error:
            return [targets]
        return [] if any(pattern.fullmatch(name) for name in names) else [targets]
    return [
        target
        for target in targets
        if not any(name == target or name.endswith(f".{target}") for name in names)
    ]


def _shown(config: Any, kind: str) -> str:
    """The last parts of the names of the modules that a method can take, in the model's order."""
    model = models.empty_model(config)
    wanted = ("Norm",) if kind == "LN_TUNING" else ("Linear", "Conv1D")
    found = {
        name.rsplit(".", 1)[-1]: None
        for name, module in model.named_modules()
        if type(module).__name__.endswith(wanted)
    }
    return ", ".join(found)
