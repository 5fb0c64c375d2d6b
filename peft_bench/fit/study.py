"""The configurations of the study's models (Weyssow et al., arXiv 2308.10462), with no network.

Shapes are those of the models' public configurations. What does not bear on memory (ids of
special tokens, initialisation) is left at transformers' defaults.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from peft_bench.errors import UsageError


def _t5(layers: int, hidden: int, heads: int, feed_forward: int) -> Any:
    from transformers import T5Config

    return T5Config(
        d_model=hidden,
        d_kv=64,
        d_ff=feed_forward,
        num_layers=layers,
        num_decoder_layers=layers,
        num_heads=heads,
        vocab_size=32100,
        decoder_start_token_id=0,
    )


def _codegen(layers: int, hidden: int, rotary_dim: int) -> Any:
    from transformers import CodeGenConfig

    return CodeGenConfig(
        n_embd=hidden,
        n_layer=layers,
        n_head=16,
        rotary_dim=rotary_dim,
        vocab_size=51200,
        n_positions=2048,
        n_ctx=2048,
    )


def _llama(
    layers: int, hidden: int, heads: int, kv_heads: int, feed_forward: int, vocabulary: int
) -> Any:
    from transformers import LlamaConfig

    return LlamaConfig(
        hidden_size=hidden,
        intermediate_size=feed_forward,
        num_hidden_layers=layers,
        num_attention_heads=heads,
        num_key_value_heads=kv_heads,
        vocab_size=vocabulary,
        max_position_embeddings=16384,
    )


_BUILT_IN: dict[str, tuple[str, Callable[[], Any]]] = {
    "Salesforce/codet5p-220m": ("CodeT5+ 220M", lambda: _t5(12, 768, 12, 3072)),
    "Salesforce/codet5p-770m": ("CodeT5+ 770M", lambda: _t5(24, 1024, 16, 4096)),
    "Salesforce/codegen-350M-mono": ("CodeGen 350M", lambda: _codegen(20, 1024, 32)),
    "Salesforce/codegen2-1B_P": ("CodeGen2 1B", lambda: _codegen(16, 2048, 32)),
    "Salesforce/codegen2-3_7B_P": ("CodeGen2 3.7B", lambda: _codegen(16, 4096, 64)),
    "Salesforce/codegen2-7B_P": ("CodeGen2 7B", lambda: _codegen(32, 4096, 64)),
    "codellama/CodeLlama-7b-hf": (
        "CodeLlama 7B",
        lambda: _llama(32, 4096, 32, 32, 11008, 32016),
    ),
    "codellama/CodeLlama-13b-Python-hf": (
        "CodeLlama 13B",
        lambda: _llama(40, 5120, 40, 40, 13824, 32000),
    ),
    "codellama/CodeLlama-34b-Python-hf": (
        "CodeLlama 34B",
        lambda: _llama(48, 8192, 64, 8, 22016, 32000),
    ),
}

# The same shape under another name.
_SAME = {
    "codellama/CodeLlama-7b-Instruct-hf": "codellama/CodeLlama-7b-hf",
    "codellama/CodeLlama-7b-Python-hf": "codellama/CodeLlama-7b-hf",
}

NAMES: tuple[str, ...] = tuple(_BUILT_IN)
LABELS: dict[str, str] = {name: label for name, (label, _) in _BUILT_IN.items()}


def is_built_in(model_id: str) -> bool:
    """Whether the model's configuration is here."""
    return _SAME.get(model_id, model_id) in _BUILT_IN


def config(model_id: str) -> Any:
    """transformers' configuration of one of the study's models.

    Raises:
        UsageError: it is none of them.
    """
    name = _SAME.get(model_id, model_id)
    if name not in _BUILT_IN:
        raise UsageError(
            place=f"model {model_id}",
            problem="is not built in",
            remedy=f"built in: {', '.join(NAMES)}",
        )
    found = _BUILT_IN[name][1]()
    if model_id == "codellama/CodeLlama-7b-Python-hf":
        found.vocab_size = 32000
    return found


def small_configs() -> dict[str, Any]:
    """A small model of each of the study's architectures, to be measured in seconds."""
    t5, codegen = _t5(1, 128, 4, 512), _codegen(2, 128, 8)
    t5.d_kv, t5.vocab_size = 32, 2048
    codegen.n_head, codegen.vocab_size = 4, 2048
    return {"llama": _llama(2, 128, 4, 2, 352, 2048), "codegen": codegen, "t5": t5}
