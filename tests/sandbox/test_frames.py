"""Frames between a candidate and its judge: whole, in parts, several, broken off, too long."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from socket import send_fds, socket, socketpair

import pytest
from peft_bench_sandbox.inside.frames import (
    Frames,
    TooLong,
    TooManyParts,
    read_frame,
    write_frame,
)


@pytest.fixture
def ends() -> Iterator[tuple[int, int]]:
    """Two ends of a channel; a test may close the first."""
    ours, theirs = (end.detach() for end in socketpair())
    yield ours, theirs
    for fd in (ours, theirs):
        try:
            os.close(fd)
        except OSError:
            continue


def head(size: int) -> bytes:
    return size.to_bytes(4, "little")


@pytest.mark.parametrize("size", [0, 1, 4, 8187, 8188, 8189, 8192, 100_000, 3 << 20])
def test_a_frame_of_any_size_comes_as_it_was_sent(ends: tuple[int, int], size: int) -> None:
    ours, theirs = ends
    payload = os.urandom(size)
    for reader in (lambda: reader_of(theirs, size).read(), lambda: read_frame(theirs)):
        writer = threading.Thread(target=write_frame, args=(ours, payload))
        writer.start()
        assert reader() == payload
        writer.join()


def reader_of(fd: int, most: int) -> Frames:
    return Frames(fd, most, bytearray(1))


def test_several_at_once_come_one_by_one(ends: tuple[int, int]) -> None:
    ours, theirs = ends
    payloads = [b"a", b"", b"bc" * 50, b"", b"d"]
    os.write(ours, b"".join(head(len(payload)) + payload for payload in payloads))
    frames = reader_of(theirs, 100)
    assert [frames.read() for _ in payloads] == payloads


def test_a_frame_in_parts_is_put_together(ends: tuple[int, int]) -> None:
    ours, theirs = ends
    data = head(5) + b"hello" + head(2) + b"yo"

    def drip() -> None:
        for place in range(len(data)):
            os.write(ours, data[place : place + 1])

    writer = threading.Thread(target=drip)
    writer.start()
    frames = reader_of(theirs, 10)
    assert (frames.read(), frames.read()) == (b"hello", b"yo")
    writer.join()


def drip(fd: int, data: bytes) -> None:
    """Send byte by byte; with a descriptor beside it, no byte is read together with the next."""
    with socket(fileno=os.dup(fd)) as end:
        for place in range(len(data)):
            send_fds(end, [data[place : place + 1]], [0])


@pytest.mark.parametrize("size", [5, 900])
def test_a_short_frame_may_come_byte_by_byte(ends: tuple[int, int], size: int) -> None:
    ours, theirs = ends
    writer = threading.Thread(target=drip, args=(ours, head(size) + b"x" * size))
    writer.start()
    assert reader_of(theirs, size).read() == b"x" * size
    writer.join()


def test_a_long_one_may_not(ends: tuple[int, int]) -> None:
    ours, theirs = ends
    writer = threading.Thread(target=drip, args=(ours, head(100_000) + b"x" * 1100))
    writer.start()
    with pytest.raises(TooManyParts, match="a message in over 1097 parts"):
        reader_of(theirs, 100_000).read()
    writer.join()


@pytest.mark.parametrize("data", [b"\5", head(5), head(5) + b"h"])
def test_the_first_byte_is_heard(ends: tuple[int, int], data: bytes) -> None:
    ours, theirs = ends
    heard = bytearray(1)
    frames = Frames(theirs, 100, heard)
    os.write(ours, data)
    os.close(ours)
    assert (frames.read(), heard) == (None, bytearray([1]))


def test_an_end_alone_is_not(ends: tuple[int, int]) -> None:
    ours, theirs = ends
    heard = bytearray(1)
    os.close(ours)
    assert (Frames(theirs, 100, heard).read(), heard) == (None, bytearray(1))


@pytest.mark.parametrize("data", [b"", b"\5", head(5)[:3], head(5), head(5) + b"hell"])
def test_an_early_end_is_none(ends: tuple[int, int], data: bytes) -> None:
    ours, theirs = ends
    frames = reader_of(theirs, 100)
    os.write(ours, head(2) + b"yo" + data)
    os.close(ours)
    assert [frames.read(), frames.read(), frames.read()] == [b"yo", None, None]


def test_an_end_with_unread_data_is_none(ends: tuple[int, int]) -> None:
    ours, theirs = ends
    os.write(theirs, b"never read")
    os.close(ours)
    assert reader_of(theirs, 100).read() is None


@pytest.mark.parametrize("size", [11, 1 << 20, 2**32 - 1])
def test_too_long_is_told_at_its_head_and_nothing_of_it_is_kept(
    ends: tuple[int, int], size: int
) -> None:
    ours, theirs = ends
    os.write(ours, head(10) + b"x" * 10 + head(size))
    frames = reader_of(theirs, 10)
    assert frames.read() == b"x" * 10
    with pytest.raises(TooLong, match=f"a message of {size} bytes"):
        frames.read()  # more would wait for ever


def test_writing_to_nobody_is_an_error(ends: tuple[int, int]) -> None:
    ours, theirs = ends
    os.close(ours)
    with pytest.raises(OSError, match=r"[Bb]roken pipe|reset"):
        write_frame(theirs, b"x")


def test_reading_from_nobody_is_empty(ends: tuple[int, int]) -> None:
    ours, theirs = ends
    os.close(ours)
    assert read_frame(theirs) == b""
