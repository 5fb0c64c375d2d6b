from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from peft_bench.errors import MissingError, UsageError
from peft_bench.paths import recipes_dir
from peft_bench.recipe import Recipe, load_recipe, parse_recipe

PLAIN: dict[str, Any] = {
    "name": "a-lora",
    "model": {"id": "org/model"},
    "method": {"name": "lora", "options": {"r": 8, "target_modules": ["q", "v"]}},
    "data": {"tasks": ["conala"]},
    "training": {"epochs": 5, "learning_rate": "3e-4"},
}


def changed(path: str, value: Any) -> dict[str, Any]:
    plain = copy.deepcopy(PLAIN)
    node = plain
    *parents, last = path.split(".")
    for parent in parents:
        node = node.setdefault(parent, {})
    node[last] = value
    return plain


def refused(plain: Any) -> UsageError:
    with pytest.raises(UsageError) as caught:
        parse_recipe(plain, place="r.yaml")
    assert caught.value.exit_code == 2
    assert "r.yaml" in str(caught.value)
    return caught.value


def write(folder: Path, plain: Any) -> Path:
    file = folder / "r.yaml"
    file.write_text(plain if isinstance(plain, str) else yaml.safe_dump(plain), encoding="utf-8")
    return file


def test_a_recipe_is_read_with_its_defaults() -> None:
    recipe = parse_recipe(PLAIN)
    assert recipe.model.dtype == "auto" and recipe.model.quantization is None
    assert recipe.data.tasks == ("conala",)
    assert recipe.method.options == {"r": 8, "target_modules": ["q", "v"]}
    assert recipe.training.learning_rate == 3e-4
    assert (recipe.training.batch_size, recipe.training.seed) == (8, 42)


def test_plain_data_and_back() -> None:
    recipe = parse_recipe(PLAIN)
    assert parse_recipe(json.loads(json.dumps(recipe.to_dict()))) == recipe


@pytest.mark.parametrize(
    ("path", "value", "said"),
    [
        ("training.epoch", 3, "training.epoch: unknown key. did you mean epochs?"),
        ("trainig", {}, "trainig: unknown key. did you mean training?"),
        ("method.name", "lorra", "method.name: no PEFT method is named 'lorra'"),
        ("method.name", "lora-", "did you mean lora? With defaults: lora, qlora, ia3"),
        ("method.name", 3, "method.name: 3 is not a text"),
        ("method.options", {"lora_alhpa": 8}, "options.lora_alhpa: lora has no such option. did "),
        ("method.options", {"lora_alhpa": 8}, "did you mean lora_alpha?"),
        ("method.options", {"task_type": "SEQ_CLS"}, "lora has no such option"),
        ("method.options", {"inference_mode": True}, "lora has no such option"),
        ("method", {"name": "full", "options": {"r": 8}}, "full has no such option. its options: "),
        ("method", {"name": "vera", "options": {"lora_alpha": 1}}, "vera has no such option"),
        ("method.targets", "all", "'all' is not a value of: study, revision, peft"),
        ("training.loraplus_lr_ratio", 0, "training.loraplus_lr_ratio: 0 is not positive"),
        ("training.seed", True, "training.seed: True is not a whole number"),
        ("training.seed", -1, "training.seed: -1 is out of range"),
        ("training.batch_size", 0, "training.batch_size: 0 is not positive"),
        ("training.epochs", "-1e0", "training.epochs: -1e0 is not positive"),
        ("training.epochs", float("nan"), "training.epochs: nan is not positive"),
        ("training.epochs", float("inf"), "training.epochs: inf is not positive"),
        ("training.learning_rate", 0, "training.learning_rate: 0 is not positive"),
        ("training.warmup_ratio", 5, "training.warmup_ratio: 5 is out of range"),
        ("training.warmup_ratio", 1, "training.warmup_ratio: 1 is out of range. give 0 to below 1"),
        ("training.warmup_ratio", 1.0, "training.warmup_ratio: 1.0 is out of range"),
        ("training.batch_size", 10**30, "is too large"),
        ("training.seed", 10**400, "is out of range. give 0 to 4294967295"),
        ("training.micro_batch_size", 3, "3 does not divide batch_size 8"),
        ("training.optimizer", "sgd", "'sgd' is not a value of: adafactor, "),
        ("model", "org/model", "model: 'org/model' is not a mapping"),
        ("model", {}, "model.id: missing"),
        ("model.quantization", "2bit", "'2bit' is not a value of: 4bit, 8bit"),
        ("data.tasks", [], "data.tasks: names no data set"),
        ("data.tasks", "conala", "data.tasks: 'conala' is not a list of text"),
        ("data.tasks", ["conela"], "no data set is named 'conela'"),
        ("data.tasks", ["conala", "apps", "conala"], "data.tasks: names 'conala' twice"),
        ("data.files", ["a", "b", "a"], "data.files: names 'a' twice"),
        (
            "data",
            {"files": ["a"], "validation_files": ["b", "b"]},
            "data.validation_files: names 'b' twice",
        ),
        (
            "data.validation_files",
            ["b.jsonl"],
            "data.validation_files: are of data.files, and these name none. name",
        ),
        ("data.prompt", "chatty", "no prompt is named 'chatty'"),
        ("data.max_prompt_tokens", -4, "data.max_prompt_tokens: -4 is not positive"),
        ("name", "a" * 201, "cannot name a folder"),
        ("name", "a/b", "'a/b' cannot name a folder"),
        ("name", "..", "'..' cannot name a folder"),
        ("method.options", {"target_modules": 5}, "target_modules: 5 is not a list or text"),
        ("method.options", {"target_modules": {"q": 1}}, "is not a list or text"),
        ("method.options", {"rank_pattern": 5}, "method.options.rank_pattern: 5 is not a mapping"),
        ("method.options", {"r": "8"}, "options.r: '8' is not a number. give a number: 8, say"),
        ("method.options", {"r": True}, "True is not a number"),
        ("method.options", {"lora_dropout": "1e-1"}, "give a number: 0.1, say"),
        ("method.options", {"lora_alpha": float("nan")}, "JSON cannot say"),
        ("method.options", {"use_dora": 1}, "use_dora: 1 is not a true or false"),
        ("method.options", {"init_lora_weights": 3}, "3 is not a text or true or false"),
        ("method.options", {"modules_to_save": "lm_head"}, "'lm_head' is not a list"),
        ("method.options", {"target_parameters": "foo"}, "'foo' is not a list"),
        ("method.options", {"lora_dropout": -0.5}, "dropout: -0.5 is no share that can be dropped"),
        ("method.options", {"lora_dropout": 1}, "lora_dropout: 1 is no share"),
        ("method.options", {"trainable_token_indices": [3, -1]}, "-1 is no token's number"),
        ("method.options", {"trainable_token_indices": {"head": [-2]}}, "-2 is no token's number"),
        ("method.options", {"alora_invocation_tokens": ["x"]}, "'x' is no token's number"),
        (
            "method",
            {"name": "trainable_tokens", "options": {"token_indices": [True]}},
            "True is no token's number",
        ),
        ("method.options", {"layers_to_transform": "0"}, "'0' is not a list or number"),
        ("method.options", {"eva_config": 3}, "3 is not a mapping"),
        ("method.options", {"runtime_config": {}}, "lora has no such option"),
        ("method.options", {"rank_pattern": {1: 2, "q": 3}}, "JSON cannot say"),
        (
            "method",
            {"name": "ln_tuning", "options": {"modules_to_save": "lm_head"}},
            "'lm_head' is not a list",
        ),
        (
            "method",
            {"name": "prompt_tuning", "options": {"num_virtual_tokens": "20"}},
            "num_virtual_tokens: '20' is not a number",
        ),
        (
            "method",
            {"name": "prefix_tuning", "options": {"num_virtual_tokens": -3}},
            "num_virtual_tokens: -3 is not positive",
        ),
        (
            "method",
            {"name": "p_tuning", "options": {"num_virtual_tokens": 0}},
            "num_virtual_tokens: 0 is not positive",
        ),
        ("method.options", {"when": yaml.safe_load("2025-01-31")}, "JSON cannot say"),
    ],
)
def test_one_fault(path: str, value: Any, said: str) -> None:
    assert said in str(refused(changed(path, value)))


def test_several_faults_are_told_together() -> None:
    plain = changed("training.epoch", 3)
    plain["method"]["name"] = "lorra"
    plain["training"]["batch_size"] = "eight"
    plain["data"] = {"tasks": ["nowhere"]}
    del plain["model"]
    error = refused(plain)
    assert {fault.place for fault in error.faults} == {
        "training.epoch",
        "method.name",
        "training.batch_size",
        "data.tasks",
        "model",
    }
    for fault in error.faults:
        assert str(fault) in str(error)


@pytest.mark.parametrize("raw", [[PLAIN], None, "text", 3])
def test_what_is_no_mapping(raw: Any, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="is not a mapping"):
        load_recipe(write(tmp_path, raw))


@pytest.mark.parametrize(
    "options",
    [
        {"lora_alpha": 0.5, "rank_pattern": {"q": 2}, "modules_to_save": None, "bias": "all"},
        {"init_lora_weights": True, "layers_to_transform": 3, "layers_pattern": "layers"},
        {"init_lora_weights": "pissa_niter_4", "layers_to_transform": [3], "target_modules": "q"},
        {"layer_replication": [[0, 1]], "trainable_token_indices": {"embed": [1]}},
        {"trainable_token_indices": [1], "loftq_config": {}, "corda_config": {"x": 1}},
    ],
)
def test_options_of_every_kind(options: dict[str, Any]) -> None:
    assert parse_recipe(changed("method.options", options)).method.options == options


@pytest.mark.parametrize("method", ["loha", "vera", "adalora"])
def test_any_peft_type_is_accepted_by_its_name(method: str) -> None:
    assert parse_recipe(changed("method.name", method)).method.name == method


def test_qlora_quantises_its_base() -> None:
    recipe = parse_recipe(changed("method.name", "qlora"))
    assert recipe.model.quantization == "4bit"
    plain = changed("method.name", "qlora")
    plain["model"]["quantization"] = "8bit"
    assert parse_recipe(plain).model.quantization == "8bit"
    assert parse_recipe(PLAIN).model.quantization is None


def test_the_hash_does_not_know_the_name_nor_how_a_number_is_written() -> None:
    recipe = parse_recipe(PLAIN)
    assert parse_recipe(changed("name", "other")).sha256 == recipe.sha256
    assert parse_recipe(changed("training.epochs", 5.0)).sha256 == recipe.sha256
    assert parse_recipe(changed("training.learning_rate", 0.0003)).sha256 == recipe.sha256
    assert parse_recipe(changed("training.seed", 42)).sha256 == recipe.sha256


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("model.id", "org/other"),
        ("model.revision", "main"),
        ("model.quantization", "4bit"),
        ("method", {"name": "ia3"}),
        ("method.options", {"r": 9}),
        ("method.targets", "revision"),
        ("data.tasks", ["conala", "codealpacapy"]),
        ("data.max_train_rows", 10),
        ("training.seed", 43),
        ("training.max_steps", 10),
    ],
)
def test_the_hash_knows_everything_else(path: str, value: Any) -> None:
    assert parse_recipe(changed(path, value)).sha256 != parse_recipe(PLAIN).sha256


def test_overrides(tmp_path: Path) -> None:
    file = write(tmp_path, {key: PLAIN[key] for key in ("name", "model", "method", "data")})
    recipe = load_recipe(
        file,
        [
            "training.seed=7",
            "training.learning_rate=1e-3",
            "method.options.r=4",
            "data.tasks=[conala, codealpacapy]",
            "model.id=a=b",
            "model.revision=null",
        ],
    )
    assert recipe.training.seed == 7 and recipe.training.learning_rate == 1e-3
    assert recipe.method.options == {"r": 4, "target_modules": ["q", "v"]}
    assert recipe.data.tasks == ("conala", "codealpacapy")
    assert recipe.model.id == "a=b" and recipe.model.revision is None


@pytest.mark.parametrize(
    ("override", "said"),
    [
        ("training.seed", "not of the form KEY=VALUE"),
        ("=7", "not of the form KEY=VALUE"),
        ("name.first=x", "name is not a mapping"),
        ("data.tasks=[conala", "not a YAML value"),
        ("name=2024-99-99", "not a YAML value: line 1, column 1: '2024-99-99' cannot"),
        ("training.seed=0x_", "not a YAML value"),
        ("training.seed=" + "9" * 5000, "not a YAML value"),
        ("method.options={r: 8, r: 4}", "the key r is there twice"),
        ("method.init_text=" + "[" * 3000, "nested too deeply"),
        ("training.sead=7", "training.sead: unknown key. did you mean seed?"),
        ("training.seed=x", "training.seed: 'x' is not a whole number"),
    ],
)
def test_faulty_overrides(tmp_path: Path, override: str, said: str) -> None:
    with pytest.raises(UsageError) as caught:
        load_recipe(write(tmp_path, PLAIN), [override])
    assert said in str(caught.value) and len(str(caught.value)) < 300


def test_no_such_file_names_the_recipes_there_are(tmp_path: Path) -> None:
    with pytest.raises(MissingError) as caught:
        load_recipe(tmp_path / "none.yaml")
    assert caught.value.exit_code == 3
    for file in recipes_dir().glob("*.yaml"):
        assert file.stem in str(caught.value)
    assert "conala_lora" in str(caught.value)


@pytest.mark.parametrize("content", [b"name: [", b"\xff\xfe", b"a: b: c"])
def test_what_is_not_yaml(tmp_path: Path, content: bytes) -> None:
    file = tmp_path / "r.yaml"
    file.write_bytes(content)
    with pytest.raises(UsageError, match="not a readable YAML file"):
        load_recipe(file)


def test_a_folder_is_no_recipe(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="not a readable YAML file"):
        load_recipe(tmp_path)


def test_the_recipes_that_come_with_the_project_load() -> None:
    files = [file for file in sorted(recipes_dir().rglob("*.yaml")) if file.stem != "grid"]
    assert {"conala_lora", "quickstart"} <= {file.stem for file in files}
    recipes = [load_recipe(file) for file in files]
    assert all(isinstance(recipe, Recipe) for recipe in recipes)
    assert len({recipe.sha256 for recipe in recipes}) == len(files)
