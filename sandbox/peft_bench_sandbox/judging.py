"""The judges' processes: given the runs that wait for one, replaced as they end."""

from __future__ import annotations

import os
import signal
import socket
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Protocol

from .inside.link import Closed, Link
from .runs import Run
from .score import Judged
from .switchboard import Switchboard
from .types import AssertTest
from .worker import Setting, Zygote

_LOOK_S = 0.5
_MOST_IDLE = 32  # judges that wait; programs that sleep take up to one each
# How a judge's process ends by itself, and what that is to the program whose answers it had.
_ENDS = {-signal.SIGPROF: "cpu", -signal.SIGKILL: "timeout"}


class Listener(Protocol):
    """Who wants to know what became of a run."""

    def judged(self, run: Run) -> None:
        """The run has its judge's word."""

    def failed(self, run: Run, message: str) -> None:
        """The sandbox failed on this run."""

    def short_of_files(self, run: Run, message: str) -> None:
        """So it did, for this process has too many files open."""


@dataclass(eq=False, slots=True)
class Host:
    """A judge's process; its run, and when that began, if it has one.

    tests: those it has had, and may still have compiled.
    """

    number: int
    link: Link
    run: Run | None = None
    since: float = 0.0
    ending: bool = False
    tests: set[int] = field(default_factory=set)


class Judges:
    """A zygote of judges, and the judges that it has forked."""

    def __init__(self, setting: Setting, board: Switchboard, listener: Listener) -> None:
        self._setting = setting
        self._board = board
        self._listener = listener
        self._zygote: Zygote | None = None
        self._hosts: dict[int, Host] = {}
        self._idle: list[Host] = []
        self._waiting: deque[Run] = deque()
        self._starting = 0
        # Of judges that start for one run alone, by their numbers; None if it was given up.
        self._reserved: dict[int, Run | None] = {}
        self._number = 0
        self._next_look = 0.0

    def judge(self, run: Run) -> None:
        """Have a run judged whose candidate is at the other end of `run.channel`."""
        if run.files:
            self._reserved[self._start(works=True)] = run
            return
        self._waiting.append(run)
        self._assign()

    def forget(self, run: Run) -> None:
        """A run is given up: nobody waits for its judge any more."""
        if run in self._waiting:
            self._waiting.remove(run)
            self._close_channel(run)
        for number, its in self._reserved.items():
            if its is run:
                self._reserved[number] = None
                self._close_channel(run)
        for host in self._hosts.values():
            if host.run is run:
                host.run = None
                self._kill(host)

    def close(self) -> None:
        """End every judge."""
        for host in list(self._hosts.values()):
            self._drop(host)
        for run in (*self._waiting, *self._reserved.values()):
            if run is not None:
                self._close_channel(run)
        if self._zygote is not None:
            self._zygote.close()

    def look(self, now: float) -> None:
        """End judges that outlast their candidate: by little they may, in a sleep they do not."""
        if now < self._next_look:
            return
        self._next_look = now + _LOOK_S
        if self._zygote is not None:
            self._zygote.check_start(now)
        limits = self._setting.limits
        for host in self._hosts.values():
            run = host.run
            if run is None or run.ended is None or host.ending:
                continue
            if now - host.since > run.ended.wall_s + limits.cpu_s * 2 + limits.wall_s:
                host.ending = True
                self._kill(host)

    # What a judge says

    def of_host(self, host: Host, messages: list[tuple[object, ...]] | None) -> None:
        """Take a judge's word, or notice that it is gone."""
        if messages is None:
            host.ending = True  # how it ended, its zygote says
            if host in self._idle:
                self._idle.remove(host)
            if host.run is None:
                self._drop(host)
            return
        for number, outcome, message, ends, _ in messages:
            run, host.run = host.run, None
            if ends:
                host.ending = True
            elif len(self._idle) < _MOST_IDLE or self._waiting:
                self._idle.append(host)
            else:
                self._drop(host)  # its link closed, it ends
            if run is not None and run.number == number:
                run.judged = Judged(str(outcome), str(message))
                self._listener.judged(run)
        self._assign()

    # What their zygote says

    def of_zygote(self, what: str, *rest: object) -> None:
        """Take a message of the zygote that is not about its own start."""
        if what == "host":
            number, _, fds = rest
            assert isinstance(number, int) and isinstance(fds, tuple)
            if not fds:  # it notices, and ends
                text = "the socket to its judge is lost: this process has too many files open"
                self._no_host(number, text, self._listener.short_of_files)
                return
            host = Host(number, Link(socket.socket(fileno=fds[0]), gathers=True))
            self._hosts[number] = host
            self._board.add(host.link, host)
            if number in self._reserved:
                run = self._reserved.pop(number)
                self._drop(host) if run is None else self._give(run, host)
                return
            self._starting -= 1
            self._idle.append(host)
            self._assign()
        elif what == "no host":
            number = rest[0]
            assert isinstance(number, int)
            self._no_host(number, str(rest[1]), self._listener.failed)
        elif what == "gone":
            number, exit_code, replied, _ = rest
            gone = self._hosts.get(number) if isinstance(number, int) else None
            if gone is not None:
                assert isinstance(exit_code, int)
                self._hear_out(gone)
                self._host_gone(gone, exit_code, bool(replied))

    def _no_host(self, number: int, message: str, tell: Callable[[Run, str], None]) -> None:
        """A judge could not be had. A run that waited for it would use up its time."""
        if number in self._reserved:
            if (run := self._reserved[number]) is not None:
                tell(run, message)
            del self._reserved[number]
            return
        self._starting -= 1
        if len(self._waiting) > self._starting:
            tell(self._waiting[0], message)

    def lost(self, message: str) -> None:
        """The zygote is gone, and its judges with it."""
        assert self._zygote is not None
        self._zygote.close()
        self._zygote, self._starting = None, 0
        runs = [*self._reserved.values()]
        for host in list(self._hosts.values()):
            runs.append(host.run)
            self._drop(host)
        for run in runs:
            if run is not None:
                self._listener.failed(run, message)
        self._reserved.clear()
        self._assign()

    # Inside

    def _assign(self) -> None:
        """Give runs that wait to judges that wait."""
        while self._waiting and self._idle:
            run = self._waiting.popleft()
            self._give(run, self._idle_for(hash(_test_of(run).code)))
        while self._starting < len(self._waiting):
            self._starting += 1
            self._start()

    def _give(self, run: Run, host: Host) -> None:
        host.run, host.since = run, time.monotonic()
        test, limits = _test_of(run), self._setting.limits
        judge = test.entry_point, test.judge, limits.cpu_s, limits.output_bytes
        channel, run.channel = run.channel, -1
        self._board.post(host.link, (run.number, test.code, *judge), channel)

    def _idle_for(self, test: int) -> Host:
        """Take a judge that waits: one that knows the test, else the last one used."""
        known = [place for place, host in enumerate(self._idle) if test in host.tests]
        host = self._idle.pop(known[-1] if known else -1)
        host.tests.add(test)
        return host

    def _start(self, *, works: bool = False) -> int:
        """Have a judge's process started; its number. works: with a directory, for one run."""
        if self._zygote is None:
            self._zygote = Zygote(self._setting, candidates=False)
            self._board.add(self._zygote.link, self._zygote)
        self._number += 1
        self._board.post(self._zygote.link, ("host", self._number, works))
        return self._number

    def _hear_out(self, host: Host) -> None:
        """Take what a judge that has ended said before: its zygote may be heard first."""
        try:
            while messages := host.link.receive():
                self.of_host(host, messages)
        except Closed:  # nothing more, or its link was closed by what it said
            return

    def _host_gone(self, host: Host, exit_code: int, replied: bool) -> None:
        """A judge ended. After the candidate's first answer, its data may have been too much."""
        run = host.run
        self._drop(host)
        if run is None:
            return
        text = f"the judge ended with {exit_code} on what the program answered"
        if not replied:
            self._listener.failed(run, f"the test itself, before any answer: {text}")
            return
        run.judged = Judged(_ENDS.get(exit_code, "crashed"), text)
        self._listener.judged(run)

    def _kill(self, host: Host) -> None:
        if self._zygote is not None:
            self._board.post(self._zygote.link, ("kill", host.number))

    @staticmethod
    def _close_channel(run: Run) -> None:
        os.close(run.channel)
        run.channel = -1

    def _drop(self, host: Host) -> None:
        self._hosts.pop(host.number, None)
        if host in self._idle:
            self._idle.remove(host)
        self._board.drop(host.link)


def _test_of(run: Run) -> AssertTest:
    [test] = run.of
    assert isinstance(test, AssertTest)
    return test
