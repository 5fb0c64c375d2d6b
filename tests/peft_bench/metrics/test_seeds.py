from __future__ import annotations

import itertools
import math

import numpy as np
import pytest

from peft_bench.metrics.bootstrap import draws
from peft_bench.metrics.corpus import COMBINE
from peft_bench.metrics.paired import paired_bootstrap
from peft_bench.metrics.seeds import _least_p, as_sums, compare_systems, seed_band
from peft_bench.metrics.text import bleu_statistics

RNG = np.random.default_rng(7)
N = 200
GROUPS = [i // 2 for i in range(N)]


def scores(rate: float) -> np.ndarray:
    return (RNG.random(N) < rate).astype(float)


def test_one_seed_of_a_mean_is_the_paired_bootstrap() -> None:
    a, b = scores(0.3), scores(0.5)
    found = compare_systems([as_sums(a)], [as_sums(b)], groups=GROUPS)
    known = paired_bootstrap(a, b, groups=GROUPS)
    assert found.difference == pytest.approx(known.difference)
    assert (found.low, found.high) == pytest.approx((known.low, known.high), abs=1e-12)
    assert found.p_value == known.p_value
    assert (found.n, found.n_groups) == (N, N // 2)


def test_seeds_that_disagree_widen_the_interval_and_equal_ones_do_not() -> None:
    base, one = scores(0.3), scores(0.5)
    alone = compare_systems([as_sums(base)], [as_sums(one)], groups=GROUPS)
    thrice = compare_systems([as_sums(base)], [as_sums(one)] * 3, groups=GROUPS)
    assert (thrice.low, thrice.high) == pytest.approx((alone.low, alone.high), abs=1e-12)
    seeds = [as_sums(scores(rate)) for rate in (0.2, 0.5, 0.8)]
    spread = compare_systems([as_sums(base)], seeds, groups=GROUPS)
    assert spread.stderr > 2 * alone.stderr
    assert spread.low < 0 < spread.high


def test_false_alarms_are_as_many_as_the_level_says() -> None:
    # Two systems of equal quality, each with seeds of its own: 5 % of p below 0.05, or fewer.
    rng = np.random.default_rng(0)
    alarms = 0
    for _ in range(200):
        hardness = rng.random(N)
        runs = []
        for _seed in range(8):
            skill = 0.5 + 0.08 * rng.standard_normal()
            runs.append(as_sums((hardness < skill + 0.2 * rng.standard_normal(N)).astype(float)))
        found = compare_systems(runs[:4], runs[4:], iterations=400)
        alarms += found.p_value < 0.05
    assert alarms <= 24  # with 4 seeds somewhat more than 5 %: the resampling of few seeds


def test_few_questions_are_no_surer_than_their_signs() -> None:
    base, better = as_sums([0.0] * 5), as_sums([1.0] * 5)
    assert compare_systems([base], [better]).p_value == 0.0625
    assert compare_systems([base], [better] * 3).p_value == 0.0625
    texts = [bleu_statistics("a b c d e", text) for text in ("a b c d e", "a b z z z")]
    found = compare_systems([[texts[1]] * 5], [[texts[0]] * 5], COMBINE["bleu"])
    assert (found.difference > 0.3, found.p_value) == (True, 0.0625)


def test_few_questions_of_a_corpus_metric_are_swapped_in_every_way() -> None:
    texts = ["a b c d e", "a b c x e", "a b y z e", "a b c d"]
    rng = np.random.default_rng(3)
    first, second = (
        np.array([bleu_statistics("a b c d e", texts[i]) for i in rng.integers(4, size=8)])
        for _ in range(2)
    )
    combine = COMBINE["bleu"]
    found = compare_systems([first], [second], combine)
    swaps = [np.array(each)[:, None] for each in itertools.product((False, True), repeat=8)]
    differences = [
        combine(np.where(swap, first, second).sum(0) + 0.0)
        - combine(np.where(swap, second, first).sum(0) + 0.0)
        for swap in swaps
    ]
    exact = np.mean(np.abs(differences) >= abs(found.difference) * (1 - 1e-9))
    assert 0.01 < exact < 1
    assert found.p_value >= exact * (1 - 1e-12)
    assert _least_p(first + 0.0, second + 0.0, combine) == pytest.approx(exact)


def test_a_corpus_metric_is_resampled_as_one() -> None:
    texts = [("a b c d e", "a b c d e"), ("a b x d e", "a b c d e"), ("q r", "a b c d e")] * 20
    good = [bleu_statistics(reference, answer) for answer, reference in texts]
    bad = [bleu_statistics(reference, "a b z z z") for _, reference in texts]
    combine = COMBINE["bleu"]
    found = compare_systems([bad], [good], combine)
    values = [float(combine(np.sum(rows, axis=0))) for rows in (bad, good)]
    assert found.difference == pytest.approx(values[1] - values[0])
    # The same by hand, a resample at a time.
    times = np.concatenate(list(draws(len(texts), 10_000, 0)))[:300]
    by_hand = [float(combine(t @ np.array(good)) - combine(t @ np.array(bad))) for t in times]
    assert np.std(by_hand) == pytest.approx(found.stderr, rel=0.2)
    assert found.p_value < 0.01


def test_a_band_is_mean_and_range() -> None:
    seeds = [as_sums(np.repeat([1.0, 0.0], [k, N - k])) for k in (20, 40, 90)]
    band = seed_band(seeds)
    assert (band.mean, band.low, band.high, band.seeds) == (0.25, 0.1, 0.45, 3)
    assert band.stderr > seed_band(seeds[:1]).stderr
    assert math.isnan(seed_band(seeds, groups=["one"] * N).stderr)


def test_faults_are_told() -> None:
    one = as_sums([1, 0, 1])
    with pytest.raises(ValueError, match="alike"):
        compare_systems([], [one])
    with pytest.raises(ValueError, match="shapes"):
        compare_systems([one], [as_sums([1, 0])])
    with pytest.raises(ValueError, match="one group"):
        compare_systems([one], [one], groups=[1, 1, 1])
    with pytest.raises(ValueError, match="finite"):
        compare_systems([one], [as_sums([1, math.nan, 1])])
    with pytest.raises(ValueError, match="no items"):
        compare_systems([one[:0]], [one[:0]])


def test_kept_draws_are_those_drawn_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    kept = np.concatenate(list(draws(30, 500, 3)))
    monkeypatch.setattr("peft_bench.metrics.bootstrap._KEPT_DRAWS", 0)
    assert (np.concatenate(list(draws(30, 500, 3))) == kept).all()
    assert (kept.sum(axis=1) == 30).all()


def test_corpus_metrics_are_the_tasks_own() -> None:
    from peft_bench.snippets import METRICS

    own = {metric.name: metric.combine for metric in METRICS if metric.combine is not None}
    assert own.keys() == COMBINE.keys()
    sums = {"bleu": 10, "chrf++": 24}
    for name, combine in own.items():
        rows = np.random.default_rng(1).integers(1, 20, size=(4, sums.get(name, 23)))
        assert combine(rows.astype(float)) == pytest.approx(COMBINE[name](rows.astype(float)))
