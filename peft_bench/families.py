"""Model families, by transformers' ``config.model_type``: one row a family.

A family not listed here can be trained all the same: PEFT's own tables then choose the target
modules, or the recipe names them in ``method.options.target_modules``.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Architecture = Literal["causal", "seq2seq"]


@dataclass(frozen=True, slots=True)
class Family:
    """What training and scoring must know of a model type.

    ``lora_targets`` are the query, key and value projections, as in the study; ``ia3_targets``
    adds the feed-forward projections, named again in ``ia3_feedforward``.
    """

    model_type: str
    architecture: Architecture
    prompt: str
    lora_targets: tuple[str, ...]
    ia3_targets: tuple[str, ...]
    ia3_feedforward: tuple[str, ...]


def _llama_like(model_type: str) -> Family:
    attention = ("q_proj", "k_proj", "v_proj")
    return Family(
        model_type,
        "causal",
        "instruction",
        attention,
        (*attention, "down_proj"),
        ("down_proj",),
    )


FAMILIES: dict[str, Family] = {
    family.model_type: family
    for family in (
        _llama_like("llama"),
        _llama_like("qwen2"),
        Family(
            "codegen",
            "causal",
            "instruction",
            ("qkv_proj",),
            ("qkv_proj", "fc_out"),
            ("fc_out",),
        ),
        Family(
            "t5",
            "seq2seq",
            "instruction-seq2seq",
            ("q", "k", "v"),
            ("q", "k", "v", "wo"),
            ("wo",),
        ),
    )
}


def prompt_name(model_type: str, *, is_encoder_decoder: bool) -> str:
    """The default prompt of a model: its family's, else the one of its architecture."""
    if model_type in FAMILIES:
        return FAMILIES[model_type].prompt
    return "instruction-seq2seq" if is_encoder_decoder else "instruction"
