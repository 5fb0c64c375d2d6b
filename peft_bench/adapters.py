"""Adapter folders: what is in them, and proof that an adapter really loaded.

``adapters/NAME`` holds PEFT's own files (``adapter_config.json``, ``adapter_model.safetensors``),
``recipe.yaml``, ``card.json`` and the card rendered as ``README.md``. After full fine-tuning it
holds a whole model (``config.json``, weights, tokenizer) in place of PEFT's files.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from peft_bench.cards import AdapterCard, BaseCard, read_card
from peft_bench.errors import MissingError, PeftBenchError, UsageError

if TYPE_CHECKING:
    import torch

CONFIG_FILE = "adapter_config.json"
WEIGHTS_FILE = "adapter_model.safetensors"
MODEL_CONFIG_FILE = "config.json"
_MODEL_WEIGHTS_FILE = "model.safetensors"
_WEIGHTS_INDEX_FILE = "model.safetensors.index.json"


def is_full_model(folder: Path) -> bool:
    """Whether the folder holds a whole model, as full fine-tuning leaves it, and no adapter."""
    return (folder / MODEL_CONFIG_FILE).is_file() and not (folder / CONFIG_FILE).is_file()


def content_files(folder: Path) -> tuple[Path, ...]:
    """The files that make the scores: configuration and weights, of an adapter or a whole model."""
    if is_full_model(folder):
        return (folder / MODEL_CONFIG_FILE, *sorted(folder.glob("model*.safetensors")))
    return folder / CONFIG_FILE, folder / WEIGHTS_FILE


def content_bytes(folder: Path) -> int:
    """How large configuration and weights are on disk."""
    return sum(file.stat().st_size for file in content_files(folder))


def content_sha256(folder: Path) -> str:
    """Hash of what is loaded: configuration and weights. Equal hashes mean the same adapter."""
    digest = hashlib.sha256()
    for path in content_files(folder):
        with path.open("rb") as file:
            while chunk := file.read(1 << 20):
                digest.update(chunk)
    return digest.hexdigest()


def check_folder(folder: Path) -> AdapterCard | None:
    """Refuses a folder that cannot be scored, before any model loads; returns its card, if any.

    Raises:
        MissingError: no such folder, or a file of the adapter is missing.
        UsageError: the weights are truncated, or are not those that the card describes.
    """
    if not folder.is_dir():
        raise MissingError(
            place=str(folder), problem="no such adapter folder", remedy="train it, or mend the path"
        )
    if is_full_model(folder):
        check_weights(folder)
    else:
        for name in (CONFIG_FILE, WEIGHTS_FILE):
            if not (folder / name).is_file():
                raise MissingError(
                    place=str(folder),
                    problem=f"has no {name}: not a whole PEFT adapter",
                    remedy="train it again, or copy the whole folder",
                )
        saved_tensors(folder)
        read_config(folder)
    card = read_card(folder)
    if card is not None and card.adapter_sha256 != content_sha256(folder):
        raise UsageError(
            place=str(folder),
            problem="the adapter's files are not those that card.json describes",
            remedy="restore the files, or delete card.json to score it without its history",
        )
    return card


def check_weights(folder: Path) -> None:
    """Reads the weights of an adapter, and of a whole model's files headers and lengths.

    Raises:
        MissingError: a whole model lacks a file of its weights.
        UsageError: a file is truncated, or no safetensors file or index.
    """
    from safetensors import SafetensorError, safe_open

    if not is_full_model(folder):
        saved_tensors(folder)
        return
    for name in _weights_files(folder):
        file = folder / name
        if not file.is_file():
            raise MissingError(
                place=str(folder),
                problem=f"has no {name}: not a whole model",
                remedy="train it again, or copy the whole folder",
            )
        try:
            with safe_open(file, framework="pt"):  # reads the header, and compares the length
                pass
        except (SafetensorError, OSError) as error:
            raise _unreadable(file, error) from None


def _weights_files(folder: Path) -> list[str]:
    """The names of the files that a whole model's weights lie in: one, or those of an index."""
    index = folder / _WEIGHTS_INDEX_FILE
    if (folder / _MODEL_WEIGHTS_FILE).is_file() or not index.is_file():
        return [_MODEL_WEIGHTS_FILE]
    try:
        return sorted(set(json.loads(index.read_text(encoding="utf-8"))["weight_map"].values()))
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise _unreadable(index, error, "an index of weights") from None


def read_config(folder: Path) -> dict[str, Any]:
    """PEFT's configuration of an adapter.

    Raises:
        UsageError: it is not a JSON object.
    """
    file = folder / CONFIG_FILE
    try:
        config = json.loads(file.read_text(encoding="utf-8"))
    except ValueError as error:
        config = error
    if not isinstance(config, dict):
        raise UsageError(
            place=str(file),
            problem=f"is not a PEFT configuration: {config}",
            remedy="train the adapter again, or copy the file anew",
        )
    return config


def saved_tensors(folder: Path) -> dict[str, torch.Tensor]:
    """The tensors of an adapter's file by name.

    Raises:
        UsageError: the file is truncated or no safetensors file.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    file = folder / WEIGHTS_FILE
    try:
        return load_file(file)
    except (SafetensorError, OSError) as error:
        raise _unreadable(file, error) from None


def _unreadable(file: Path, error: Exception, kind: str = "a safetensors file") -> UsageError:
    return UsageError(
        place=str(file),
        problem=f"cannot be read ({error}): truncated or not {kind}",
        remedy="train it again, or copy the file anew",
    )


def verify_loaded(model: Any, folder: Path) -> int:
    """Proves that the adapter in ``folder`` is what ``model`` holds; returns how many tensors.

    Every tensor of the file must be in the model with equal values (cast to the loaded dtype),
    and the model must hold no adapter tensor that the file lacks.

    Args:
        model: a PeftModel, or a transformers model with PEFT's layers injected.

    Raises:
        PeftBenchError: naming the tensors that differ, are missing or are unexpected.
    """
    import torch

    saved = {_bare_key(key): value for key, value in saved_tensors(folder).items()}
    loaded = {_bare_key(key): value for key, value in _adapter_state(model).items()}
    everything: dict[str, torch.Tensor] | None = None
    problems: list[str] = []
    for key, value in saved.items():
        if key not in loaded:
            # Embeddings saved with the adapter are plain parameters of the model.
            if everything is None:
                everything = {_bare_key(k): v for k, v in model.state_dict().items()}
            if key not in everything:
                problems.append(f"{key} of the file is not in the model")
                continue
            loaded[key] = everything[key]
        held = loaded[key].detach().cpu()
        if held.shape != value.shape or not torch.equal(held, value.to(held.dtype)):
            problems.append(f"{key} differs from the file")
    problems += [f"{key} of the model is not in the file" for key in loaded if key not in saved]
    if problems:
        shown = "; ".join(problems[:5]) + (
            f"; and {len(problems) - 5} more" if problems[5:] else ""
        )
        raise PeftBenchError(
            place=str(folder),
            problem=f"the adapter did not really load: {shown}",
            remedy="score it on the base it was made for, with the PEFT version that saved it",
        )
    return len(saved)


def _adapter_state(model: Any) -> dict[str, torch.Tensor]:
    from peft import PeftModel, get_peft_model_state_dict

    if not isinstance(model, PeftModel):
        # Prompt learning hands the base model a bound method of the PeftModel around it.
        owner = getattr(getattr(model, "prepare_inputs_for_generation", None), "__self__", None)
        if isinstance(owner, PeftModel):
            model = owner
    if not isinstance(getattr(model, "peft_config", None), dict):
        raise PeftBenchError(
            place="model",
            problem="no adapter is loaded on it",
            remedy="name the adapter in --model_args peft=...",
        )
    state: dict[str, torch.Tensor] = get_peft_model_state_dict(model, save_embedding_layers=False)
    return state


def _bare_key(key: str) -> str:
    for prefix in ("base_model.model.", "base_model."):
        key = key.removeprefix(prefix)
    return key


def fingerprint(model: Any, *, quantized: bool) -> str:
    """A hash that tells base models apart, whatever dtype they were loaded in.

    Covers the name, shape and first 64 values (as bfloat16) of every parameter of the base, with
    PEFT's wrappers and adapter weights left out; of a quantised model, only of the parameters
    that quantisation leaves alone. The size of the vocabulary is left out: with an adapter the
    harness cuts or pads the embeddings to the tokenizer's length.
    """
    import torch

    digest = hashlib.sha256()
    vocabulary = _vocabulary_size(model)
    for name, parameter in sorted(_base_parameters(model)):
        if quantized and parameter.dim() > 1:
            continue
        shape = ["V" if size == vocabulary else size for size in parameter.shape]
        head = parameter.detach().flatten()[:64].to("cpu", torch.bfloat16).view(torch.uint8)
        digest.update(f"{name} {shape} ".encode())
        digest.update(bytes(head.tolist()))
    return digest.hexdigest()


def _vocabulary_size(model: Any) -> int | None:
    """Rows of the input embeddings, whatever PEFT put around them."""
    embeddings = model.get_input_embeddings()
    for attribute in ("base_layer", "original_module"):
        embeddings = getattr(embeddings, attribute, embeddings)
    weight = getattr(embeddings, "weight", None)
    return None if weight is None else int(weight.shape[0])


def check_base(base: BaseCard, found: str, loaded_id: str, *, place: str) -> None:
    """Stops when ``found``, the fingerprint of the loaded base, is not the card's.

    Raises:
        PeftBenchError: naming both bases and fingerprints.
    """
    if base.fingerprint != found:
        raise PeftBenchError(
            place=place,
            problem=f"was made for another base than {loaded_id}: for {base.id} "
            f"(fingerprint {base.fingerprint[:16]}, loaded {found[:16]})",
            remedy=f"score it on {base.id}",
        )


def _base_parameters(model: Any) -> Iterator[tuple[str, torch.Tensor]]:
    """The base's parameters by their own names, with whatever PEFT put around and into it left out.

    A parameter is PEFT's if its name holds the prefix that the adapter's type gives its own
    (``lora_``, ``hada_``, ...), if a PEFT layer lists it, or if it is a copy in modules to save.
    """
    from peft import PeftModel
    from peft.tuners.tuners_utils import BaseTuner, BaseTunerLayer

    base = model.get_base_model() if isinstance(model, PeftModel) else model
    if isinstance(base, BaseTuner):
        base = base.model
    skipped: set[int] = set()
    for module in base.modules():
        if isinstance(module, BaseTunerLayer):
            for attribute in (*module.adapter_layer_names, *module.other_param_names):
                part = getattr(module, attribute, None)
                if part is not None and hasattr(part, "parameters"):
                    skipped.update(id(parameter) for parameter in part.parameters())
    wraps = _adaption_prompt_wraps(base)
    for name, parameter in base.named_parameters():
        if id(parameter) in skipped or ".modules_to_save." in name or ".adaption_" in name:
            continue
        for wrapped in wraps:
            name = name.replace(f"{wrapped}.model.", f"{wrapped}.")
        yield name.replace(".base_layer.", ".").replace(".original_module.", "."), parameter


def _adaption_prompt_wraps(base: Any) -> list[str]:
    """Names of attention modules that ADAPTION_PROMPT put a layer of its own around."""
    from peft.tuners.adaption_prompt.layer import _BaseAdaptedAttention

    return [n for n, module in base.named_modules() if isinstance(module, _BaseAdaptedAttention)]
