from __future__ import annotations

import math
import tracemalloc

import numpy as np
import pytest
from scipy import stats

from peft_bench.metrics.bootstrap import bootstrap_corpus_stderr, bootstrap_stderr


def binary(n: int, share: float, seed: int = 0) -> np.ndarray:
    return (np.random.default_rng(seed).random(n) < share).astype(float)


def test_stderr_is_the_closed_form_of_a_mean() -> None:
    values = binary(500, 0.3)
    closed = values.std(ddof=0) / math.sqrt(len(values))
    assert bootstrap_stderr(values, iterations=20_000) == pytest.approx(closed, rel=0.02)


def test_stderr_equals_scipy() -> None:
    values = np.random.default_rng(1).gamma(2.0, size=120)
    theirs = stats.bootstrap((values,), np.mean, n_resamples=20_000, rng=2, method="percentile")
    ours = bootstrap_stderr(values, iterations=20_000)
    assert ours == pytest.approx(theirs.standard_error, rel=0.03)


def test_copies_of_a_row_in_one_group_add_no_certainty() -> None:
    values = binary(100, 0.4)
    groups = [f"q{i}" for i in range(100)]
    single = bootstrap_stderr(values, groups=groups, iterations=5000)
    copied = bootstrap_stderr(np.tile(values, 4), groups=groups * 4, iterations=5000)
    ignoring = bootstrap_stderr(np.tile(values, 4), iterations=5000)
    assert copied == pytest.approx(single, rel=1e-9)
    assert ignoring == pytest.approx(single / 2, rel=0.05)


def test_unequal_groups_match_the_ratio_estimator() -> None:
    rng = np.random.default_rng(3)
    sizes = rng.integers(1, 5, size=400)
    groups = np.repeat(np.arange(400), sizes)
    values = (rng.random(400)[groups] + rng.random(len(groups)) < 1.0).astype(float)
    # Linearised variance of a ratio of group sums to group sizes (Cochran, Sampling Techniques, 6).
    sums = np.bincount(groups, weights=values)
    residuals = sums - values.mean() * sizes
    closed = math.sqrt((residuals**2).sum()) / sizes.sum()
    ours = bootstrap_stderr(values, groups=groups.tolist(), iterations=20_000)
    assert ours == pytest.approx(closed, rel=0.03)


def test_stderr_of_one_group_is_unknown() -> None:
    assert math.isnan(bootstrap_stderr([1.0]))
    assert math.isnan(bootstrap_stderr([1.0, 0.0], groups=["q", "q"]))


def test_equal_seeds_give_equal_results_and_others_do_not() -> None:
    values = binary(50, 0.5)
    assert bootstrap_stderr(values, seed=4) == bootstrap_stderr(values, seed=4)
    assert bootstrap_stderr(values, seed=4) != bootstrap_stderr(values, seed=5)


def test_memory_is_bounded() -> None:
    values = binary(20_000, 0.5)
    tracemalloc.start()
    bootstrap_stderr(values, iterations=1000)  # 160 MB at once
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 64e6


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_values_that_are_no_numbers_are_refused(bad: float) -> None:
    with pytest.raises(ValueError, match=r"values\[1\]"):
        bootstrap_stderr([0.0, bad])


def test_faulty_shapes_are_refused() -> None:
    with pytest.raises(ValueError, match="values is empty"):
        bootstrap_stderr([])
    with pytest.raises(ValueError, match="2 dimensions"):
        bootstrap_stderr([[0.0, 1.0]])
    with pytest.raises(ValueError, match="2 values and 1 groups"):
        bootstrap_stderr([0, 1], groups=["q"])


def test_too_few_iterations_are_refused() -> None:
    with pytest.raises(ValueError, match="iterations is 1"):
        bootstrap_stderr([0, 1], iterations=1)


def mean_of_sums(sums: np.ndarray) -> np.ndarray:
    return sums[..., 0] / sums[..., 1]


def test_corpus_stderr_of_a_mean_is_the_means() -> None:
    values = binary(300, 0.4, 20)
    groups = [i // 3 for i in range(300)]
    rows = np.stack([values, np.ones_like(values)], axis=1)
    corpus = bootstrap_corpus_stderr(rows, mean_of_sums, groups=groups, iterations=20_000)
    mean = bootstrap_stderr(values, groups=groups, iterations=20_000)
    assert corpus == pytest.approx(mean, rel=0.03)


def test_corpus_stderr_of_a_ratio_equals_scipy() -> None:
    rng = np.random.default_rng(21)
    below = rng.integers(1, 20, size=150).astype(float)
    above = rng.binomial(below.astype(int), 0.6).astype(float)
    theirs = stats.bootstrap(
        (above, below),
        lambda a, b, axis: a.sum(axis=axis) / b.sum(axis=axis),
        paired=True,
        n_resamples=20_000,
        rng=22,
        method="percentile",
    )
    rows = np.stack([above, below], axis=1)
    ours = bootstrap_corpus_stderr(rows, mean_of_sums, iterations=20_000)
    assert ours == pytest.approx(theirs.standard_error, rel=0.03)


def test_corpus_stderr_resamples_groups_and_repeats_itself() -> None:
    rows = np.stack([binary(80, 0.5, 23), np.ones(80)], axis=1)
    copies, groups = np.tile(rows, (3, 1)), list(range(80)) * 3
    single = bootstrap_corpus_stderr(rows, mean_of_sums, seed=1)
    assert bootstrap_corpus_stderr(copies, mean_of_sums, groups=groups, seed=1) == pytest.approx(
        single, rel=1e-9
    )
    assert bootstrap_corpus_stderr(rows, mean_of_sums, seed=2) != single
    assert math.isnan(bootstrap_corpus_stderr(rows, mean_of_sums, groups=[0] * 80))


def test_corpus_stderr_refuses_what_it_cannot_use() -> None:
    with pytest.raises(ValueError, match=r"shape \(2,\)"):
        bootstrap_corpus_stderr([1.0, 2.0], mean_of_sums)
    with pytest.raises(ValueError, match="not all finite"):
        bootstrap_corpus_stderr([[1.0, math.nan]], mean_of_sums)
    with pytest.raises(ValueError, match="2 values and 1 groups"):
        bootstrap_corpus_stderr([[1.0, 1.0]] * 2, mean_of_sums, groups=["q"])
    with pytest.raises(ValueError, match="iterations is 1"):
        bootstrap_corpus_stderr([[1.0, 1.0]] * 2, mean_of_sums, iterations=1)
