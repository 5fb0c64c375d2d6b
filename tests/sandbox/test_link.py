"""Messages between our own processes: order, descriptors, and what a full socket does to both."""

from __future__ import annotations

import errno
import os
import socket
import sys
from collections.abc import Iterator
from typing import Any, cast

import pytest

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="the links are Linux's")

from peft_bench_sandbox.inside.link import Closed, Link  # noqa: E402
from peft_bench_sandbox.switchboard import Switchboard  # noqa: E402

Pair = tuple[Link, Link]


@pytest.fixture(params=[False, True], ids=["at once", "gathered"])
def pair(request: pytest.FixtureRequest) -> Iterator[Pair]:
    ours, theirs = socket.socketpair()
    links = Link(ours, gathers=request.param), Link(theirs)
    yield links
    for link in links:
        link.close()


def test_messages_arrive_in_order_each_with_its_own_descriptors(pair: Pair) -> None:
    ours, theirs = pair
    read_end, write_end = os.pipe()
    sent, got = 300, []
    for number in range(sent):  # far more than the socket holds, and descriptors than one read
        fds = [os.dup(read_end), os.dup(write_end)] if number % 2 else []
        ours.send((number, "x" * (number * 37 % 5000)), *fds)
    while len(got) < sent:
        ours.flush()
        got += theirs.receive()
    assert [message[:2] for message in got] == [(n, "x" * (n * 37 % 5000)) for n in range(sent)]
    assert [len(fds) for *_, fds in got] == [2 * (n % 2) for n in range(sent)]
    for number, _, fds in got:
        if fds:
            os.write(fds[1], bytes([number % 256]))
            assert os.read(read_end, 1) == bytes([number % 256])
            os.close(fds[0])
            os.close(fds[1])
    os.close(read_end)
    os.close(write_end)


@pytest.mark.parametrize("free", range(7))
@pytest.mark.parametrize("in_parts", [False, True], ids=["whole", "in parts"])
def test_descriptors_that_are_lost_are_told_and_the_next_ones_are_right(
    free: int, in_parts: bool
) -> None:
    import resource

    ours, theirs = (Link(end, gathers=True) for end in socket.socketpair())
    # The first may not be sent whole: its end then goes with the others, which bring descriptors.
    ours.send(("long", "x" * (1_000_000 if in_parts else 1)))
    ours.flush()
    sizes = [0, 2, 0, 1, 3, 0]
    for number, size in enumerate(sizes):
        ours.send((number,), *(os.open(os.devnull, os.O_RDONLY) for _ in range(size)))
    got = []
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    if in_parts:
        for _ in range(5):
            assert theirs.receive() == []
    ours.flush()  # all descriptors, but not all bytes
    assert ours.pending == in_parts
    lowest = os.open(os.devnull, os.O_RDONLY)
    os.close(lowest)
    held = [os.open(os.devnull, os.O_RDONLY) for _ in range(free)]
    top = (held[-1] if held else lowest - 1) + 1
    for fd in held:
        os.close(fd)
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (top, before[1]))
        while len(got) < 1 + len(sizes):
            ours.flush()
            got += theirs.receive()
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, before)
    ours.send(("after",), os.open(os.devnull, os.O_RDONLY))
    ours.flush()
    got += theirs.receive()
    assert [what for what, *_ in got] == ["long", *range(len(sizes)), "after"]
    counts = [len(fds) for *_, fds in got[1:]]
    left, expected = free, []
    for size in sizes:
        expected.append(size if left >= size else 0)
        left -= size
    assert counts == [*expected, 1]
    for fd in [fd for *_, fds in got for fd in fds]:
        os.close(fd)
    assert theirs._fds == theirs._later == []
    ours.close()
    theirs.close()


class _Full:
    """A socket that for a while sends no descriptors: its user has too many under way."""

    def __init__(self, sock: socket.socket, times: int) -> None:
        self._sock, self._times = sock, times

    def __getattr__(self, name: str) -> Any:
        return getattr(self._sock, name)

    def sendmsg(self, *given: Any) -> int:
        self._times -= 1
        if self._times >= 0:
            raise OSError(errno.ETOOMANYREFS, "too many references")
        return self._sock.sendmsg(*given)


def test_too_many_descriptors_under_way_are_waited_for(pair: Pair) -> None:
    ours, theirs = pair
    ours.sock = cast("Any", _Full(ours.sock, 3))
    ours.send(("one",), os.open(os.devnull, os.O_RDONLY))
    for _ in range(3):
        assert ours.pending and theirs.receive() == []
        ours.flush()
    if ours.gathers:
        ours.flush()
    [(what, (fd,))] = theirs.receive()
    assert what == "one" and not ours.pending
    os.close(fd)


def test_what_is_gathered_waits_for_its_flush() -> None:
    ours, theirs = (Link(end, gathers=True) for end in socket.socketpair())
    ours.send(("one",))
    ours.send(("two",))
    assert theirs.receive() == [] and ours.pending
    ours.flush()
    assert theirs.receive() == [("one", ()), ("two", ())] and not ours.pending
    ours.close()
    with pytest.raises(Closed):
        theirs.receive()
    theirs.close()


def test_what_is_posted_to_one_that_is_gone_is_let_be() -> None:
    ours, theirs = socket.socketpair()
    link, board = Link(ours, gathers=True), Switchboard()
    board.add(link, "owner")
    theirs.close()
    assert list(board.wait(1)) == [("owner", None)]
    board.post(link, ("after",), os.open(os.devnull, os.O_RDONLY))
    board.flush()
    board.drop(link)
    board.close()
