"""Tiny random models of real architectures, made on the spot: no hub, no download."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

# Models of a few thousand weights gain nothing from threads, and lose much on a busy machine.
os.environ.setdefault("OMP_NUM_THREADS", "1")

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


def build_model(folder: Path, kind: str, *, seed: int = 0, width: int = 32) -> Path:
    """A tiny random model with its tokenizer, saved to ``folder``: llama, codegen or t5.

    ``width`` is a Llama's; 4-bit weights come in blocks of 64.
    """
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
                hidden_size=width,
                intermediate_size=width * 3 // 2 if width < 64 else width * 2,
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
    made: dict[tuple[str, int, int], Path] = {}

    def make(kind: str = "llama", seed: int = 0, width: int = 32) -> Path:
        if (kind, seed, width) not in made:
            folder = tmp_path_factory.mktemp(f"tiny-{kind}-{seed}-{width}")
            made[kind, seed, width] = build_model(folder, kind, seed=seed, width=width)
        return made[kind, seed, width]

    return make


@pytest.fixture(scope="session")
def tiny_data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The rows of ``conala_data``, in one folder for the whole session."""
    folder = tmp_path_factory.mktemp("tiny-data")
    write_conala(folder)
    return folder


@pytest.fixture(scope="session")
def trained(
    tiny_model: Callable[..., Path], tiny_data: Path, tmp_path_factory: pytest.TempPathFactory
) -> Callable[..., Path]:
    """Trains (once a session) a tiny adapter: ``trained("t5", "ia3")`` is its folder.

    Not to be changed by a test: take a copy.
    """
    made: dict[tuple[Any, ...], Path] = {}

    def make(
        kind: str = "llama",
        method: str = "lora",
        *,
        seed: int = 0,
        width: int = 32,
        quantization: str | None = None,
    ) -> Path:
        from peft_bench.recipe import parse_recipe
        from peft_bench.training import train

        key = kind, method, seed, width, quantization
        if key not in made:
            recipe = parse_recipe(
                {
                    "name": f"{kind}-{method}",
                    "model": {
                        "id": str(tiny_model(kind, seed, width)),
                        "quantization": quantization,
                    },
                    "method": {"name": method},
                    "data": {"tasks": ["conala"]},
                    "training": {"epochs": 2, "batch_size": 4, "evaluations_per_epoch": 1},
                }
            )
            folder = tmp_path_factory.mktemp("adapters") / recipe.name
            with pytest.MonkeyPatch.context() as patch:
                patch.setenv("PEFT_BENCH_DATA", str(tiny_data))
                made[key] = train(recipe, folder, progress=False)
        return made[key]

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
