"""Things that may occur more than once, such as the n-grams of a text."""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable, Iterable
from typing import Generic, TypeVar

T = TypeVar("T", bound=Hashable)


class Bag(Generic[T]):
    """Some things, of which equal ones cannot be told apart.

    A reference's bag is asked about those of answers, which are gone through and no more: what is
    prepared here, when first asked, is not prepared there.

    Attributes:
        items: all of them; can be gone through again and again.
        size: how many they are.
    """

    __slots__ = ("_kinds", "_repeats", "items", "size")

    def __init__(self, items: Iterable[T], size: int) -> None:
        self.items = items
        self.size = size
        self._kinds: frozenset[T] | None = None
        self._repeats: dict[T, int] = {}  # how often those of which there are several come again

    def common(self, other: Bag[T]) -> frozenset[T]:
        """What is in both."""
        if self._kinds is None:
            self._kinds = frozenset(self.items)
            if len(self._kinds) < self.size:
                counts = Counter(self.items)
                self._repeats = {item: count - 1 for item, count in counts.items() if count > 1}
        return self._kinds.intersection(other.items)

    def shared(self, other: Bag[T]) -> int:
        """How many there are in both, each as often as in both."""
        common = self.common(other)
        repeats = self._repeats
        if not repeats or common.isdisjoint(repeats):
            return len(common)
        counts = Counter([item for item in other.items if item in repeats])
        return len(common) + sum([min(repeats[item], n - 1) for item, n in counts.items()])

    def found_in(self, other: Bag[T]) -> int:
        """How many there are of which the other has any."""
        common = self.common(other)
        return len(common) + sum([n for item, n in self._repeats.items() if item in common])
