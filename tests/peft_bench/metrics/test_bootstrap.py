from __future__ import annotations

import dataclasses
import math
import tracemalloc

import numpy as np
import pytest
from scipy import stats

from peft_bench.metrics.bootstrap import (
    bootstrap_corpus_stderr,
    bootstrap_stderr,
    paired_bootstrap,
    summarize,
)


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


def test_paired_equals_scipy() -> None:
    a, b = binary(300, 0.3, 5), binary(300, 0.45, 6)
    theirs = stats.bootstrap((b - a,), np.mean, n_resamples=20_000, rng=7, method="percentile")
    ours = paired_bootstrap(a, b, iterations=20_000)
    assert ours.difference == pytest.approx(b.mean() - a.mean(), abs=1e-12)
    assert ours.stderr == pytest.approx(theirs.standard_error, rel=0.03)
    assert ours.low == pytest.approx(theirs.confidence_interval.low, abs=0.005)
    assert ours.high == pytest.approx(theirs.confidence_interval.high, abs=0.005)
    assert (ours.n, ours.n_groups) == (300, 300)


def test_p_is_near_the_t_test_of_large_samples() -> None:
    rng = np.random.default_rng(8)
    a = rng.normal(size=400)
    b = a + rng.normal(0.11, 1.0, size=400)
    theirs = stats.ttest_rel(b, a).pvalue
    assert 0.005 < theirs < 0.2  # else the comparison says little
    assert paired_bootstrap(a, b, iterations=20_000).p_value == pytest.approx(theirs, rel=0.15)


def test_p_is_never_zero_and_one_without_any_difference() -> None:
    assert paired_bootstrap([0] * 50, [1] * 50, iterations=999).p_value == 1 / 1000
    same = paired_bootstrap([0, 1, 0, 1], [0, 1, 0, 1], iterations=99)
    assert dataclasses.astuple(same) == (0.0, 0.0, 0.0, 0.0, 1.0, 4, 4)


def test_swapping_the_systems_mirrors_the_result() -> None:
    a, b = binary(80, 0.2, 9), binary(80, 0.5, 10)
    there, back = paired_bootstrap(a, b), paired_bootstrap(b, a)
    assert back.difference == -there.difference
    assert back.low == pytest.approx(-there.high)
    assert back.high == pytest.approx(-there.low)
    assert back.p_value == there.p_value


def test_groups_widen_the_interval_of_dependent_rows() -> None:
    a, b = binary(100, 0.3, 11), binary(100, 0.4, 12)
    groups = list(range(100)) * 3
    by_row = paired_bootstrap(np.tile(a, 3), np.tile(b, 3))
    by_group = paired_bootstrap(np.tile(a, 3), np.tile(b, 3), groups=groups)
    assert by_group.stderr == pytest.approx(by_row.stderr * math.sqrt(3), rel=0.05)
    assert (by_group.n, by_group.n_groups) == (300, 100)


def test_interval_covers_the_truth_as_often_as_it_says() -> None:
    rng = np.random.default_rng(13)
    runs, covered = 300, 0
    for seed in range(runs):
        a = rng.random(120) < 0.3
        b = rng.random(120) < 0.5
        found = paired_bootstrap(a, b, iterations=500, seed=seed)
        covered += found.low <= 0.2 <= found.high
    # 95 % of 300 is 285, standard deviation 3.8.
    assert 270 <= covered <= 297


def test_false_alarms_are_as_rare_as_p_says() -> None:
    rng = np.random.default_rng(14)
    p = [
        paired_bootstrap(
            rng.random(100) < 0.4, rng.random(100) < 0.4, iterations=400, seed=seed
        ).p_value
        for seed in range(300)
    ]
    assert 3 <= sum(value < 0.05 for value in p) <= 29  # 15 expected


def test_confidence_sets_the_width() -> None:
    a, b = binary(200, 0.3, 15), binary(200, 0.5, 16)
    wide, narrow = (paired_bootstrap(a, b, confidence=c) for c in (0.99, 0.8))
    assert wide.low < narrow.low < narrow.high < wide.high


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
    with pytest.raises(ValueError, match=r"b\[1\]"):
        paired_bootstrap([0.0, 1.0], [0.0, bad])


def test_faulty_shapes_are_refused() -> None:
    with pytest.raises(ValueError, match="values is empty"):
        bootstrap_stderr([])
    with pytest.raises(ValueError, match="2 dimensions"):
        bootstrap_stderr([[0.0, 1.0]])
    with pytest.raises(ValueError, match="a has 2 values and b has 3"):
        paired_bootstrap([0, 1], [0, 1, 1])
    with pytest.raises(ValueError, match="2 values and 1 groups"):
        bootstrap_stderr([0, 1], groups=["q"])
    with pytest.raises(ValueError, match="one group"):
        paired_bootstrap([0, 1], [1, 1], groups=["q", "q"])


def test_faulty_settings_are_refused() -> None:
    with pytest.raises(ValueError, match="iterations is 1"):
        bootstrap_stderr([0, 1], iterations=1)
    for confidence in (0.0, 1.0, 95.0):
        with pytest.raises(ValueError, match=f"confidence is {confidence}"):
            paired_bootstrap([0, 1], [1, 1], confidence=confidence)


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


@pytest.mark.parametrize("confidence", [0.5, 0.9, 0.95, 0.99])
@pytest.mark.parametrize("n", [2, 3, 40, 10_000])
def test_the_interval_is_numpy_s_percentiles(n: int, confidence: float) -> None:
    rng = np.random.default_rng(n)
    for values in (rng.normal(size=n), rng.integers(-4, 5, size=n) / 20, rng.exponential(size=n)):
        found = summarize(0.1, values, n=n, n_groups=n, confidence=confidence)
        ends = np.quantile(values, [(1 - confidence) / 2, (1 + confidence) / 2])
        assert [found.low, found.high] == pytest.approx(ends, rel=1e-12, abs=1e-15)
