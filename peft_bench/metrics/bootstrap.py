"""Standard errors by resampling questions, not rows.

Several rows of a test set may come from one question (CoNaLa's 543 test rows from 350), so rows
are not independent, and resampling rows understates the error. Here whole groups are drawn with
replacement and the mean is taken over the rows of the groups drawn.

Source: Efron and Tibshirani, "An Introduction to the Bootstrap" (1993), chapter 6.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Hashable, Iterator, Sequence
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

_DRAWS_AT_ONCE = 1 << 20  # group draws held in memory at a time: 8 MiB of indices
_KEPT_DRAWS = 1 << 23  # draws of up to so many groups in all are kept for the next comparison

Floats = NDArray[np.float64]


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
    sums, counts = _per_group(vector("values", values), groups)
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


def draws(
    groups: int, iterations: int, seed: int, *, single: bool = False
) -> Iterator[NDArray[Any]]:
    """How often each group is drawn in each resample, in blocks of (resamples, groups).

    Every comparison over as many groups has the same draws, so those of a small number are kept.

    Args:
        groups: Their number.
        iterations: Resamples.
        seed: Of the random generator.
        single: Gives the same numbers in single precision.

    Raises:
        ValueError: for fewer than 2 iterations.
    """
    if iterations < 2:
        raise ValueError(f"iterations is {iterations}; it must be 2 or more")
    if groups * iterations <= _KEPT_DRAWS:
        yield from _kept_draws(groups, iterations, seed, single)
    else:
        yield from _draw(groups, iterations, seed, single)


@lru_cache(maxsize=4)
def _kept_draws(groups: int, iterations: int, seed: int, single: bool) -> tuple[NDArray[Any], ...]:
    return tuple(_draw(groups, iterations, seed, single))


def _draw(groups: int, iterations: int, seed: int, single: bool) -> Iterator[NDArray[Any]]:
    rng = np.random.default_rng(seed)
    step = max(1, _DRAWS_AT_ONCE // groups)
    for start in range(0, iterations, step):
        rows = min(step, iterations - start)
        drawn = rng.integers(groups, size=(rows, groups))
        drawn += groups * np.arange(rows)[:, None]
        times = np.bincount(drawn.ravel(), minlength=rows * groups).reshape(rows, groups)
        dtype = np.float32 if single else np.float64
        yield times.astype(dtype, order="F")  # products with a vector take half the time


def vector(name: str, values: ArrayLike) -> Floats:
    """Finite values of shape (n,), or a ValueError that names them."""
    vector = np.asarray(values, dtype=np.float64)
    if vector.ndim != 1:
        raise ValueError(f"{name} has {vector.ndim} dimensions; it must have 1")
    if not len(vector):
        raise ValueError(f"{name} is empty")
    if not np.isfinite(vector).all():
        bad = np.flatnonzero(~np.isfinite(vector))
        raise ValueError(f"{name}[{bad[0]}] is {vector[bad[0]]}; {len(bad)} values are not finite")
    return vector


def _per_group(values: Floats, groups: Sequence[Hashable] | None) -> tuple[Floats, Floats]:
    """The sum and the number of the values of each group, both of shape (groups,)."""
    if groups is None:
        return values, np.ones_like(values)
    index, counts = grouping(len(values), tuple(groups))
    return sums_of(values[None], index)[0], counts


def sums_of(rows: Floats, index: NDArray[np.intp]) -> Floats:
    """The values of each group summed, in each row: (rows, n) -> (rows, groups)."""
    groups = int(index.max()) + 1
    if groups == rows.shape[1]:
        return rows
    places = index + groups * np.arange(len(rows))[:, None]
    sums = np.bincount(places.ravel(), weights=rows.ravel(), minlength=groups * len(rows))
    return np.asarray(sums, dtype=np.float64).reshape(len(rows), groups)


@lru_cache(maxsize=16)
def grouping(n: int, groups: tuple[Hashable, ...]) -> tuple[NDArray[np.intp], Floats]:
    """The number of each row's group, and how many rows each has."""
    index = _group_index(n, groups)
    return index, np.bincount(index).astype(np.float64)


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
