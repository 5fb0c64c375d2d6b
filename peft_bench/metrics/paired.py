"""Paired comparisons of systems by resampling questions, not rows.

Whole groups of rows are drawn with replacement, as in :mod:`peft_bench.metrics.bootstrap`, the
same ones for both systems. Few groups resampled vary too little (of five that all changed one way,
every resample did): p is never less than that of :mod:`peft_bench.metrics.sign_flip`.

Sources: Efron and Tibshirani, "An Introduction to the Bootstrap" (1993), chapters 13 and 16;
the +1 correction of p: Davison and Hinkley, "Bootstrap Methods and their Application" (1997), 4.2.
"""

from __future__ import annotations

import math
from collections.abc import Hashable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, TypeVar

import numpy as np
from numpy.typing import ArrayLike, NDArray

from peft_bench.metrics.bootstrap import draws, grouping, sums_of, vector
from peft_bench.metrics.sign_flip import sign_flip_p

_PAIRS_AT_ONCE = 16  # whose resamples are held in memory
_EXACT_AT_ONCE = 64

Floats = NDArray[np.float64]
_Number = TypeVar("_Number", float, Floats)


@dataclass(frozen=True)
class PairedDifference:
    """What :func:`paired_bootstrap` found; every figure in the unit of the values.

    Attributes:
        difference: mean(b) - mean(a).
        stderr: Standard deviation of the resampled differences.
        low: Lower end of the percentile interval.
        high: Upper end of the percentile interval.
        p_value: Two-sided; at least 1 / (iterations + 1), and at least 2 / 2^m for m groups with
            a difference (1 if there are none).
        n: Items compared.
        n_groups: Groups they come from.
    """

    difference: float
    stderr: float
    low: float
    high: float
    p_value: float
    n: int
    n_groups: int


def paired_bootstrap(
    a: ArrayLike,
    b: ArrayLike,
    *,
    groups: Sequence[Hashable] | None = None,
    iterations: int = 10_000,
    seed: int = 0,
    confidence: float = 0.95,
) -> PairedDifference:
    """Compares two systems on the same items: mean(b) - mean(a), its interval and its p.

    The interval is the percentile interval. p is the share of resampled differences, shifted to
    a mean difference of 0, that lie at least as far from 0 as the one observed; or that of the
    sign-flip test where it is larger, which decides where few groups differ.

    Args:
        a: Shape (n,), finite: the first system's values.
        b: Shape (n,), finite: the second system's values of the same items in the same order.
        groups: The group of each item, n of them; None makes every item a group.
        iterations: Resamples, 2 or more.
        seed: Of the random generator; equal seeds give equal results.
        confidence: Of the interval, between 0 and 1.

    Raises:
        ValueError: for no items, unequal lengths, values that are not finite or not of one
            dimension, a single group, too few iterations, or a confidence outside (0, 1).
    """
    first, second = vector("a", a), vector("b", b)
    if len(first) != len(second):
        raise ValueError(f"a has {len(first)} values and b has {len(second)}; they must be paired")
    [found] = paired_bootstraps(
        (second - first)[None],
        groups=groups,
        iterations=iterations,
        seed=seed,
        confidence=confidence,
    )
    return found


def paired_bootstraps(
    differences: ArrayLike,
    *,
    groups: Sequence[Hashable] | None = None,
    iterations: int = 10_000,
    seed: int = 0,
    confidence: float = 0.95,
) -> list[PairedDifference]:
    """As :func:`paired_bootstrap` of each pair of systems, all over the same items.

    What is found of a pair is the same to the last digit whatever others are there.

    Args:
        differences: Shape (pairs, n), finite: the second system's value minus the first's.
        groups: As there; so are the others.

    Raises:
        ValueError: as there.
    """
    rows = np.asarray(differences, dtype=np.float64)
    if rows.ndim != 2 or not rows.size:
        raise ValueError(f"differences have the shape {rows.shape}; it must be (pairs, n)")
    if not np.isfinite(rows).all():
        raise ValueError("differences are not all finite")
    if not 0 < confidence < 1:
        raise ValueError(f"confidence is {confidence}; it must lie between 0 and 1")
    n = rows.shape[1]
    index, counts = grouping(n, tuple(range(n) if groups is None else groups))
    if len(counts) < 2:
        raise ValueError(f"all {n} items are of one group; two groups are needed")
    sums = np.array(sums_of(rows, index))
    observed = sums.sum(axis=1) / n
    exact = _are_exact(sums, n)
    counted = exact & _are_counted(sums, counts)
    sizes = _items_drawn(tuple(counts.tolist()), iterations, seed)
    least = sign_flip_p(sums)
    # A resample has as many groups as there are, so that each total of these is n more: from 0 on.
    sums[counted] += counts[0]
    found: dict[int, PairedDifference] = {}
    tables: list[NDArray[np.intp]] = []
    for are_exact in (True, False):
        pairs = np.flatnonzero(exact == are_exact).tolist()
        totals = _totals(sums[pairs], iterations, seed, exact=are_exact)
        for pair, total in zip(pairs, totals, strict=True):
            if counted[pair]:
                tables.append(np.bincount(total.astype(np.int32), minlength=2 * n + 1))
            else:
                found[pair] = summarize(
                    float(observed[pair]),
                    total / sizes,
                    n=n,
                    n_groups=len(counts),
                    confidence=confidence,
                    least_p=float(least[pair]),
                )
    summaries = _summaries(tables, observed[counted], least[counted], n, len(counts), confidence)
    found |= zip(np.flatnonzero(counted).tolist(), summaries, strict=True)
    return [found[pair] for pair in range(len(rows))]


def _are_exact(sums: Floats, n: int) -> NDArray[np.bool_]:
    """Of which pairs every total is a whole number that single precision holds."""
    most = np.abs(sums).max(axis=1) * sums.shape[1]
    return np.asarray((sums == np.rint(sums)).all(axis=1) & (np.maximum(most, 2 * n) < 2**24))


def _are_counted(sums: Floats, counts: Floats) -> NDArray[np.bool_]:
    """Of which pairs a total is one of 2 n + 1 whole numbers, so that counting them is enough.

    Those whose groups all have as many items and whole sums, as those of right and wrong are.
    """
    if (counts != counts[0]).any():
        return np.zeros(len(sums), dtype=np.bool_)
    return np.asarray((np.abs(sums) <= counts[0]).all(axis=1))


def _totals(
    sums: Floats, iterations: int, seed: int, *, exact: bool
) -> Iterator[NDArray[np.floating[Any]]]:
    """Each pair's sums of resamples, (pairs, groups) -> pairs times (iterations,).

    ``exact`` ones are made in single precision, which takes half the time. An array is good until
    the next one is asked for.
    """
    # Always a product of as many rows: other products may round the last digit otherwise.
    at_once, dtype = (_EXACT_AT_ONCE, np.float32) if exact else (_PAIRS_AT_ONCE, np.float64)
    block = np.zeros((at_once, sums.shape[1]), dtype=dtype)
    totals = np.empty((at_once, iterations), dtype=dtype)
    for start in range(0, len(sums), at_once):
        pairs = sums[start : start + at_once]
        block[: len(pairs)] = pairs
        done = 0
        for times in draws(sums.shape[1], iterations, seed, single=exact):
            np.matmul(block, times.T, out=totals[:, done : done + len(times)])
            done += len(times)
        yield from totals[: len(pairs)]


@lru_cache(maxsize=4)
def _items_drawn(counts: tuple[float, ...], iterations: int, seed: int) -> Floats:
    """The number of items in each resample of groups of these sizes; shape (iterations,)."""
    sizes = np.asarray(counts)
    blocks = draws(len(sizes), iterations, seed, single=True)  # those of the exact products
    return np.concatenate([times @ sizes for times in blocks])


def _summaries(
    tables: Sequence[NDArray[np.intp]],
    observed: Floats,
    least_p: Floats,
    n: int,
    n_groups: int,
    confidence: float,
) -> list[PairedDifference]:
    """As :func:`summarize` of each pair, from how often each total from -n to n came."""
    if not tables:
        return []
    times = np.stack(tables)
    iterations = int(times[0].sum())
    values = np.arange(-n, n + 1) / n
    deviations = values - observed[:, None]
    reach = np.abs(observed)[:, None] * (1 - 1e-9)
    extreme = (times * (np.abs(deviations) >= reach)).sum(axis=1)
    total, squares = (times * deviations).sum(axis=1), (times * deviations**2).sum(axis=1)
    stderr = np.sqrt(np.maximum(0, squares - total**2 / iterations) / (iterations - 1))
    up_to = times.cumsum(axis=1)

    def ranked(rank: int) -> Floats:
        return np.asarray(values[(up_to <= rank).sum(axis=1)])

    place = (1 - confidence) / 2 * (iterations - 1)
    rank, last = int(place), iterations - 1
    low = _between(ranked(rank), ranked(rank + 1), place)
    high = _between(ranked(last - rank), ranked(last - rank - 1), place)
    p_value = np.maximum(least_p, (1 + extreme) / (1 + iterations))
    columns = (column.tolist() for column in (observed, stderr, low, high, p_value))
    return [
        PairedDifference(difference, error, lower, upper, p, n, n_groups)
        for difference, error, lower, upper, p in zip(*columns, strict=True)
    ]


def summarize(
    observed: float,
    resampled: Floats,
    *,
    n: int,
    n_groups: int,
    confidence: float = 0.95,
    least_p: float = 0.0,
) -> PairedDifference:
    """The interval and p of a difference observed, from resampled ones, shape (iterations,).

    The interval is the percentile interval. p is the share of resampled differences, shifted to
    a mean difference of 0, that lie at least as far from 0 as the one observed; or ``least_p``
    where that is larger.
    """
    iterations = len(resampled)
    deviations = resampled - observed
    total = float(deviations.sum())
    distances = np.abs(deviations)
    # Scores are multiples of 1/n, so ties are common and must not be decided by rounding.
    extreme = int(np.count_nonzero(distances >= abs(observed) * (1 - 1e-9)))
    # Around the difference observed, their mean but for chance: no digits cancel.
    squares = float(np.square(deviations, out=deviations).sum())
    stderr = math.sqrt(max(0.0, squares - total * total / iterations) / (iterations - 1))
    share = (1 - confidence) / 2
    tails = np.sort(resampled[distances > 1.6 * stderr])
    low_ones = int(np.searchsorted(tails, observed))
    if min(low_ones, len(tails) - low_ones) < share * iterations + 2:
        tails = np.sort(resampled)  # all of them: a wide share, or a skewed distribution
    return PairedDifference(
        difference=observed,
        stderr=stderr,
        low=_quantile(tails, share, iterations),
        high=-_quantile(-tails[::-1], share, iterations),
        p_value=max(least_p, (1 + extreme) / (1 + iterations)),
        n=n,
        n_groups=n_groups,
    )


def _quantile(lowest: Floats, share: float, count: int) -> float:
    """As ``np.quantile``, of ``count`` values of which the lowest are here, sorted.

    Thousands of comparisons stand in a leaderboard, and of each most values are in between.
    """
    place = share * (count - 1)
    first, second = lowest[int(place) : int(place) + 2].tolist()
    return float(_between(first, second, place))


def _between(first: _Number, second: _Number, place: float) -> _Number:
    """What lies at a place between two neighbours in rank; the first's rank is its whole part."""
    return second - (second - first) * (int(place) + 1 - place)
