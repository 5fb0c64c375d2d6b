"""CodeGen2 as published, which would answer wrongly without a word: refused."""

from __future__ import annotations

import re
from typing import Any

from peft_bench.errors import UsageError

#: What a repacked base has in its config.json.
REPACKED = "peft_bench_repacked"

# (layers, width) of the published CodeGen2 sizes; 1B and 3.7B share none with CodeGen.
_CODEGEN2_SHAPES = frozenset({(16, 2048), (16, 4096)})


def refuse_raw_codegen2(config: Any, name: str = "") -> None:
    """Stops for a CodeGen2 checkpoint in transformers' own CodeGen class.

    That class lays the attention's rows out for four model-parallel shards; CodeGen2 was trained
    with eight. It loads without an error and computes something else.

    Args:
        config: the model's configuration (an object or the dict in config.json).
        name: its id or folder, as given by the user.

    Raises:
        UsageError: unless the configuration says that the base was repacked.
    """
    settings = config if isinstance(config, dict) else config.to_dict()
    if settings.get("model_type") != "codegen" or settings.get(REPACKED):
        return
    if not _is_codegen2(settings, name):
        return
    raise UsageError(
        place=f"model {name or settings.get('_name_or_path') or 'codegen'}",
        problem="is a CodeGen2 checkpoint as published, whose attention rows are packed for "
        "eight shards; transformers' CodeGen class takes them for four, and answers wrongly "
        "without an error",
        remedy="run `peft-bench repack SRC DIR`, and name that folder",
    )


def _is_codegen2(settings: dict[str, Any], name: str) -> bool:
    # The published checkpoints bring the code of the original with them; CodeGen's do not.
    remote = settings.get("auto_map") or {}
    if any("codegen" in str(target).lower() for target in remote.values()):
        return True
    names = (name, str(settings.get("_name_or_path") or ""))
    # CodeGen's own sizes are named codegen-2B-mono and so on.
    if any(re.search(r"codegen2(?!b)", one.lower()) for one in names):
        return True
    return (settings.get("n_layer"), settings.get("n_embd")) in _CODEGEN2_SHAPES
