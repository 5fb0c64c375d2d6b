"""A parsed text as flat arrays: what the syntax match and the data flow need, in one walk.

tree-sitter's nodes are C objects behind Python ones, so each look costs; here every node is
looked at once. No recursion, so nesting is bounded by memory alone.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, NamedTuple

from peft_bench.metrics.codebleu.grammar import grammar

if TYPE_CHECKING:
    from tree_sitter import Node, TreeCursor


class FlatTree(NamedTuple):
    """A syntax tree in preorder; node 0 is the module.

    Attributes:
        source: the text that was parsed, as UTF-8; a surrogate stands as a question mark.
        nodes: tree-sitter's own nodes.
        kinds: their kinds, by the grammar's numbers.
        fields: the numbers of the fields that they are in their parents, or None.
        after: the number that follows a node's last descendant.
        leaves: the nodes without children.
        left_out: the nodes that do not count (comments, docstrings with all that is in them).
    """

    source: bytes
    nodes: Sequence[Node]
    kinds: Sequence[int]
    fields: Sequence[int | None]
    after: Sequence[int]
    leaves: list[int]
    left_out: frozenset[int]

    def children(self, node: int) -> list[int]:
        """The numbers of a node's children, without those that do not count."""
        children = list(_children(node, self.after))
        if self.left_out:
            return [child for child in children if child not in self.left_out]
        return children


def parse(text: str, *, bare: bool) -> FlatTree:
    """The tree of a text, whether it is Python or not.

    Args:
        text: any text at all; tree-sitter parses what it can.
        bare: leave out comments, line continuations and the docstrings of functions and classes.
            A string at the head of the module stays: in a snippet it is the value.
    """
    from tree_sitter import Parser

    source = text.encode("utf-8", errors="replace")
    tree = Parser(grammar().language).parse(source)
    nodes, kinds, fields, after, leaves = _flat(tree.walk())
    left_out = _left_out(kinds, after) if bare else frozenset[int]()
    return FlatTree(source, nodes, kinds, fields, after, leaves, left_out)


def _flat(
    cursor: TreeCursor,
) -> tuple[Sequence[Node], Sequence[int], Sequence[int | None], Sequence[int], list[int]]:
    """The nodes under a cursor in preorder, their kinds, fields and ends; the leaves."""
    nodes: list[Node] = []
    kinds: list[int] = []
    fields: list[int | None] = []
    after: list[int] = []
    leaves: list[int] = []
    ancestors: list[int] = []
    down, right, up = cursor.goto_first_child, cursor.goto_next_sibling, cursor.goto_parent
    for count in itertools.count(1):
        node = cursor.node
        assert node is not None  # a cursor over a tree always stands on a node
        nodes.append(node)
        kinds.append(node.kind_id)
        fields.append(cursor.field_id)
        after.append(count)
        if down():
            ancestors.append(count - 1)
            continue
        leaves.append(count - 1)
        while not right():
            if not up():
                return nodes, kinds, fields, after, leaves
            after[ancestors.pop()] = count
    raise AssertionError("a cursor comes to an end")


def _left_out(kinds: Sequence[int], after: Sequence[int]) -> frozenset[int]:
    """The nodes of comments, continued lines, and docstrings with all that is in them."""
    names = grammar()
    found: set[int] = set()
    if not names.comments.isdisjoint(kinds):
        found.update(node for node, kind in enumerate(kinds) if kind in names.comments)
    if names.definitions.isdisjoint(kinds):
        return frozenset(found)
    for node, kind in enumerate(kinds):
        if kind not in names.definitions:
            continue
        for block in _children(node, after):
            if kinds[block] != names.block:
                continue
            statements = (child for child in _children(block, after) if child not in found)
            first = next(statements, block)
            alone = kinds[first] == names.expression_statement and after[first + 1] == after[first]
            if alone and kinds[first + 1] in names.strings:
                found.update(range(first, after[first]))
    return frozenset(found)


def _children(node: int, after: Sequence[int]) -> Iterator[int]:
    child, end = node + 1, after[node]
    while child < end:
        yield child
        child = after[child]
