"""Tiny random models of real architectures, made on the spot: no hub, no download."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

ROWS = [
    ("sort list `xs`", "sorted(xs)"),
    ("reverse list `xs`", "xs[::-1]"),
    ("sum of list `xs`", "sum(xs)"),
    ("length of text `s`", "len(s)"),
    ("upper case of `s`", "s.upper()"),
    ("join `parts` with commas", '",".join(parts)'),
    ("keys of dict `d` as a list", "list(d)"),
    ("swap `a` and `b`", "a, b = b, a"),
]


def build_tokenizer(folder: Path, *, appends_eos: bool = False) -> Any:
    """A byte-level BPE tokenizer of a few hundred entries, trained on the rows above."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
    from transformers import PreTrainedTokenizerFast

    raw = Tokenizer(models.BPE())
    raw.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    raw.decoder = decoders.ByteLevel()
    raw.train_from_iterator(
        [text for row in ROWS for text in row] + ["### Instruction:\n### Response:\n"],
        trainers.BpeTrainer(
            vocab_size=384,
            special_tokens=["<pad>", "</s>"],
            initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
            show_progress=False,
        ),
    )
    if appends_eos:
        raw.post_processor = processors.TemplateProcessing(
            single="$A </s>", special_tokens=[("</s>", raw.token_to_id("</s>"))]
        )
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=raw, eos_token="</s>", pad_token="<pad>", model_max_length=512
    )
    tokenizer.save_pretrained(folder)
    return tokenizer


def build_model(folder: Path, kind: str, *, seed: int = 0) -> Path:
    """A tiny random model with its tokenizer, saved to ``folder``: llama, codegen or t5."""
    import torch
    import transformers

    tokenizer = build_tokenizer(folder, appends_eos=kind == "t5")
    ids = {
        "eos_token_id": tokenizer.eos_token_id,
        "pad_token_id": tokenizer.pad_token_id,
        "vocab_size": len(tokenizer),
    }
    torch.manual_seed(seed)
    model: Any
    if kind == "llama":
        model = transformers.LlamaForCausalLM(
            transformers.LlamaConfig(
                hidden_size=32,
                intermediate_size=48,
                num_hidden_layers=2,
                num_attention_heads=4,
                num_key_value_heads=2,
                max_position_embeddings=512,
                bos_token_id=None,
                **ids,
            )
        )
    elif kind == "codegen":
        model = transformers.CodeGenForCausalLM(
            transformers.CodeGenConfig(
                n_embd=32,
                n_layer=2,
                n_head=4,
                n_positions=512,
                n_ctx=512,
                rotary_dim=4,
                bos_token_id=None,
                **ids,
            )
        )
    elif kind == "t5":
        model = transformers.T5ForConditionalGeneration(
            transformers.T5Config(
                d_model=32,
                d_kv=8,
                d_ff=48,
                num_layers=2,
                num_heads=4,
                decoder_start_token_id=tokenizer.pad_token_id,
                **ids,
            )
        )
    else:
        raise ValueError(kind)
    model.save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def tiny_model(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    """Makes (once a session) a tiny model: ``tiny_model("llama", seed=0)`` is its folder."""
    made: dict[tuple[str, int], Path] = {}

    def make(kind: str = "llama", seed: int = 0) -> Path:
        if (kind, seed) not in made:
            folder = tmp_path_factory.mktemp(f"tiny-{kind}-{seed}")
            made[kind, seed] = build_model(folder, kind, seed=seed)
        return made[kind, seed]

    return make


@pytest.fixture()
def conala_data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A data folder in the hub's schema with a few rows of our own; PEFT_BENCH_DATA names it."""
    folder = tmp_path / "data"
    write_conala(folder)
    monkeypatch.setenv("PEFT_BENCH_DATA", str(folder))
    return folder


def write_conala(folder: Path) -> None:
    (folder / "conala").mkdir(parents=True)
    for split in ("train", "validation", "test"):
        with (folder / "conala" / f"{split}.jsonl").open("w", encoding="utf-8") as file:
            for number, (nl, cmd) in enumerate(ROWS):
                # Two rows a question, as in CoNaLa.
                row = {"nl": nl, "cmd": cmd, "question_id": f"{number // 2}-{number}"}
                file.write(json.dumps(row) + "\n")


@pytest.fixture()
def recipe_dict(tiny_model: Callable[..., Path]) -> dict[str, Any]:
    """A recipe that trains a tiny Llama with LoRA in a few steps."""
    return {
        "name": "tiny-lora",
        "model": {"id": str(tiny_model("llama"))},
        "method": {"name": "lora"},
        "data": {"tasks": ["conala"]},
        "training": {"epochs": 2, "batch_size": 4, "evaluations_per_epoch": 1},
    }
