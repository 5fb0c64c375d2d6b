"""Many tests at once: p-values that bear it, and a score that cost lowers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass


def holm(p_values: Sequence[float]) -> list[float]:
    """p-values corrected so that the chance of any false finding stays below the level.

    Holm's step-down procedure: the i-th smallest of m (from 0) is multiplied by m - i, and none is
    smaller than one before it. Source: S. Holm, "A simple sequentially rejective multiple test
    procedure", Scandinavian Journal of Statistics 6, 1979.

    Raises:
        ValueError: for a value outside 0 to 1.
    """
    for p in p_values:
        if not 0 <= p <= 1:
            raise ValueError(f"{p} is no p-value")
    adjusted = [0.0] * len(p_values)
    highest = 0.0
    for i, place in enumerate(sorted(range(len(p_values)), key=lambda i: p_values[i])):
        highest = max(highest, min(1.0, p_values[place] * (len(p_values) - i)))
        adjusted[place] = highest
    return adjusted


@dataclass(frozen=True)
class PscpConstants:
    """What PSCP measures costs by; the defaults are the paper's."""

    parameters: float = 5e8
    flops: float = 10e12
    memory_bytes: float = 94e9
    parameters_exponent: float = 1.0
    flops_exponent: float = 1.0
    memory_exponent: float = 1.0


def pscp(
    score: float,
    *,
    trainable_parameters: int,
    memory_bytes: int,
    inference_flops: float = 0.0,
    constants: PscpConstants | None = None,
) -> float:
    """PEFT Soft Score Penalties: a score from 0 to 1, lowered by what it cost.

    P (1 + Mp/Cp)^-bp (1 + Mf/Cf)^-bf (1 + Mm/Cm)^-bm. Source: Belanec et al., arXiv 2511.21285.

    Args:
        score: P.
        trainable_parameters: Mp.
        memory_bytes: Mm, the peak of training.
        inference_flops: Mf; 0 leaves its factor out.
        constants: C and b.
    """
    c = constants or PscpConstants()
    return float(
        score
        * (1 + trainable_parameters / c.parameters) ** -c.parameters_exponent
        * (1 + inference_flops / c.flops) ** -c.flops_exponent
        * (1 + memory_bytes / c.memory_bytes) ** -c.memory_exponent
    )
