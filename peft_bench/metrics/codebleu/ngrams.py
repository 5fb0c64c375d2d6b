"""BLEU's counts over code: n-grams of one to four tokens, with and without weights for keywords."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from peft_bench.metrics.codebleu.bags import Bag

ORDERS = 4
ORDINARY_WEIGHT = 0.2  # of a token that is no keyword; a keyword's is 1

# Words that Python keeps for itself in every version since 3.7.
KEYWORDS = frozenset(
    {
        "False", "None", "True", "and", "as", "assert", "async", "await", "break", "class",
        "continue", "def", "del", "elif", "else", "except", "finally", "for", "from", "global",
        "if", "import", "in", "is", "lambda", "nonlocal", "not", "or", "pass", "raise",
        "return", "try", "while", "with", "yield",
    }
)  # fmt: skip
# PyPI's codebleu 0.7.0 counts the soft keywords as well, wherever they stand.
KEYWORDS_PYPI = KEYWORDS | {"match", "case", "type"}


class Ngrams:
    """The n-grams of some tokens, n from 1 to 4; found when first asked for."""

    __slots__ = ("_longer", "_shifted", "length", "single", "tokens")

    def __init__(self, tokens: Sequence[str]) -> None:
        self.tokens = tokens
        self.length = len(tokens)
        self.single = Bag(tokens, self.length)
        self._longer: list[Bag[tuple[str, ...]]] = []
        self._shifted = [tokens]  # from the first on, the second, ...

    def longer(self, order: int) -> Bag[tuple[str, ...]]:
        """The n-grams of ``order`` tokens, two or more."""
        while len(self._longer) < order - 1:
            self._shifted.append(self._shifted[-1][1:])
            size = len(self._shifted[-1])
            self._longer.append(Bag(_Windows(tuple(self._shifted)), size))
        return self._longer[order - 2]

    def totals(self) -> list[int]:
        """How many n-grams there are, n from 1 to 4."""
        return [max(0, self.length - order) for order in range(ORDERS)]


class _Windows:
    """Tuples of neighbours, made anew each time: to hash them in passing is the cheapest."""

    __slots__ = ("shifted",)

    def __init__(self, shifted: Sequence[Sequence[str]]) -> None:
        self.shifted = shifted

    def __iter__(self) -> Iterator[tuple[str, ...]]:
        return zip(*self.shifted, strict=False)


def matches(hypothesis: Ngrams, reference: Ngrams) -> list[int]:
    """n-grams of the one that are in the other, each as often as it is in both."""
    found = [reference.single.shared(hypothesis.single)]
    while found[-1] and len(found) < ORDERS:
        order = len(found) + 1
        found.append(reference.longer(order).shared(hypothesis.longer(order)))
    return found + [0] * (ORDERS - len(found))  # where none matches, no longer one does


def weighted(tokens: Sequence[str], keywords: frozenset[str]) -> float:
    """The weight of single tokens: 1 a keyword, 0.2 any other."""
    return _weight(len(tokens), sum(map(keywords.__contains__, tokens)))


def weighted_match(
    one: Sequence[str], other: Sequence[str], matched: int, keywords: frozenset[str]
) -> float:
    """The weight of the single tokens that are in both, of which there are ``matched``."""
    common = keywords.intersection(one)
    return _weight(matched, sum([min(one.count(word), other.count(word)) for word in common]))


def _weight(tokens: int, special: int) -> float:
    return special + ORDINARY_WEIGHT * (tokens - special)
