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
from .link import Closed, Link

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import NoReturn


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
        slot = self._children.take_slot() if works else None
        if works and slot is None and self._slots:
            self._waiting.append(number)
            return
        replied = mmap(-1, 1)
        ours, theirs = socketpair()
        try:
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
