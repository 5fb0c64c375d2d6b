"""Metrics of a whole corpus by name, each a function of statistics summed over its rows."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import numpy as np
from numpy.typing import NDArray

from peft_bench.metrics import codebleu, text

Floats = NDArray[np.float64]

#: [..., statistics] -> [...]; the names are those of the tasks' results.
COMBINE: dict[str, Callable[[Floats], Floats]] = {
    "codebleu": partial(codebleu.combine, variant="python"),
    "codebleu_codexglue": partial(codebleu.combine, variant="codexglue"),
    "codebleu_pypi": partial(codebleu.combine, variant="pypi"),
    "bleu": text.combine_bleu,
    "chrf++": text.combine_chrf,
}
