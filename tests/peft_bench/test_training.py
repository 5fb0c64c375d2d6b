"""Training on tiny random models: the folder it leaves, determinism, every method and family."""

from __future__ import annotations

import dataclasses
import json
import math
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from peft_bench import adapters, cards, data, models, prompts
from peft_bench.errors import MissingError, PeftBenchError, UsageError
from peft_bench.recipe import parse_recipe
from peft_bench.training import train

METHODS = ("lora", "ia3", "prompt_tuning", "prefix_tuning")
KINDS = ("llama", "codegen", "t5")
FILES = (adapters.CONFIG_FILE, adapters.WEIGHTS_FILE)

_TRAIN = """
import json, sys
from peft_bench.recipe import parse_recipe
from peft_bench.training import train
train(parse_recipe(json.loads(sys.argv[1])), sys.argv[2], progress=False)
"""


def load(folder: Path, *, model: str | None = None) -> Any:
    """Plain PEFT: the base that the adapter names, and the adapter on it."""
    from peft import PeftModel
    from transformers import AutoConfig, AutoModelForCausalLM, AutoModelForSeq2SeqLM

    saved = json.loads((folder / adapters.CONFIG_FILE).read_text(encoding="utf-8"))
    base_id = model or saved["base_model_name_or_path"]
    seq2seq = AutoConfig.from_pretrained(base_id).is_encoder_decoder
    loader = AutoModelForSeq2SeqLM if seq2seq else AutoModelForCausalLM
    return PeftModel.from_pretrained(loader.from_pretrained(base_id), folder).eval()


def row_loss(model: Any, tokenizer: Any, prompt: prompts.PromptTemplate) -> float:
    """The reference: rows one by one, unpadded; the mean over all tokens of all responses."""
    import torch

    total, count = 0.0, 0
    for row in data.load_split("conala", "validation").rows:
        ask = tokenizer(prompt.render(row.nl)).input_ids
        answer = [*tokenizer(row.cmd, add_special_tokens=False).input_ids, tokenizer.eos_token_id]
        if model.config.is_encoder_decoder:
            ids, labels = ask, answer
        else:
            ids, labels = ask + answer, [-100] * len(ask) + answer
        with torch.no_grad():
            loss = model(input_ids=torch.tensor([ids]), labels=torch.tensor([labels])).loss
        total += float(loss) * len(answer)
        count += len(answer)
    return total / count


def contents(folder: Path) -> list[bytes]:
    return [(folder / name).read_bytes() for name in FILES]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("method", METHODS)
def test_method_trains_saves_and_reloads(
    kind: str,
    method: str,
    trained: Callable[..., Path],
    tiny_model: Callable[..., Path],
    conala_data: Path,
) -> None:
    folder = trained(kind, method)
    card = adapters.check_folder(folder)
    assert card is not None
    assert card.outcome.steps == 4
    assert card.trainable_parameters > 0
    model = load(folder)
    saved = adapters.saved_tensors(folder)
    assert adapters.verify_loaded(model, folder) == len(saved) > 0
    # The loss on the card is that of plain transformers and PEFT, row by row without padding;
    # the plain base's is another: the adapter does something.
    assert card.outcome.validation_loss is not None
    tokenizer = models.load_tokenizer(parse_recipe(card.recipe).model)
    template = prompts.PROMPTS[card.prompt.name]
    with_adapter = row_loss(model, tokenizer, template)
    assert math.isclose(card.outcome.validation_loss, with_adapter, rel_tol=1e-5)
    untouched = load_base(tiny_model(kind))
    assert abs(row_loss(untouched, tokenizer, template) - with_adapter) > 1e-5


def load_base(folder: Path) -> Any:
    from transformers import AutoConfig, AutoModelForCausalLM, AutoModelForSeq2SeqLM

    seq2seq = AutoConfig.from_pretrained(folder).is_encoder_decoder
    loader = AutoModelForSeq2SeqLM if seq2seq else AutoModelForCausalLM
    return loader.from_pretrained(folder).eval()


def test_training_lowers_the_loss(
    recipe_dict: dict[str, Any],
    conala_data: Path,
    tmp_path: Path,
    tiny_model: Callable[..., Path],
) -> None:
    recipe_dict["training"] |= {"epochs": 10, "learning_rate": 0.05}
    recipe = parse_recipe(recipe_dict)
    folder = train(recipe, tmp_path / "a", progress=False)
    card = cards.read_card(folder)
    assert card is not None and card.outcome.validation_loss is not None
    base = row_loss(
        load_base(tiny_model()),
        models.load_tokenizer(recipe.model),
        prompts.PROMPTS["instruction"],
    )
    # Validation rows are the training rows here.
    assert card.outcome.validation_loss < base - 0.2


def test_folder_is_whole_and_its_cards_are_readable(trained: Callable[..., Path]) -> None:
    import yaml

    folder = trained()
    assert sorted(path.name for path in folder.iterdir()) == [
        "README.md",
        adapters.CONFIG_FILE,
        adapters.WEIGHTS_FILE,
        cards.CARD_FILE,
        "recipe.yaml",
    ]
    assert not folder.with_name(folder.name + ".partial").exists()
    card = adapters.check_folder(folder)
    assert card is not None
    recipe = parse_recipe(yaml.safe_load((folder / "recipe.yaml").read_text(encoding="utf-8")))
    assert card.recipe_sha256 == recipe.sha256
    assert parse_recipe(card.recipe) == recipe
    assert card.adapter_sha256 == adapters.content_sha256(folder)
    assert card.adapter_bytes == sum(map(len, contents(folder)))
    assert card.costs.train_wall_s > 0 and card.costs.tokens_per_s > 0
    assert card.costs.train_peak_bytes is not None and card.costs.train_peak_bytes > 0
    assert card.custom_data
    assert card.data["conala/train"]["rows"] == 8
    saved = sum(tensor.numel() for tensor in adapters.saved_tensors(folder).values())
    assert card.trainable_parameters == saved
    assert card.base.parameters == load_base(Path(card.base.id)).num_parameters()

    text = (folder / "README.md").read_text(encoding="utf-8")
    _, header, body = text.split("---\n", 2)
    meta = yaml.safe_load(header)
    assert "base_model" not in meta  # the hub takes no folder for one
    assert f"`{card.base.id}`" in body
    assert meta["library_name"] == "peft"
    assert {"peft-bench", "lora"} <= set(meta["tags"])
    assert f"# {card.name}" in body
    assert f"{card.trainable_parameters:,}" in body


@pytest.mark.parametrize(
    ("method", "library", "kind"),
    [("lora", "peft", "PEFT adapter"), ("full", "transformers", "whole model")],
)
def test_model_card_is_valid_for_the_hub(
    method: str, library: str, kind: str, trained: Callable[..., Path]
) -> None:
    from huggingface_hub import ModelCard

    card = adapters.check_folder(trained())
    assert card is not None
    base = dataclasses.replace(card.base, id="bigcode/starcoder2-3b")
    text = cards.render_model_card(dataclasses.replace(card, method=method, base=base))
    found = ModelCard(text)
    assert found.data.library_name == library
    assert found.data.base_model == "bigcode/starcoder2-3b"
    assert found.data.tags is not None and "peft-bench" in found.data.tags
    assert f"A {kind} trained with" in text
    assert ModelCard.load(trained() / "README.md").data.library_name == "peft"


def test_same_seed_gives_the_same_bytes_whatever_the_hash_seed(
    recipe_dict: dict[str, Any], conala_data: Path, tmp_path: Path
) -> None:
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", _TRAIN, json.dumps(recipe_dict), str(tmp_path / seed)],
            env={**environment, "PYTHONHASHSEED": seed},
            stdout=subprocess.DEVNULL,
        )
        for seed in ("1", "3")  # PEFT's sets of module names are ordered otherwise
    ]
    assert [process.wait() for process in processes] == [0, 0]
    here = train(parse_recipe(recipe_dict), tmp_path / "here", progress=False)
    recipe_dict["training"]["seed"] = 7
    other = train(parse_recipe(recipe_dict), tmp_path / "other", progress=False)
    assert contents(tmp_path / "1") == contents(tmp_path / "3") == contents(here)
    assert contents(other)[1] != contents(here)[1]


def test_method_without_a_row_takes_its_own_options(
    recipe_dict: dict[str, Any], conala_data: Path, tmp_path: Path
) -> None:
    recipe_dict["method"] = {
        "name": "loha",
        "options": {"r": 3, "alpha": 6, "target_modules": ["q_proj", "v_proj"]},
    }
    folder = train(parse_recipe(recipe_dict), tmp_path / "a", progress=False)
    saved = json.loads((folder / adapters.CONFIG_FILE).read_text(encoding="utf-8"))
    assert (saved["peft_type"], saved["r"], saved["alpha"]) == ("LOHA", 3, 6)
    assert saved["target_modules"] == ["q_proj", "v_proj"]
    assert adapters.verify_loaded(load(folder), folder) > 0


@pytest.mark.parametrize(
    ("epochs", "most", "steps"), [(1, 50, 2), (1, 1, 1), (1.5, 2, 2), (1.5, 3, 3), (1.5, None, 3)]
)
def test_max_steps_is_a_maximum(
    epochs: float,
    most: int | None,
    steps: int,
    recipe_dict: dict[str, Any],
    conala_data: Path,
    tmp_path: Path,
) -> None:
    recipe_dict["training"] |= {"epochs": epochs, "max_steps": most}
    card = cards.read_card(train(parse_recipe(recipe_dict), tmp_path / "a", progress=False))
    assert card is not None
    assert (card.outcome.steps, card.outcome.epochs) == (steps, steps / 2)


@pytest.mark.parametrize("kind", ["llama", "codegen"])
@pytest.mark.parametrize("text", ["sort", "sort list `xs` and reverse list `xs` and swap `a`"])
def test_prefix_tuning_starts_from_a_text(
    kind: str,
    text: str,
    recipe_dict: dict[str, Any],
    conala_data: Path,
    tmp_path: Path,
    tiny_model: Callable[..., Path],
) -> None:
    import torch

    # Rates so small that the prefix stays where it starts.
    recipe_dict["model"]["id"] = str(tiny_model(kind))
    recipe_dict["training"] |= {"learning_rate": 1e-12, "max_steps": 1}
    recipe_dict["method"] = {"name": "prefix_tuning", "init_text": text}
    recipe = parse_recipe(recipe_dict)
    folder = train(recipe, tmp_path / "a", progress=False)
    tokenizer = models.load_tokenizer(recipe.model)
    ids = (tokenizer(text, add_special_tokens=False).input_ids * 10)[:10]
    model, base = load(folder), load_base(tiny_model(kind))
    row = torch.tensor([tokenizer("reverse list `xs`").input_ids])
    with torch.no_grad():
        with_prefix = model(input_ids=row, attention_mask=torch.ones_like(row)).logits
        with_text = base(input_ids=torch.cat([torch.tensor([ids]), row], dim=1)).logits
    assert torch.allclose(with_prefix, with_text[:, 10:], atol=1e-4)


@pytest.mark.parametrize(
    ("kind", "method", "told"),
    [
        ("llama", {"name": "lora"}, "is for prefix tuning"),
        ("t5", {"name": "prefix_tuning"}, "t5 has two"),
        ("llama", {"name": "prefix_tuning", "options": {"prefix_projection": True}}, "computes"),
        ("llama", {"name": "prefix_tuning", "init_text": " "}, "empty"),
    ],
)
def test_a_text_to_start_from_is_refused_elsewhere(
    kind: str,
    method: dict[str, Any],
    told: str,
    recipe_dict: dict[str, Any],
    conala_data: Path,
    tmp_path: Path,
    tiny_model: Callable[..., Path],
) -> None:
    recipe_dict["model"]["id"] = str(tiny_model(kind))
    recipe_dict["method"] = {"init_text": "sort", **method}
    with pytest.raises(UsageError, match=told) as caught:
        train(parse_recipe(recipe_dict), tmp_path / "a", progress=False)
    assert "method.init_text" in caught.value.place


def test_several_tasks_are_trained_jointly(
    recipe_dict: dict[str, Any], conala_data: Path, tmp_path: Path
) -> None:
    (conala_data / "codealpacapy").mkdir()
    for split in ("train", "validation"):
        (conala_data / "codealpacapy" / f"{split}.jsonl").write_text(
            json.dumps({"nl": "print `x`", "cmd": "print(x)"}) + "\n", encoding="utf-8"
        )
    recipe_dict["data"]["tasks"] = ["conala", "codealpacapy"]
    recipe_dict["training"] = {"epochs": 1, "batch_size": 3}
    card = cards.read_card(train(parse_recipe(recipe_dict), tmp_path / "a", progress=False))
    assert card is not None
    assert {name: facts["rows"] for name, facts in card.data.items()} == {
        "conala/train": 8,
        "codealpacapy/train": 1,
        "conala/validation": 8,
        "codealpacapy/validation": 1,
    }
    assert card.outcome.steps == 3  # nine rows


def test_second_run_does_nothing_and_another_recipe_is_refused(
    recipe_dict: dict[str, Any], conala_data: Path, tmp_path: Path
) -> None:
    out = tmp_path / "a"
    train(parse_recipe(recipe_dict), out, progress=False)
    before = {path: path.stat().st_mtime_ns for path in out.iterdir()}
    assert train(parse_recipe(recipe_dict), out, progress=False) == out
    assert {path: path.stat().st_mtime_ns for path in out.iterdir()} == before
    recipe_dict["training"]["seed"] = 7
    with pytest.raises(UsageError, match="another recipe"):
        train(parse_recipe(recipe_dict), out, progress=False)
    assert {path: path.stat().st_mtime_ns for path in out.iterdir()} == before


def test_an_adapter_of_rows_that_have_changed_since_is_not_taken_for_a_new_one(
    recipe_dict: dict[str, Any],
    conala_data: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    recipe, out = parse_recipe(recipe_dict), tmp_path / "a"
    train(recipe, out, progress=False)
    before = {path: path.stat().st_mtime_ns for path in out.iterdir()}
    file = conala_data / "conala" / "train.jsonl"
    rows = file.read_text(encoding="utf-8")
    file.write_text(rows.replace("sorted(xs)", "xs.sort()"), encoding="utf-8")
    with pytest.raises(UsageError, match="other rows of conala/train") as caught:
        train(recipe, out, progress=False)
    assert caught.value.place == str(out) and "delete the folder" in caught.value.remedy
    file.unlink()  # nothing to compare with: what is finished is there all the same
    capsys.readouterr()
    assert train(recipe, out, progress=False) == out
    assert "not compared with the rows" in capsys.readouterr().err
    assert {path: path.stat().st_mtime_ns for path in out.iterdir()} == before


def test_a_place_that_is_no_adapter_is_not_taken_for_one(
    recipe_dict: dict[str, Any], tmp_path: Path
) -> None:
    (tmp_path / "file").touch()
    for out in (tmp_path, tmp_path / "file", "", "."):
        with pytest.raises(UsageError, match="exists, and is no adapter"):
            train(parse_recipe(recipe_dict), out, progress=False)


def test_the_final_adapter_is_the_one_of_the_lowest_validation_loss(
    recipe_dict: dict[str, Any], conala_data: Path, tmp_path: Path
) -> None:
    # So high a learning rate that the loss soon climbs: the best step is not the last one.
    recipe_dict["training"] |= {"epochs": 6, "learning_rate": 2.5, "schedule": "constant"}
    recipe = parse_recipe(recipe_dict)
    folder = train(recipe, tmp_path / "a", progress=False)
    card = cards.read_card(folder)
    assert card is not None and card.outcome.validation_loss is not None
    assert card.outcome.best_step is not None and card.outcome.best_step < card.outcome.steps
    loss = row_loss(
        load(folder), models.load_tokenizer(recipe.model), prompts.PROMPTS["instruction"]
    )
    assert math.isclose(card.outcome.validation_loss, loss, rel_tol=1e-5)


@pytest.mark.parametrize(
    ("method", "options"),
    [
        ("lora", {"no_such_option": 3}),
        ("lora", {"target_modules": ["no_such_module"]}),
        ("prefix_tuning", {"no_such_option": 3}),
        ("loha", {"r": 0}),
        ("lora", {"bias": "wrong"}),
        ("lora", {"megatron_config": {"a": 1}}),
        ("lora", {"target_modules": ["mlp"]}),
        ("lora", {"r": 2.5}),
        ("lora", {"init_lora_weights": "pissa_niter_x"}),
        ("lora", {"trainable_token_indices": [99999]}),
        ("trainable_tokens", {"token_indices": [99999]}),
        ("p_tuning", {"num_virtual_tokens": 2, "encoder_hidden_size": -1}),
        ("vblora", {"num_vectors": -1}),
        ("trainable_tokens", {"token_indices": []}),
    ],
)
def test_options_that_peft_refuses_are_usage_errors(
    method: str,
    options: dict[str, Any],
    recipe_dict: dict[str, Any],
    conala_data: Path,
    tmp_path: Path,
) -> None:
    recipe_dict["method"] = {"name": method, "options": options}
    with pytest.raises(UsageError) as caught:
        train(parse_recipe(recipe_dict), tmp_path / "a", progress=False)
    assert "method.options" in str(caught.value) and len(str(caught.value)) < 2000
    assert not (tmp_path / "a").exists()


@pytest.mark.parametrize(
    "error",
    [
        MemoryError(),
        RuntimeError("[enforce fail] . DefaultCPUAllocator: can't allocate memory"),
        "OutOfMemoryError",
        "AcceleratorError",
    ],
    ids=str,
)
def test_the_machine_s_errors_are_not_told_as_faults_of_the_options(
    error: Exception | str,
    recipe_dict: dict[str, Any],
    tiny_model: Callable[..., Path],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    import peft
    import torch

    from peft_bench import peft_model

    raised = getattr(torch, error)("no") if isinstance(error, str) else error

    def fail(*_: Any) -> Any:
        raise raised

    monkeypatch.setattr(peft, "get_peft_model", fail)
    with pytest.raises(type(raised)) as caught:
        peft_model.wrap(parse_recipe(recipe_dict), load_base(tiny_model()), "llama")
    assert caught.value is raised


def test_missing_model_is_told_with_a_remedy(
    recipe_dict: dict[str, Any], conala_data: Path, tmp_path: Path
) -> None:
    recipe_dict["model"]["id"] = str(tmp_path / "no-such-model")
    with pytest.raises(MissingError, match=r"or name a local folder\.$"):
        train(parse_recipe(recipe_dict), tmp_path / "a", progress=False)
    assert list(tmp_path.glob("a*")) == []


@pytest.mark.parametrize(
    ("file", "change", "said"),
    [
        ("model.safetensors", b"", "SafetensorError: "),
        ("tokenizer.json", b"{", "cannot be loaded: "),
        ("config.json", b"{", "not a valid JSON file"),
        ("config.json", {"hidden_size": "x"}, "'hidden_size' expected int"),
        ("config.json", {"hidden_size": 64, "head_dim": 16}, "cannot be loaded: RuntimeError: "),
        ("config.json", {"hidden_act": "no"}, "of its configuration: KeyError: 'no'"),
        ("config.json", {"model_type": "vit"}, "builds no language model of its configuration"),
    ],
)
def test_a_faulty_model_is_told_with_a_remedy(
    file: str,
    change: bytes | dict[str, Any],
    said: str,
    recipe_dict: dict[str, Any],
    conala_data: Path,
    tmp_path: Path,
) -> None:
    folder = shutil.copytree(recipe_dict["model"]["id"], tmp_path / "model")
    if isinstance(change, bytes):
        (folder / file).write_bytes(change or (folder / file).read_bytes()[:-1000])
    else:
        config = json.loads((folder / file).read_text(encoding="utf-8"))
        (folder / file).write_text(json.dumps(config | change), encoding="utf-8")
    recipe_dict["model"]["id"] = str(folder)
    recipe_dict["method"]["options"] = {"target_modules": ["q_proj"]}
    with pytest.raises(PeftBenchError) as caught:
        train(parse_recipe(recipe_dict), tmp_path / "a", progress=False)
    told = str(caught.value)
    assert told.startswith(f"model {folder}: ") and said in told
    assert "mend the folder" in told or "mend its config.json" in told


def test_missing_rows_are_told_before_the_model_is_looked_for(
    recipe_dict: dict[str, Any], conala_data: Path, tmp_path: Path
) -> None:
    (conala_data / "conala" / "validation.jsonl").unlink()
    recipe_dict["model"]["id"] = str(tmp_path / "no-such-model")
    with pytest.raises(MissingError, match="has no validation split"):
        train(parse_recipe(recipe_dict), tmp_path / "a", progress=False)


@pytest.mark.parametrize("kind", KINDS)
def test_small_micro_batches_give_the_same_adapter(
    kind: str,
    recipe_dict: dict[str, Any],
    conala_data: Path,
    tmp_path: Path,
    tiny_model: Callable[..., Path],
) -> None:
    import torch

    # Without dropout, which falls otherwise on other batches.
    model = tmp_path / "model"
    shutil.copytree(tiny_model(kind), model)
    config = json.loads((model / "config.json").read_text(encoding="utf-8"))
    config |= {key: 0.0 for key in config if key.endswith(("dropout_rate", "pdrop", "dropout"))}
    (model / "config.json").write_text(json.dumps(config), encoding="utf-8")
    recipe_dict["model"]["id"] = str(model)
    recipe_dict["method"]["options"] = {"lora_dropout": 0.0}
    whole = train(parse_recipe(recipe_dict), tmp_path / "whole", progress=False)
    recipe_dict["training"]["micro_batch_size"] = 2
    split = train(parse_recipe(recipe_dict), tmp_path / "split", progress=False)
    one, two = adapters.saved_tensors(whole), adapters.saved_tensors(split)
    assert one.keys() == two.keys()
    for name in one:
        assert torch.allclose(one[name], two[name], atol=1e-5), name
    first, second = cards.read_card(whole), cards.read_card(split)
    assert first is not None and second is not None
    assert first.outcome.train_loss == pytest.approx(second.outcome.train_loss, rel=1e-5)
    assert first.outcome.validation_loss == pytest.approx(second.outcome.validation_loss, rel=1e-5)


@pytest.mark.parametrize("quantization", ["4bit", "8bit"])
def test_quantised_base_trains(quantization: str, trained: Callable[..., Path]) -> None:
    folder = trained("llama", "lora", width=64, quantization=quantization)
    card = adapters.check_folder(folder)
    assert card is not None
    assert card.base.quantization == quantization
    assert card.outcome.steps == 4


def test_rows_are_shuffled_anew_each_epoch_and_grouped_by_length(
    recipe_dict: dict[str, Any],
    conala_data: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from peft_bench.encoding import Collator

    seen: list[list[int]] = []
    collate = Collator.__call__

    def note(self: Collator, features: Any) -> Any:
        seen.append([feature["length"] for feature in features])
        return collate(self, features)

    monkeypatch.setattr(Collator, "__call__", note)
    recipe_dict["training"] |= {"batch_size": 1, "epochs": 2}
    train(parse_recipe(recipe_dict), tmp_path / "a", progress=False)
    lengths = [length for batch in seen for length in batch]
    first, second = lengths[:8], lengths[16:24]  # each epoch is followed by the validation rows
    assert sorted(first) == sorted(second) == sorted(lengths[8:16])
    assert first != second
