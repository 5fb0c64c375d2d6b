"""Train adapters for code models, score them with lm-evaluation-harness, compare them.

``train`` and ``evaluate`` are what ``peft-bench train`` and ``peft-bench eval`` run. They are
loaded on first use, so that ``import peft_bench`` stays cheap (no torch).
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from peft_bench.evaluation import evaluate
    from peft_bench.recipe import Recipe, load_recipe
    from peft_bench.training import train

__all__ = ["Recipe", "__version__", "evaluate", "load_recipe", "train"]

__version__ = "0.1.0"

_HOME = {
    "Recipe": "peft_bench.recipe",
    "load_recipe": "peft_bench.recipe",
    "train": "peft_bench.training",
    "evaluate": "peft_bench.evaluation",
}


def __getattr__(name: str) -> Any:
    if name in _HOME:
        return getattr(import_module(_HOME[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
