"""pass@k: the chance that one of k answers drawn from n, of which c pass, passes.

Source: the unbiased estimator of Chen et al., "Evaluating Large Language Models Trained on Code",
arXiv 2107.03374, section 2.1. It holds for answers sampled independently; beams are not.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

_CHUNK = 1 << 16
_LOG_ZERO = -746.0  # exp() of less is 0.0


def pass_at_k(n: int, c: int, k: int) -> float:
    """1 - C(n - c, k) / C(n, k), as a share from 0 to 1.

    The ratio is the product of ``1 - k / i`` for i from n - c + 1 to n, summed here as logarithms:
    no factorial overflows, and a tiny result keeps its digits. As the ratio is symmetric in c and
    k, the shorter of the two products is taken, and summing stops once it is 0.

    Args:
        n: Answers drawn.
        c: Answers that pass.
        k: Answers allowed.

    Raises:
        ValueError: for k below 1 or above n, or c below 0 or above n; names the numbers.
    """
    if k < 1 or k > n or c < 0 or c > n:
        raise ValueError(f"n={n}, c={c}, k={k}: needs 1 <= k <= n and 0 <= c <= n")
    if c == 0:
        return 0.0
    if n - c < k:
        return 1.0
    if k == 1:
        return c / n  # exact, where the logarithm would be off by a unit in the last place
    terms, drawn = min(c, k), max(c, k)
    log_fail = 0.0
    for start in range(n - terms + 1, n + 1, _CHUNK):
        i = np.arange(start, min(start + _CHUNK, n + 1), dtype=np.float64)
        log_fail += float(np.log1p(-drawn / i).sum())
        if log_fail < _LOG_ZERO:
            return 1.0
    return -math.expm1(log_fail)


def mean_pass_at_k(
    counts: Sequence[tuple[int, int]], k: int, *, allow_unequal_n: bool = False
) -> float:
    """The mean of :func:`pass_at_k` over problems, as a share from 0 to 1.

    Args:
        counts: One ``(n, c)`` a problem: answers drawn, answers that pass.
        k: Answers allowed.
        allow_unequal_n: Unequal n usually means that answers were lost on the way, which shrinks
            n without a trace; say True where it is meant.

    Raises:
        ValueError: for no problems, unequal n without leave, or any n, c, k that
            :func:`pass_at_k` refuses.
    """
    if not counts:
        raise ValueError("no problems; the mean of nothing is undefined")
    drawn = sorted({n for n, _ in counts})
    if len(drawn) > 1 and not allow_unequal_n:
        raise ValueError(
            f"problems have from {drawn[0]} to {drawn[-1]} answers; answers may have been lost "
            "(allow_unequal_n=True to go on)"
        )
    return math.fsum(pass_at_k(n, c, k) for n, c in counts) / len(counts)
