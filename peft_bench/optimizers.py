"""Optimizers that belong to a PEFT method, which transformers' Trainer does not make by name."""

from __future__ import annotations

from typing import Any

from peft_bench import methods
from peft_bench.recipe import Recipe

OWN = ("loraplus", "lorafa")


def create(recipe: Recipe, model: Any) -> Any | None:
    """The optimizer of a recipe where it is PEFT's; None where the Trainer makes it by name.

    ``loraplus``: LoRA+ (Hayou et al., arXiv 2402.12354) on AdamW. ``lorafa``: LoRA-FA (Zhang et
    al., arXiv 2308.03303), which freezes LoRA's A matrices.
    """
    choice = recipe.training
    if choice.optimizer not in OWN:
        return None
    import torch
    from peft.optimizers import create_lorafa_optimizer, create_loraplus_optimizer

    rate = choice.learning_rate or methods.learning_rate(recipe.method.name)
    if choice.optimizer == "loraplus":
        return create_loraplus_optimizer(
            model,
            torch.optim.AdamW,
            lr=rate,
            loraplus_lr_ratio=choice.loraplus_lr_ratio,
            weight_decay=choice.weight_decay,
        )
    config = model.peft_config["default"]
    return create_lorafa_optimizer(
        model, config.r, config.lora_alpha, lr=rate, weight_decay=choice.weight_decay
    )
