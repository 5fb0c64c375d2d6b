"""PEFT methods with defaults of their own: the study's. Every other PEFT type needs no row here.

A recipe's ``method.options`` go to PEFT's own configuration class as they are; the rows only
supply what the recipe leaves out. Hyperparameters: Weyssow et al., arXiv 2308.10462, and the
authors' scripts.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, Literal

Targets = Literal["lora", "ia3"]

PROMPT_TUNING_TEXT = "Generate Python code given a natural language instruction."


@dataclass(frozen=True, slots=True)
class Method:
    """A method's PEFT type, the study's hyperparameters, and which target modules it takes."""

    name: str
    peft_type: str
    learning_rate: float
    summary: str
    options: Mapping[str, Any] = field(default_factory=lambda: MappingProxyType({}))
    targets: Targets | None = None


DEFAULT_LEARNING_RATE = 3e-4

METHODS: dict[str, Method] = {
    method.name: method
    for method in (
        Method(
            "lora",
            "LORA",
            3e-4,
            "low-rank updates of the attention projections (r 16, alpha 32)",
            {"r": 16, "lora_alpha": 32, "lora_dropout": 0.05, "bias": "none"},
            "lora",
        ),
        Method(
            "ia3",
            "IA3",
            3e-3,
            "learned scales on keys, values and feed-forward activations",
            {},
            "ia3",
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
    )
}


def peft_type(name: str) -> str:
    """PEFT's name of a method: a row's, else the name itself in capitals."""
    return METHODS[name].peft_type if name in METHODS else name.upper()


def learning_rate(name: str) -> float:
    """The default learning rate of a method."""
    return METHODS[name].learning_rate if name in METHODS else DEFAULT_LEARNING_RATE
