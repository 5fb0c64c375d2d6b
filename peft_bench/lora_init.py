"""LoRA that starts by changing the base: saved so that it fits the base as it was.

PiSSA (arXiv 2404.02948) and OLoRA (arXiv 2406.01775) set A0 and B0 from the weights and take
their product out of the base: W = W' + s B0 A0. What was learned is s (B A - B0 A0), which is
itself a LoRA of twice the rank: [B, -B0] and [A; A0]. Saved so, it loads on the untouched base
in any tool, quantised or not, and needs no second decomposition. PEFT can do the same
(``path_initial_model_for_weight_conversion``), if the start was written to disk.
"""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import TYPE_CHECKING, Any

from peft_bench import adapters

if TYPE_CHECKING:
    import torch

_START = "_peft_bench_lora_start"


def changes_base(init: object) -> bool:
    """Whether an ``init_lora_weights`` takes a product out of the base that save can put back."""
    return isinstance(init, str) and (init.startswith("pissa") or init == "olora")


def remember(model: Any) -> None:
    """Keeps where LoRA's matrices start, if the base was changed for it."""
    config = model.peft_config["default"]
    if changes_base(getattr(config, "init_lora_weights", None)):
        start = {name: value.detach().cpu().clone() for name, value in _matrices(model).items()}
        setattr(model, _START, start)


def rewrite(model: Any, folder: Path) -> None:
    """Turns an adapter just saved to ``folder`` into plain LoRA, if the base was changed for it."""
    import torch
    from safetensors.torch import save_file

    start: dict[str, torch.Tensor] | None = getattr(model, _START, None)
    if start is None:
        return
    saved = adapters.saved_tensors(folder)
    doubled: dict[str, torch.Tensor] = {}
    for name, value in saved.items():
        first = start.get(name)
        if first is None:
            doubled[name] = value
            continue
        first = first.to(value.dtype)
        pair, dim = ([value, first], 0) if "lora_A" in name else ([value, -first], 1)
        doubled[name] = torch.cat(pair, dim).contiguous()
    save_file(doubled, folder / adapters.WEIGHTS_FILE, metadata={"format": "pt"})
    file = folder / adapters.CONFIG_FILE
    config = json.loads(file.read_text(encoding="utf-8"))
    # s is alpha / r, or alpha / sqrt(r) in rsLoRA: it stays what it was.
    factor = math.sqrt(2) if config.get("use_rslora") else 2
    config |= {
        "r": 2 * config["r"],
        "lora_alpha": factor * config["lora_alpha"],
        "rank_pattern": {k: 2 * v for k, v in (config.get("rank_pattern") or {}).items()},
        "alpha_pattern": {k: factor * v for k, v in (config.get("alpha_pattern") or {}).items()},
        "init_lora_weights": True,
    }
    file.write_text(json.dumps(config, indent=2, sort_keys=True) + "\n", encoding="utf-8")


def _matrices(model: Any) -> dict[str, torch.Tensor]:
    from peft import get_peft_model_state_dict

    state: dict[str, torch.Tensor] = get_peft_model_state_dict(model, save_embedding_layers=False)
    return {name: value for name, value in state.items() if "lora_A" in name or "lora_B" in name}
