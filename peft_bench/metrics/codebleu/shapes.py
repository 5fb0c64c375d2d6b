"""The subtrees of a text, as CodeBLEU's syntax match compares them.

A subtree is a node that has children, or the module; two are the same if their kinds, fields and
named children are, whatever the names and values in their leaves: equal S-expressions, in
tree-sitter's words.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Collection, Mapping, Sequence

from peft_bench.metrics.codebleu.grammar import ERROR, grammar
from peft_bench.metrics.codebleu.trees import FlatTree

_HIDDEN = 65536  # no kind has this number
_HIDDEN_SIGN = "(MISSING _"
# What an S-expression is made of: unexpected characters, visible and hidden tokens that the
# parser put in, and the brackets of all else.
_SHOWN = re.compile(
    r"""\(UNEXPECTED\ (?:'\\?.'|\d+)\) | \(MISSING\ (?:"[^"]*"|[a-z]\w*)\) |
    \(MISSING\ _\w+\) | [()]""",
    re.DOTALL | re.VERBOSE,
)
_DEPTH_MAX = 500  # tree-sitter writes S-expressions by recursion in C, which must not overflow

# For a node, by its place among all that the S-expression shows: before how many of its children
# each hidden token stands, and the hash of its name.
_Hidden = Mapping[int, Sequence[tuple[int, int]]]


def shapes(tree: FlatTree) -> list[int]:
    """The hash of every subtree, from the leaves up.

    Hashes of tuples of numbers; that two subtrees have the same by chance is 1 in 2^61.
    """
    shown = list(map(grammar().leaves.__getitem__, tree.kinds))  # a node in its parent's
    hidden: _Hidden = {}
    places: Sequence[int] = ()
    if tree.nodes[0].has_error:
        missing = [number for number, node in enumerate(tree.nodes) if node.is_missing]
        for node in missing:
            shown[node] = hash((tree.kinds[node], tree.kinds[node]))
        if ERROR in tree.kinds:
            _show_errors(tree, shown)
        deep = len(tree.nodes) > _DEPTH_MAX and _depth(tree) > _DEPTH_MAX
        if not deep and _HIDDEN_SIGN in (text := str(tree.nodes[0])):
            hidden, places = _hidden(text), _places(tree, missing)
    for node in tree.left_out:
        shown[node] = 0
    return _hashed(tree, shown, hidden, places)


def _hashed(tree: FlatTree, shown: list[int], hidden: _Hidden, places: Sequence[int]) -> list[int]:
    kinds, fields, after, left_out = tree.kinds, tree.fields, tree.after, tree.left_out
    named = grammar().named
    found: list[int] = []
    passed: dict[int, list[int | None]] = {}  # what a nameless node (`not in`) leaves to its parent
    inner = [node for node, end in enumerate(after) if end > node + 1]
    for node in reversed(inner or [0]):
        if node in left_out:
            continue
        kind, end = kinds[node], after[node]
        content: list[int | None] = [kind]
        child = node + 1
        while child < end:
            if shape := shown[child]:
                content += (fields[child], shape)
            elif child in passed:
                content += passed[child]
            child = after[child]
        if hidden and kind in named:
            for children, token in reversed(hidden.get(places[node], ())):
                content[1 + 2 * children : 1 + 2 * children] = (None, token)
        shape = hash(tuple(content))
        found.append(shape)
        if kind in named:
            shown[node] = shape
        elif len(content) > 1:  # a token that the parser put in
            passed[node] = [part or fields[node] for part in content[1:]]
    return found


def _show_errors(tree: FlatTree, shown: list[int]) -> None:
    """Characters that the parser could do nothing with; not always the first of their leaf."""
    for node, kind in enumerate(tree.kinds):
        if kind == ERROR and tree.after[node] == node + 1:
            shown[node] = hash((kind, *str(tree.nodes[node]).encode()))


def _depth(tree: FlatTree) -> int:
    """How many ancestors a node has at most."""
    ends: list[int] = []
    depth = 0
    for node, end in enumerate(tree.after):
        if end > node + 1:
            while ends and ends[-1] <= node:
                ends.pop()
            ends.append(end)
            depth = max(depth, len(ends))
    return depth


def _places(tree: FlatTree, missing: Collection[int]) -> list[int]:
    """How many nodes an S-expression shows before each."""
    named, put_in = grammar().named, frozenset(missing)
    shown = [kind in named or node in put_in for node, kind in enumerate(tree.kinds)]
    return [0, *itertools.accumulate(shown)]


def _hidden(text: str) -> _Hidden:
    """Tokens that the parser put in and that only an S-expression shows, such as a line's end."""
    found: dict[int, list[tuple[int, int]]] = {}
    shown = 0
    parents: list[list[int]] = []  # the open ones: place, children shown so far
    last = text.index(")", text.rindex(_HIDDEN_SIGN)) + 1
    for token in _SHOWN.findall(text, 0, last):
        if token == ")":
            parents.pop()
        elif token.startswith(_HIDDEN_SIGN):
            place, before = parents[-1]
            name = int.from_bytes(token.encode(), "big")
            found.setdefault(place, []).append((before, hash((_HIDDEN, name))))
        else:
            if parents:
                parents[-1][1] += 1
            if token == "(":
                parents.append([shown, 0])
            shown += 1
    return found
