"""Where a grid's base models come from: the hub, a repacked checkpoint, a package, thin air."""

from __future__ import annotations

import fcntl
import os
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from peft_bench import codegen2, smollm2
from peft_bench.paths import cache_dir
from peft_bench.sweep.grid import Model
from peft_bench.workfolder import disk_error

_TINY_VERSION = 1
_TINY_SEED = 0


def locate(model: Model) -> str:
    """What to load a model from: a hub id or a folder, made in the cache where need be.

    Raises:
        MissingError: the model, or a package that makes it, is not there.
        PeftBenchError: it could not be written.
    """
    if model.source == "hub":
        return model.id  # huggingface_hub locks its downloads
    with _making(model.source):
        if model.source == "smollm2":
            return smollm2.locate()
        if model.source == "tiny":
            return str(_tiny())
        name = re.sub(r"[^A-Za-z0-9._-]+", "-", f"{model.id}-{model.revision or 'newest'}")
        folder = cache_dir() / f"repacked-{name}"
        if not folder.is_dir():
            codegen2.repack(model.id, folder, revision=model.revision)
        return str(folder)


@contextmanager
def _making(source: str) -> Iterator[None]:
    """One process of this machine at a time: what it makes, the others find."""
    file = cache_dir() / f"making-{source}.lock"
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        lock = file.open("a")
    except OSError:  # what was made before is found all the same, and making anew tells the fault
        yield
        return
    with lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _tiny() -> Path:
    """A random Llama of some 100,000 weights whose tokens are bytes; the same on every machine."""
    folder = cache_dir() / f"tiny-llama-{_TINY_VERSION}"
    if folder.is_dir():
        return folder
    partial = folder.with_name(f"{folder.name}.{os.getpid()}.partial")
    try:
        _make_tiny(partial)
        partial.rename(folder)
    except OSError as error:
        shutil.rmtree(partial, ignore_errors=True)
        if not folder.is_dir():  # else another process was faster
            raise disk_error(folder, error) from error
    return folder


def _make_tiny(folder: Path) -> None:
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    tokenizer = _byte_tokenizer()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(_TINY_SEED)
        model = LlamaForCausalLM(
            LlamaConfig(
                vocab_size=len(tokenizer),
                hidden_size=64,
                intermediate_size=128,
                num_hidden_layers=2,
                num_attention_heads=4,
                num_key_value_heads=2,
                max_position_embeddings=2048,
                bos_token_id=None,
                eos_token_id=tokenizer.eos_token_id,
                pad_token_id=tokenizer.pad_token_id,
            )
        )
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)


def _byte_tokenizer() -> Any:
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    alphabet = ["<pad>", "</s>", *sorted(pre_tokenizers.ByteLevel.alphabet())]
    raw = Tokenizer(models.BPE({token: number for number, token in enumerate(alphabet)}, []))
    raw.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    raw.decoder = decoders.ByteLevel()
    raw.add_special_tokens(["<pad>", "</s>"])
    return PreTrainedTokenizerFast(
        tokenizer_object=raw, pad_token="<pad>", eos_token="</s>", model_max_length=2048
    )
