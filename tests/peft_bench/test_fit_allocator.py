"""The model of the CUDA allocator: sizes, segments, splitting, joining, giving back."""

from __future__ import annotations

import pytest

from peft_bench.fit.allocator import Replay, replay
from peft_bench.fit.tracker import Event, peak_bytes

MIB = 1024**2


def take(key: int, n_bytes: int) -> Event:
    return Event(key, n_bytes)


def give(key: int) -> Event:
    return Event(key, 0)


def test_sizes_are_rounded_to_512_bytes() -> None:
    assert replay([take(0, 1), take(1, 513)]).allocated_bytes == 512 + 1024


@pytest.mark.parametrize(
    ("n_bytes", "reserved"),
    [
        (1, 2 * MIB),
        (MIB, 2 * MIB),
        (MIB + 1, 20 * MIB),
        (10 * MIB - 1024, 20 * MIB),
        (10 * MIB, 10 * MIB),
        (33 * MIB - 5, 34 * MIB),
    ],
)
def test_segments_by_request(n_bytes: int, reserved: int) -> None:
    assert replay([take(0, n_bytes)]).reserved_bytes == reserved


def test_small_requests_share_a_segment_and_large_ones_another() -> None:
    events = [take(i, 512 * 1024) for i in range(4)] + [take(10 + i, 5 * MIB) for i in range(4)]
    assert replay(events).reserved_bytes == 2 * MIB + 20 * MIB


def test_freed_neighbours_join() -> None:
    thirds = [take(i, 4 * MIB) for i in range(5)]
    freed = [give(i) for i in (1, 3, 2)]
    # 12 MiB in a row are free again, though they were freed out of order.
    assert replay([*thirds, *freed, take(9, 12 * MIB)]).reserved_bytes == 20 * MIB
    apart = [give(i) for i in (1, 3)]
    assert replay([*thirds, *apart, take(9, 8 * MIB)]).reserved_bytes == 40 * MIB


def test_a_rest_of_up_to_a_mebibyte_stays_with_its_block() -> None:
    events = [take(0, 20 * MIB), give(0), take(1, 19 * MIB)]
    assert replay(events).allocated_bytes == 20 * MIB
    events = [take(0, 20 * MIB), give(0), take(1, 18 * MIB)]
    assert replay(events[2:]).allocated_bytes == 18 * MIB


def test_the_smallest_block_that_suffices_is_taken() -> None:
    events = [take(0, 40 * MIB), take(1, 20 * MIB), give(0), give(1)]
    assert replay([*events, take(2, 20 * MIB), take(3, 40 * MIB)]).reserved_bytes == 60 * MIB


def test_a_full_device_takes_empty_segments_back() -> None:
    events = [take(0, 30 * MIB), give(0), take(1, 40 * MIB)]
    assert replay(events).reserved_bytes == 70 * MIB
    assert replay(events, 50 * MIB) == Replay(40 * MIB, 40 * MIB, fits=True)
    assert not replay(events, 38 * MIB).fits
    # A segment in use, if only in part, stays.
    split = [take(0, 15 * MIB), take(1, 5 * MIB), take(2, 3 * MIB), give(1), take(3, 40 * MIB)]
    assert not replay(split, 60 * MIB).fits


def test_peak_without_an_allocator() -> None:
    assert peak_bytes([take(0, 3), take(1, 4), give(0), take(2, 2)]) == 7
