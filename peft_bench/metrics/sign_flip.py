"""The p of a paired difference if nothing but chance gave each question its sign.

Where two systems are alike, each question's difference could as well have had the other sign. p is
the share of all signs under which the total lies at least as far from 0 as the one observed, so it
is never less than 2 / 2^m for m questions with a difference. It is exact for any number of them,
where the bootstrap promises too much for a few.

Source: Fisher, "The Design of Experiments" (1935), section 21; for language tasks Noreen,
"Computer-Intensive Methods for Testing Hypotheses" (1989), chapter 2.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

COUNTED = 20  # differences that all signs are counted of

Floats = NDArray[np.float64]


def sign_flip_p(differences: Floats) -> Floats:
    """The two-sided p of each row of differences, (pairs, questions) -> (pairs,).

    Of more than ``COUNTED`` that are not 0, the least that it could be.
    """
    nonzero = np.count_nonzero(differences, axis=1)
    p = least_p(nonzero)
    few = np.flatnonzero((nonzero > 0) & (nonzero <= COUNTED))
    sizes = np.sort(np.abs(differences[few]), axis=1)
    totals = np.abs(differences[few].sum(axis=1))
    counted = zip(sizes.tolist(), totals.tolist(), nonzero[few].tolist(), strict=True)
    p[few] = [_share(tuple(row[-number:]), total) for row, total, number in counted]
    return p


def least_p(nonzero: NDArray[np.intp]) -> Floats:
    """2 / 2^m of each number m of differences that are not 0; 1 for none."""
    return np.asarray(np.exp2(np.minimum(0.0, 1.0 - nonzero)), dtype=np.float64)


@lru_cache(maxsize=4096)  # of right and wrong there are few
def _share(sizes: tuple[float, ...], total: float) -> float:
    reach = total - 1e-9 * sum(sizes)  # ties are common and must not be decided by rounding
    if reach <= 0:
        return 1.0
    # Every sum is one of the first half's and one of the second's.
    first, second = _sums(sizes[::2]), np.sort(_sums(sizes[1::2]))
    beyond = len(first) * len(second) - int(np.searchsorted(second, reach - first).sum())
    return float(2 * beyond / 2 ** len(sizes))


def _sums(sizes: tuple[float, ...]) -> Floats:
    """Under all signs."""
    sums = np.zeros(1)
    for size in sizes:
        sums = np.concatenate((sums - size, sums + size))
    return sums
