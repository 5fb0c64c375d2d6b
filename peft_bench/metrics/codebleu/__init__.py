"""CodeBLEU of Python code: ours, and the two published ones to compare with.

CodeBLEU (Ren et al., arXiv 2009.10297) is the mean of four comparisons of an answer with a
reference: BLEU over tokens; BLEU whose tokens have weights; the share of the reference's
subtrees, and of its data flow, that the answer has. All here stands on today's tree-sitter.

Variants:

``codexglue``
    Equal to CodeXGLUE's script (microsoft/CodeXGLUE, Code-Code/code-to-code-trans/evaluator),
    which the study used. Tokens are what white space separates; the weighted match is a recall
    with a brevity penalty (for a reference of two tokens, whatever its length), its total at least
    1; orders that a text is too short for count as
    0.1 matches of 1; a reference subtree counts if it occurs in the answer at all; comments are
    taken for Java's; an undefined data flow counts as 0. Line ends are kept: to flatten them, as
    the study did, is the caller's.
``pypi``
    Equal to the package codebleu 0.7.0. As above, but Python's tokenizer removes comments (and
    strings that begin a line), the soft keywords have a keyword's weight, and a data flow without
    any match counts as 1, defined or not, so an empty answer can score 0.25.
``python``
    Ours, the default. It differs from ``codexglue`` as follows, the same in rows and in corpora:

    * Comments, line continuations and the docstrings of functions and classes count nowhere.
    * Tokens are the parser's, a string being one, so blanks do not matter: ``f(x)`` has four.
    * The weighted match is the paper's: a precision, as BLEU is. Single tokens have the weight 1
      (keywords) or 0.2 (others), above and below the line, and the longer n-grams have none.
    * Orders of which the answer has no n-gram are left out, so the reference itself scores 1.
    * A subtree counts as often as it is in both, as in the paper's formula.
    * Where the reference has no data flow, the mean is that of the other three.
    * The faults of the data flow's extraction (see ``dataflow.data_flow``) are not there.
    * An answer without a token scores 0, and so does any answer to a reference without one
      (nothing but comments).

Corpus values come from sums over all rows, and are not the mean of the rows' scores.

Where the published figures change with the interpreter's hash seed (the order of a set), these
are fixed: see ``links``.

In all variants, any text has a score, in bounded time: what comes after the first 20,000
characters is not looked at; a text whose data flow takes too long to find has none; a lone
surrogate is a question mark.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike

from peft_bench.metrics.codebleu.counts import Variant, features, row_counts
from peft_bench.metrics.codebleu.scores import (
    STATISTICS,
    CodeBleu,
    Floats,
    Rules,
    score_array,
    score_row,
)

__all__ = [
    "STATISTICS",
    "CodeBleu",
    "Variant",
    "codebleu",
    "combine",
    "corpus_codebleu",
    "has_dataflow",
    "statistics",
]


_RULES: dict[Variant, Rules] = {
    "python": Rules(),
    "codexglue": Rules(undefined_dataflow=0.0),
    "pypi": Rules(undefined_dataflow=1.0, no_match_dataflow=1.0),
}


def codebleu(*, reference: str, hypothesis: str, variant: Variant = "python") -> CodeBleu:
    """CodeBLEU of one answer, and its parts; shares from 0 to 1.

    Args:
        reference: the code that is expected.
        hypothesis: the answer; any text.
        variant: see the module's description.

    Raises:
        ValueError: for a variant that does not exist.
    """
    return score_row(statistics(reference, hypothesis, variant), _rules(variant))


def statistics(reference: str, hypothesis: str, variant: Variant = "python") -> tuple[float, ...]:
    """What a row adds to a corpus's sums: 23 finite numbers, in the order of ``scores``.

    Raises:
        ValueError: for a variant that does not exist.
    """
    _rules(variant)
    return row_counts(features(reference, variant), features(hypothesis, variant), variant)


def combine(sums: ArrayLike, variant: Variant = "python") -> Floats:
    """The scores of summed statistics, [..., 23] -> [...]; a row's own are a sum of one.

    Raises:
        ValueError: for a variant that does not exist, or another number of statistics.
    """
    array = np.asarray(sums, dtype=np.float64)
    if array.shape[-1:] != (STATISTICS,):
        raise ValueError(f"sums have the shape {array.shape}; the last must be {STATISTICS}")
    return score_array(array, _rules(variant))


def corpus_codebleu(
    references: Sequence[str], hypotheses: Sequence[str], variant: Variant = "python"
) -> CodeBleu:
    """CodeBLEU of a corpus, and its parts, each from the sums over all rows.

    Raises:
        ValueError: for no rows, unequal lengths, or a variant that does not exist.
    """
    if not references or len(references) != len(hypotheses):
        raise ValueError(
            f"there are {len(references)} references and {len(hypotheses)} hypotheses; they must "
            "be as many, and at least one"
        )
    rows = zip(references, hypotheses, strict=True)
    sums = np.sum([statistics(*row, variant) for row in rows], axis=0)
    return score_row(sums.tolist(), _rules(variant))


def has_dataflow(reference: str, variant: Variant = "python") -> bool:
    """Whether a reference has any data flow, so that the fourth part is defined.

    Raises:
        ValueError: for a variant that does not exist.
    """
    _rules(variant)
    return bool(features(reference, variant).parsed.flow().size)


def _rules(variant: Variant) -> Rules:
    if variant not in _RULES:
        raise ValueError(f"variant is {variant!r}; it must be one of {', '.join(_RULES)}")
    return _RULES[variant]
