"""BLEU and chrF++ of answers, counted by sacrebleu, as sums over rows.

A corpus metric is a function of sums, so that resampling rows or questions needs only the sums.
sacrebleu counts; what is here turns any sums into scores at once, and equals its ``corpus_score``
divided by 100.

BLEU has sacrebleu's defaults, ``nrefs:1|case:mixed|eff:no|tok:13a|smooth:exp``: anybody can
repeat the figure with the command as it comes. The tokeniser 13a suits code well enough: it parts
brackets, operators, quotation marks (") and underscores from names, which blanks alone
(``tok:none``) do not.
chrF++ is chrF2++, ``nrefs:1|case:mixed|eff:yes|nc:6|nw:2|space:no``: characters to order 6, words
to order 2, recall counted twice as much as precision; its characters need no tokeniser.

Only the first 20,000 characters of a text are looked at.

Sources: Post 2018 (sacrebleu, arXiv 1804.08771); Papineni et al. 2002 (BLEU); Chen and Cherry
2014 (smoothing 3, "exp"); Popović 2017 (chrF++).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

Floats = NDArray[np.float64]

CHARS_MAX = 20_000  # as in CodeBLEU
BLEU_STATISTICS = 10  # tokens of hypothesis and reference, 4 times matches, 4 times n-grams
CHRF_STATISTICS = 24  # of hypothesis, of reference, matching: 6 times of characters, 2 of words

_NGRAM_ORDERS = 4
_BETA = 2


def bleu_statistics(reference: str, hypothesis: str) -> tuple[float, ...]:
    """What a row adds to BLEU's sums: 10 numbers."""
    return _counted(_bleu(), reference, hypothesis)


def chrf_statistics(reference: str, hypothesis: str) -> tuple[float, ...]:
    """What a row adds to chrF++'s sums: 24 numbers."""
    return _counted(_chrf(), reference, hypothesis)


def corpus_bleu(references: Sequence[str], hypotheses: Sequence[str]) -> float:
    """BLEU of a corpus, from 0 to 1.

    Raises:
        ValueError: for no rows or unequal lengths.
    """
    return float(combine_bleu(_summed(bleu_statistics, references, hypotheses)))


def corpus_chrf(references: Sequence[str], hypotheses: Sequence[str]) -> float:
    """chrF++ of a corpus, from 0 to 1.

    Raises:
        ValueError: for no rows or unequal lengths.
    """
    return float(combine_chrf(_summed(chrf_statistics, references, hypotheses)))


def combine_bleu(sums: ArrayLike) -> Floats:
    """BLEU of summed statistics, [..., 10] -> [...], from 0 to 1.

    0 without any match. An order without a match has the precision 1 / (2^i * n-grams), i being
    1 for the first such order, 2 for the next; an order without an n-gram makes the score 0.
    """
    array = _checked(sums, BLEU_STATISTICS)
    hypothesis, reference = array[..., 0], array[..., 1]
    matched, among = np.split(array[..., 2:], 2, axis=-1)
    halvings = np.cumsum(matched == 0, axis=-1)
    counted = np.where(matched > 0, matched, 0.5**halvings)
    mean = np.log(counted / np.maximum(among, 1)).sum(axis=-1) / _NGRAM_ORDERS
    brevity = np.minimum(0.0, 1 - reference / np.maximum(hypothesis, 1))
    scored = (matched > 0).any(axis=-1) & (among > 0).all(axis=-1)
    return np.asarray(np.where(scored, np.exp(brevity + mean), 0.0), dtype=np.float64)


def combine_chrf(sums: ArrayLike) -> Floats:
    """chrF++ of summed statistics, [..., 24] -> [...], from 0 to 1.

    F2 of the mean precision and the mean recall over the orders that both sides have.
    """
    array = _checked(sums, CHRF_STATISTICS)
    orders = array.reshape(*array.shape[:-1], -1, 3)
    hypothesis, reference, matched = (orders[..., column] for column in range(3))
    there = (hypothesis > 0) & (reference > 0)
    count = np.maximum(there.sum(axis=-1), 1)
    precision = np.where(there, matched / np.maximum(hypothesis, 1), 0).sum(axis=-1) / count
    recall = np.where(there, matched / np.maximum(reference, 1), 0).sum(axis=-1) / count
    below = _BETA**2 * precision + recall
    score = (1 + _BETA**2) * precision * recall / np.where(below > 0, below, 1)
    return np.asarray(score, dtype=np.float64)


def signatures() -> dict[str, str]:
    """sacrebleu's own signatures, with its version, by the names of the metrics.

    A signature tells how many references there were, so sacrebleu gives it after a score.
    """
    metrics = {"bleu": _bleu(), "chrf++": _chrf()}
    for metric in metrics.values():
        metric.corpus_score(["x"], [["x"]])
    return {name: str(metric.get_signature()) for name, metric in metrics.items()}


@lru_cache(maxsize=1)
def _bleu() -> Any:
    from sacrebleu.metrics.bleu import BLEU

    return BLEU(force=True)  # says nothing of answers that end in " ."


@lru_cache(maxsize=1)
def _chrf() -> Any:
    from sacrebleu.metrics.chrf import CHRF

    return CHRF(word_order=2, beta=_BETA)


def _counted(metric: Any, reference: str, hypothesis: str) -> tuple[float, ...]:
    # The statistics have no public name in sacrebleu; this one is that of every 2.x. A change
    # would show in the tests, which compare with its public scores.
    rows = metric._extract_corpus_statistics([hypothesis[:CHARS_MAX]], [[reference[:CHARS_MAX]]])
    return tuple(float(number) for number in rows[0])


def _summed(
    count: Callable[[str, str], tuple[float, ...]],
    references: Sequence[str],
    hypotheses: Sequence[str],
) -> Floats:
    if not references or len(references) != len(hypotheses):
        raise ValueError(
            f"there are {len(references)} references and {len(hypotheses)} hypotheses; they must "
            "be as many, and at least one"
        )
    rows = [count(*pair) for pair in zip(references, hypotheses, strict=True)]
    return np.asarray(np.sum(rows, axis=0), dtype=np.float64)


def _checked(sums: ArrayLike, statistics: int) -> Floats:
    array = np.asarray(sums, dtype=np.float64)
    if array.shape[-1:] != (statistics,):
        raise ValueError(f"sums have the shape {array.shape}; the last must be {statistics}")
    return array
