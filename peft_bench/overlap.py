"""Exact and near duplicates between two lists of texts: pure functions.

Near duplicates are texts whose sets of shingles (runs of tokens) have a Jaccard similarity of at
least a threshold. They are found by an inverted index over the rarest shingles of each set, which
misses none: two sets of Jaccard similarity t share one of the rarest ``|s| - ceil(t |s|) + 1``
shingles of either (Chaudhuri, Ganti, Kaushik, ICDE 2006; Bayardo, Ma, Srikant, WWW 2007).
"""

from __future__ import annotations

import math
import re
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

Tokens = tuple[str, ...]

_WORD = re.compile(r"\w+|[^\w\s]")
_CODE = re.compile(
    r"""
      (?P<comment>\#[^\n]*)
    | (?:\b[rbuf]{1,2})?(?:\"{3}(?:[^\\]|\\.)*?\"{3}|'{3}(?:[^\\]|\\.)*?'{3})
    | (?:\b[rbuf]{1,2})?(?:\"(?:[^\"\\\n]|\\.)*\"|'(?:[^'\\\n]|\\.)*')
    | \w+
    | [^\w\s]
    """,
    re.VERBOSE | re.DOTALL | re.IGNORECASE,
)


def intent_tokens(text: str) -> Tokens:
    """Words and signs of a text, in Unicode's compatible form; case and white space are dropped."""
    return tuple(_WORD.findall(unicodedata.normalize("NFKC", text).casefold()))


def code_tokens(code: str) -> Tokens:
    """Tokens of Python-like code; comments, line breaks and indentation are dropped.

    Anything has tokens: code of Python 2, fragments and what does not parse as well.
    """
    return tuple(match[0] for match in _CODE.finditer(code) if match["comment"] is None)


def shingles(tokens: Tokens, size: int) -> Iterator[Tokens]:
    """The runs of ``size`` tokens; all tokens as one run where there are fewer."""
    for start in range(max(1, len(tokens) - size + 1)):
        yield tokens[start : start + size]


@dataclass(frozen=True, slots=True)
class Match:
    """Two groups of rows: those of a group have equal texts, and the groups' resemble each other.

    Attributes:
        left: row numbers.
        right: row numbers.
        similarity: Jaccard's, of the sets of shingles.
        exact: the groups' texts have the same tokens.
    """

    left: tuple[int, ...]
    right: tuple[int, ...]
    similarity: float
    exact: bool


def matches(
    left: Iterable[tuple[int, Tokens]],
    right: Iterable[tuple[int, Tokens]] | None,
    *,
    threshold: float,
    size: int,
) -> list[Match]:
    """Exact matches, in the order of ``left``, then near ones, the most similar first.

    Args:
        left: (row number, tokens); a row may come several times. No tokens match nothing.
        right: as ``left``; None looks for repeated texts within ``left``. An exact match is then
            one group of at least two rows, on both sides.
        threshold: least Jaccard similarity, in (0, 1].
        size: tokens a shingle.

    Raises:
        ValueError: a threshold out of range, or shingles of no tokens.
    """
    if not 0 < threshold <= 1 or size < 1:
        raise ValueError(f"threshold {threshold} must lie in (0, 1], shingle size {size} above 0")
    # Equal texts are one group: a hundred copies on both sides are one match, not ten thousand.
    lefts = _groups(left)
    rights = lefts if right is None else _groups(right)
    exact = [
        Match(rows, rights[tokens], 1.0, True)
        for tokens, rows in lefts.items()
        if tokens in rights and (right is not None or len(rows) > 1)
    ]
    left_rows, right_rows = list(lefts.values()), list(rights.values())
    near = [
        Match(left_rows[a], right_rows[b], similarity, False)
        for a, b, similarity in _near(list(lefts), list(rights), threshold, size)
        if (a < b if right is None else True)
    ]
    near.sort(key=lambda match: (-match.similarity, match.left, match.right))
    return exact + near


def _groups(texts: Iterable[tuple[int, Tokens]]) -> dict[Tokens, tuple[int, ...]]:
    groups: defaultdict[Tokens, dict[int, None]] = defaultdict(dict)
    for row, tokens in texts:
        if tokens:
            groups[tokens][row] = None
    return {tokens: tuple(rows) for tokens, rows in groups.items()}


def _near(
    left: Sequence[Tokens], right: Sequence[Tokens], threshold: float, size: int
) -> Iterator[tuple[int, int, float]]:
    """Positions of different texts, and their similarity where it reaches the threshold."""
    numbers: dict[Tokens, int] = {}
    left_sets = [_numbered(tokens, size, numbers) for tokens in left]
    right_sets = left_sets if left is right else [_numbered(t, size, numbers) for t in right]
    count = Counter(number for sets in (left_sets, right_sets) for one in sets for number in one)
    index: defaultdict[int, list[int]] = defaultdict(list)
    for b, one in enumerate(right_sets):
        for number in _rarest(one, count, threshold):
            index[number].append(b)
    for a, one in enumerate(left_sets):
        found = {b for number in _rarest(one, count, threshold) for b in index.get(number, ())}
        for b in sorted(found):
            if left[a] != right[b]:
                shared = len(one & right_sets[b])
                similarity = shared / (len(one) + len(right_sets[b]) - shared)
                if similarity >= threshold:
                    yield a, b, similarity


def _numbered(tokens: Tokens, size: int, numbers: dict[Tokens, int]) -> frozenset[int]:
    """A text's shingles as numbers: many texts share them, and numbers are small."""
    return frozenset(numbers.setdefault(one, len(numbers)) for one in shingles(tokens, size))


def _rarest(one: frozenset[int], count: Mapping[int, int], threshold: float) -> Sequence[int]:
    # The tolerance keeps 0.8 * 5 from being rounded up to 5: one shingle more is harmless.
    kept = len(one) - math.ceil(threshold * len(one) - 1e-9) + 1
    return sorted(one, key=lambda number: (count[number], number))[:kept]
