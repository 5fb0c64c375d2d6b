"""CodeGen2 in transformers' own CodeGen class, with no remote code: its base, repacked once.

CodeGen's attention keeps queries, values and keys of several heads side by side, one such group
for each of the ``mp_num`` devices that the model was trained on. transformers' class assumes 4
groups (CodeGen); CodeGen2 (arXiv 2305.02309) has 8. Loaded as it is, it runs without any error
and answers nonsense; with the rows of ``qkv_proj`` put in the other order it computes exactly
what it should. Adapters fit only the base that they were trained on: the repacked one.
"""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

from peft_bench.errors import UsageError, writing
from peft_bench.raw_codegen2 import REPACKED, refuse_raw_codegen2

if TYPE_CHECKING:
    import torch

PUBLISHED_GROUPS = 8
NATIVE_GROUPS = 4


def is_raw(config: Any, name: str) -> bool:
    """Whether a configuration is that of a CodeGen2 base which was not repacked."""
    try:
        refuse_raw_codegen2(config, name)
    except UsageError:
        return True
    return False


def repack_rows(weight: torch.Tensor, heads: int) -> torch.Tensor:
    """A ``qkv_proj`` weight [3 D, D] in 8 groups of (q, v, k), as one in 4.

    Args:
        weight: rows by group, then part, then head, then the head's dimension.
        heads: how many attention heads there are; divisible by 8.
    """
    rows, columns = weight.shape
    width = rows // 3 // heads
    by_group = weight.reshape(PUBLISHED_GROUPS, 3, heads // PUBLISHED_GROUPS, width, columns)
    by_part = by_group.transpose(0, 1).reshape(3, heads, width, columns)
    regrouped = by_part.reshape(3, NATIVE_GROUPS, heads // NATIVE_GROUPS, width, columns)
    return regrouped.transpose(0, 1).reshape(rows, columns).contiguous()


def repack(source: str, target: str | Path, *, revision: str | None = None) -> Path:
    """Writes a CodeGen2 base that transformers' own class runs right; returns its folder.

    ``config.json`` there says ``peft_bench_repacked: true`` and where it came from. The folder
    appears only when it is whole.

    Args:
        source: a hub id or folder, such as ``Salesforce/codegen2-1B_P``.
        target: the folder to write; must not exist.

    Raises:
        UsageError: ``source`` is no CodeGen model or was repacked before; ``target`` exists or
            cannot be written.
        MissingError: ``source`` cannot be loaded.
    """
    import torch

    from peft_bench import models
    from peft_bench.recipe import BaseModel

    folder = Path(target)
    if folder.exists():
        raise UsageError(
            place=str(folder), problem="exists already", remedy="name a folder that does not"
        )
    choice = BaseModel(source, revision, "float32")
    config = models.load_config(choice)
    _check_source(source, config)
    tokenizer = models.load_tokenizer(choice)
    model = models.load_model(choice, config, dtype="auto")
    with torch.no_grad():
        for block in model.transformer.h:
            weight = block.attn.qkv_proj.weight
            weight.copy_(repack_rows(weight, config.num_attention_heads))
    setattr(model.config, REPACKED, True)
    model.config.peft_bench_repacked_from = source
    if hasattr(model.config, "auto_map"):
        del model.config.auto_map  # the remote code expects the rows as they were
    partial = folder.with_name(f"{folder.name}.partial")
    with writing("DST", folder):
        shutil.rmtree(partial, ignore_errors=True)
        partial.mkdir(parents=True)
        model.save_pretrained(partial)
        tokenizer.save_pretrained(partial)
        partial.rename(folder)
    return folder


def _check_source(source: str, config: Any) -> None:
    problem = None
    if config.model_type != "codegen":
        problem = f"is a {config.model_type} model, not CodeGen2"
    elif getattr(config, REPACKED, False):
        problem = "was repacked before"
    elif config.num_attention_heads % PUBLISHED_GROUPS:
        problem = f"has {config.num_attention_heads} heads, which do not make 8 groups"
    elif not is_raw(config, source):
        problem = "is not known as a CodeGen2 base"
    if problem is not None:
        raise UsageError(
            place=f"model {source}",
            problem=problem,
            remedy="name a CodeGen2 base as published, such as Salesforce/codegen2-1B_P",
        )
