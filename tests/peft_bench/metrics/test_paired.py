from __future__ import annotations

import dataclasses
import math

import numpy as np
import pytest
from scipy import stats

from peft_bench.metrics.bootstrap import draws
from peft_bench.metrics.paired import paired_bootstrap, paired_bootstraps, summarize
from peft_bench.metrics.sign_flip import COUNTED, sign_flip_p


def binary(n: int, share: float, seed: int = 0) -> np.ndarray:
    return (np.random.default_rng(seed).random(n) < share).astype(float)


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


@pytest.mark.parametrize("n", [1, 2, 5, 7, 8, COUNTED])
def test_few_changes_are_no_surer_than_their_signs(n: int) -> None:
    """Right and wrong: the sign test. Questions that did not change make no difference."""
    for better in range(n + 1):
        changes = [1.0] * better + [-1.0] * (n - better)
        exact = stats.binomtest(better, n).pvalue
        assert sign_flip_p(np.array([changes]))[0] == pytest.approx(exact, rel=1e-12)
        for same in (3, 200):
            found = paired_bootstrap([0.0] * (n + same), changes + [0.0] * same, iterations=200)
            assert found.p_value >= exact * (1 - 1e-12)
    five = paired_bootstrap([0] * 5, [1] * 5)
    assert five.p_value == 0.0625


def test_flipped_signs_equal_scipy() -> None:
    rng = np.random.default_rng(17)
    rows = [rng.normal(0.4, 1, 9), np.round(rng.normal(0.4, 1, 9), 1), np.zeros(9)]
    theirs = [
        stats.permutation_test((row,), np.mean, permutation_type="samples", n_resamples=np.inf)
        for row in rows
    ]
    assert sign_flip_p(np.array(rows)) == pytest.approx([each.pvalue for each in theirs])


def test_many_changes_have_the_least_p_there_is() -> None:
    rows = np.ones((2, COUNTED + 1))
    rows[1, 0] = 0
    assert sign_flip_p(rows).tolist() == [2.0**-COUNTED, 2.0 ** (1 - COUNTED)]


@pytest.mark.parametrize("n", [5, 8, 12, 20])
def test_false_alarms_of_few_questions_are_no_more_than_p_says(n: int) -> None:
    rng = np.random.default_rng(18)
    for differences in (rng.normal(size=(1000, n)), rng.choice([-1.0, 0.0, 1.0], size=(1000, n))):
        p = np.array([one.p_value for one in paired_bootstraps(differences, iterations=500)])
        assert (p < 0.05).sum() <= 72  # 50 expected, standard deviation 7
        assert (p < 0.005).sum() <= 12


def test_confidence_sets_the_width() -> None:
    a, b = binary(200, 0.3, 15), binary(200, 0.5, 16)
    wide, narrow = (paired_bootstrap(a, b, confidence=c) for c in (0.99, 0.8))
    assert wide.low < narrow.low < narrow.high < wide.high


@pytest.mark.parametrize("confidence", [0.5, 0.9, 0.95, 0.99])
@pytest.mark.parametrize("n", [2, 3, 40, 10_000])
def test_the_interval_is_numpy_s_percentiles(n: int, confidence: float) -> None:
    rng = np.random.default_rng(n)
    for values in (rng.normal(size=n), rng.integers(-4, 5, size=n) / 20, rng.exponential(size=n)):
        found = summarize(0.1, values, n=n, n_groups=n, confidence=confidence)
        ends = np.quantile(values, [(1 - confidence) / 2, (1 + confidence) / 2])
        assert [found.low, found.high] == pytest.approx(ends, rel=1e-12, abs=1e-15)


@pytest.mark.parametrize("groups", [None, [i // 4 for i in range(60)]])
@pytest.mark.parametrize("confidence", [0.5, 0.95])
def test_what_is_counted_is_what_resamples_summarized_are(
    groups: list[int] | None, confidence: float
) -> None:
    """Right and wrong are counted; the same resamples, summarized one by one, are the reference."""
    pairs = [binary(60, 0.6, i) - binary(60, 0.4, 100 + i) for i in range(40)]
    pairs += [np.zeros(60), np.ones(60), -np.ones(60)]
    found = paired_bootstraps(pairs, groups=groups, iterations=2000, confidence=confidence)
    number = len(set(groups or range(60)))
    times = np.concatenate(list(draws(number, 2000, 0)))
    for differences, one in zip(pairs, found, strict=True):
        sums = differences.reshape(number, -1).sum(axis=1)
        expected = summarize(
            float(differences.mean()),
            times @ sums / 60,
            n=60,
            n_groups=number,
            confidence=confidence,
            least_p=sign_flip_p(sums[None])[0],
        )
        assert dataclasses.astuple(one) == pytest.approx(
            dataclasses.astuple(expected), rel=1e-12, abs=1e-15
        )


def test_whole_sums_of_questions_of_other_sizes_lose_no_digit() -> None:
    """The resamples in double precision, summarized one by one, are the reference."""
    rng = np.random.default_rng(31)
    n, number = 90, 40
    groups = np.concatenate([np.arange(number), rng.integers(number, size=n - number)])
    pairs = rng.integers(-3, 4, size=(70, n)).astype(float)
    sums = np.stack([np.bincount(groups, weights=pair, minlength=number) for pair in pairs])
    times = np.concatenate(list(draws(number, 500, 0)))
    sizes = times @ np.bincount(groups)
    found = paired_bootstraps(pairs, groups=groups.tolist(), iterations=500)
    expected = [
        summarize(pair.sum() / n, times @ own / sizes, n=n, n_groups=number)
        for pair, own in zip(pairs, sums, strict=True)
    ]
    assert found == expected


@pytest.mark.parametrize("size", [2.0**24, 2.0**40, 0.1])
def test_sums_that_single_precision_cannot_hold_are_made_in_double(size: float) -> None:
    pairs = np.array([[size, 1.0, 0.0, -size], [1.0, 0.0, 0.0, -1.0]])
    times = np.concatenate(list(draws(4, 300, 0)))
    found = paired_bootstraps(pairs, iterations=300)
    for pair, one in zip(pairs, found, strict=True):
        least = sign_flip_p(pair[None])[0]
        expected = summarize(pair.sum() / 4, times @ pair / 4, n=4, n_groups=4, least_p=least)
        assert dataclasses.astuple(one) == pytest.approx(dataclasses.astuple(expected), rel=1e-14)


@pytest.mark.parametrize("graded", [False, True])
def test_a_pair_is_compared_alike_alone_and_among_others(graded: bool) -> None:
    rng = np.random.default_rng(30)
    n = 75
    groups = rng.integers(40, size=n).tolist()
    pairs = rng.normal(size=(37, n)) if graded else rng.integers(-1, 2, size=(37, n))
    for given in (groups, None):
        together = paired_bootstraps(pairs, groups=given, iterations=500)
        alone = [paired_bootstrap(np.zeros(n), p, groups=given, iterations=500) for p in pairs]
        assert together == alone


def test_faulty_input_is_refused() -> None:
    for bad in (math.nan, math.inf):
        with pytest.raises(ValueError, match=r"b\[1\]"):
            paired_bootstrap([0.0, 1.0], [0.0, bad])
        with pytest.raises(ValueError, match="not all finite"):
            paired_bootstraps([[0.0, bad]])
    with pytest.raises(ValueError, match="a has 2 values and b has 3"):
        paired_bootstrap([0, 1], [0, 1, 1])
    with pytest.raises(ValueError, match="one group"):
        paired_bootstrap([0, 1], [1, 1], groups=["q", "q"])
    with pytest.raises(ValueError, match=r"shape \(2,\)"):
        paired_bootstraps([0.0, 1.0])
    with pytest.raises(ValueError, match="2 values and 1 groups"):
        paired_bootstraps([[0.0, 1.0]], groups=["q"])
    with pytest.raises(ValueError, match="iterations is 1"):
        paired_bootstrap([0, 1], [1, 1], iterations=1)
    for confidence in (0.0, 1.0, 95.0):
        with pytest.raises(ValueError, match=f"confidence is {confidence}"):
            paired_bootstrap([0, 1], [1, 1], confidence=confidence)
