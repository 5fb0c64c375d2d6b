"""The tokens of a parsed text: its leaves, and whole strings."""

from __future__ import annotations

import operator
from bisect import bisect_left
from collections.abc import Sequence
from itertools import compress
from typing import TYPE_CHECKING, NamedTuple

from peft_bench.metrics.codebleu.grammar import grammar
from peft_bench.metrics.codebleu.trees import FlatTree

if TYPE_CHECKING:
    from tree_sitter import Node


class Tokens(NamedTuple):
    """The tokens of a text in order, one entry of each list a token.

    Attributes:
        nodes: the numbers of their nodes.
        codes: their texts.
    """

    nodes: list[int]
    codes: list[str]


class Values(NamedTuple):
    """The tokens that are more than keywords, operators and brackets, in order.

    Attributes:
        nodes: the numbers of their nodes.
        codes: their texts.
        places: whole numbers in their order; where several stand at one place, all have the last's.
    """

    nodes: list[int]
    codes: list[str]
    places: list[int]


def tokens_of(tree: FlatTree, *, as_published: bool) -> Tokens:
    """The tokens of a tree.

    Args:
        tree: of the text.
        as_published: as for :func:`peft_bench.metrics.codebleu.dataflow.data_flow`.
    """
    nodes = _token_nodes(tree)
    texts = _published_texts if as_published else _texts
    return Tokens(nodes, texts(tree.source, list(map(tree.nodes.__getitem__, nodes))))


def values_of(tree: FlatTree, tokens: Tokens, *, as_published: bool) -> Values:
    """Those of a tree's tokens that are values; see :func:`tokens_of`."""
    kinds = map(tree.kinds.__getitem__, tokens.nodes)
    mask: list[object]
    if as_published:
        mask = list(map(operator.ne, map(grammar().names.__getitem__, kinds), tokens.codes))
    else:
        named = map(grammar().named.__contains__, kinds)
        mask = [is_named and code for is_named, code in zip(named, tokens.codes, strict=True)]
    nodes, codes = list(compress(tokens.nodes, mask)), list(compress(tokens.codes, mask))
    places = list(range(len(nodes)))
    if as_published and "" in codes:
        # Tokens that the parser put in at one place: the last of them stands for all.
        spans = [(tree.nodes[node].start_byte, tree.nodes[node].end_byte) for node in nodes]
        last = dict(zip(spans, places, strict=True))
        places = [last[span] for span in spans]
    return Values(nodes, codes, places)


def _token_nodes(tree: FlatTree) -> list[int]:
    """The leaves of a tree, with whole strings instead of what is in them."""
    names, kinds, after = grammar(), tree.kinds, tree.after
    found = tree.leaves
    if names.string in kinds:
        leaves, found, start = found, [], 0
        for node in [node for node, kind in enumerate(kinds) if kind == names.string]:
            if node >= start:
                found += leaves[bisect_left(leaves, start) : bisect_left(leaves, node)]
                found.append(node)
                start = after[node]
        found += leaves[bisect_left(leaves, start) :]
    if tree.left_out or names.comment in kinds:
        comment, left_out = names.comment, tree.left_out
        return [node for node in found if kinds[node] != comment and node not in left_out]
    return found


def _texts(source: bytes, nodes: Sequence[Node]) -> list[str]:
    if source.isascii():
        text = source.decode()
        return [text[node.start_byte : node.end_byte] for node in nodes]
    cuts = [source[node.start_byte : node.end_byte] for node in nodes]
    return [cut.decode("utf-8", errors="replace") for cut in cuts]


def _published_texts(source: bytes, nodes: Sequence[Node]) -> list[str]:
    """Texts of tokens as CodeXGLUE's script cuts them: columns in bytes, line ends left out."""
    if source.isascii():
        codes = _texts(source, nodes)
        return [code.replace("\n", "") for code in codes] if b"\n" in source else codes
    lines = source.decode().split("\n")

    def between(node: Node) -> str:
        (row, column), (last_row, last_column) = node.start_point, node.end_point
        if row == last_row:
            return lines[row][column:last_column]
        whole = lines[row + 1 : last_row]
        return "".join([lines[row][column:], *whole, lines[last_row][:last_column]])

    return [between(node) for node in nodes]
