"""The judges' side of a zygote: forks their processes and tells how they ended.

Loaded where judges are forked alone: what is loaded, every child has to map.
"""

import _signal  # type: ignore[import-not-found]  # signal itself loads enum
import gc
import os
from _socket import socket, socketpair
from mmap import mmap

from . import candidate, host, kernel, widehost
from .children import FAILED_SETUP, Children
from .frames import write_frame
from .link import Closed, Link

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import NoReturn

_TIMES = 12  # the interpreter looks at code that has run eight times
# What a judge does most: a test of several calls, one of a name, one that fails, one that ends.
_TESTS = (
    """
def check(candidate):
    assert candidate([1.0, 2.5], 3) == [True, "a"], "wrong"
    assert abs(candidate((1, 2), wide=0) - 0.5) < 1e-6
    for number in range(2):
        assert candidate(number) == {"a": (1, None)}
check(candidate)
""",
    "assert work(1) == 2",
    "math.floor(limit)",
)
_HELLO = 'h{"work": "c", "Thing": "c", "math": "m:math", "List": "s:typing", "limit": "d"}'
_PAIR = 'v{"d": [["a", {"t": [1, null]}]]}'
_ANSWERS = (_HELLO, 'v[true, "a"]', "v0.5", _PAIR, _PAIR)


class Hosts:
    """The judges' processes that live now, by pid: their numbers, and whether one has had an
    answer of a candidate (a page that both sides see)."""

    def __init__(self, link: Link, children: Children) -> None:
        self._link = link
        self._children = children
        self.alive: dict[int, tuple[int, mmap]] = {}
        self._slots: dict[int, int] = {}  # of those that have a directory to work in, by pid
        self._waiting: list[int] = []  # numbers of those that there is no directory for now

    def start(self, number: int, works: bool) -> None:
        """Fork a judge's process; its socket goes to the caller.

        works: it gets a directory of its own, where there are such.
        """
        slot = None
        try:
            slot = self._children.take_slot() if works else None
            if works and slot is None and self._slots:
                self._waiting.append(number)
                return
            replied = mmap(-1, 1)
            ours, theirs = socketpair()
            pid = os.fork()
        except OSError as error:
            text = f"the sandbox could not start a judge: {error}"
            self._link.send(("no host", number, text))
            self._children.give_slot(slot)
            self._start_waiting()
            return
        if pid == 0:
            self._become(theirs, replied, slot)
        theirs.close()
        if slot is not None:
            self._slots[pid] = slot
        self.alive[pid] = number, replied
        self._link.send(("host", number, pid), ours.detach())

    def kill(self, number: int) -> None:
        """End one, if it lives."""
        for pid, (own, _) in self.alive.items():
            if own == number:
                os.kill(pid, _signal.SIGKILL)

    def ended(self, pid: int, exit_code: int) -> None:
        """Tell the caller of one that has been reaped."""
        if pid in self.alive:
            number, replied = self.alive.pop(pid)
            self._link.send(("gone", number, exit_code, replied[0]))
            replied.close()
            if (slot := self._slots.pop(pid, None)) is not None:
                self._children.give_slot(slot)
                self._start_waiting()

    def _start_waiting(self) -> None:
        if self._waiting:
            self.start(self._waiting.pop(0), True)

    def rehearse(self) -> None:
        """Do in this process what a judge does, but for the seal and its end; see warm.rehearse."""
        children, replied = self._children, mmap(-1, 1)
        nothing = (kernel.NOTHING,) * len(children.limits)
        for _ in range(_TIMES):
            children.seal.idle(lambda: children.set_up(None, nothing, FAILED_SETUP))
            ours, theirs = socketpair()
            candidates = [socketpair() for _ in _TESTS]
            link = Link(ours)
            for number, (test, (near, far)) in enumerate(zip(_TESTS, candidates, strict=True)):
                for answer in _ANSWERS:
                    write_frame(near.fileno(), answer.encode())
                link.send((number, test, "work", "split", 60.0, 1 << 20), far.detach())
            ours.shutdown(1)
            host.serve(Link(theirs), replied, widehost.make(None), once=False)
            for sock in (ours, theirs, *(near for near, _ in candidates)):
                sock.close()
        replied.close()

    def _become(self, sock: socket, replied: mmap, slot: "int | None") -> "NoReturn":
        children = self._children
        code = 1
        try:
            null = os.open("/dev/null", os.O_RDWR)
            for number in (0, 1, 2, candidate.REPORT):
                os.dup2(null, number)
            os.dup2(sock.detach(), candidate.CHANNEL)
            own = [call for what, call in children.limits.items() if what != kernel.RLIMIT_CPU]
            try:
                children.set_up(slot, own)
            except BaseException as error:
                children.tell_failure(error)
                raise
            os.close(FAILED_SETUP)
            gc.enable()
            begin = widehost.make(None if slot is None else os.getcwd())
            link = Link(socket(fileno=candidate.CHANNEL))
            host.serve(link, replied, begin, once=slot is not None)
            code = 0
        except Closed:
            code = 0
        finally:
            os._exit(code)
