"""Exact match of two pieces of Python code, and EM@k over several answers.

EM@k asks whether one of the first k answers equals the reference. With beam search the answers
are ranked and not independent, so this is a hit rate; it must not be fed to the pass@k estimator.

Source: EM@k as in Weyssow et al., arXiv 2308.10462; the modes ``whitespace`` and ``ast`` are ours.
"""

from __future__ import annotations

import ast
import warnings
from collections.abc import Sequence
from functools import lru_cache
from typing import Literal, get_args

Mode = Literal["raw", "whitespace", "ast"]

# Answers come from a model and may be built to hurt a parser. No honest answer is this long.
_PARSED_CHARS_MAX = 100_000


def exact_match(reference: str, hypothesis: str, *, mode: Mode = "raw") -> bool:
    """Tells whether an answer equals the reference.

    Modes; the last two are looser than the first, and neither holds the other: ``print('a  b')``
    and ``print('a b')`` are equal by ``whitespace``, and different strings by ``ast``.

    * ``raw``: equal after ``str.strip()`` of both sides, because a generation nearly always ends
      in a newline that says nothing. Blanks, tabs and newlines inside count.
    * ``whitespace``: besides, every run of white space counts as one blank.
    * ``ast``: both parse as Python (after stripping) and have the same syntax tree, so quotes,
      layout, redundant parentheses and comments do not count; when either does not parse, or is
      too long or too deeply nested to be parsed safely, the comparison is ``whitespace``'s.

    Raises:
        ValueError: for a mode that does not exist.
    """
    if mode not in get_args(Mode):
        raise ValueError(f"mode is {mode!r}; it must be one of {', '.join(get_args(Mode))}")
    if mode == "raw":
        return reference.strip() == hypothesis.strip()
    if mode == "ast":
        trees = _tree(reference.strip()), _tree(hypothesis.strip())
        if trees[0] is not None and trees[1] is not None:
            return trees[0] == trees[1]
    return reference.split() == hypothesis.split()


def em_at_k(reference: str, hypotheses: Sequence[str], k: int, *, mode: Mode = "raw") -> bool:
    """Tells whether one of the first k answers equals the reference.

    Args:
        reference: The expected code.
        hypotheses: The answers, best first; at least k of them.
        k: How many answers count, 1 or more.
        mode: As in :func:`exact_match`.

    Raises:
        ValueError: for k below 1, fewer than k answers (a shorter list would make EM@k look
            worse, or EM@10 of 5 answers look like EM@10), or a mode that does not exist.
    """
    if k < 1:
        raise ValueError(f"k is {k}; it must be 1 or more")
    if len(hypotheses) < k:
        raise ValueError(f"EM@{k} needs {k} answers; there are {len(hypotheses)}")
    return any(exact_match(reference, answer, mode=mode) for answer in hypotheses[:k])


@lru_cache(maxsize=64)  # one reference is compared with several answers
def _tree(code: str) -> str | None:
    """The syntax tree as text; None for what is no Python or cannot be parsed safely."""
    if len(code) > _PARSED_CHARS_MAX:
        return None
    try:
        with warnings.catch_warnings():
            # "\d" in an answer is no reason to write on the user's terminal, or to fail when
            # warnings are errors.
            warnings.simplefilter("ignore")
            return ast.dump(ast.parse(code))
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        # ValueError: null bytes, or an integer too long to print. RecursionError, MemoryError:
        # what the parser and the dump say of nesting that is too deep.
        return None
