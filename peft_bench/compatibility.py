"""Which method works on which model, and why the others are refused, before any model loads.

The table below was measured: each PEFT type was trained by peft-bench on tiny models of each
family, saved, reloaded through ``PeftModel.from_pretrained`` as the harness does, and had to give
the same answers as before, the same logits with a cache and without, and an untouched base.
The test of this module measures it again.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from peft_bench import codegen2, lora_init, methods, modules, peft_model
from peft_bench.errors import Faults
from peft_bench.families import FAMILIES
from peft_bench.recipe import Recipe

PROMPT_LEARNING = frozenset(
    {"PROMPT_TUNING", "P_TUNING", "PREFIX_TUNING", "MULTITASK_PROMPT_TUNING", "CPT", "CARTRIDGE"}
)

_BOTH = frozenset({"4bit", "8bit"})
_OTHER_METHOD = "choose another method: `peft-bench list methods`"


@dataclass(frozen=True, slots=True)
class Refusal:
    """A method that does not work, on every model type, on some (``on``), or but on some."""

    kind: str
    reason: str
    on: frozenset[str] = frozenset()
    but_on: frozenset[str] = frozenset()

    def covers(self, model_type: str) -> bool:
        """Whether the method is refused on a model type."""
        return model_type not in self.but_on and (not self.on or model_type in self.on)


REFUSALS = (
    Refusal(
        "ADALORA",
        "its ranks are shared out anew only if the training loop tells it after each step, which "
        "the Trainer does not; and once reloaded it fails as soon as labels are given",
    ),
    Refusal(
        "ADAPTION_PROMPT",
        "PEFT has it for llama and mistral only",
        but_on=frozenset({"llama", "mistral"}),
    ),
    Refusal("CPT", "its loss is not a number after the first step"),
    Refusal(
        "LILY",
        "it computes something else with a cache than without: trained and generating "
        "models differ",
    ),
    Refusal(
        "MULTITASK_PROMPT_TUNING",
        "every row must name its task by number (task_ids), which neither training rows nor the "
        "harness do",
    ),
    Refusal(
        "POLY",
        "every row must name its task by number (task_ids), which neither training rows nor the "
        "harness do; with beams it fails",
    ),
    Refusal(
        "SHADOW",
        "PEFT finds no decoder layers of its own in an encoder-decoder",
        on=frozenset({"t5"}),
    ),
    Refusal(
        "TRAINABLE_TOKENS",
        "the embeddings that encoder and decoder share are wrapped twice, and cannot be saved",
        on=frozenset({"t5"}),
    ),
    Refusal("XLORA", "it mixes adapters trained before, and generates without a cache only"),
)

_PACKED = "it computes with the base's weights themselves, and these are packed"

# What PEFT cannot put on weights in 4 or 8 bits: why, and in which. Measured with bitsandbytes on
# tiny Llama; some fail, and some (HRA and DEFT in 8 bits) run and compute something else.
UNQUANTIZED: dict[str, tuple[str, frozenset[str]]] = {
    methods.peft_type(methods.FULL): ("packed weights cannot be trained", _BOTH),
    **dict.fromkeys(
        (
            "ADAMSS",
            "DEFT",
            "DELORA",
            "FROD",
            "GLORA",
            "HRA",
            "OSF",
            "PSOFT",
            "SHIRA",
            "SUPERTUNING",
            "TINYLORA",
        ),
        (_PACKED, _BOTH),
    ),
    "UNILORA": ("trained, it leaves the model's answers as they were", _BOTH),
    **dict.fromkeys(("LOHA", "LOKR", "PEANUT"), (_PACKED, frozenset({"4bit"}))),
}

# What goes wrong on a base, of any family, whose output layer shares its embeddings.
TIED = {"TRAINABLE_TOKENS": "reloaded, the harness cannot tie them again"}

_PREPARED_INITS = {
    "eva": "a pass over the data",
    "corda": "a pass over the data",
    "lora_ga": "gradients on the data",
    "loftq": "a base quantised by its own rule",
}


def refusal(method: str, model_type: str) -> str | None:
    """Why a method is refused on a model type; None if it works."""
    kind = methods.peft_type(method)
    for entry in REFUSALS:
        if entry.kind == kind and entry.covers(model_type):
            return entry.reason
    return None


def check(recipe: Recipe, config: Any, *, shape_alone: bool = False) -> None:
    """Refuses a recipe that is known to go wrong on a model; reads no weights.

    Args:
        recipe: the experiment.
        config: transformers' configuration of its base.
        shape_alone: the question is of a model of this shape on some GPU. Left out is what this
            machine has against it, and that a CodeGen2 as published must be repacked first.

    Raises:
        UsageError: with every reason, and what to do instead.
    """
    faults = Faults(f"recipe {recipe.name}")
    for rule in _RULES if shape_alone else (*_RULES, *_RULES_HERE):
        rule(recipe, config, faults)
    if not len(faults):
        modules.check_targets(recipe, config, faults)
    faults.raise_if_any()


_Rule = Callable[[Recipe, Any, Faults], None]


def _refuse_method(recipe: Recipe, config: Any, faults: Faults) -> None:
    reason = refusal(recipe.method.name, config.model_type)
    if reason is not None:
        faults.add(
            place="method.name",
            problem=f"{recipe.method.name} does not work on {config.model_type}: {reason}",
            remedy=_OTHER_METHOD,
        )


def _refuse_raw_codegen2(recipe: Recipe, config: Any, faults: Faults) -> None:
    if codegen2.is_raw(config, recipe.model.id):
        faults.add(
            place="model.id",
            problem=f"{recipe.model.id} is CodeGen2 as published, which transformers' own CodeGen "
            "class computes wrongly without an error",
            remedy=f"run `peft-bench repack {recipe.model.id} DIR`, and name DIR here",
        )


def _check_quantization(recipe: Recipe, config: Any, faults: Faults) -> None:
    bits = recipe.model.quantization
    if bits is None:
        return
    reason, refused = UNQUANTIZED.get(methods.peft_type(recipe.method.name), (None, _BOTH))
    if bits not in refused:
        reason = None
    init = recipe.method.options.get("init_lora_weights")
    if reason is None and lora_init.changes_base(init):
        reason = f"{init} changes the base, and rounding it anew loses part of the change"
    if reason is not None:
        faults.add(
            place="model.quantization",
            problem=f"{recipe.method.name} cannot have a base in {bits}: {reason}",
            remedy="leave quantization out, or use qlora",
        )


def _check_packed_width(recipe: Recipe, config: Any, faults: Faults) -> None:
    width = getattr(config, "hidden_size", 64)
    if recipe.model.quantization == "4bit" and width < 64 and not _cuda():
        faults.add(
            place="model.quantization",
            problem=f"bitsandbytes packs 4-bit weights in blocks of 64, and on a CPU it fails on a "
            f"model {width} wide",
            remedy="use 8bit, or a wider model",
        )


def _check_gradient_checkpointing(recipe: Recipe, config: Any, faults: Faults) -> None:
    kind = methods.peft_type(recipe.method.name)
    if recipe.training.gradient_checkpointing and kind in ("PREFIX_TUNING", "CARTRIDGE"):
        faults.add(
            place="training.gradient_checkpointing",
            problem=f"{recipe.method.name} gives its keys and values in the cache, which "
            "checkpointing turns off",
            remedy="leave it out, or lower training.micro_batch_size instead",
        )


def _check_packing(recipe: Recipe, config: Any, faults: Faults) -> None:
    kind = methods.peft_type(recipe.method.name)
    if getattr(recipe.training, "packing", False) and kind in PROMPT_LEARNING:
        faults.add(
            place="training.packing",
            problem=f"{recipe.method.name} drops the positions that tell packed rows apart: they "
            "would see each other",
            remedy="leave packing out",
        )


def _check_optimizer(recipe: Recipe, config: Any, faults: Faults) -> None:
    name = recipe.training.optimizer
    if name in ("loraplus", "lorafa") and methods.peft_type(recipe.method.name) != "LORA":
        faults.add(
            place="training.optimizer",
            problem=f"{name} is for LoRA's two matrices, which {recipe.method.name} has not",
            remedy="use adafactor or adamw_torch",
        )


def _check_lora_init(recipe: Recipe, config: Any, faults: Faults) -> None:
    options = recipe.method.options
    init = options.get("init_lora_weights")
    if methods.peft_type(recipe.method.name) != "LORA" or not isinstance(init, str):
        return
    if init in _PREPARED_INITS:
        faults.add(
            place="method.options.init_lora_weights",
            problem=f"{init} needs {_PREPARED_INITS[init]} before training, which train does not "
            "make",
            remedy="use pissa, olora, orthogonal or gaussian, or leave it out",
        )
    elif lora_init.changes_base(init) and options.get("use_dora"):
        faults.add(
            place="method.options.use_dora",
            problem=f"DoRA's magnitudes are those of the base as {init} changed it: saved, they "
            "would not fit the base as it is",
            remedy="leave one of the two out",
        )


def _check_init_text(recipe: Recipe, config: Any, faults: Faults) -> None:
    text = recipe.method.init_text
    if text is None:
        return
    if methods.peft_type(recipe.method.name) != "PREFIX_TUNING":
        problem = f"is for prefix tuning, not {recipe.method.name}"
    elif config.is_encoder_decoder:
        problem = f"needs one cache of keys and values, and {config.model_type} has two"
    elif recipe.method.options.get("prefix_projection"):
        problem = "starts the prefix itself, which prefix_projection computes from something else"
    elif not text.strip():
        problem = "is empty"
    else:
        return
    faults.add(place="method.init_text", problem=problem, remedy="leave it out")


def _check_tied_embeddings(recipe: Recipe, config: Any, faults: Faults) -> None:
    reason = TIED.get(methods.peft_type(recipe.method.name))
    if reason is not None and getattr(config, "tie_word_embeddings", False):
        faults.add(
            place="method.name",
            problem=f"{recipe.method.name} does not work on a {config.model_type} whose output "
            f"layer shares its embeddings: {reason}",
            remedy=_OTHER_METHOD,
        )


def _check_length(recipe: Recipe, config: Any, faults: Faults) -> None:
    limit = getattr(config, "max_position_embeddings", None)
    if config.is_encoder_decoder or not isinstance(limit, int):
        return  # T5 has relative positions, and no limit
    data = recipe.data
    virtual = 0
    if methods.peft_type(recipe.method.name) in PROMPT_LEARNING:
        options = peft_model.peft_options(recipe, config.model_type, False)
        virtual = options.get("num_virtual_tokens") or 0
    length = data.max_prompt_tokens + data.max_target_tokens + virtual
    if length > limit:
        extra = f" and {virtual} virtual tokens" if virtual else ""
        faults.add(
            place="data.max_prompt_tokens",
            problem=f"{data.max_prompt_tokens} tokens of prompt and {data.max_target_tokens} of "
            f"target{extra} are {length}, and the model's context holds {limit}",
            remedy="lower max_prompt_tokens or max_target_tokens",
        )


_RULES: tuple[_Rule, ...] = (
    _refuse_method,
    _check_quantization,
    _check_gradient_checkpointing,
    _check_packing,
    _check_optimizer,
    _check_lora_init,
    _check_init_text,
    _check_tied_embeddings,
    _check_length,
)
_RULES_HERE: tuple[_Rule, ...] = (_refuse_raw_codegen2, _check_packed_width)


def _cuda() -> bool:
    import torch

    return torch.cuda.is_available()


# PEFT's types as of 0.21, those of the rows in `methods` left out. A list of our own, for PEFT's
# costs seconds to import; a type added later is trained all the same, unmeasured.
_OTHER_KINDS = """
    adalora adamss adaption_prompt beft boft c3a cartridge cpt deft delora fourierft frod glora
    gralora hira hra lily ln_tuning loha lokr miss multitask_prompt_tuning oft osf p_tuning peanut
    poly psoft pvera randlora road shadow shira supertuning tinylora trainable_tokens unilora
    vblora vera waveft xlora
"""


def kinds() -> list[str]:
    """Names of all methods for a recipe: those with rows, then every other PEFT type."""
    return [*methods.METHODS, *_OTHER_KINDS.split()]


def verdicts() -> Iterator[tuple[str, dict[str, list[str]]]]:
    """For each method, in :func:`kinds`' order, the model types that refuse it, by reason."""
    for name in kinds():
        refused: dict[str, list[str]] = {}
        for model_type in FAMILIES:
            reason = refusal(name, model_type)
            if reason is not None:
                refused.setdefault(reason, []).append(model_type)
        yield name, refused


def describe(refused: dict[str, list[str]]) -> str:
    """One method's verdict in words, such as ``works but on t5: ...``."""
    if not refused:
        return "works on every family"
    parts = []
    for reason, model_types in refused.items():
        if len(model_types) == len(FAMILIES):
            return f"refused: {reason}"
        working = [name for name in FAMILIES if name not in model_types]
        few = len(working) < len(model_types)
        where = f"works on {', '.join(working)}" if few else f"refused on {', '.join(model_types)}"
        parts.append(f"{where}: {reason}")
    return "; ".join(parts)


def describe_method(name: str, refused: dict[str, list[str]]) -> str:
    """One method's verdict in words, on families and on bases of a kind that any may have."""
    reason = TIED.get(methods.peft_type(name))
    tied = f"; refused on a base whose output layer shares its embeddings: {reason}"
    return describe(refused) + (tied if reason is not None else "")


def describe_quantized(kind: str) -> str:
    """Whether a method works on a base in 4 or 8 bits, in words."""
    reason, bits = UNQUANTIZED.get(kind, ("", frozenset()))
    if not bits:
        return "works"
    return f"refused: {reason}" if bits == _BOTH else f"8 bits alone: {reason}"


def markdown() -> str:
    """The table for docs/methods.md: every method, where it works, and why not elsewhere."""
    lines = ["| method | PEFT type | families | base in 4 or 8 bits |", "|---|---|---|---|"]
    for name, refused in verdicts():
        row = methods.METHODS.get(name)
        kind = methods.peft_type(name)
        shown = "none" if row is not None and row.peft_type is None else kind
        nowhere = any(len(on) == len(FAMILIES) for on in refused.values())
        bits = "-" if nowhere else describe_quantized(kind)
        lines.append(f"| `{name}` | {shown} | {describe_method(name, refused)} | {bits} |")
    return "\n".join(lines) + "\n"
