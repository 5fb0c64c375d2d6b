from __future__ import annotations

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from peft_bench import codegen2, compatibility, models
from peft_bench.errors import MissingError, UsageError
from peft_bench.recipe import BaseModel, parse_recipe

HEADS, WIDTH, ROTARY = 16, 64, 4


@pytest.fixture(scope="module")
def published(tiny_model: Callable[..., Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny random model that says of itself what CodeGen2's published configuration says."""
    import torch
    from transformers import AutoTokenizer, CodeGenConfig, CodeGenForCausalLM

    tokenizer = AutoTokenizer.from_pretrained(tiny_model("codegen"))
    torch.manual_seed(0)
    config = CodeGenConfig(
        n_embd=WIDTH,
        n_layer=2,
        n_head=HEADS,
        n_positions=64,
        n_ctx=64,
        rotary_dim=ROTARY,
        initializer_range=0.3,
        vocab_size=len(tokenizer),
        bos_token_id=None,
        eos_token_id=tokenizer.eos_token_id,
    )
    folder = tmp_path_factory.mktemp("codegen2") / "codegen2-tiny"
    CodeGenForCausalLM(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    file = folder / "config.json"
    remote = {"AutoConfig": "configuration_codegen.CodeGenConfig"}
    settings = json.loads(file.read_text(encoding="utf-8")) | {"auto_map": remote}
    file.write_text(json.dumps(settings), encoding="utf-8")
    return folder


def reference_logits(model: Any, ids: Any, groups: int) -> Any:
    """CodeGen's forward pass written out, with its attention rows in ``groups`` groups."""
    import torch
    from torch.nn import functional

    batch, length = ids.shape
    head = WIDTH // HEADS
    rates = 1 / 10000 ** (torch.arange(0, ROTARY, 2) / ROTARY)
    angles = torch.arange(length)[:, None] * rates
    sin, cos = (f(angles).repeat_interleave(2, -1)[None, :, None] for f in (torch.sin, torch.cos))

    def rotated(x: Any) -> Any:
        turned = torch.stack((-x[..., 1:ROTARY:2], x[..., 0:ROTARY:2]), -1).flatten(-2)
        return torch.cat((x[..., :ROTARY] * cos + turned * sin, x[..., ROTARY:]), -1)

    hidden = model.transformer.wte(ids)
    unseen = torch.ones(length, length).triu(1).bool()
    for block in model.transformer.h:
        normed = block.ln_1(hidden)
        # Of each group its queries, then its values, then its keys.
        rows = block.attn.qkv_proj(normed).view(batch, length, groups, 3, HEADS // groups, head)
        query, value, key = rows.permute(3, 0, 1, 2, 4, 5).reshape(3, batch, length, HEADS, head)
        scores = torch.einsum("bqhd,bkhd->bhqk", rotated(query), rotated(key)) / math.sqrt(head)
        weights = scores.masked_fill(unseen, float("-inf")).softmax(-1)
        attended = torch.einsum("bhqk,bkhd->bqhd", weights, value).reshape(batch, length, WIDTH)
        middle = functional.gelu(block.mlp.fc_in(normed), approximate="tanh")
        hidden = hidden + block.attn.out_proj(attended) + block.mlp.fc_out(middle)
    return model.lm_head(model.transformer.ln_f(hidden))


def test_a_repacked_base_computes_what_the_published_one_was_trained_to(
    published: Path, tmp_path: Path
) -> None:
    import torch
    from transformers import AutoModelForCausalLM

    folder = codegen2.repack(str(published), tmp_path / "repacked")
    raw = AutoModelForCausalLM.from_pretrained(published)
    repacked = AutoModelForCausalLM.from_pretrained(folder)
    ids = torch.randint(0, 300, (2, 12), generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        wanted = reference_logits(raw, ids, groups=8)
        assert float((repacked(ids).logits - wanted).abs().max()) < 1e-4
        # The reference is right: with 4 groups it is transformers' own class.
        assert float((raw(ids).logits - reference_logits(raw, ids, groups=4)).abs().max()) < 1e-4
        # And what is loaded as published is far from what it should be, without an error.
        assert float((raw(ids).logits - wanted).abs().max()) > 0.1


def test_the_repacked_folder_tells_what_it_is(published: Path, tmp_path: Path) -> None:
    folder = codegen2.repack(str(published), tmp_path / "repacked")
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    assert config["peft_bench_repacked"] is True
    assert config["peft_bench_repacked_from"] == str(published)
    assert "auto_map" not in config
    assert (folder / "tokenizer.json").is_file()
    assert [path.name for path in tmp_path.iterdir()] == ["repacked"]
    assert not codegen2.is_raw(models.load_config(BaseModel(str(folder))), str(folder))
    with pytest.raises(UsageError, match="was repacked before"):
        codegen2.repack(str(folder), tmp_path / "again")
    with pytest.raises(UsageError, match="exists already"):
        codegen2.repack(str(published), folder)


def test_rows_are_moved_and_none_is_lost() -> None:
    import torch

    weight = torch.arange(3 * 16 * 2 * 5.0).reshape(96, 5)
    moved = codegen2.repack_rows(weight, heads=16)
    assert not torch.equal(moved, weight)
    assert sorted(map(tuple, moved.tolist())) == sorted(map(tuple, weight.tolist()))
    # Queries of the first group of four heads: the first two groups of two.
    assert torch.equal(moved[:8], torch.cat((weight[:4], weight[12:16])))


def test_other_models_are_not_repacked(tiny_model: Callable[..., Path], tmp_path: Path) -> None:
    for kind, said in (("llama", "is a llama model"), ("codegen", "4 heads")):
        with pytest.raises(UsageError, match=said):
            codegen2.repack(str(tiny_model(kind)), tmp_path / kind)
    assert list(tmp_path.iterdir()) == []


def test_a_source_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(MissingError) as caught:
        codegen2.repack(str(tmp_path / "none"), tmp_path / "repacked")
    assert "--set" not in str(caught.value) and "name a local folder" in str(caught.value)


def test_training_refuses_what_was_not_repacked(published: Path) -> None:
    recipe = parse_recipe(
        {
            "name": "raw",
            "model": {"id": str(published)},
            "method": {"name": "lora"},
            "data": {"tasks": ["conala"], "max_prompt_tokens": 20, "max_target_tokens": 20},
        }
    )
    with pytest.raises(UsageError, match="peft-bench repack"):
        compatibility.check(recipe, models.load_config(recipe.model))
