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

    ``attention`` are the query, key and value projections (the study's targets of LoRA), ``mlp``
    the feed-forward projections, ``output`` what else is linear in a block, ``norms`` the layer
    norms. Names are module suffixes, as PEFT matches them.

    Source of the study's choice: the published scripts of Weyssow et al. (arXiv 2308.10462).
    """

    model_type: str
    models: str
    attention: tuple[str, ...]
    output: tuple[str, ...]
    mlp: tuple[str, ...]
    norms: tuple[str, ...]
    architecture: Architecture = "causal"
    prompt: str = "instruction"

    @property
    def padding_side(self) -> Literal["left", "right"]:
        """Where a batch is padded when the model generates."""
        return "left" if self.architecture == "causal" else "right"

    @property
    def lora_targets(self) -> tuple[str, ...]:
        """The study's targets of LoRA."""
        return self.attention

    @property
    def revision_targets(self) -> tuple[str, ...]:
        """Every projection of a block: the targets of LoRA in the study's later ``revision``."""
        return (*self.attention, *self.output, *self.mlp)

    @property
    def ia3_targets(self) -> tuple[str, ...]:
        """The study's targets of IA3: attention and feed-forward projections."""
        return (*self.attention, *self.mlp)

    @property
    def ia3_feedforward(self) -> tuple[str, ...]:
        """Those of them whose input IA3 scales, rather than their output."""
        return self.mlp


_QKV = ("q_proj", "k_proj", "v_proj")
_GATED = ("gate_proj", "up_proj", "down_proj")
_LLAMA_NORMS = ("input_layernorm", "post_attention_layernorm", "norm")
_GEMMA_NORMS = (*_LLAMA_NORMS, "pre_feedforward_layernorm", "post_feedforward_layernorm")


def _llama_like(model_type: str, models: str, norms: tuple[str, ...] = _LLAMA_NORMS) -> Family:
    return Family(model_type, models, _QKV, ("o_proj",), _GATED, norms)


FAMILIES: dict[str, Family] = {
    family.model_type: family
    for family in (
        Family(
            "t5",
            "CodeT5+ 220M and 770M, T5",
            ("q", "k", "v"),
            ("o",),
            # T5 has wi, its later gated form wi_0 and wi_1.
            ("wi", "wi_0", "wi_1", "wo"),
            ("layer_norm", "final_layer_norm"),
            "seq2seq",
            "instruction-seq2seq",
        ),
        Family(
            "codegen",
            "CodeGen; CodeGen2 once repacked",
            ("qkv_proj",),
            ("out_proj",),
            ("fc_in", "fc_out"),
            ("ln_1", "ln_f"),
        ),
        _llama_like("llama", "CodeLlama, Llama 2 and 3, DeepSeek-Coder, SmolLM"),
        _llama_like("mistral", "Mistral, Codestral"),
        _llama_like("qwen2", "Qwen2.5-Coder, CodeQwen1.5"),
        _llama_like("qwen3", "Qwen3"),
        # The experts of a layer are one tensor, no modules: they are left alone.
        Family("qwen3_moe", "Qwen3-Coder", _QKV, ("o_proj",), (), _LLAMA_NORMS),
        _llama_like("granite", "Granite Code"),
        _llama_like("gemma", "CodeGemma, Gemma"),
        _llama_like("gemma2", "Gemma 2", _GEMMA_NORMS),
        _llama_like("gemma3_text", "Gemma 3", _GEMMA_NORMS),
        Family("starcoder2", "StarCoder2", _QKV, ("o_proj",), ("c_fc", "c_proj"), _LLAMA_NORMS),
        Family(
            "gpt_bigcode",
            "StarCoder, SantaCoder",
            ("c_attn",),
            ("attn.c_proj",),
            ("mlp.c_fc", "mlp.c_proj"),
            ("ln_1", "ln_2", "ln_f"),
        ),
        Family(
            "phi",
            "Phi-1, Phi-1.5, Phi-2",
            _QKV,
            ("dense",),
            ("fc1", "fc2"),
            ("input_layernorm", "final_layernorm"),
        ),
        Family(
            "phi3",
            "Phi-3, Phi-4",
            ("qkv_proj",),
            ("o_proj",),
            ("gate_up_proj", "down_proj"),
            _LLAMA_NORMS,
        ),
    )
}


def prompt_name(model_type: str, *, is_encoder_decoder: bool) -> str:
    """The default prompt of a model: its family's, else the one of its architecture."""
    if model_type in FAMILIES:
        return FAMILIES[model_type].prompt
    return "instruction-seq2seq" if is_encoder_decoder else "instruction"
