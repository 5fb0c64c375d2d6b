"""What to reckon: a model's configuration, a method, and the shape of a training step."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal

from peft_bench.methods import FULL
from peft_bench.recipe import Recipe

Quantization = Literal["4bit", "8bit"]
Dtype = Literal["float32", "float16", "bfloat16", "mixed"]
Head = Literal["labels", "all"]

TRAINER_HEAD: Head = "labels"  # where peft_bench.trainer computes logits


@dataclass(frozen=True, slots=True)
class Length:
    """Tokens a row: of the prompt and of the target (an encoder's and a decoder's, in a T5)."""

    prompt_tokens: int = 64
    target_tokens: int = 64

    def __str__(self) -> str:
        return f"{self.prompt_tokens}+{self.target_tokens}"


@dataclass(frozen=True, slots=True)
class Plan:
    """One training step to reckon.

    ``dtype`` is the base's; ``float16`` and ``bfloat16`` run under autocast to themselves, float32
    does not, as in training; ``mixed`` means float32 weights under autocast to bfloat16.
    ``head`` tells whether logits exist at label positions only or at all. ``accumulates``: other
    micro batches' gradients are held while this one runs. ``gpu`` False is a step on a CPU, to be
    compared with measurements there.
    """

    config: Any
    method: str = "lora"
    options: dict[str, Any] = field(default_factory=dict)
    quantization: Quantization | None = None
    dtype: Dtype = "bfloat16"
    length: Length = Length()
    micro_batch_size: int = 8
    accumulates: bool = False
    optimizer: Literal["adafactor", "adamw_torch"] = "adafactor"
    checkpointing: bool = False
    head: Head = TRAINER_HEAD
    gpu: bool = True
    model_id: str = "model"

    @property
    def weight_dtype(self) -> str:
        """The dtype of the base's weights in training; full fine-tuning's are float32 always."""
        return "float32" if self.dtype == "mixed" or self.method == FULL else self.dtype

    @property
    def autocast_dtype(self) -> str | None:
        """The dtype that autocast computes in; None where it is off."""
        if not self.gpu or self.dtype == "float32":
            return None
        return "bfloat16" if self.dtype == "mixed" else self.dtype


def plan_of(recipe: Recipe, config: Any) -> Plan:
    """The training step of a recipe on a GPU, of its whole effective batch.

    A base whose dtype is left open is reckoned in bfloat16, which that means on a GPU.
    """
    choice, data = recipe.training, recipe.data
    dtype: Any = "bfloat16" if recipe.model.dtype == "auto" else recipe.model.dtype
    return Plan(
        config,
        recipe.method.name,
        dict(recipe.method.options),
        recipe.model.quantization,
        dtype,
        Length(data.max_prompt_tokens, data.max_target_tokens),
        choice.batch_size,
        optimizer="adafactor" if choice.optimizer == "adafactor" else "adamw_torch",
        checkpointing=choice.gradient_checkpointing,
        head=TRAINER_HEAD if choice.engine == "peft-bench" else "all",
        model_id=recipe.model.id,
    )
