"""Comparisons of any metric, and of experiments that were run under several seeds.

A metric is a function of statistics summed over questions: of values and their number where it is
a mean, of n-gram counts where it is BLEU. Questions are drawn with replacement, the same ones for
both systems and for every seed; of a system with several seeds, seeds are drawn with replacement
as well, so that an interval holds both what other questions and what other seeds would change.

Source: the two-way (questions by seeds) bootstrap with independent draws of either factor; see
Owen, "The pigeonhole bootstrap", Annals of Applied Statistics 1(2), 2007. It errs on the wide
side. With two or three seeds the share that is due to seeds is known badly, whatever the method.
For few questions p is bounded from below, as in :mod:`peft_bench.metrics.paired`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from peft_bench.metrics.bootstrap import draws, group_sums
from peft_bench.metrics.paired import PairedDifference, summarize
from peft_bench.metrics.sign_flip import least_p, sign_flip_p

Floats = NDArray[np.float64]
Combine = Callable[[Floats], Floats]

ITERATIONS = 10_000

_SWAPPED = 14  # questions of a metric that is no mean of which all swaps are tried


@dataclass(frozen=True)
class Band:
    """A system's score over its seeds: mean, lowest, highest; ``stderr`` over both factors."""

    mean: float
    low: float
    high: float
    stderr: float
    seeds: int


def mean_of_sums(sums: Floats) -> Floats:
    """The mean as a function of summed statistics: value and number, [..., 2] -> [...]."""
    return np.asarray(sums[..., 0] / sums[..., 1], dtype=np.float64)


def as_sums(values: ArrayLike) -> Floats:
    """Statistics of items whose metric is the mean: (n,) or (n, 1) -> (n, 2)."""
    column = np.asarray(values, dtype=np.float64).reshape(-1)
    return np.stack([column, np.ones_like(column)], axis=-1)


def compare_systems(
    a: Sequence[ArrayLike],
    b: Sequence[ArrayLike],
    combine: Combine = mean_of_sums,
    *,
    groups: Sequence[Hashable] | None = None,
    iterations: int = ITERATIONS,
    seed: int = 0,
) -> PairedDifference:
    """The second system's mean score over its seeds minus the first's.

    p is never less than that of the sign-flip test over questions; of a metric that is no mean,
    never less than the share of swaps of the systems' statistics, question by question, that give
    as large a difference (Noreen 1989; see :mod:`peft_bench.metrics.sign_flip`), which of more
    than 14 questions is bounded only.

    Args:
        a: A run a seed, each (n, statistics), all of the same items in the same order.
        b: The other system's runs of those items.
        combine: The metric of sums, [..., statistics] -> [...].
        groups: The group of each item; None makes every item a group.
        iterations: Resamples, 2 or more.
        seed: Of the random generator.

    Raises:
        ValueError: for no runs, runs of different shapes, values that are not finite, or a single
            group.
    """
    first, second = _sums(a, groups), _sums(b, groups)
    if first.shape[1:] != second.shape[1:]:
        raise ValueError(f"the runs have the shapes {first.shape} and {second.shape}")
    if first.shape[1] < 2:
        raise ValueError("all items are of one group; two groups are needed")
    observed = float(_scores(second, combine).mean() - _scores(first, combine).mean())
    rng = np.random.default_rng([seed, 1])
    resampled = _resampled(second, combine, iterations, seed, rng) - _resampled(
        first, combine, iterations, seed, rng
    )
    return summarize(
        observed,
        resampled,
        n=len(np.asarray(a[0])),
        n_groups=int(first.shape[1]),
        least_p=_least_p(first.mean(axis=0), second.mean(axis=0), combine),
    )


def seed_band(
    runs: Sequence[ArrayLike],
    combine: Combine = mean_of_sums,
    *,
    groups: Sequence[Hashable] | None = None,
    iterations: int = 1000,
    seed: int = 0,
) -> Band:
    """Mean and range over seeds, and the standard error over questions and seeds.

    Raises:
        ValueError: as :func:`compare_systems`; a single group gives an error of NaN.
    """
    sums = _sums(runs, groups)
    scores = _scores(sums, combine)
    stderr = math.nan
    if sums.shape[1] > 1:
        rng = np.random.default_rng([seed, 1])
        stderr = float(np.std(_resampled(sums, combine, iterations, seed, rng), ddof=1))
    return Band(float(scores.mean()), float(scores.min()), float(scores.max()), stderr, len(scores))


def _sums(runs: Sequence[ArrayLike], groups: Sequence[Hashable] | None) -> Floats:
    """(runs, groups, statistics)."""
    arrays = [np.asarray(run, dtype=np.float64) for run in runs]
    if not arrays or len({array.shape for array in arrays}) > 1 or arrays[0].ndim != 2:
        raise ValueError(f"runs of the shapes {[a.shape for a in arrays]}; they must be alike")
    if not len(arrays[0]):
        raise ValueError("the runs have no items")
    if not all(np.isfinite(array).all() for array in arrays):
        raise ValueError("statistics are not all finite")
    return np.stack([group_sums(array, groups) for array in arrays])


def _least_p(first: Floats, second: Floats, combine: Combine) -> float:
    """Of each question's statistics, the mean over seeds, (groups, statistics)."""
    differences = second - first
    if combine is mean_of_sums:
        return float(sign_flip_p(differences[None, :, 0])[0])
    differing = differences[differences.any(axis=1)]
    if not 0 < len(differing) <= _SWAPPED:
        return float(least_p(np.asarray([len(differing)]))[0])
    # One question stays, since to swap all is to swap none.
    swapped = np.arange(2 ** (len(differing) - 1))[:, None] >> np.arange(len(differing)) & 1
    moved = swapped @ differing
    # The first swaps none: it is the difference observed.
    distances = np.abs(combine(second.sum(axis=0) - moved) - combine(first.sum(axis=0) + moved))
    return float(np.mean(distances >= distances[0] * (1 - 1e-9)))


def _scores(sums: Floats, combine: Combine) -> Floats:
    """Of each run."""
    return np.asarray(combine(sums.sum(axis=1)), dtype=np.float64)


def _resampled(
    sums: Floats, combine: Combine, iterations: int, seed: int, rng: np.random.Generator
) -> Floats:
    """Resampled mean scores, (iterations,)."""
    runs, groups = sums.shape[:2]
    blocks = [
        np.stack([np.asarray(combine(times @ run)) for run in sums])
        for times in draws(groups, iterations, seed)
    ]
    scores = np.concatenate(blocks, axis=1)
    if runs == 1:
        return np.asarray(scores[0], dtype=np.float64)
    drawn = rng.multinomial(runs, np.full(runs, 1 / runs), size=iterations) / runs
    return np.asarray((scores.T * drawn).sum(axis=1), dtype=np.float64)
