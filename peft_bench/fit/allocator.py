"""What PyTorch's CUDA allocator reserves for a sequence of allocations.

A model of its caching allocator (c10/cuda/CUDACachingAllocator.cpp, default settings, one
stream): sizes are rounded to 512 bytes; requests up to 1 MiB come from segments of 2 MiB, larger
ones from segments of 20 MiB, those of 10 MiB and more from segments of their own rounded to
2 MiB; the smallest free block that is large enough is taken and split where the rest is worth
keeping; freed neighbours join; when the device is full, segments with nothing in them go back.
"""

from __future__ import annotations

from bisect import bisect_left, insort
from collections.abc import Iterable
from dataclasses import dataclass

from peft_bench.fit.tracker import Event

_MIB = 1024**2
_ROUND = 512
_SMALL = 1 * _MIB
_SMALL_SEGMENT = 2 * _MIB
_LARGE_SEGMENT = 20 * _MIB
_OWN_SEGMENT = 10 * _MIB


@dataclass(frozen=True, slots=True)
class Replay:
    """``allocated_bytes`` and ``reserved_bytes`` at their peaks; ``fits`` within the capacity."""

    allocated_bytes: int
    reserved_bytes: int
    fits: bool


class _Block:
    __slots__ = ("address", "free", "next", "pool", "previous", "size")

    def __init__(self, address: int, size: int, pool: list[tuple[int, int]]) -> None:
        self.address = address
        self.size = size
        self.pool = pool
        self.free = False
        self.previous: _Block | None = None
        self.next: _Block | None = None


def replay(events: Iterable[Event], capacity_bytes: int | None = None) -> Replay:
    """Allocates and frees as the events say; stops where the capacity does not suffice."""
    heap = _Heap(capacity_bytes)
    held: dict[int, _Block] = {}
    allocated = most = 0
    for key, n_bytes in events:
        if not n_bytes:
            block = held.pop(key)
            allocated -= block.size
            heap.give(block)
            continue
        taken = heap.take(n_bytes)
        if taken is None:
            return Replay(most, heap.most, fits=False)
        held[key] = taken
        allocated += taken.size
        most = max(most, allocated)
    return Replay(most, heap.most, fits=True)


class _Heap:
    def __init__(self, capacity_bytes: int | None) -> None:
        self.capacity = capacity_bytes
        self.reserved = self.most = 0
        self._next_address = 0
        # Free blocks by size, then address, as the allocator orders them.
        self._small: list[tuple[int, int]] = []
        self._large: list[tuple[int, int]] = []
        self._free: dict[int, _Block] = {}

    def take(self, n_bytes: int) -> _Block | None:
        size = max(_ROUND, -(-n_bytes // _ROUND) * _ROUND)
        pool = self._small if size <= _SMALL else self._large
        at = bisect_left(pool, (size, 0))
        if at < len(pool):
            block = self._free.pop(pool.pop(at)[1])
        else:
            segment = _segment_size(size)
            if not self._has_room(segment):
                return None
            block = _Block(self._next_address, segment, pool)
            self._next_address += segment
            self.reserved += segment
            self.most = max(self.most, self.reserved)
        block.free = False
        rest = block.size - size
        if rest >= _ROUND if pool is self._small else rest > _SMALL:
            self._split(block, size)
        return block

    def give(self, block: _Block) -> None:
        after, before = block.next, block.previous
        if after is not None and after.free:
            self._withdraw(after)
            block.size += after.size
            block.next = after.next
            if after.next is not None:
                after.next.previous = block
        if before is not None and before.free:
            self._withdraw(before)
            before.size += block.size
            before.next = block.next
            if block.next is not None:
                block.next.previous = before
            block = before
        self._offer(block)

    def _split(self, block: _Block, size: int) -> None:
        rest = _Block(block.address + size, block.size - size, block.pool)
        rest.previous, rest.next = block, block.next
        if block.next is not None:
            block.next.previous = rest
        block.next, block.size = rest, size
        self._offer(rest)

    def _has_room(self, segment: int) -> bool:
        if self.capacity is None or self.reserved + segment <= self.capacity:
            return True
        for block in list(self._free.values()):
            if block.previous is None and block.next is None:
                self._withdraw(block)
                self.reserved -= block.size
        return self.reserved + segment <= self.capacity

    def _offer(self, block: _Block) -> None:
        block.free = True
        self._free[block.address] = block
        insort(block.pool, (block.size, block.address))

    def _withdraw(self, block: _Block) -> None:
        block.free = False
        del self._free[block.address]
        del block.pool[bisect_left(block.pool, (block.size, block.address))]


def _segment_size(size: int) -> int:
    if size <= _SMALL:
        return _SMALL_SEGMENT
    if size < _OWN_SEGMENT:
        return _LARGE_SEGMENT
    return -(-size // _SMALL_SEGMENT) * _SMALL_SEGMENT
