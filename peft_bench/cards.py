"""An adapter's card: how it was made, on what, from which rows, and what it cost.

Kept as ``card.json`` beside the adapter, and rendered as its model card ``README.md``.
"""

from __future__ import annotations

import dataclasses
import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from peft_bench import schema
from peft_bench.errors import Faults, UsageError
from peft_bench.methods import FULL
from peft_bench.records import write_text

CARD_SCHEMA_VERSION = 1
CARD_FILE = "card.json"
_HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*(/[\w.-]+)?")


@dataclass(frozen=True, slots=True)
class BaseCard:
    """The base model as it was loaded. ``fingerprint``: see :func:`fingerprint`."""

    id: str
    revision: str | None
    commit: str | None
    dtype: str
    quantization: str | None
    model_type: str
    parameters: int
    fingerprint: str


@dataclass(frozen=True, slots=True)
class PromptCard:
    """The prompt that the adapter was trained with."""

    name: str
    text: str
    sha256: str


@dataclass(frozen=True, slots=True)
class Costs:
    """What training took. Tokens are real ones, padding left out; memory is the process's peak.

    ``train_wall_s`` is the whole of it, validation and checkpoints included; ``step_wall_s`` its
    steps alone, by which ``tokens_per_s`` goes. ``device_s`` is wall seconds times GPUs, on a CPU
    the process's CPU seconds. ``flops`` are reckoned, see :mod:`peft_bench.flops`; validation is
    left out. All figures add up over an interrupted run and the one that went on; where the time
    of the former is unknown, or was that of another number of processes, all times but
    ``load_wall_s`` are absent.

    On a GPU ``train_peak_bytes`` is CUDA's ``max_memory_allocated`` and ``reserved_peak_bytes``
    its ``max_memory_reserved``; on a CPU it is the peak resident set, and reserved is absent.
    """

    device: str
    load_wall_s: float
    train_wall_s: float | None
    tokens_per_s: float | None
    load_peak_bytes: int | None
    train_peak_bytes: int | None
    reserved_peak_bytes: int | None
    engine: str = "peft-bench"
    processes: int = 1
    step_wall_s: float | None = None
    device_s: float | None = None
    train_tokens: int | None = None
    flops: float | None = None


@dataclass(frozen=True, slots=True)
class Outcome:
    """How training went; losses are means over label tokens, in nats."""

    steps: int
    epochs: float
    train_loss: float
    validation_loss: float | None
    best_step: int | None
    truncated_prompts: int
    truncated_targets: int
    dropped_rows: int = 0


@dataclass(frozen=True, slots=True)
class AdapterCard:
    """Everything that a record must know of an adapter."""

    schema_version: int
    name: str
    created: str
    recipe: dict[str, Any]
    recipe_sha256: str
    method: str
    base: BaseCard
    prompt: PromptCard
    data: dict[str, Any]
    custom_data: bool
    trainable_parameters: int
    adapter_sha256: str
    adapter_bytes: int
    costs: Costs
    outcome: Outcome
    versions: dict[str, str]


def read_card(folder: Path) -> AdapterCard | None:
    """The card in an adapter's folder; None if the folder is not one of ours.

    Raises:
        UsageError: the card is faulty or of a newer schema.
    """
    file = folder / CARD_FILE
    if not file.is_file():
        return None
    try:
        raw = json.loads(file.read_text(encoding="utf-8"))
    except ValueError as error:
        raise UsageError(
            place=str(file), problem=f"is not JSON: {error}", remedy="train the adapter anew"
        ) from None
    version = raw.get("schema_version") if isinstance(raw, dict) else None
    if isinstance(version, int) and version > CARD_SCHEMA_VERSION:
        raise UsageError(
            place=str(file),
            problem=f"was written by a newer peft-bench (schema {version})",
            remedy="upgrade peft-bench",
        )
    faults = Faults(str(file))
    card = schema.read(AdapterCard, raw, "", faults)
    faults.raise_if_any()
    return card


def write_card(folder: Path, card: AdapterCard) -> None:
    """Writes ``card.json`` and the model card ``README.md``."""
    plain = dataclasses.asdict(card)
    write_text(folder / CARD_FILE, json.dumps(plain, indent=2) + "\n")
    write_text(folder / "README.md", render_model_card(card))


def _or_dash(value: float | None, form: str) -> str:
    return "-" if value is None else form.format(value)


def _is_hub_id(model: str) -> bool:
    return bool(_HUB_ID.fullmatch(model)) and not Path(model).is_dir()


def render_model_card(card: AdapterCard) -> str:
    """The card as a model card in Markdown, with the hub's metadata block.

    A base that is a folder is left out of the block: the hub takes ids of its own alone.
    """
    import yaml

    whole = card.method == FULL
    meta = {
        **({"base_model": card.base.id} if _is_hub_id(card.base.id) else {}),
        "library_name": "transformers" if whole else "peft",
        "pipeline_tag": "text-generation",
        "tags": ["code", "python", "peft-bench", card.method],
    }
    loss = card.outcome.validation_loss
    facts = {
        "Method": card.method,
        "Base model": f"`{card.base.id}`, {card.base.quantization or card.base.dtype}",
        "Trainable parameters": f"{card.trainable_parameters:,} of {card.base.parameters:,}",
        "Training data": ", ".join(
            f"{name} ({info['rows']} rows{', custom' if info['custom'] else ''})"
            for name, info in card.data.items()
        ),
        "Steps": f"{card.outcome.steps} ({card.outcome.epochs:.2f} epochs)",
        "Validation loss": "-" if loss is None else f"{loss:.4f} (step {card.outcome.best_step})",
        "Training time": f"{_or_dash(card.costs.train_wall_s, '{:.0f} s')} on {card.costs.device}",
        "Device time": _or_dash(card.costs.device_s, "{:.0f} s"),
        "Tokens a second": _or_dash(card.costs.tokens_per_s, "{:.0f}"),
        "Training FLOPs": _or_dash(card.costs.flops, "{:.3g}"),
        "Peak memory": _or_dash(card.costs.train_peak_bytes, "{:,} bytes"),
        "Trained by": card.costs.engine,
        "Adapter": f"{card.adapter_bytes:,} bytes, sha256 `{card.adapter_sha256[:16]}`",
        "Prompt": f"`{card.prompt.name}` (sha256 `{card.prompt.sha256[:16]}`)",
    }
    table = "\n".join(f"| {key} | {value} |" for key, value in facts.items())
    header = yaml.safe_dump(meta, sort_keys=False).rstrip()
    tasks = ",".join((card.recipe.get("data") or {}).get("tasks") or ["conala"])
    return (
        f"---\n{header}\n---\n\n# {card.name}\n\n"
        f"A {'whole model' if whole else 'PEFT adapter'} trained with peft-bench "
        f"{card.versions.get('peft-bench', '')}.\n\n"
        f"| | |\n|---|---|\n{table}\n\n"
        f"## Prompt\n\n```text\n{card.prompt.text}```\n\n"
        f"## Score it\n\n```sh\npeft-bench eval PATH/TO/{card.name} --tasks {tasks}\n```\n"
    )
