"""Broken and wrong adapters: refused by us, taken without a word by plain PEFT."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from peft_bench import adapters, cards
from peft_bench.errors import MissingError, PeftBenchError, UsageError


@pytest.fixture()
def copy(trained: Callable[..., Path], tmp_path: Path) -> Callable[..., Path]:
    """A copy of a trained adapter that a test may spoil."""

    def make(kind: str = "llama", method: str = "lora") -> Path:
        return Path(shutil.copytree(trained(kind, method), tmp_path / f"{kind}-{method}"))

    return make


def load_base(model: str | Path, **options: Any) -> Any:
    from transformers import AutoConfig, AutoModelForCausalLM, AutoModelForSeq2SeqLM

    seq2seq = AutoConfig.from_pretrained(model).is_encoder_decoder
    loader = AutoModelForSeq2SeqLM if seq2seq else AutoModelForCausalLM
    return loader.from_pretrained(model, **options)


def load(folder: Path, base: Any = None) -> Any:
    """Plain PEFT, as the harness calls it."""
    from peft import PeftModel

    if base is None:
        saved = json.loads((folder / adapters.CONFIG_FILE).read_text(encoding="utf-8"))
        base = load_base(saved["base_model_name_or_path"])
    return PeftModel.from_pretrained(base, folder)


def rewrite(folder: Path, change: Callable[[dict[str, Any]], None]) -> None:
    from safetensors.torch import save_file

    tensors = adapters.saved_tensors(folder)
    change(tensors)
    save_file(tensors, folder / adapters.WEIGHTS_FILE, metadata={"format": "pt"})


def rewrite_card(folder: Path, **changes: Any) -> None:
    file = folder / cards.CARD_FILE
    card = json.loads(file.read_text(encoding="utf-8")) | changes
    file.write_text(json.dumps(card), encoding="utf-8")


def test_whole_folder_gives_its_card(trained: Callable[..., Path]) -> None:
    card = adapters.check_folder(trained())
    assert card is not None and card.method == "lora"


def test_folder_without_a_card_is_anybodys_adapter(copy: Callable[..., Path]) -> None:
    folder = copy()
    (folder / cards.CARD_FILE).unlink()
    assert adapters.check_folder(folder) is None


def test_missing_folder(tmp_path: Path) -> None:
    with pytest.raises(MissingError, match="no such adapter folder"):
        adapters.check_folder(tmp_path / "a")


@pytest.mark.parametrize("name", [adapters.CONFIG_FILE, adapters.WEIGHTS_FILE])
def test_missing_file(name: str, copy: Callable[..., Path]) -> None:
    folder = copy()
    (folder / name).unlink()
    with pytest.raises(MissingError, match=name):
        adapters.check_folder(folder)


@pytest.mark.parametrize("keep", [0, 5, 2_000])
def test_truncated_weights(keep: int, copy: Callable[..., Path]) -> None:
    folder = copy()
    file = folder / adapters.WEIGHTS_FILE
    content = file.read_bytes()
    assert len(content) > keep
    file.write_bytes(content[:keep])
    with pytest.raises(UsageError, match="truncated"):
        adapters.check_folder(folder)


@pytest.mark.parametrize("text", ["{", "", "not json"])
def test_card_that_is_not_json(text: str, copy: Callable[..., Path]) -> None:
    folder = copy()
    (folder / cards.CARD_FILE).write_text(text, encoding="utf-8")
    with pytest.raises(UsageError, match="is not JSON"):
        adapters.check_folder(folder)


@pytest.mark.parametrize("text", ["", "{", "[]"])
def test_configuration_that_is_none(text: str, copy: Callable[..., Path]) -> None:
    folder = copy()
    (folder / cards.CARD_FILE).unlink()
    (folder / adapters.CONFIG_FILE).write_text(text, encoding="utf-8")
    with pytest.raises(UsageError, match="is not a PEFT configuration"):
        adapters.check_folder(folder)


def test_card_of_a_newer_schema(copy: Callable[..., Path]) -> None:
    folder = copy()
    rewrite_card(folder, schema_version=99, something_new=1)
    with pytest.raises(UsageError, match="newer peft-bench"):
        adapters.check_folder(folder)


@pytest.mark.parametrize("value", [[], 3, {"schema_version": 1}])
def test_card_with_faults(value: Any, copy: Callable[..., Path]) -> None:
    folder = copy()
    (folder / cards.CARD_FILE).write_text(json.dumps(value), encoding="utf-8")
    with pytest.raises(UsageError, match=r"card\.json"):
        adapters.check_folder(folder)


def test_card_for_other_files(copy: Callable[..., Path]) -> None:
    folder = copy()

    def change(tensors: dict[str, Any]) -> None:
        next(iter(tensors.values()))[0, 0] += 1

    rewrite(folder, change)
    with pytest.raises(UsageError, match="not those that card"):
        adapters.check_folder(folder)


def test_card_survives_writing_and_reading(trained: Callable[..., Path], tmp_path: Path) -> None:
    card = cards.read_card(trained())
    assert card is not None
    cards.write_card(tmp_path, card)
    assert cards.read_card(tmp_path) == card


@pytest.mark.parametrize("kind", ["llama", "t5"])
@pytest.mark.parametrize("method", ["lora", "ia3", "prompt_tuning", "prefix_tuning"])
def test_loaded_adapter_is_verified_outside_and_inside_generate(
    kind: str, method: str, trained: Callable[..., Path]
) -> None:
    import torch

    folder = trained(kind, method)
    model = load(folder)
    count = len(adapters.saved_tensors(folder))
    assert adapters.verify_loaded(model, folder) == count
    found: list[int] = []

    def look(inner: Any, input_ids: Any, **_: Any) -> Any:
        found.append(adapters.verify_loaded(inner, folder))
        return input_ids

    model.generate(
        input_ids=torch.tensor([[5, 6, 7]]),
        attention_mask=torch.ones(1, 3, dtype=torch.long),
        custom_generate=look,
        max_new_tokens=1,
    )
    assert found == [count]


def drop_one(tensors: dict[str, Any]) -> None:
    del tensors[next(iter(tensors))]


def add_one(tensors: dict[str, Any]) -> None:
    key = next(iter(tensors))
    tensors[key.replace("layers.0", "layers.7")] = tensors[key].clone()


@pytest.mark.parametrize(
    ("change", "said"), [(drop_one, "is not in the file"), (add_one, "is not in the model")]
)
def test_file_that_does_not_fit_the_model(
    change: Callable[[dict[str, Any]], None], said: str, copy: Callable[..., Path]
) -> None:
    folder = copy()
    rewrite(folder, change)
    model = load(folder)  # plain PEFT at most warns
    with pytest.raises(PeftBenchError, match="did not really load") as caught:
        adapters.verify_loaded(model, folder)
    assert said in str(caught.value)


@pytest.mark.parametrize("method", ["lora", "ia3", "prompt_tuning", "prefix_tuning"])
def test_one_changed_value_in_the_model(method: str, trained: Callable[..., Path]) -> None:
    import torch

    folder = trained("llama", method)
    model = load(folder)
    names = {adapters._bare_key(key) for key in adapters._adapter_state(model)}
    assert names == {adapters._bare_key(key) for key in adapters.saved_tensors(folder)}
    marks = ("lora_B", "ia3_l", "prompt_encoder")
    [parameter, *_] = [
        value for name, value in model.named_parameters() if any(mark in name for mark in marks)
    ]
    with torch.no_grad():
        parameter.view(-1)[-1] += 0.5
    with pytest.raises(PeftBenchError, match="differs from the file"):
        adapters.verify_loaded(model, folder)


def test_other_names_load_nothing_and_plain_peft_says_nothing(
    copy: Callable[..., Path], tiny_model: Callable[..., Path]
) -> None:
    """The twin: an adapter of other names leaves the base as it was, with no error at all."""
    import torch

    folder = copy()

    def rename(tensors: dict[str, Any]) -> None:
        for key in list(tensors):
            tensors[key.replace("self_attn", "attention")] = tensors.pop(key)

    rewrite(folder, rename)
    model = load(folder)
    ids = torch.tensor([[5, 6, 7, 8]])
    base = load_base(tiny_model())
    assert torch.equal(model(input_ids=ids).logits, base(input_ids=ids).logits)
    with pytest.raises(PeftBenchError, match="did not really load"):
        adapters.verify_loaded(model, folder)


def test_no_adapter_at_all(trained: Callable[..., Path], tiny_model: Callable[..., Path]) -> None:
    with pytest.raises(PeftBenchError, match="no adapter is loaded"):
        adapters.verify_loaded(load_base(tiny_model()), trained())


def test_another_adapter_is_loaded(trained: Callable[..., Path]) -> None:
    with pytest.raises(PeftBenchError, match="did not really load"):
        adapters.verify_loaded(load(trained("llama", "ia3")), trained("llama", "lora"))


def test_adapter_in_half_precision_is_the_same_adapter(
    trained: Callable[..., Path], tiny_model: Callable[..., Path]
) -> None:
    import torch

    model = load(trained()).to(torch.bfloat16)
    assert adapters.verify_loaded(model, trained()) > 0


@pytest.mark.parametrize("kind", ["llama", "codegen", "t5"])
def test_fingerprint_is_of_the_base_alone(
    kind: str, trained: Callable[..., Path], tiny_model: Callable[..., Path]
) -> None:
    import torch

    def mark(model: Any) -> str:
        return adapters.fingerprint(model, quantized=False)

    plain = mark(load_base(tiny_model(kind)))
    assert mark(load_base(tiny_model(kind), dtype=torch.bfloat16)) == plain
    for method in ("lora", "ia3", "prompt_tuning", "prefix_tuning"):
        card = cards.read_card(trained(kind, method))
        assert card is not None and card.base.fingerprint == plain
        assert mark(load(trained(kind, method))) == plain
    assert mark(load_base(tiny_model(kind, 1))) != plain
