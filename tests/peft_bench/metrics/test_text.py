"""BLEU and chrF++ against sacrebleu's own corpus scores, which are public and known."""

from __future__ import annotations

import random

import numpy as np
import pytest
from sacrebleu.metrics.bleu import BLEU
from sacrebleu.metrics.chrf import CHRF

from peft_bench.metrics.text import (
    BLEU_STATISTICS,
    CHRF_STATISTICS,
    bleu_statistics,
    chrf_statistics,
    combine_bleu,
    combine_chrf,
    corpus_bleu,
    corpus_chrf,
    signatures,
)

PAIRS = [
    ("sorted(xs, key=len)", "sorted(xs, key=len)"),
    ("sorted(xs, key=len)", "sorted(ys)"),
    ("x = y + 1", ""),
    ("a.b.c(d)", "import os\nos.getcwd()"),
    ("print('naïve — café')", "print('naive')"),
    ("for i in range(10):\n    print(i)", "for i in range(10): print(i)"),
    ("x", "x"),
    ("", "x"),
    ("if a and b:\n\treturn a[0]", "return a [ 0 ] if a and b else None ."),
    ("d = {k: v for k, v in zip(ks, vs)}", "d = dict(zip(ks, vs))"),
]


def theirs(pairs: list[tuple[str, str]]) -> tuple[float, float]:
    references, hypotheses = zip(*pairs, strict=True)
    bleu = BLEU().corpus_score(hypotheses, [references]).score
    chrf = CHRF(word_order=2).corpus_score(hypotheses, [references]).score
    return bleu / 100, chrf / 100


def ours(pairs: list[tuple[str, str]]) -> tuple[float, float]:
    references, hypotheses = zip(*pairs, strict=True)
    return corpus_bleu(references, hypotheses), corpus_chrf(references, hypotheses)


@pytest.mark.parametrize("pair", PAIRS)
def test_one_row_equals_sacrebleu(pair: tuple[str, str]) -> None:
    assert ours([pair]) == pytest.approx(theirs([pair]), abs=1e-12)


def test_resampled_corpora_equal_sacrebleu() -> None:
    rng = random.Random(0)
    for size in (2, 3, 7, 40):
        pairs = rng.choices(PAIRS, k=size)
        assert ours(pairs) == pytest.approx(theirs(pairs), abs=1e-12)


def test_many_sums_at_once_are_scored_like_each_alone() -> None:
    rng = np.random.default_rng(1)
    times = rng.multinomial(len(PAIRS), [1 / len(PAIRS)] * len(PAIRS), size=(4, 5))
    for count, combine, size in (
        (bleu_statistics, combine_bleu, BLEU_STATISTICS),
        (chrf_statistics, combine_chrf, CHRF_STATISTICS),
    ):
        rows = np.array([count(*pair) for pair in PAIRS])
        assert rows.shape == (len(PAIRS), size)
        scores = combine(times @ rows)
        assert scores.shape == (4, 5)
        alone = [[float(combine(sums)) for sums in some] for some in times @ rows]
        np.testing.assert_allclose(scores, alone, rtol=0, atol=1e-15)


def test_shares_are_bounded_and_a_copy_has_them_whole() -> None:
    code = "result = [f(x) for x in values if x is not None]"
    assert ours([(code, code)]) == pytest.approx((1.0, 1.0), abs=1e-12)
    assert ours([(code, "")]) == (0.0, 0.0)


def test_values_worked_out_by_hand() -> None:
    # Tokens a b c d e against a b c d f: 4/5, 3/4, 2/3, 1/2, as long, so (1/5)^(1/4).
    assert corpus_bleu(["a b c d e"], ["a b c d f"]) == pytest.approx(0.2**0.25, abs=1e-12)
    # a b c d against a b x y z: brevity exp(1 - 5/4); 2/4, 1/3, then 1/(2*2) and 1/(4*1).
    expected = np.exp(-0.25) * (2 / 4 * 1 / 3 * 1 / 4 * 1 / 4) ** 0.25
    assert corpus_bleu(["a b x y z"], ["a b c d"]) == pytest.approx(expected, abs=1e-12)
    # "ab" against "ac": characters 1/2, 0/1; words 0/1: means of 1/6, so F2 is 1/6.
    assert corpus_chrf(["ac"], ["ab"]) == pytest.approx(1 / 6, abs=1e-12)


def test_signatures_are_those_of_the_description() -> None:
    found = signatures()
    assert found["bleu"].startswith("nrefs:1|case:mixed|eff:no|tok:13a|smooth:exp|version:")
    assert found["chrf++"].startswith("nrefs:1|case:mixed|eff:yes|nc:6|nw:2|space:no|version:")


def test_long_and_odd_texts_are_scored() -> None:
    for odd in ("x " * 500_000, "\0\0", "\ud800 x", "\r\n\t"):
        for score in ours([("f(x)", odd)]):
            assert 0 <= score < 0.5


def test_faulty_calls_are_refused() -> None:
    with pytest.raises(ValueError, match="1 references and 2 hypotheses"):
        corpus_bleu(["a"], ["a", "b"])
    with pytest.raises(ValueError, match="at least one"):
        corpus_chrf([], [])
    with pytest.raises(ValueError, match=r"the shape \(3,\); the last must be 10"):
        combine_bleu([1, 2, 3])
