"""What is scored: a base model, the adapter on it, or a fully tuned model, as its card tells."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from peft_bench import adapters, cards
from peft_bench.errors import UsageError
from peft_bench.hub_adapters import adapter_folder
from peft_bench.models import resolve_dtype


@dataclass(frozen=True, slots=True)
class Subject:
    """What is scored: a base model, and the adapter on it, if any.

    After full fine-tuning ``model`` and ``adapter`` are the same folder, which holds the whole
    model: it loads by itself (``pretrained=``), and counts as an adapter of the card's base.
    ``name`` is the folder's, or the id's without its organisation.
    """

    name: str
    model: str
    revision: str | None
    dtype: str
    quantization: str | None
    prompt: str | None
    adapter: Path | None
    card: cards.AdapterCard | None

    @property
    def peft(self) -> Path | None:
        """The folder that PEFT loads on the model; None for a base or a fully tuned model."""
        return None if self.adapter is None or self.model == str(self.adapter) else self.adapter


def find_subject(
    adapter: str | Path | None, model: str | None, given: Mapping[str, Any]
) -> Subject:
    """The subject named by an adapter's folder, an adapter's id on the hub, or a model's id.

    ``given`` are the harness' model arguments that the user typed; ``dtype`` in them wins.

    Raises:
        UsageError: nothing is named, or the adapter is faulty or does not tell its base.
        MissingError: no such adapter.
    """
    if adapter is None:
        if model is None:
            raise UsageError(
                place="peft-bench eval",
                problem="neither an adapter nor a model is named",
                remedy="give an adapter's folder, or --model ID",
            )
        dtype = str(given.get("dtype") or resolve_dtype("auto"))
        quantization = given.get("quantization")
        name = Path(model).name
        return Subject(name, model, given.get("revision"), dtype, quantization, None, None, None)
    name, folder = Path(adapter).name, adapter_folder(adapter)
    card = adapters.check_folder(folder)
    if adapters.is_full_model(folder):
        return _full_model(name, folder, card, model, given)
    if card is not None:
        base = card.base
        dtype = str(given.get("dtype") or base.dtype)
        return Subject(
            name,
            model or base.id,
            base.revision,
            dtype,
            base.quantization,
            card.prompt.name,
            folder,
            card,
        )
    base_id = model or adapters.read_config(folder).get("base_model_name_or_path")
    if not base_id:
        raise UsageError(
            place=str(folder),
            problem="has no card and its configuration names no base model",
            remedy="name it: --model ID",
        )
    dtype = str(given.get("dtype") or resolve_dtype("auto"))
    return Subject(name, base_id, given.get("revision"), dtype, None, None, folder, None)


def _full_model(
    name: str,
    folder: Path,
    card: cards.AdapterCard | None,
    model: str | None,
    given: Mapping[str, Any],
) -> Subject:
    if model is not None:
        raise UsageError(
            place=str(folder),
            problem=f"holds a whole model, which does not go on {model}",
            remedy="leave --model out",
        )
    dtype = given.get("dtype") or (card.base.dtype if card is not None else resolve_dtype("auto"))
    if card is None:
        quantization = given.get("quantization")
        return Subject(name, str(folder), None, str(dtype), quantization, None, None, None)
    return Subject(name, str(folder), None, str(dtype), None, card.prompt.name, folder, card)
