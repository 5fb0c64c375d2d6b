"""Floating-point operations of training, reckoned from the model's shape and the tokens seen."""

from __future__ import annotations

from typing import Any

from peft_bench.encoding import Encoded


def training_flops(model: Any, train: Encoded, epochs: float) -> float:
    """Operations of the forward and backward passes over ``train``, ``epochs`` times.

    A multiplication with its addition counts as two. For each weight of a matrix product and each
    token that goes through it: 2 forward, 2 for the gradient of the activations, and 2 more for
    the weight's own gradient where it is trained (6 N D and 4 N D of Kaplan et al., arXiv
    2001.08361, told apart for frozen weights). The output projection counts label tokens alone,
    an encoder the prompt's tokens, a decoder the answer's; virtual tokens count as tokens.
    Attention's products of activations, norms and optimizer are left out; they are small at
    these lengths. Activation gradients are counted for every layer, although the layers below
    the first trained weight need none.
    """
    head = model.get_output_embeddings()
    within_head = {id(module) for module in head.modules()} if head is not None else set()
    seq2seq = model.config.is_encoder_decoder
    labels = train.label_tokens
    virtual = _virtual_tokens(model) * len(train.features)
    whole = train.tokens - (labels if seq2seq else 0) + virtual
    flops = 0
    for name, module in model.named_modules():
        weights, trained = _weights(module)
        if not weights:
            continue
        on_labels = id(module) in within_head or (seq2seq and _of_answer(name))
        tokens = labels if on_labels else whole
        flops += tokens * (4 * weights + 2 * trained)
    return float(flops * epochs)


def _of_answer(name: str) -> bool:
    """Whether a decoder's module works on the answer, as all do but cross-attention's k and v."""
    parts = set(name.split("."))
    crosses = parts & {"EncDecAttention", "encoder_attn"} and parts & {"k", "v", "k_proj", "v_proj"}
    return "decoder" in parts and not crosses


def _weights(module: Any) -> tuple[int, int]:
    """Weights of a matrix product, all and trained ones; packed weights by their true shape."""
    weight = getattr(module, "weight", None)
    if weight is None or type(module).__name__ == "Embedding" or list(module.children()):
        return 0, 0
    if hasattr(module, "in_features") and hasattr(module, "out_features"):
        count = int(module.in_features) * int(module.out_features)
    elif getattr(weight, "dim", lambda: 0)() == 2:
        count = weight.numel()
    else:
        return 0, 0
    return count, count if weight.requires_grad else 0


def _virtual_tokens(model: Any) -> int:
    config = getattr(model, "active_peft_config", None)
    if config is None or str(getattr(config.peft_type, "value", "")) not in (
        "PROMPT_TUNING",
        "P_TUNING",
    ):
        return 0
    return int(config.num_virtual_tokens)
