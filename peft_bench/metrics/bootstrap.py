"""Standard errors and paired comparisons by resampling questions, not rows.

Several rows of a test set may come from one question (CoNaLa's 543 test rows from 350), so rows
are not independent, and resampling rows understates the error. Here whole groups are drawn with
replacement and the mean is taken over the rows of the groups drawn.

Sources: Efron and Tibshirani, "An Introduction to the Bootstrap" (1993), chapters 6, 13 and 16;
the +1 correction of p: Davison and Hinkley, "Bootstrap Methods and their Application" (1997), 4.2.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Hashable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import ArrayLike, NDArray

_DRAWS_AT_ONCE = 1 << 20  # group draws held in memory at a time: 8 MiB of indices
_KEPT_DRAWS = 1 << 23  # draws of up to so many groups in all are kept for the next comparison

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class PairedDifference:
    """What :func:`paired_bootstrap` found; every figure in the unit of the values.

    Attributes:
        difference: mean(b) - mean(a).
        stderr: Standard deviation of the resampled differences.
        low: Lower end of the percentile interval.
        high: Upper end of the percentile interval.
        p_value: Two-sided; never 0, at least 1 / (iterations + 1).
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


def bootstrap_stderr(
    values: ArrayLike,
    *,
    groups: Sequence[Hashable] | None = None,
    iterations: int = 1000,
    seed: int = 0,
) -> float:
    """Standard error of the mean of the values, in their unit.

    Args:
        values: Shape (n,), finite.
        groups: The group of each value, n of them; None makes every value a group.
        iterations: Resamples, 2 or more.
        seed: Of the random generator; equal seeds give equal results.

    Returns:
        The standard deviation of the resampled means; NaN for a single group, whose spread
        nobody can know.

    Raises:
        ValueError: for no values, values that are not finite or not of one dimension, groups of
            another length, or too few iterations.
    """
    sums, counts = _per_group(_vector("values", values), groups)
    if len(sums) == 1:
        return math.nan
    return float(np.std(_resampled_means(sums, counts, iterations, seed), ddof=1))


def bootstrap_corpus_stderr(
    statistics: ArrayLike,
    combine: Callable[[Floats], Floats],
    *,
    groups: Sequence[Hashable] | None = None,
    iterations: int = 1000,
    seed: int = 0,
) -> float:
    """Standard error of a corpus metric, one that is a function of summed statistics.

    Args:
        statistics: Shape (n, statistics), finite: what each row adds to the sums.
        combine: The metric of sums, [..., statistics] -> [...].
        groups: As in :func:`bootstrap_stderr`.
        iterations: Resamples, 2 or more.
        seed: Of the random generator; equal seeds give equal results.

    Returns:
        The standard deviation of the resampled metric; NaN for a single group.

    Raises:
        ValueError: for no rows, values that are not finite or not of two dimensions, groups of
            another length, or too few iterations.
    """
    rows = np.asarray(statistics, dtype=np.float64)
    if rows.ndim != 2 or not len(rows):
        raise ValueError(f"statistics have the shape {rows.shape}; it must be (n, statistics)")
    if not np.isfinite(rows).all():
        raise ValueError("statistics are not all finite")
    sums = group_sums(rows, groups)
    if len(sums) == 1:
        return math.nan
    if iterations < 2:
        raise ValueError(f"iterations is {iterations}; it must be 2 or more")
    rng = np.random.default_rng(seed)
    # How often each group is drawn; the sums of a resample are then one matrix product.
    times = rng.multinomial(len(sums), np.full(len(sums), 1 / len(sums)), size=iterations)
    return float(np.std(combine(times @ sums), ddof=1))


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
    a mean difference of 0, that lie at least as far from 0 as the one observed.

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
    first, second = _vector("a", a), _vector("b", b)
    if len(first) != len(second):
        raise ValueError(f"a has {len(first)} values and b has {len(second)}; they must be paired")
    if not 0 < confidence < 1:
        raise ValueError(f"confidence is {confidence}; it must lie between 0 and 1")
    sums, counts = _per_group(second - first, groups)
    if len(sums) < 2:
        raise ValueError(f"all {len(first)} items are of one group; two groups are needed")
    observed = float(sums.sum() / counts.sum())
    resampled = np.concatenate(
        [times @ sums for times in draws(len(sums), iterations, seed)]
    ) / _items_drawn(tuple(counts), iterations, seed)
    return summarize(observed, resampled, n=len(first), n_groups=len(sums), confidence=confidence)


def summarize(
    observed: float, resampled: Floats, *, n: int, n_groups: int, confidence: float = 0.95
) -> PairedDifference:
    """The interval and p of a difference observed, from resampled ones, shape (iterations,).

    The interval is the percentile interval. p is the share of resampled differences, shifted to
    a mean difference of 0, that lie at least as far from 0 as the one observed.
    """
    iterations = len(resampled)
    # Scores are multiples of 1/n, so ties are common and must not be decided by rounding.
    reach = abs(observed) * (1 - 1e-9)
    extreme = int(np.count_nonzero(np.abs(resampled - observed) >= reach))
    stderr = float(np.std(resampled, ddof=1))
    middle, inner = float(resampled.mean()), 1.4 * stderr
    share = (1 - confidence) / 2
    return PairedDifference(
        difference=observed,
        stderr=stderr,
        low=_low_quantile(resampled, share, below=middle - inner),
        high=-_low_quantile(-resampled, share, below=-middle - inner),
        p_value=(1 + extreme) / (1 + iterations),
        n=n,
        n_groups=n_groups,
    )


def _low_quantile(values: Floats, share: float, *, below: float) -> float:
    """As ``np.quantile(values, share)``, looked for among the values below a bound first.

    Thousands of comparisons stand in a leaderboard, and of each most values are in between.
    """
    place = share * (len(values) - 1)
    rank = int(place)
    tail = values[values < below]
    if len(tail) < rank + 2:
        tail = values
    first, second = np.partition(tail, (rank, rank + 1))[rank : rank + 2]
    return float(second - (second - first) * (rank + 1 - place))


def draws(groups: int, iterations: int, seed: int) -> Iterator[Floats]:
    """How often each group is drawn in each resample, in blocks of (resamples, groups).

    Every comparison over as many groups has the same draws, so those of a small number are kept.

    Raises:
        ValueError: for fewer than 2 iterations.
    """
    if iterations < 2:
        raise ValueError(f"iterations is {iterations}; it must be 2 or more")
    if groups * iterations <= _KEPT_DRAWS:
        yield from _kept_draws(groups, iterations, seed)
    else:
        yield from _draw(groups, iterations, seed)


@lru_cache(maxsize=4)
def _kept_draws(groups: int, iterations: int, seed: int) -> tuple[Floats, ...]:
    return tuple(_draw(groups, iterations, seed))


@lru_cache(maxsize=4)
def _items_drawn(counts: tuple[float, ...], iterations: int, seed: int) -> Floats:
    """The number of items in each resample of groups of these sizes; shape (iterations,)."""
    sizes = np.asarray(counts)
    return np.concatenate([times @ sizes for times in draws(len(sizes), iterations, seed)])


def _draw(groups: int, iterations: int, seed: int) -> Iterator[Floats]:
    rng = np.random.default_rng(seed)
    step = max(1, _DRAWS_AT_ONCE // groups)
    for start in range(0, iterations, step):
        rows = min(step, iterations - start)
        drawn = rng.integers(groups, size=(rows, groups))
        drawn += groups * np.arange(rows)[:, None]
        times = np.bincount(drawn.ravel(), minlength=rows * groups).reshape(rows, groups)
        yield times.astype(np.float64, order="F")  # products with a vector take half the time


def _vector(name: str, values: ArrayLike) -> Floats:
    vector = np.asarray(values, dtype=np.float64)
    if vector.ndim != 1:
        raise ValueError(f"{name} has {vector.ndim} dimensions; it must have 1")
    if not len(vector):
        raise ValueError(f"{name} is empty")
    bad = np.flatnonzero(~np.isfinite(vector))
    if len(bad):
        raise ValueError(f"{name}[{bad[0]}] is {vector[bad[0]]}; {len(bad)} values are not finite")
    return vector


def _per_group(values: Floats, groups: Sequence[Hashable] | None) -> tuple[Floats, Floats]:
    """The sum and the number of the values of each group, both of shape (groups,)."""
    if groups is None:
        return values, np.ones_like(values)
    index = _group_index(len(values), groups)
    sums = np.bincount(index, weights=values).astype(np.float64)
    return sums, np.bincount(index).astype(np.float64)


def group_sums(statistics: ArrayLike, groups: Sequence[Hashable] | None) -> Floats:
    """The statistics of each group summed: (n, statistics) -> (groups, statistics).

    Groups come in the order of their first item.
    """
    rows = np.asarray(statistics, dtype=np.float64)
    index = _group_index(len(rows), groups)
    return np.stack(
        [np.bincount(index, weights=column).astype(np.float64) for column in rows.T], axis=-1
    )


def _group_index(n: int, groups: Sequence[Hashable] | None) -> NDArray[np.intp]:
    """The number of each row's group, by first appearance; shape (n,)."""
    if groups is None:
        return np.arange(n)
    if len(groups) != n:
        raise ValueError(f"there are {n} values and {len(groups)} groups")
    numbers: dict[Hashable, int] = {}
    return np.array([numbers.setdefault(group, len(numbers)) for group in groups])


def _resampled_means(sums: Floats, counts: Floats, iterations: int, seed: int) -> Floats:
    """Means over groups drawn with replacement; shape (iterations,)."""
    if iterations < 2:
        raise ValueError(f"iterations is {iterations}; it must be 2 or more")
    rng = np.random.default_rng(seed)
    means = np.empty(iterations)
    step = max(1, _DRAWS_AT_ONCE // len(sums))
    for start in range(0, iterations, step):
        stop = min(start + step, iterations)
        drawn = rng.integers(len(sums), size=(stop - start, len(sums)))
        means[start:stop] = sums[drawn].sum(axis=1) / counts[drawn].sum(axis=1)
    return means
