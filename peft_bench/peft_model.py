"""From a recipe's method to a PEFT model, and from that to PEFT's own files."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from peft_bench import adapters, methods, models
from peft_bench.errors import UsageError
from peft_bench.recipe import Recipe


def wrap(recipe: Recipe, base: Any, model_type: str) -> Any:
    """The PEFT model: the recipe's options over the method's defaults, as PEFT takes them."""
    from peft import get_peft_config, get_peft_model, prepare_model_for_kbit_training

    if recipe.model.quantization is not None:
        base = prepare_model_for_kbit_training(base, use_gradient_checkpointing=False)
    name = recipe.method.name
    row = methods.METHODS.get(name)
    options: dict[str, Any] = {
        "task_type": "SEQ_2_SEQ_LM" if base.config.is_encoder_decoder else "CAUSAL_LM",
        "base_model_name_or_path": recipe.model.id,
    }
    if row is not None:
        options |= dict(row.options) | models.target_options(row.targets, model_type)
    if methods.peft_type(name) == "PROMPT_TUNING" and "tokenizer_name_or_path" not in options:
        options["tokenizer_name_or_path"] = recipe.model.id
    options |= recipe.method.options
    try:
        config = get_peft_config({"peft_type": methods.peft_type(name), **options})
        model = get_peft_model(base, config)
    except (TypeError, ValueError) as error:
        raise UsageError(
            place="method.options",
            problem=f"PEFT refuses them for {name} on {model_type}: {error}",
            remedy="see PEFT's documentation of this method's configuration",
        ) from error
    return model


def save(model: Any, folder: Path) -> None:
    """PEFT's own files, with the configuration in one order whatever the hash seed."""
    model.save_pretrained(folder, save_embedding_layers=False)
    file = folder / adapters.CONFIG_FILE
    config = json.loads(file.read_text(encoding="utf-8"))
    for key, value in config.items():
        # PEFT keeps these as sets, whose order changes from run to run.
        if key.endswith("_modules") and isinstance(value, list):
            config[key] = sorted(value)
    file.write_text(json.dumps(config, indent=2, sort_keys=True) + "\n", encoding="utf-8")
