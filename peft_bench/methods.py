"""Methods with defaults of their own: the study's. Every other PEFT type needs no row here.

A recipe's ``method.options`` go to PEFT's own configuration class as they are; the rows only
supply what the recipe leaves out. Hyperparameters: Weyssow et al., arXiv 2308.10462, and the
authors' scripts.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, Literal

from peft_bench.families import FAMILIES

Quantization = Literal["4bit", "8bit"]
Targets = Literal["study", "revision", "peft"]

FULL = "full"
"""Full fine-tuning: every weight of the model is trained, and PEFT has no part in it."""

PROMPT_TUNING_TEXT = "Generate Python code given a natural language instruction."


@dataclass(frozen=True, slots=True)
class Method:
    """A method's PEFT type (none for full fine-tuning) and the study's hyperparameters.

    ``quantization`` is what the base gets unless the recipe says; ``own_targets`` whether the
    family's targets stand before PEFT's own table.
    """

    name: str
    peft_type: str | None
    learning_rate: float
    summary: str
    options: Mapping[str, Any] = field(default_factory=lambda: MappingProxyType({}))
    quantization: Quantization | None = None
    own_targets: bool = False


DEFAULT_LEARNING_RATE = 3e-4

_LORA = {"r": 16, "lora_alpha": 32, "lora_dropout": 0.05, "bias": "none"}

METHODS: dict[str, Method] = {
    method.name: method
    for method in (
        Method(
            "lora",
            "LORA",
            3e-4,
            "low-rank updates of the attention projections (r 16, alpha 32)",
            _LORA,
            own_targets=True,
        ),
        Method(
            "qlora",
            "LORA",
            3e-4,
            "LoRA on a base in 4 bits (NF4, double quantisation) or, by model.quantization, 8",
            _LORA,
            quantization="4bit",
            own_targets=True,
        ),
        Method(
            "ia3",
            "IA3",
            3e-3,
            "learned scales of attention and feed-forward projections",
            own_targets=True,
        ),
        Method(
            "prompt_tuning",
            "PROMPT_TUNING",
            3e-3,
            "20 trained virtual tokens before the prompt, started from a text",
            {
                "num_virtual_tokens": 20,
                "prompt_tuning_init": "TEXT",
                "prompt_tuning_init_text": PROMPT_TUNING_TEXT,
            },
        ),
        Method(
            "prefix_tuning",
            "PREFIX_TUNING",
            3e-2,
            "10 trained key-value pairs before the prompt in every layer",
            {"num_virtual_tokens": 10},
        ),
        Method(FULL, None, 5e-5, "every weight is trained; a whole model is saved"),
    )
}


def peft_type(name: str) -> str:
    """PEFT's name of a method: a row's, else the name itself in capitals; FULL has no adapter."""
    row = METHODS.get(name)
    return name.upper() if row is None or row.peft_type is None else row.peft_type


def base_quantization(name: str, chosen: Quantization | None) -> Quantization | None:
    """What a method's base is quantised to: as was chosen, else as the method's name implies."""
    row = METHODS.get(name)
    return chosen if chosen is not None or row is None else row.quantization


def learning_rate(name: str) -> float:
    """The default learning rate of a method."""
    return METHODS[name].learning_rate if name in METHODS else DEFAULT_LEARNING_RATE


def default_options(
    name: str, model_type: str, *, targets: Targets | None = None
) -> dict[str, Any]:
    """What a method's PEFT configuration holds on a model type where the recipe is silent.

    Target modules: of LoRA and IA3 the study's (``revision``: every projection of a block);
    of any other method PEFT's own, and the family's attention projections (of LN_TUNING its
    norms) where PEFT has none. ``peft`` always leaves the choice to PEFT.
    """
    row = METHODS.get(name)
    options = dict(row.options) if row is not None else {}
    family = FAMILIES.get(model_type)
    kind = peft_type(name)
    if family is None or targets == "peft" or name == FULL:
        return options
    if targets == "revision":
        return options | {"target_modules": list(family.revision_targets)}
    if kind == "IA3":
        options["target_modules"] = list(family.ia3_targets)
        options["feedforward_modules"] = list(family.ia3_feedforward)
    elif kind == "LORA":
        options["target_modules"] = list(family.lora_targets)
    elif has_targets(kind) and model_type not in peft_targets(kind):
        own = family.norms if kind == "LN_TUNING" else family.attention
        options["target_modules"] = list(own)
    return options


def has_targets(kind: str) -> bool:
    """Whether a PEFT type works on modules that ``target_modules`` names."""
    from peft.mapping import PEFT_TYPE_TO_CONFIG_MAPPING

    # Their targets are of another kind: whole layers, attention blocks, embeddings.
    if kind in ("SHADOW", "ADAPTION_PROMPT", "TRAINABLE_TOKENS"):
        return False
    config = PEFT_TYPE_TO_CONFIG_MAPPING.get(kind)
    return config is not None and "target_modules" in config.__dataclass_fields__


def peft_targets(kind: str) -> Mapping[str, Any]:
    """PEFT's own table of a method's target modules, by model type; empty if it has none."""
    from peft.utils import constants

    name = f"TRANSFORMERS_MODELS_TO_{kind.replace('_', '')}_TARGET_MODULES_MAPPING"
    table: Mapping[str, Any] = getattr(constants, name, {})
    return table
