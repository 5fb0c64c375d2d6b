"""Loading base models, the same way for training as the harness does for scoring."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from peft_bench import runtime
from peft_bench.errors import MissingError, UsageError
from peft_bench.recipe import BaseModel

# What transformers raises for values that it has not checked.
_FAULTY = (ArithmeticError, AttributeError, LookupError, RuntimeError, TypeError, ValueError)


def load_config(model: BaseModel) -> Any:
    """transformers' configuration of a model, without its weights.

    Raises:
        MissingError: no such model, the hub cannot be reached, or its files are faulty.
    """
    from transformers import AutoConfig

    with _loading(model):
        return AutoConfig.from_pretrained(model.id, revision=model.revision)


def load_tokenizer(model: BaseModel) -> Any:
    """The tokenizer of a model, with a padding token (the end-of-sequence token if it has none).

    Raises:
        MissingError: as :func:`load_config`.
        UsageError: it has no end-of-sequence token.
    """
    from transformers import AutoTokenizer

    with _loading(model):
        tokenizer = AutoTokenizer.from_pretrained(model.id, revision=model.revision)
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
    """The model that a configuration describes, without weights: for the names of its modules.

    Raises:
        UsageError: transformers builds no language model by this configuration.
    """
    import torch
    from transformers import AutoModelForCausalLM, AutoModelForSeq2SeqLM

    loader = AutoModelForSeq2SeqLM if config.is_encoder_decoder else AutoModelForCausalLM
    try:
        with torch.device("meta"):
            return loader.from_config(config)
    except _FAULTY as error:
        raise UsageError(
            place=f"model {config.name_or_path}",
            problem=f"transformers builds no language model of its configuration: {_short(error)}",
            remedy="choose a causal or encoder-decoder language model, or mend its config.json",
        ) from error


def load_model(model: BaseModel, config: Any, *, dtype: str | None = None) -> Any:
    """The base model in its resolved dtype, quantised if asked for, on the GPU if there is one.

    ``dtype`` stands over the model's own choice; ``auto`` is then the checkpoint's.

    Raises:
        MissingError: no such model, the hub cannot be reached, or its files are faulty.
    """
    import torch
    from transformers import AutoModelForCausalLM, AutoModelForSeq2SeqLM

    loader = AutoModelForSeq2SeqLM if config.is_encoder_decoder else AutoModelForCausalLM
    device = "cuda" if torch.cuda.is_available() else "cpu"
    dtype = dtype or resolve_dtype(model.dtype)
    with _loading(model):
        return loader.from_pretrained(
            model.id,
            revision=model.revision,
            dtype=dtype if dtype == "auto" else getattr(torch, dtype),
            quantization_config=quantization_config(model.quantization, dtype),
            device_map={"": device},
        )


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


@contextmanager
def _loading(model: BaseModel) -> Iterator[None]:
    """Tells what went wrong with a model's files; a full memory, and a broken device, as it is."""
    from huggingface_hub.errors import StrictDataclassError
    from safetensors import SafetensorError

    try:
        yield
    except (*_FAULTY, ImportError, OSError, SafetensorError, StrictDataclassError) as error:
        if runtime.is_of_the_machine(error):
            raise
        if Path(model.id).is_dir() and not isinstance(error, ImportError):
            remedy = "mend the folder: a whole model as save_pretrained writes it"
        elif isinstance(error, ImportError):
            remedy = "install it"
        elif isinstance(error, OSError | ValueError):
            remedy = "check the id and the network (HF_ENDPOINT, HF_TOKEN), or name a local folder"
        else:
            remedy = "load it anew from the hub, or name another model"
        raise MissingError(
            place=f"model {model.id}",
            problem=f"cannot be loaded: {_short(error)}",
            remedy=remedy,
        ) from error


def _short(error: Exception) -> str:
    said = " ".join(str(error).split())[:300]
    return said if isinstance(error, OSError | ValueError) else f"{type(error).__name__}: {said}"
