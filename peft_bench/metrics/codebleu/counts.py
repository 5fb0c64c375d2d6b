"""What of a text is counted, and how two texts' counts make the statistics of a row."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import Literal

from peft_bench.metrics.codebleu.bags import Bag
from peft_bench.metrics.codebleu.dataflow import data_flow
from peft_bench.metrics.codebleu.links import Flow
from peft_bench.metrics.codebleu.ngrams import (
    KEYWORDS,
    KEYWORDS_PYPI,
    Ngrams,
    matches,
    weighted,
    weighted_match,
)
from peft_bench.metrics.codebleu.shapes import shapes
from peft_bench.metrics.codebleu.texts import cut, without_java_comments, without_python_comments
from peft_bench.metrics.codebleu.tokens import Tokens, tokens_of
from peft_bench.metrics.codebleu.trees import FlatTree, parse

Variant = Literal["python", "codexglue", "pypi"]

# The scripts' weighted match takes the length of a pair, (tokens, weights), for the reference's.
_PUBLISHED_LENGTH = 2
_SHORT = 4096  # characters of a text that many may be kept of


class Parsed:
    """A text's subtrees, tokens and data flow; the latter is found when first asked for."""

    __slots__ = ("_as_published", "_flow", "_tree", "codes", "shapes")

    def __init__(self, text: str, *, as_published: bool) -> None:
        self._as_published = as_published
        self._flow: Bag[Flow] | None = None
        tree = parse(text, bare=not as_published)
        found = shapes(tree)
        self.shapes: Bag[int] = Bag(found, len(found))
        self.codes: list[str] = []  # the published variants split at blanks
        tokens = None
        if not as_published:
            tokens = tokens_of(tree, as_published=False)
            self.codes = [code for code in tokens.codes if code]
        self._tree: tuple[FlatTree, Tokens | None] | None = (tree, tokens)

    def flow(self) -> Bag[Flow]:
        """The links of the data flow."""
        if self._flow is None:
            assert self._tree is not None
            tree, tokens = self._tree
            tokens = tokens or tokens_of(tree, as_published=self._as_published)
            links = data_flow(tree, tokens, as_published=self._as_published)
            self._flow = Bag(links, len(links))
            self._tree = None  # by far the largest part, and of no more use
        return self._flow


class Features:
    """All that is counted of a text under a variant."""

    __slots__ = ("ngrams", "parsed")

    def __init__(self, parsed: Parsed, tokens: Sequence[str]) -> None:
        self.parsed = parsed
        self.ngrams = Ngrams(tokens)


def features(text: str, variant: Variant) -> Features:
    """What is counted of a text; kept for a while, since a reference has many answers."""
    build = _features if len(text) <= _SHORT else _long_features
    return build(text, variant)


def row_counts(reference: Features, hypothesis: Features, variant: Variant) -> tuple[float, ...]:
    """The statistics of a row, in the order of ``scores``."""
    matched = matches(hypothesis.ngrams, reference.ngrams)
    if variant == "python":
        among = hypothesis.ngrams.totals()
        weights = _weights_python(reference, hypothesis, matched, among)
        subtrees = reference.parsed.shapes.shared(hypothesis.parsed.shapes)
        if not hypothesis.ngrams.length:
            subtrees = 0  # an empty module is in an empty reference too
    else:
        among = [max(1, total) for total in hypothesis.ngrams.totals()]
        weights = _weights_published(reference, hypothesis, matched, variant)
        subtrees = reference.parsed.shapes.found_in(hypothesis.parsed.shapes)
    flow = reference.parsed.flow()
    links = flow.shared(hypothesis.parsed.flow()) if flow.size else 0
    return (
        *matched,
        *among,
        *weights,
        hypothesis.ngrams.length,
        reference.ngrams.length,
        reference.ngrams.length if variant == "python" else _PUBLISHED_LENGTH,
        subtrees,
        reference.parsed.shapes.size,
        links,
        flow.size,
    )


def _weights_python(
    reference: Features, hypothesis: Features, matched: list[int], among: list[int]
) -> list[float]:
    """The weighted match as a precision: of what the hypothesis has, what the reference has."""
    match = weighted_match(hypothesis.ngrams.tokens, reference.ngrams.tokens, matched[0], KEYWORDS)
    return [match, *matched[1:], weighted(hypothesis.ngrams.tokens, KEYWORDS), *among[1:]]


def _weights_published(
    reference: Features, hypothesis: Features, matched: list[int], variant: Variant
) -> list[float]:
    """The weighted match as a recall: of what the reference has, what the hypothesis has."""
    keywords = KEYWORDS_PYPI if variant == "pypi" else KEYWORDS
    match = weighted_match(hypothesis.ngrams.tokens, reference.ngrams.tokens, matched[0], keywords)
    among = [weighted(reference.ngrams.tokens, keywords), *reference.ngrams.totals()[1:]]
    return [match, *matched[1:], *(max(1, total) for total in among)]


def _built(text: str, variant: Variant) -> Features:
    text = cut(text)
    if variant == "python":
        parsed = _parsed(text, False)
        return Features(parsed, parsed.codes)
    strip = without_java_comments if variant == "codexglue" else without_python_comments
    return Features(_parsed(strip(text), True), text.split())


def _parsed(text: str, as_published: bool) -> Parsed:
    parse_it = _short_parsed if len(text) <= _SHORT else Parsed
    return parse_it(text, as_published=as_published)


_features = lru_cache(maxsize=32)(_built)
_long_features = lru_cache(maxsize=2)(_built)  # a reference, and an answer
_short_parsed = lru_cache(maxsize=32)(Parsed)
