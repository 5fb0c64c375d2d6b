"""Our loss and its gradients are the plain model's, whatever the family and the method."""

from __future__ import annotations

from typing import Any

import pytest

from peft_bench import methods
from peft_bench.encoding import IGNORED_LABEL, Collator
from peft_bench.families import FAMILIES
from peft_bench.label_head import LabelHead

TOLERANCE = 1e-5
VOCABULARY = 96
PAD = 0

_DECODER = {
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 128,
    "attention_dropout": 0.0,
    "resid_pdrop": 0.0,
    "embd_pdrop": 0.0,
    "embedding_dropout": 0.0,
    "residual_dropout": 0.0,
}
_GPT = {"n_embd": 32, "n_layer": 2, "n_head": 4, "n_positions": 128} | dict.fromkeys(
    ("resid_pdrop", "embd_pdrop", "attn_pdrop"), 0.0
)
SHAPES: dict[str, dict[str, Any]] = {
    "t5": {
        "d_model": 32,
        "d_kv": 8,
        "d_ff": 48,
        "num_layers": 2,
        "num_heads": 4,
        "dropout_rate": 0.0,
        "decoder_start_token_id": PAD,
    },
    "codegen": _GPT | {"n_ctx": 128, "rotary_dim": 4},
    "gpt_bigcode": _GPT,
    "qwen3": _DECODER | {"head_dim": 8},
    "qwen3_moe": _DECODER
    | {"head_dim": 8, "num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 16},
    # What follows the head: scaling, soft caps low enough to bend these logits.
    "granite": _DECODER | {"logits_scaling": 3.0},
    "cohere": _DECODER | {"logit_scale": 0.25},
    "gemma": _DECODER | {"head_dim": 8},
    "gemma2": _DECODER | {"head_dim": 8, "final_logit_softcapping": 0.5, "sliding_window": 4},
    "gemma3_text": _DECODER | {"head_dim": 8},
}
LEARNED = ("prompt_tuning", "p_tuning", "prefix_tuning")


def base(model_type: str) -> Any:
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM, AutoModelForSeq2SeqLM

    settings = SHAPES.get(model_type, _DECODER)
    ends = {"pad_token_id": PAD, "eos_token_id": 1, "bos_token_id": None}
    config = AutoConfig.for_model(model_type, **settings, vocab_size=VOCABULARY, **ends)
    torch.manual_seed(0)
    loader = AutoModelForSeq2SeqLM if config.is_encoder_decoder else AutoModelForCausalLM
    return loader.from_config(config)


def wrapped(model_type: str, method: str) -> Any:
    """The model with an adapter that is no longer at its start, where half its gradients vanish."""
    import torch
    from peft import get_peft_config, get_peft_model

    model = base(model_type)
    if method == methods.FULL:
        return model.train()
    options = methods.default_options(method, model_type)
    if method == "lora":
        options |= {"init_lora_weights": False, "lora_dropout": 0.0}
        options.setdefault("target_modules", ["q_proj", "v_proj"])
    else:
        options |= {"num_virtual_tokens": 3}
        options.pop("prompt_tuning_init", None)
    task = "SEQ_2_SEQ_LM" if model.config.is_encoder_decoder else "CAUSAL_LM"
    kind = methods.peft_type(method)
    torch.manual_seed(1)
    return get_peft_model(model, get_peft_config(options | {"peft_type": kind, "task_type": task}))


def rows(model_type: str) -> list[dict[str, Any]]:
    """Rows of several lengths; one has a single label."""
    import torch

    generator = torch.Generator().manual_seed(2)
    found = []
    for asked, answered in ((5, 4), (9, 7), (3, 1)):
        ids = torch.randint(2, VOCABULARY, (asked + answered,), generator=generator).tolist()
        if FAMILIES.get(model_type) and FAMILIES[model_type].architecture == "seq2seq":
            row = {"input_ids": ids[:asked], "labels": ids[asked:]}
        else:
            row = {"input_ids": ids, "labels": [IGNORED_LABEL] * asked + ids[asked:]}
        found.append(row)
    return found


def gradients(model: Any, loss: Any) -> dict[str, Any]:
    model.zero_grad()
    loss.backward()
    return {n: p.grad.clone() for n, p in model.named_parameters() if p.grad is not None}


def assert_same(ours: tuple[Any, dict[str, Any]], theirs: tuple[Any, dict[str, Any]]) -> None:
    assert float(ours[0]) == pytest.approx(float(theirs[0]), rel=TOLERANCE)
    # A parameter without a gradient on one side has none, or zeros, on the other.
    names = ours[1].keys() | theirs[1].keys()
    scale = max(float(grad.norm()) for grad in theirs[1].values())
    assert scale > 0
    for name in names:
        one, two = ours[1].get(name), theirs[1].get(name)
        if one is None or two is None:
            assert one is None and not two.any() if two is not None else not one.any(), name
            continue
        difference = one - two
        reference = max(float(two.norm()), 1e-3 * scale)
        assert float(difference.norm()) <= TOLERANCE * reference, name


def plain_trainer_loss(model: Any, batch: dict[str, Any], folder: Any) -> Any:
    from transformers import Trainer, TrainingArguments

    arguments = TrainingArguments(output_dir=str(folder), report_to="none", use_cpu=True)
    return Trainer(model=model, args=arguments).compute_loss(model, batch)


def our_loss(model: Any, batch: dict[str, Any]) -> Any:
    causal = not model.config.is_encoder_decoder
    total, count = LabelHead(model, right_padded_causal=causal).loss(model, batch)
    assert count == 12
    return total / count


@pytest.mark.parametrize("model_type", [*FAMILIES, "cohere"])
def test_loss_and_gradients_are_the_plain_trainers(model_type: str, tmp_path: Any) -> None:
    model = wrapped(model_type, "lora").train()
    batch = Collator(PAD)(rows(model_type))
    ours = our_loss(model, batch)
    mine = gradients(model, ours)
    theirs = plain_trainer_loss(model, batch, tmp_path)
    assert_same((ours, mine), (theirs, gradients(model, theirs)))


@pytest.mark.parametrize("model_type", ["llama", "codegen", "t5", "gemma2"])
def test_every_weight_of_full_fine_tuning_has_the_plain_gradient(
    model_type: str, tmp_path: Any
) -> None:
    model = wrapped(model_type, methods.FULL)
    batch = Collator(PAD)(rows(model_type))
    ours = our_loss(model, batch)
    mine = gradients(model, ours)
    theirs = plain_trainer_loss(model, batch, tmp_path)
    assert_same((ours, mine), (theirs, gradients(model, theirs)))


@pytest.mark.parametrize("method", LEARNED)
@pytest.mark.parametrize("model_type", ["llama", "codegen", "t5", "gemma", "qwen2"])
def test_prompt_learning_is_that_of_unpadded_rows(model_type: str, method: str) -> None:
    import torch

    model = wrapped(model_type, method).train()
    for module in model.modules():
        if isinstance(module, torch.nn.Dropout):
            module.p = 0.0
    found = rows(model_type)
    ours = our_loss(model, Collator(PAD)(found))
    mine = gradients(model, ours)
    total: Any = 0.0
    for row in found:
        plain = {key: torch.tensor([value]) for key, value in row.items()}
        count = sum(label != IGNORED_LABEL for label in row["labels"])
        loss = model(**plain, attention_mask=torch.ones_like(plain["input_ids"])).loss
        total = total + loss * count / 12
    assert_same((ours, mine), (total, gradients(model, total)))


@pytest.mark.parametrize("model_type", ["llama", "t5"])
def test_logits_are_computed_at_label_positions_alone(model_type: str) -> None:
    model = wrapped(model_type, "lora").train()
    seen: list[tuple[int, ...]] = []
    head = model.get_output_embeddings()
    handle = head.register_forward_hook(lambda m, a, out: seen.append(tuple(out.shape)))
    our_loss(model, Collator(PAD)(rows(model_type)))
    handle.remove()
    assert seen == [(1, 12, VOCABULARY)]
    assert not head._forward_pre_hooks  # whoever calls the model next gets every position


def test_a_head_that_is_no_module_of_its_own_is_done_without() -> None:
    model = wrapped("llama", "lora").train()
    batch = Collator(PAD)(rows("llama"))
    found = LabelHead(model, right_padded_causal=True)
    with_hook, count = found.loss(model, batch)
    found.head = None
    without, same = found.loss(model, batch)
    assert count == same == 12
    assert float(with_hook) == pytest.approx(float(without), rel=1e-6)
