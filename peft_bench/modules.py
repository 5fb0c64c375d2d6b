"""A model's modules by name, known from its configuration alone; which of them are targets."""

from __future__ import annotations

import re
from collections.abc import Iterable
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
    named = {key: options[key] for key in _TARGET_OPTIONS if recipe.method.options.get(key)}
    if not named:
        return
    names = [name for name, _ in models.empty_model(config).named_modules()]
    for key, targets in named.items():
        for target in _unmatched(targets, names):
            faults.add(
                place=f"method.options.{key}",
                problem=f"{target!r} matches no module of {config.model_type}",
                remedy=f"there are: {_shown(config, kind)}",
            )


_TARGET_OPTIONS = ("target_modules", "feedforward_modules", "modules_to_save")


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


def _unmatched(targets: Any, names: Iterable[str]) -> list[str]:
    """Those of the targets that match no module's name, by PEFT's rules."""
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
