from __future__ import annotations

import hashlib

import pytest

from peft_bench import methods
from peft_bench.families import FAMILIES, prompt_name
from peft_bench.prompts import PROMPTS, PromptTemplate


def test_the_prompt_is_the_study_s() -> None:
    assert PROMPTS["instruction"].render("sort `xs`") == (
        "### Instruction:\nsort `xs`\n### Response:\n"
    )
    assert PROMPTS["instruction-seq2seq"].render("sort `xs`") == (
        "Generate Python code: ### Instruction:\nsort `xs`\n### Response:\n"
    )


@pytest.mark.parametrize("intent", ["{intent}", "{0} {name} {{}}", "a\\1b", "%s $x"])
def test_an_intent_is_put_in_as_it_is(intent: str) -> None:
    assert PROMPTS["instruction"].render(f" \n{intent}\t") == (
        f"### Instruction:\n{intent}\n### Response:\n"
    )


def test_templates_are_told_apart_by_the_hash_of_their_text() -> None:
    assert len({template.sha256 for template in PROMPTS.values()}) == len(PROMPTS)
    template = PromptTemplate("any", "Q: {intent}")
    assert template.sha256 == hashlib.sha256(b"Q: {intent}").hexdigest()
    assert PromptTemplate("renamed", template.text).sha256 == template.sha256


def test_tables_are_consistent() -> None:
    assert all(name == template.name for name, template in PROMPTS.items())
    for model_type, family in FAMILIES.items():
        assert model_type == family.model_type
        assert family.prompt in PROMPTS
        assert family.lora_targets
        assert set(family.ia3_feedforward) <= set(family.ia3_targets)
        assert set(family.lora_targets) <= set(family.revision_targets)
        assert family.padding_side == ("right" if family.architecture == "seq2seq" else "left")


@pytest.mark.parametrize(
    ("model_type", "is_encoder_decoder", "name"),
    [
        ("llama", False, "instruction"),
        ("codegen", False, "instruction"),
        ("t5", True, "instruction-seq2seq"),
        ("unheard-of", False, "instruction"),
        ("unheard-of", True, "instruction-seq2seq"),
    ],
)
def test_the_default_prompt_of_a_model(
    model_type: str, is_encoder_decoder: bool, name: str
) -> None:
    assert prompt_name(model_type, is_encoder_decoder=is_encoder_decoder) == name


@pytest.mark.parametrize("model_type", FAMILIES)
def test_the_modules_of_a_family_are_those_of_the_real_class(model_type: str) -> None:
    """Every name matches in transformers' own class; T5's three are of its two forms."""
    from transformers import AutoConfig

    from peft_bench.models import empty_model

    names = [name for name, _ in empty_model(AutoConfig.for_model(model_type)).named_modules()]
    family = FAMILIES[model_type]
    for target in (*family.revision_targets, *family.norms):
        found = any(name == target or name.endswith(f".{target}") for name in names)
        gated = model_type == "t5" and target in ("wi_0", "wi_1")
        other = target.endswith("feedforward_layernorm") and model_type not in ("gemma2",)
        assert found or gated or other, target


@pytest.mark.parametrize(
    ("method", "model_type", "targets", "wanted"),
    [
        ("lora", "llama", None, ["q_proj", "k_proj", "v_proj"]),
        ("lora", "codegen", "study", ["qkv_proj"]),
        (
            "lora",
            "llama",
            "revision",
            ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"],
        ),
        ("lora", "llama", "peft", None),
        ("lora", "unheard-of", None, None),
        ("ia3", "codegen", None, ["qkv_proj", "fc_in", "fc_out"]),
        # PEFT's own table first; ours where it has no row.
        ("loha", "llama", None, None),
        ("loha", "starcoder2", None, ["q_proj", "k_proj", "v_proj"]),
        ("beft", "codegen", None, ["qkv_proj"]),
        ("ln_tuning", "codegen", None, ["ln_1", "ln_f"]),
        ("prompt_tuning", "llama", None, None),
        ("full", "llama", None, None),
    ],
)
def test_default_targets(
    method: str, model_type: str, targets: methods.Targets | None, wanted: list[str] | None
) -> None:
    options = methods.default_options(method, model_type, targets=targets)
    assert options.get("target_modules") == wanted


def test_methods_with_and_without_a_row() -> None:
    assert methods.peft_type("lora") == "LORA"
    assert methods.peft_type("prompt_tuning") == "PROMPT_TUNING"
    assert methods.peft_type("loha") == "LOHA"
    assert methods.learning_rate("ia3") == 3e-3
    assert methods.learning_rate("prefix_tuning") == 3e-2
    assert methods.learning_rate("full") == 5e-5
    assert methods.peft_type("full") == "FULL"
    assert methods.learning_rate("loha") == methods.DEFAULT_LEARNING_RATE


def test_the_options_of_a_row_are_ones_that_peft_knows() -> None:
    from peft import PeftType
    from peft.mapping import PEFT_TYPE_TO_CONFIG_MAPPING

    for method in methods.METHODS.values():
        if method.peft_type is None:
            assert method.name == methods.FULL and not method.options
            continue
        config = PEFT_TYPE_TO_CONFIG_MAPPING[PeftType(method.peft_type)]
        assert set(method.options) <= set(config.__dataclass_fields__), method.name
