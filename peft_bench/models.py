"""Loading base models, the same way for training as the harness does for scoring."""

from __future__ import annotations

from typing import Any

from peft_bench.errors import MissingError, UsageError
from peft_bench.recipe import BaseModel

_MISSING_MODEL_REMEDY = (
    "check the id and the network (HF_ENDPOINT, HF_TOKEN), or name a local folder: "
    "--set model.id=PATH"
)


def load_config(model: BaseModel) -> Any:
    """transformers' configuration of a model, without its weights.

    Raises:
        MissingError: no such model, or the hub cannot be reached.
    """
    from transformers import AutoConfig

    try:
        return AutoConfig.from_pretrained(model.id, revision=model.revision)
    except (OSError, ValueError) as error:
        raise _cannot_load(model, error) from error


def load_tokenizer(model: BaseModel) -> Any:
    """The tokenizer of a model, with a padding token (the end-of-sequence token if it has none)."""
    from transformers import AutoTokenizer

    try:
        tokenizer = AutoTokenizer.from_pretrained(model.id, revision=model.revision)
    except (OSError, ValueError) as error:
        raise _cannot_load(model, error) from error
    if tokenizer.eos_token_id is None:
        raise UsageError(
            place=f"model {model.id}",
            problem="its tokenizer has no end-of-sequence token",
            remedy="choose a model that can end its answer",
        )
    if tokenizer.pad_token_id is None:
        tokenizer.pad_token = tokenizer.eos_token
    return tokenizer


def resolve_dtype(dtype: str) -> str:
    """The dtype that ``auto`` means on this machine."""
    import torch

    if dtype != "auto":
        return dtype
    if not torch.cuda.is_available():
        return "float32"
    return "bfloat16" if torch.cuda.is_bf16_supported() else "float16"


def empty_model(config: Any) -> Any:
    """The model that a configuration describes, without weights: for the names of its modules."""
    import torch
    from transformers import AutoModelForCausalLM, AutoModelForSeq2SeqLM

    loader = AutoModelForSeq2SeqLM if config.is_encoder_decoder else AutoModelForCausalLM
    with torch.device("meta"):
        return loader.from_config(config)


def load_model(model: BaseModel, config: Any, *, dtype: str | None = None) -> Any:
    """The base model in its resolved dtype, quantised if asked for, on the GPU if there is one.

    ``dtype`` stands over the model's own choice; ``auto`` is then the checkpoint's.

    Raises:
        MissingError: no such model, or the hub cannot be reached.
    """
    import torch
    from transformers import AutoModelForCausalLM, AutoModelForSeq2SeqLM

    loader = AutoModelForSeq2SeqLM if config.is_encoder_decoder else AutoModelForCausalLM
    device = "cuda" if torch.cuda.is_available() else "cpu"
    dtype = dtype or resolve_dtype(model.dtype)
    try:
        return loader.from_pretrained(
            model.id,
            revision=model.revision,
            dtype=dtype if dtype == "auto" else getattr(torch, dtype),
            quantization_config=quantization_config(model.quantization, dtype),
            device_map={"": device},
        )
    except (OSError, ValueError) as error:
        raise _cannot_load(model, error) from error


def quantization_config(quantization: str | None, dtype: str) -> Any | None:
    """bitsandbytes' configuration: LLM.int8, or doubly quantised NF4 computing in ``dtype``."""
    if quantization is None:
        return None
    import torch
    from transformers import BitsAndBytesConfig

    if quantization == "8bit":
        return BitsAndBytesConfig(load_in_8bit=True)
    return BitsAndBytesConfig(
        load_in_4bit=True,
        bnb_4bit_quant_type="nf4",
        bnb_4bit_use_double_quant=True,
        bnb_4bit_compute_dtype=getattr(torch, dtype),
    )


def _cannot_load(model: BaseModel, error: Exception) -> MissingError:
    first_line = str(error).strip().split("\n", 1)[0][:300]
    return MissingError(
        place=f"model {model.id}",
        problem=f"cannot be loaded: {first_line}",
        remedy=_MISSING_MODEL_REMEDY,
    )
