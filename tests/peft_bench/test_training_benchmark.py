"""The speed benchmark runs whole at a small size: random weights, no hub, no peer."""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

FOLDER = Path(__file__).parents[2] / "benchmarks"
pytestmark = pytest.mark.skipif(not FOLDER.is_dir(), reason="benchmarks are in a checkout alone")


@pytest.fixture()
def benchmark(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    monkeypatch.syspath_prepend(str(FOLDER))
    spec = importlib.util.spec_from_file_location("training_benchmark", FOLDER / "training.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    yield module
    sys.modules.pop("fit", None)


@pytest.mark.parametrize("kind", ["llama", "t5"])
def test_every_variant_of_ours_gives_a_row(
    kind: str, benchmark: Any, tiny_model: Callable[..., Path]
) -> None:
    case = {
        "model": str(tiny_model(kind)),
        "random": True,
        "method": "lora",
        "quantization": None,
        "task": "conala",
        "length": 64,
        "padded": 128,
        "max_row_tokens": None,
        "min_row_tokens": 0,
        "rows": 12,
        "batch": 4,
        "micro": 4,
        "check": True,
    }
    names = (benchmark.OURS, benchmark.PADDED, benchmark.FLOOR)
    found = {name: [benchmark.run(case | {"variant": name})] for name in names}
    ours, padded = found[benchmark.OURS][0], found[benchmark.PADDED][0]
    assert ours["tokens"] > 0 and ours["seconds"] > 0
    assert ours["own"] == pytest.approx(padded["own"], rel=1e-5)
    text = benchmark.table(found, "tokens")
    assert text.count("\n|") == 4 and "of the floor's speed" in text
    assert "are equal" in text
