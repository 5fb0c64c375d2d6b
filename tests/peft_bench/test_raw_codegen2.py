"""Models that would answer wrongly without a word are refused."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from peft_bench.beams import BeamSearch
from peft_bench.errors import UsageError
from peft_bench.model_source import ModelSource
from peft_bench.raw_codegen2 import REPACKED, refuse_raw_codegen2

MONO = {"model_type": "codegen", "n_layer": 20, "n_embd": 1024, "n_head": 16, "vocab_size": 51200}
REMOTE = {"AutoConfig": "configuration_codegen.CodeGenConfig"}


@pytest.mark.parametrize(
    ("config", "name"),
    [
        ({**MONO, "auto_map": REMOTE}, "somewhere"),
        (MONO, "Salesforce/codegen2-7B_P"),
        ({**MONO, "_name_or_path": "models/codegen2-1B_P"}, ""),
        ({**MONO, "n_layer": 16, "n_embd": 2048}, "renamed"),
        ({**MONO, "n_layer": 16, "n_embd": 4096}, "renamed"),
    ],
)
def test_codegen2_as_published_is_refused(config: dict[str, Any], name: str) -> None:
    with pytest.raises(UsageError, match="CodeGen2 checkpoint as published"):
        refuse_raw_codegen2(config, name)
    refuse_raw_codegen2({**config, REPACKED: True}, name)


@pytest.mark.parametrize(
    ("config", "name"),
    [
        (MONO, "Salesforce/codegen-350M-mono"),
        ({**MONO, "n_layer": 32, "n_embd": 2560}, "Salesforce/codegen-2B-mono"),
        ({"model_type": "llama", "auto_map": REMOTE}, "codegen2-llama"),
    ],
)
def test_others_are_not(config: dict[str, Any], name: str) -> None:
    refuse_raw_codegen2(config, name)


def test_the_search_looks_before_it_begins(tiny_model: Callable[..., Path], tmp_path: Path) -> None:
    from transformers import AutoModelForCausalLM

    model = AutoModelForCausalLM.from_pretrained(tiny_model("codegen"))
    search = BeamSearch(source=ModelSource(model=str(tiny_model("codegen"))))
    model.config.auto_map = REMOTE
    with pytest.raises(UsageError, match="CodeGen2"):
        search.begin(model, None)
    # The mark of a repacked base outlives saving and loading.
    setattr(model.config, REPACKED, True)
    model.config.save_pretrained(tmp_path)
    assert json.loads((tmp_path / "config.json").read_text(encoding="utf-8"))[REPACKED] is True
    search.begin(model, None)
    assert search.called
