"""Full fine-tuning's folder, and LoRA that begins by changing the base."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from peft_bench import adapters, lora_init, methods
from peft_bench.errors import MissingError, UsageError
from peft_bench.subject import find_subject


@pytest.fixture()
def full(trained: Callable[..., Path], tmp_path: Path) -> Path:
    """A copy of a fully tuned tiny Llama's folder."""
    return Path(shutil.copytree(trained("llama", methods.FULL), tmp_path / "full"))


def test_a_fully_tuned_model_loads_by_itself(full: Path, tiny_model: Callable[..., Path]) -> None:
    from transformers import AutoModelForCausalLM, AutoTokenizer

    card = adapters.check_folder(full)
    assert card is not None and card.method == "full"
    assert card.trainable_parameters == card.base.parameters
    assert card.adapter_bytes == adapters.content_bytes(full)
    assert card.base.id == str(tiny_model("llama"))
    model = AutoModelForCausalLM.from_pretrained(full)
    assert adapters.fingerprint(model, quantized=False) != card.base.fingerprint
    text = "sort list `xs`"
    expected = AutoTokenizer.from_pretrained(tiny_model("llama"))(text).input_ids
    assert AutoTokenizer.from_pretrained(full)(text).input_ids == expected


def test_it_is_scored_as_a_model_of_its_base(full: Path) -> None:
    subject = find_subject(full, None, {})
    assert subject.model == str(full) and subject.adapter == full and subject.peft is None
    assert subject.card is not None and subject.prompt == "instruction"
    with pytest.raises(UsageError, match="holds a whole model"):
        find_subject(full, "org/base", {})
    (full / "card.json").unlink()
    bare = find_subject(full, None, {"dtype": "float32"})
    assert (bare.model, bare.adapter, bare.peft, bare.card) == (str(full), None, None, None)


def test_an_adapter_s_subject_names_what_peft_loads(trained: Callable[..., Path]) -> None:
    folder = trained("llama", "lora")
    subject = find_subject(folder, None, {})
    assert subject.peft == folder and subject.model != str(folder)


def test_a_whole_model_that_is_not_whole_is_refused(full: Path) -> None:
    weights = full / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-10])
    with pytest.raises(UsageError, match="truncated"):
        adapters.check_folder(full)
    weights.unlink()
    with pytest.raises(MissingError, match="not a whole model"):
        adapters.check_folder(full)


def test_a_whole_model_that_was_changed_is_refused(full: Path) -> None:
    config = full / "config.json"
    config.write_text(config.read_text(encoding="utf-8") + " ", encoding="utf-8")
    with pytest.raises(UsageError, match="not those that card"):
        adapters.check_folder(full)


def test_a_fingerprint_does_not_know_how_long_the_vocabulary_is(
    tiny_model: Callable[..., Path],
) -> None:
    """With an adapter the harness resizes the embeddings to the tokenizer's length."""
    from transformers import AutoModelForCausalLM

    for kind in ("llama", "codegen"):
        model = AutoModelForCausalLM.from_pretrained(tiny_model(kind))
        before = adapters.fingerprint(model, quantized=False)
        model.resize_token_embeddings(model.config.vocab_size - 16)
        assert adapters.fingerprint(model, quantized=False) == before


def test_which_starts_change_the_base() -> None:
    assert all(map(lora_init.changes_base, ("pissa", "pissa_niter_16", "olora")))
    assert not any(map(lora_init.changes_base, (True, False, None, "gaussian", "orthogonal")))
