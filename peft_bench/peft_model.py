"""From a recipe's method to a model that trains, and from that to files that load anywhere."""

from __future__ import annotations

import json
import warnings
from pathlib import Path
from typing import Any

from peft_bench import adapters, lora_init, methods, runtime
from peft_bench.errors import UsageError
from peft_bench.recipe import Recipe


def wrap(recipe: Recipe, base: Any, model_type: str) -> Any:
    """The model to train: a PEFT model, or the base itself for full fine-tuning.

    The recipe's options stand over the method's defaults, and go to PEFT as they are. Full
    fine-tuning trains float32 weights whatever the base was loaded in: half-precision weights
    lose updates smaller than their last bit.

    Raises:
        UsageError: PEFT refuses the options, or finds nothing to train by them; the error that it
            gave is the cause.
    """
    if recipe.method.name == methods.FULL:
        return base.float().requires_grad_(True)
    from peft import get_peft_config, get_peft_model, prepare_model_for_kbit_training

    if recipe.model.quantization is not None:
        base = prepare_model_for_kbit_training(base, use_gradient_checkpointing=False)
    name = recipe.method.name
    try:
        config = get_peft_config(peft_options(recipe, model_type, base.config.is_encoder_decoder))
        with warnings.catch_warnings():
            # PEFT asks transformers by a name that it warns of since 5.23.
            warnings.filterwarnings("ignore", "`is_gradient_checkpointing`", FutureWarning)
            model = get_peft_model(base, config)
    except _REFUSALS as error:
        if runtime.is_of_the_machine(error):
            raise
        raise UsageError(
            place="method.options",
            problem=f"PEFT refuses them for {name} on {model_type}: {_in_short(error)}",
            remedy=_SEE_PEFT,
        ) from error
    if not any(part.requires_grad and part.numel() for part in model.parameters()):
        raise UsageError(
            place="method.options",
            problem=f"leave {name} nothing to train on {model_type}",
            remedy=_SEE_PEFT,
        )
    lora_init.remember(model)
    return model


# What PEFT gives for options that it has not checked itself.
_REFUSALS = (
    ArithmeticError,
    AssertionError,
    AttributeError,
    ImportError,
    LookupError,
    RuntimeError,
    TypeError,
    ValueError,
)
_SEE_PEFT = "see PEFT's documentation of this method's configuration"


def _in_short(error: Exception) -> str:
    said = " ".join(str(error).split())  # PEFT shows whole modules
    return said if len(said) <= 300 else f"{said[:300]}..."


def peft_options(recipe: Recipe, model_type: str, is_encoder_decoder: bool) -> dict[str, Any]:
    """What PEFT's configuration class is given for a recipe."""
    name = recipe.method.name
    kind = methods.peft_type(name)
    options: dict[str, Any] = {
        "peft_type": kind,
        "task_type": "SEQ_2_SEQ_LM" if is_encoder_decoder else "CAUSAL_LM",
        "base_model_name_or_path": recipe.model.id,
    }
    options |= methods.default_options(name, model_type, targets=recipe.method.targets)
    if kind == "PROMPT_TUNING":
        options["tokenizer_name_or_path"] = recipe.model.id
    own = recipe.method.options
    targets = own.get("target_modules")
    if targets and "feedforward_modules" not in own and options.get("feedforward_modules"):
        # PEFT wants them among the targets, which the recipe chose otherwise.
        ours = options["feedforward_modules"]
        options["feedforward_modules"] = [name for name in ours if name in targets]
    return options | own


def begin_from_text(recipe: Recipe, model: Any, tokenizer: Any) -> None:
    """Starts prefix tuning from the base's keys and values for the recipe's ``init_text``.

    A text shorter than the prefix is repeated, a longer one cut. Nothing happens without a text.
    """
    import torch
    from peft import initialize_kv_prefix_from_past_key_values

    text = recipe.method.init_text
    if text is None:
        return
    count = model.active_peft_config.num_virtual_tokens
    ids = tokenizer(text, add_special_tokens=False).input_ids
    ids = (ids * -(-count // len(ids)))[:count]
    batch = torch.tensor([ids], device=model.device)
    with torch.no_grad(), model.disable_adapter():
        cache = model(input_ids=batch, use_cache=True).past_key_values
    initialize_kv_prefix_from_past_key_values(model, past_key_values=cache)


def save(model: Any, folder: Path, tokenizer: Any = None) -> None:
    """PEFT's own files, or a whole model's with its tokenizer after full fine-tuning.

    PEFT's configuration is written in one order whatever the hash seed. LoRA that began from a
    changed base (PiSSA, OLoRA) is saved as plain LoRA of the base as it was.
    """
    from peft import PeftModel

    if not isinstance(model, PeftModel):
        model.save_pretrained(folder)
        if tokenizer is not None:
            tokenizer.save_pretrained(folder)
        return
    model.save_pretrained(folder, save_embedding_layers=False)
    lora_init.rewrite(model, folder)
    file = folder / adapters.CONFIG_FILE
    config = json.loads(file.read_text(encoding="utf-8"))
    for key, value in config.items():
        # PEFT keeps these as sets, whose order changes from run to run.
        if key.endswith("_modules") and isinstance(value, list):
            config[key] = sorted(value)
    file.write_text(json.dumps(config, indent=2, sort_keys=True) + "\n", encoding="utf-8")
