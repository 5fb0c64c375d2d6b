"""Each method on each family: trained by our own ``train``, reloaded by the harness, the same.

Tiny random models of the real architectures. The whole matrices (every family with every method
of the study, every PEFT type on every kind of architecture, and on quantised bases) take minutes:
``PEFT_BENCH_CONFORMANCE=all`` runs them.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from peft_bench import adapters, cards, compatibility, methods, peft_model
from peft_bench.errors import UsageError
from peft_bench.families import FAMILIES
from peft_bench.recipe import parse_recipe
from peft_bench.training import train

VARIABLE = "PEFT_BENCH_CONFORMANCE"
WHOLE = os.environ.get(VARIABLE) == "all"
whole = pytest.mark.skipif(not WHOLE, reason=f"minutes; set {VARIABLE}=all")

STUDY = ("lora", "ia3", "prompt_tuning", "prefix_tuning", "full")
# One of each kind of attention: separate projections, fused ones, an encoder-decoder.
KINDS = ("llama", "codegen", "t5")

_DECODER = {
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 256,
    "bos_token_id": None,
}
CONFIGS: dict[str, dict[str, Any]] = {
    "t5": {"d_model": 32, "d_kv": 8, "d_ff": 48, "num_layers": 2, "num_heads": 4},
    "codegen": {
        "n_embd": 32,
        "n_layer": 2,
        "n_head": 4,
        "n_positions": 256,
        "n_ctx": 256,
        "rotary_dim": 4,
    },
    "qwen3": _DECODER | {"head_dim": 8},
    "qwen3_moe": _DECODER
    | {"head_dim": 8, "num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 16},
    "gemma": _DECODER | {"head_dim": 8},
    "gemma2": _DECODER | {"head_dim": 8},
    "gemma3_text": _DECODER | {"head_dim": 8},
    "gpt_bigcode": {"n_embd": 32, "n_layer": 2, "n_head": 4, "n_positions": 256},
}

# PEFT's defaults are for wide models; these fit 32 columns.
OPTIONS: dict[str, dict[str, Any]] = {
    "prompt_tuning": {},
    "adaption_prompt": {"adapter_len": 4, "adapter_layers": 2},
    "adamss": {"r": 8, "num_subspaces": 2},
    "boft": {"boft_block_size": 4},
    "c3a": {"block_size": 16},
    "cartridge": {"num_virtual_tokens": 4},
    "fourierft": {"n_frequency": 64},
    "frod": {"progressbar": False},
    "gralora": {"r": 4},
    "hira": {"r": 4},
    "lily": {"r": 4},
    "lokr": {"r": 4},
    "miss": {"r": 8},
    "oft": {"oft_block_size": 8},
    "p_tuning": {"num_virtual_tokens": 4, "encoder_hidden_size": 16},
    "peanut": {"r": 4},
    "psoft": {"r": 4},
    "pvera": {"r": 8},
    "randlora": {"r": 4},
    "road": {"group_size": 8},
    "shira": {"r": 2, "random_seed": 0},
    "supertuning": {"sparsity": 0.5},
    "trainable_tokens": {"token_indices": list(range(2, 20))},
    "unilora": {"theta_d_length": 16},
    "vblora": {"vector_length": 16, "num_vectors": 8},
    "vera": {"r": 8},
    "waveft": {"n_frequency": 64},
}

# Options of LoRA that are methods of their own.
LORA_FORMS: dict[str, dict[str, Any]] = {
    "dora": {"use_dora": True},
    "rslora": {"use_rslora": True},
    "pissa": {"init_lora_weights": "pissa"},
    "rslora-pissa": {"init_lora_weights": "pissa", "use_rslora": True},
    "olora": {"init_lora_weights": "olora"},
    "orthogonal": {"init_lora_weights": "orthogonal"},
    "gaussian": {"init_lora_weights": "gaussian"},
}


class Answers(NamedTuple):
    """What a model says: greedy tokens with a cache, beams, logits at the end of a prompt."""

    greedy: list[list[int]]
    beams: list[list[int]]
    logits: Any
    cache_difference: float


@pytest.fixture(scope="module")
def tiny_family(
    tiny_model: Callable[..., Path], tmp_path_factory: pytest.TempPathFactory
) -> Callable[..., Path]:
    """Makes (once) a tiny random model of a model type: its folder."""
    made: dict[tuple[str, int], Path] = {}

    def make(model_type: str, width: int = 32) -> Path:
        import torch
        from transformers import (
            AutoConfig,
            AutoModelForCausalLM,
            AutoModelForSeq2SeqLM,
            AutoTokenizer,
        )

        if (model_type, width) not in made:
            tokenizer = AutoTokenizer.from_pretrained(tiny_model("llama"))
            settings = dict(CONFIGS.get(model_type, _DECODER))
            if width != 32:
                settings |= {"hidden_size": width, "intermediate_size": 2 * width}
            config = AutoConfig.for_model(
                model_type,
                **settings,
                vocab_size=len(tokenizer),
                eos_token_id=tokenizer.eos_token_id,
                pad_token_id=tokenizer.pad_token_id,
                decoder_start_token_id=tokenizer.pad_token_id if model_type == "t5" else None,
            )
            torch.manual_seed(0)
            loader = AutoModelForSeq2SeqLM if model_type == "t5" else AutoModelForCausalLM
            folder = tmp_path_factory.mktemp(f"tiny-{model_type}-{width}")
            loader.from_config(config).save_pretrained(folder)
            tokenizer.save_pretrained(folder)
            made[model_type, width] = folder
        return made[model_type, width]

    return make


@pytest.fixture(autouse=True)
def _rows(tiny_data: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("PEFT_BENCH_DATA", str(tiny_data))
    yield


def ask(model: Any) -> Answers:
    """What a model answers, and how far it with a cache is from itself without."""
    import torch

    model.eval()
    ids = torch.tensor([[5, 9, 17, 30, 44, 7]])
    inputs = {"input_ids": ids, "attention_mask": torch.ones_like(ids)}
    with torch.no_grad():
        greedy = model.generate(
            **inputs,
            max_new_tokens=4,
            do_sample=False,
            eos_token_id=None,
            return_dict_in_generate=True,
            output_logits=True,
        )
        beams = model.generate(
            **inputs, max_new_tokens=3, num_beams=3, num_return_sequences=3, do_sample=False
        )
        steps = torch.stack(greedy.logits, 1).float()
        said = greedy.sequences[:, :-1]
        if model.config.is_encoder_decoder:
            whole = model(**inputs, decoder_input_ids=said).logits
        else:
            whole = model(input_ids=said, attention_mask=torch.ones_like(said)).logits
        whole = whole[:, -steps.shape[1] :].float()
    return Answers(
        greedy.sequences.tolist(),
        beams.tolist(),
        steps[:, 0],
        float((whole - steps).abs().max()),
    )


def differ(one: Answers, other: Answers) -> float:
    """The largest difference of two models' logits.

    With an adapter the harness cuts the embeddings to the tokenizer's length: where one has more
    logits than the other, those are left out.
    """
    size = min(one.logits.shape[-1], other.logits.shape[-1])
    return float((one.logits[..., :size] - other.logits[..., :size]).abs().max())


class Cell(NamedTuple):
    """What was trained, and what it said: before saving, reloaded, and the base alone."""

    folder: Path
    before: Answers
    after: Answers
    base: Answers


def conform(
    base: Path,
    method: str,
    out: Path,
    *,
    options: dict[str, Any] | None = None,
    model: dict[str, Any] | None = None,
    training: dict[str, Any] | None = None,
) -> Cell:
    """Trains a step, saves, reloads as the harness does; asserts that all is the same."""
    from lm_eval.models.huggingface import HFLM
    from peft import PeftModel

    recipe = parse_recipe(
        {
            "name": "cell",
            "model": {"id": str(base), "dtype": "float32", **(model or {})},
            "method": {"name": method, "options": options or {}},
            "data": {"tasks": ["conala"], "max_train_rows": 4},
            "training": {
                "max_steps": 1,
                "batch_size": 4,
                "learning_rate": 0.05,
                "optimizer": "adamw_torch",
                "schedule": "constant",
                "warmup_ratio": 0,
                **(training or {}),
            },
        }
    )
    before: list[Answers] = []
    save = peft_model.save

    def ask_and_save(model: Any, *arguments: Any) -> None:
        before.append(ask(model))
        save(model, *arguments)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(peft_model, "save", ask_and_save)
        folder = train(recipe, out / "cell", progress=False)
    card = cards.read_card(folder)
    assert card is not None
    quantized = recipe.model.quantization is not None
    arguments: dict[str, Any] = {"dtype": "float32", "device": "cpu", "batch_size": 1}
    harness_model = HFLM
    if quantized:
        from peft_bench.verified_model import VerifiedHFLM

        # The harness alone has no words for NF4 with double quantisation.
        harness_model = VerifiedHFLM
        arguments["quantization"] = recipe.model.quantization
    alone = ask(harness_model(pretrained=str(base), **arguments).model)
    if method == methods.FULL:
        loaded = harness_model(pretrained=str(folder), **arguments).model
    else:
        loaded = harness_model(pretrained=str(base), peft=str(folder), **arguments).model
        assert isinstance(loaded, PeftModel)
        assert adapters.verify_loaded(loaded, folder) > 0
        # The base that is scored is the base that was trained on, whatever PEFT did to it.
        assert adapters.fingerprint(loaded, quantized=quantized) == card.base.fingerprint
    after = ask(loaded)
    # bitsandbytes rounds otherwise once it has packed the weights for inference.
    close = 1e-2 if quantized else 2e-5
    if not quantized:
        assert after.greedy == before[0].greedy and after.beams == before[0].beams
    assert differ(after, before[0]) < close
    assert before[0].cache_difference < max(close, 1e-4)
    # Otherwise nothing above says anything: the training step did move the model.
    assert differ(after, alone) > (0 if quantized else 1e-4)
    return Cell(folder, before[0], after, alone)


@pytest.mark.parametrize("method", STUDY)
@pytest.mark.parametrize("model_type", FAMILIES)
def test_each_family_with_each_method_of_the_study(
    model_type: str, method: str, tiny_family: Callable[..., Path], tmp_path: Path
) -> None:
    # Every family with LoRA, and every method with each kind of attention.
    if not (WHOLE or method == "lora" or model_type in KINDS):
        pytest.skip(f"minutes; set {VARIABLE}=all")
    conform(tiny_family(model_type), method, tmp_path, options=OPTIONS.get(method))


def others() -> list[str]:
    """Every PEFT type that has no row of its own, by its name in a recipe."""
    return [name for name in compatibility.kinds() if name not in methods.METHODS]


@whole
@pytest.mark.parametrize("model_type", FAMILIES)
@pytest.mark.parametrize("method", others())
def test_every_other_peft_type_works_or_is_refused(
    method: str, model_type: str, tiny_family: Callable[..., Path], tmp_path: Path
) -> None:
    base = tiny_family(model_type)
    tied = json.loads((base / "config.json").read_text(encoding="utf-8"))["tie_word_embeddings"]
    refused = method == "trainable_tokens" and tied
    if compatibility.refusal(method, model_type) is None and not refused:
        conform(base, method, tmp_path, options=OPTIONS.get(method))
        return
    with pytest.raises(UsageError, match="does not work on"):
        conform(base, method, tmp_path, options=OPTIONS.get(method))


@pytest.mark.parametrize("method", ["loha", "vera", "adaption_prompt", "osf", "ln_tuning"])
def test_some_other_peft_types(
    method: str, tiny_family: Callable[..., Path], tmp_path: Path
) -> None:
    """One that is like LoRA, one with shared weights, three that change the modules they find."""
    conform(tiny_family("llama"), method, tmp_path, options=OPTIONS.get(method))


@pytest.mark.parametrize("form", LORA_FORMS)
def test_forms_of_lora(form: str, tiny_family: Callable[..., Path], tmp_path: Path) -> None:
    if not (WHOLE or form in ("dora", "pissa", "rslora-pissa")):
        pytest.skip(f"minutes; set {VARIABLE}=all")
    options = {"r": 4, **LORA_FORMS[form]}
    cell = conform(tiny_family("llama"), "lora", tmp_path, options=options)
    if "pissa" in form:
        # Saved as plain LoRA of the untouched base, of twice the rank.
        config = adapters.read_config(cell.folder)
        assert config["init_lora_weights"] is True and config["r"] == 8


@pytest.mark.parametrize("optimizer", ["loraplus", "lorafa"])
def test_optimizers_of_lora(
    optimizer: str, tiny_family: Callable[..., Path], tmp_path: Path
) -> None:
    cell = conform(
        tiny_family("llama"), "lora", tmp_path, training={"optimizer": optimizer, "max_steps": 2}
    )
    tensors = adapters.saved_tensors(cell.folder)
    assert all(value.abs().max() > 0 for name, value in tensors.items() if "lora_B" in name)


@pytest.mark.parametrize("method", ["lora", "full"])
def test_gradient_checkpointing(
    method: str, tiny_family: Callable[..., Path], tmp_path: Path
) -> None:
    """It saves memory and changes nothing else."""
    base = tiny_family("llama")
    options = {"lora_dropout": 0.0} if method == "lora" else None
    plain = conform(base, method, tmp_path / "plain", options=options)
    saving = conform(
        base,
        method,
        tmp_path / "saving",
        options=options,
        training={"gradient_checkpointing": True},
    )
    assert plain.after.greedy == saving.after.greedy
    assert differ(plain.after, saving.after) < 1e-5


def quantizable() -> list[str]:
    """Every method that works on Llama, whatever its base is quantised to."""
    return [name for name in compatibility.kinds() if compatibility.refusal(name, "llama") is None]


@whole
@pytest.mark.parametrize("bits", ["4bit", "8bit"])
@pytest.mark.parametrize("method", quantizable())
def test_each_method_on_a_quantised_base_works_or_is_refused(
    method: str, bits: str, tiny_family: Callable[..., Path], tmp_path: Path
) -> None:
    base = tiny_family("llama", 64)
    options = OPTIONS.get(method)
    model = {"quantization": bits}
    _, refused = compatibility.UNQUANTIZED.get(methods.peft_type(method), ("", ()))
    if bits not in refused:
        conform(base, method, tmp_path, options=options, model=model)
        return
    with pytest.raises(UsageError, match=f"cannot have a base in {bits}"):
        conform(base, method, tmp_path, options=options, model=model)
