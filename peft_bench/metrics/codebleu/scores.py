"""From counts to CodeBLEU: of a row, and of summed rows.

A row's statistics are 23 numbers, whose sums over rows are those of the corpus:

====== ==========================================================================
0-3    n-grams of the hypothesis that match, n from 1 to 4
4-7    n-grams of the hypothesis
8-11   the same for the weighted match (see the variants)
12-15  what these are divided by
16     tokens of the hypothesis
17     tokens of the reference
18     the same for the brevity penalty of the weighted match (see the variants)
19-20  subtrees that match; subtrees of the reference
21-22  links of the data flow that match; links in the reference
====== ==========================================================================
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

STATISTICS = 23
_EPSILON = 0.1  # a match count of 0 is taken for this (Chen and Cherry 2014, smoothing 1)

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class CodeBleu:
    """CodeBLEU and what it is the mean of; each from 0 to 1, higher is better.

    Attributes:
        score: the mean of the four, or of the first three where there is no data flow and the
            variant leaves it out.
        ngram: BLEU over tokens.
        weighted_ngram: BLEU whose single tokens have weights: keywords 1, all others 0.2.
        syntax: share of the reference's subtrees that the hypothesis has.
        dataflow: share of the reference's data flow that the hypothesis has; None where the
            reference has none. (The published scripts print 0 then; ``codexglue`` counts it as 0,
            ``pypi`` as 1.)
    """

    score: float
    ngram: float
    weighted_ngram: float
    syntax: float
    dataflow: float | None


@dataclass(frozen=True, slots=True)
class Rules:
    """How a variant turns sums into a score.

    Attributes:
        undefined_dataflow: what a data flow that the reference does not have counts as; None
            leaves it out of the mean.
        no_match_dataflow: what one that the reference has, but of which nothing matches, counts as.
    """

    undefined_dataflow: float | None = None
    no_match_dataflow: float = 0.0


def score_row(statistics: Sequence[float], rules: Rules) -> CodeBleu:
    """The score of one row, or of any sums; see :func:`score_array` for many."""
    reached, length, weighted_length = statistics[16:19]
    ngram = _bleu(statistics[0:4], statistics[4:8], reached, length)
    weighted = _bleu(statistics[8:12], statistics[12:16], reached, weighted_length)
    subtrees, of_subtrees, links, of_links = statistics[19:23]
    syntax = subtrees / of_subtrees if of_subtrees else 0.0
    dataflow = counted = rules.undefined_dataflow
    if of_links:
        dataflow = links / of_links
        counted = dataflow or rules.no_match_dataflow
    parts = [ngram, weighted, syntax] + ([] if counted is None else [counted])
    shown = None if dataflow is None else (dataflow if of_links else 0.0)
    return CodeBleu(sum(parts) / len(parts), ngram, weighted, syntax, shown)


def _bleu(
    matched: Sequence[float], among: Sequence[float], hypothesis: float, reference: float
) -> float:
    """BLEU of sums (Papineni et al. 2002), with uniform weights over the orders that there are."""
    if not matched[0] or not hypothesis:
        return 0.0
    logarithms = [
        math.log((match or _EPSILON) / total)
        for match, total in zip(matched, among, strict=True)
        if total
    ]
    brevity = min(0.0, 1 - reference / hypothesis)
    return math.exp(brevity + math.fsum(logarithms) / len(logarithms))


def score_array(sums: Floats, rules: Rules) -> Floats:
    """The scores of many sums, [..., 23] -> [...]; equal to :func:`score_row` of each."""
    ngram = _bleu_array(sums[..., 0:4], sums[..., 4:8], sums[..., 16], sums[..., 17])
    weighted = _bleu_array(sums[..., 8:12], sums[..., 12:16], sums[..., 16], sums[..., 18])
    syntax = sums[..., 19] / np.maximum(sums[..., 20], 1)
    links, of_links = sums[..., 21], sums[..., 22]
    dataflow = np.where(links > 0, links / np.maximum(of_links, 1), rules.no_match_dataflow)
    if rules.undefined_dataflow is None:
        parts = 3 + (of_links > 0)
        dataflow = np.where(of_links > 0, dataflow, 0.0)
    else:
        parts = np.full_like(links, 4)
        dataflow = np.where(of_links > 0, dataflow, rules.undefined_dataflow)
    return np.asarray((ngram + weighted + syntax + dataflow) / parts, dtype=np.float64)


def _bleu_array(matched: Floats, among: Floats, hypothesis: Floats, reference: Floats) -> Floats:
    there = among > 0
    ratios = np.where(matched > 0, matched, _EPSILON) / np.where(there, among, 1)
    logarithms = np.where(there, np.log(ratios), 0.0)
    mean = logarithms.sum(axis=-1) / np.maximum(there.sum(axis=-1), 1)
    brevity = np.minimum(0.0, 1 - reference / np.maximum(hypothesis, 1))
    found = (matched[..., 0] > 0) & (hypothesis > 0)
    return np.asarray(np.where(found, np.exp(brevity + mean), 0.0), dtype=np.float64)
