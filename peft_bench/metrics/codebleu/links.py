"""From edges between tokens to the links that are compared: merged, and names made numbers."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator, Sequence
from zlib import crc32

Flow = tuple[int, str, tuple[int, ...]]  # the number of a name, how, and where it comes from
# A name, its position, how it gets its value, and from which names at which positions.
Edge = tuple[str, int, str, Sequence[str], Sequence[int]]


def union(one: Edge, other: Edge, as_published: bool) -> Edge:
    """The one edge, with the sources of both."""
    if len(one[3]) < 2 and one[3:] == other[3:]:
        return one
    order = _published_order if as_published else _first_seen
    positions = sorted({*one[4], *other[4]})
    return *one[:3], order((*one[3], *other[3])), positions


def linked(edges: Sequence[Edge], as_published: bool) -> Collection[Edge]:
    """One edge a token, without the tokens that nothing comes from or goes to."""
    used: set[int] = set()
    for _, position, _, _, positions in edges:
        if positions:
            used.add(position)
            used.update(positions)
    found: dict[int, Edge] = {}
    for edge in edges:
        position = edge[1]
        if position in used:
            known = found.get(position)
            found[position] = edge if known is None else union(known, edge, as_published)
    return found.values()


def numbered(edges: Iterable[Edge]) -> Iterator[Flow]:
    """The links, with names numbered in the order in which they appear."""
    numbers: defaultdict[str, int] = defaultdict()
    numbers.default_factory = numbers.__len__  # a new name has the next number
    number = numbers.__getitem__
    for name, _, relation, sources, _ in edges:
        origins = tuple(map(number, sources))
        yield number(name), relation, origins


def _first_seen(names: Iterable[str]) -> list[str]:
    return list(dict.fromkeys(names))


def _published_order(names: Iterable[str]) -> list[str]:
    """A fixed order where the published scripts have that of a Python set.

    Theirs changes with the interpreter's hash seed, and the data flow of some pairs with it: of
    13 among the 638 reference pairs of this project's tests. Every fixed order is one of their
    possible results; by its start value this checksum gives that of the reference figures.
    """
    return sorted(dict.fromkeys(names), key=lambda name: crc32(name.encode(), 45))
