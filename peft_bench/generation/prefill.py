"""A prompt is read once, however many beams or samples continue it."""

from __future__ import annotations

import inspect
from typing import TYPE_CHECKING, Any

from peft_bench.generation.rows import learns_prompt

if TYPE_CHECKING:
    import torch


def can_share(model: Any) -> bool:
    """Whether the model's cache can be filled beforehand: a decoder with plain attention."""
    from transformers.cache_utils import DynamicCache, DynamicLayer

    if model.config.is_encoder_decoder or learns_prompt(model):
        return False
    if "past_key_values" not in inspect.signature(model.forward).parameters:
        return False
    cache = DynamicCache(config=model.config.get_text_config(decoder=True))
    return all(type(layer) is DynamicLayer for layer in cache.layers)


def read_prompts(
    model: Any, rows: torch.Tensor, mask: torch.Tensor, *, last: bool = False
) -> tuple[torch.Tensor, Any]:
    """The last logits [prompts, 1, vocabulary] and the cache, after reading the prompts.

    Args:
        model: a causal language model for which :func:`can_share` holds.
        rows: ids [prompts, length], padded on the left.
        mask: [prompts, length].
        last: whether the last token of each is read, too; else there must be more than one.
    """
    import torch
    from transformers.cache_utils import DynamicCache

    end = rows.shape[1] if last else rows.shape[1] - 1
    cache = DynamicCache(config=model.config.get_text_config(decoder=True))
    taken = inspect.signature(model.forward).parameters
    named: dict[str, Any] = {}
    if not bool(mask.all()):
        named["attention_mask"] = mask[:, :end]
        if "position_ids" in taken:
            named["position_ids"] = (mask.cumsum(-1) - 1).clamp_(min=0)[:, :end]
    if "logits_to_keep" in taken:
        named["logits_to_keep"] = 1
    with torch.no_grad():
        out = model(input_ids=rows[:, :end], past_key_values=cache, use_cache=True, **named)
    return out.logits[:, -1:].float(), cache
