from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from peft_bench import compatibility, methods, models
from peft_bench.compatibility import FAMILIES
from peft_bench.errors import UsageError
from peft_bench.recipe import BaseModel, parse_recipe

DOCS = Path(__file__).parents[2] / "docs" / "methods.md"


@pytest.fixture()
def check(tiny_model: Callable[..., Path]) -> Callable[..., None]:
    """Checks a recipe, written as dotted keys, against a tiny model's configuration."""

    def run(kind: str = "llama", config: dict[str, Any] | None = None, **settings: Any) -> None:
        plain: dict[str, Any] = {
            "name": "tiny",
            "model": {"id": str(tiny_model(kind))},
            "method": {"name": "lora"},
            "data": {"tasks": ["conala"]},
            "training": {},
        }
        for key, value in settings.items():
            section, name = key.split("__")
            plain[section][name] = value
        found = models.load_config(BaseModel(str(tiny_model(kind))))
        for key, value in (config or {}).items():
            setattr(found, key, value)
        compatibility.check(parse_recipe(plain), found)

    return run


def test_the_study_s_methods_pass(check: Callable[..., None]) -> None:
    for kind in ("llama", "codegen", "t5"):
        for method in ("lora", "ia3", "prompt_tuning", "prefix_tuning", "full"):
            check(kind, method__name=method)
    check(model__quantization="8bit", method__name="qlora")
    check(method__targets="revision")
    check(method__options={"target_modules": "all-linear"})
    check(method__options={"target_modules": r".*\.self_attn\.[qk]_proj"})
    check(method__options={"init_lora_weights": "pissa"})


@pytest.mark.parametrize(
    ("kind", "options"),
    [
        ("llama", {"layers_to_transform": [0, 1], "layers_pattern": "layers"}),
        ("llama", {"layers_to_transform": 1}),
        ("codegen", {"layers_to_transform": [1], "layers_pattern": ["h"]}),
        ("t5", {"layers_to_transform": [0]}),
        ("llama", {"target_parameters": ["q_proj.weight"], "rank_pattern": {"q_proj.weight": 2}}),
        ("llama", {"rank_pattern": {"q_proj": 2, r"layers\.0\..*": 4, "^model.layers.1.*": 3}}),
        ("llama", {"exclude_modules": ["layers.0.self_attn.q_proj"], "modules_to_save": []}),
        ("llama", {"exclude_modules": r".*\.0\..*", "target_modules": None}),
    ],
)
def test_names_that_the_model_has(
    kind: str, options: dict[str, Any], check: Callable[..., None]
) -> None:
    check(kind, method__options=options)


@pytest.mark.parametrize(
    ("kind", "settings", "said"),
    [
        ("llama", {"method__name": "adalora"}, "adalora does not work on llama: its ranks"),
        ("codegen", {"method__name": "adaption_prompt"}, "llama and mistral only"),
        ("t5", {"method__name": "shadow"}, "shadow does not work on t5"),
        (
            "llama",
            {"method__name": "full", "model__quantization": "8bit"},
            "full cannot have a base in 8bit: packed weights cannot be trained",
        ),
        ("llama", {"method__name": "osf", "model__quantization": "4bit"}, "cannot have a base in"),
        (
            "llama",
            {"method__name": "prefix_tuning", "training__gradient_checkpointing": True},
            "which checkpointing turns off",
        ),
        ("llama", {"method__name": "ia3", "training__optimizer": "loraplus"}, "loraplus is for"),
        (
            "llama",
            {"method__options": {"init_lora_weights": "eva"}},
            "eva needs a pass over the data",
        ),
        (
            "llama",
            {"method__options": {"init_lora_weights": "pissa", "use_dora": True}},
            "DoRA's magnitudes",
        ),
        (
            "llama",
            {"method__options": {"init_lora_weights": "pissa"}, "model__quantization": "8bit"},
            "pissa changes the base",
        ),
        (
            "llama",
            {"data__max_prompt_tokens": 400, "data__max_target_tokens": 200},
            "are 600, and the model's context holds 512",
        ),
        (
            "codegen",
            {
                "method__name": "prompt_tuning",
                "data__max_prompt_tokens": 400,
                "data__max_target_tokens": 100,
            },
            "and 20 virtual tokens are 520",
        ),
        (
            "llama",
            {"method__options": {"target_modules": ["q_proj", "querry"]}},
            "'querry' matches no module of llama. there are: q_proj, k_proj, v_proj, o_proj, "
            "gate_proj, up_proj, down_proj, lm_head",
        ),
        ("llama", {"method__options": {"target_modules": "h\\.[0-9]+"}}, "matches no module"),
        ("llama", {"method__options": {"target_modules": "("}}, "matches no module"),
        ("llama", {"method__options": {"modules_to_save": ["head"]}}, "'head' matches no module"),
        ("llama", {"method__options": {"exclude_modules": ["head"]}}, "'head' matches no module"),
        ("llama", {"method__options": {"target_modules": [5]}}, "5 matches no module"),
        (
            "llama",
            {"method__options": {"target_parameters": ["foo"]}},
            "'foo' matches no parameter of llama. there are: embed_tokens.weight, q_proj.weight, ",
        ),
        (
            "llama",
            {"method__options": {"layers_to_transform": [0, 99]}},
            "99 matches no layer of llama. there are: 0, 1.",
        ),
        ("codegen", {"method__options": {"layers_to_transform": -1}}, "-1 matches no layer"),
        ("t5", {"method__options": {"layers_to_transform": [[0]]}}, "[0] matches no layer"),
        (
            "llama",
            {"method__options": {"layers_to_transform": [0], "layers_pattern": ["h", "layers"]}},
            "'h' matches no layers of llama. there are: layers.",
        ),
        ("llama", {"method__options": {"layers_pattern": "("}}, "'(' matches no layers"),
        (
            "llama",
            {"method__options": {"alpha_pattern": {"q_proj": 1, "c_attn": 2}}},
            "alpha_pattern: 'c_attn' matches no module",
        ),
        ("llama", {"method__options": {"rank_pattern": {"(": 1}}}, "'(' matches no module"),
        (
            "llama",
            {"method__name": "prompt_tuning", "method__targets": "revision"},
            "has no target modules",
        ),
    ],
)
def test_refused_before_a_model_loads(
    kind: str, settings: dict[str, Any], said: str, check: Callable[..., None]
) -> None:
    with pytest.raises(UsageError) as caught:
        check(kind, **settings)
    assert said in str(caught.value)


def test_reasons_are_told_together(check: Callable[..., None]) -> None:
    with pytest.raises(UsageError) as caught:
        check(
            method__name="full",
            model__quantization="8bit",
            training__optimizer="lorafa",
            data__max_prompt_tokens=9999,
        )
    assert {fault.place for fault in caught.value.faults} == {
        "model.quantization",
        "training.optimizer",
        "data.max_prompt_tokens",
    }


def test_t5_has_no_longest_sequence(check: Callable[..., None]) -> None:
    check("t5", data__max_prompt_tokens=5000)


def test_4_bit_weights_come_in_blocks_of_64(
    check: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(compatibility, "_cuda", lambda: False)
    with pytest.raises(UsageError, match="blocks of 64"):
        check(model__quantization="4bit")
    monkeypatch.setattr(compatibility, "_cuda", lambda: True)
    check(model__quantization="4bit")


def test_tokens_cannot_be_trained_where_the_output_shares_the_embeddings(
    check: Callable[..., None],
) -> None:
    options = {"token_indices": [2, 3]}
    apart = {"tie_word_embeddings": False}
    check(config=apart, method__name="trainable_tokens", method__options=options)
    with pytest.raises(UsageError, match="cannot tie them again"):
        check(
            config={"tie_word_embeddings": True},
            method__name="trainable_tokens",
            method__options=options,
        )


def test_a_model_type_that_nobody_knows_needs_its_targets_named(tmp_path: Path) -> None:
    from transformers import AutoConfig

    config = AutoConfig.for_model(
        "olmo2", hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=24
    )

    def check(method: str, options: dict[str, Any], targets: str | None = None) -> None:
        plain = {
            "name": "x",
            "model": {"id": str(tmp_path)},
            "method": {"name": method, "options": options, "targets": targets},
            "data": {"tasks": ["conala"]},
        }
        compatibility.check(parse_recipe(plain), config)

    for method in ("ia3", "beft"):
        with pytest.raises(UsageError, match=r"name them; there are: q_proj, k_proj, v_proj"):
            check(method, {})
    with pytest.raises(UsageError, match="the study has no targets for olmo2"):
        check("lora", {}, "study")
    with pytest.raises(UsageError, match="feed-forward modules of olmo2"):
        check("ia3", {"target_modules": ["k_proj"]})
    check("ia3", {"target_modules": ["k_proj"], "feedforward_modules": []})
    check("beft", {"target_modules": ["v_proj"]})


def test_every_peft_type_has_a_verdict() -> None:
    from peft.utils.peft_types import PeftType

    named = {methods.peft_type(name) for name, _ in compatibility.verdicts()}
    assert named == {kind.value for kind in PeftType} | {"FULL"}
    refused = {entry.kind for entry in compatibility.REFUSALS}
    assert refused | set(compatibility.UNQUANTIZED) <= named
    assert all(entry.on <= set(FAMILIES) for entry in compatibility.REFUSALS)
    works = [name for name, refusals in compatibility.verdicts() if not refusals]
    assert len(works) > 35


def test_verdicts_in_words() -> None:
    every = list(FAMILIES)
    assert compatibility.describe({}) == "works on every family"
    assert compatibility.describe({"why": every}) == "refused: why"
    assert compatibility.describe({"why": ["t5"]}) == "refused on t5: why"
    but_two = [name for name in every if name not in ("llama", "mistral")]
    assert compatibility.describe({"why": but_two}) == "works on llama, mistral: why"


def test_the_documented_matrix_is_the_table_s() -> None:
    """``docs/methods.md`` between its marks is ``compatibility.markdown()``: renew it by hand."""
    text = DOCS.read_text(encoding="utf-8")
    _, _, rest = text.partition("<!-- from here: peft_bench.compatibility.markdown() -->\n")
    table, end, _ = rest.partition("<!-- to here -->")
    assert end and table.strip() == compatibility.markdown().strip()
