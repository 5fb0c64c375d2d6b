"""The zygote: a small sealed interpreter that forks one process for every test of a program.

Started by worker.py as `python -c ... CONTROL_FD`, apart from the caller. The same program serves
as the candidates' zygote and as the judges'; they never share a process, so that nothing of a test
is ever in the memory that a candidate inherits.

From the caller: plan; run; host; kill. To the caller: ready; failed; started; end; error; hungry;
host; no host; gone.
"""

import _signal  # type: ignore[import-not-found]  # signal itself loads enum
import ctypes
import fcntl
import gc
import os
import select
import sys
import time
from _socket import socket

from . import candidate, warm
from .children import SCRIPTS, Child, Children
from .link import Closed, Link
from .seal import enter

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from .hosts import Hosts

TICK_S = 0.05
_LOOK_S = 0.02  # between the looks that follow a start
_QUIET = 2  # so many looks in a row must find a child asleep: it may only wait for a processor
_BATCH = 4  # children forked in a row
_MOST_IN_A_ROW = 32  # even if all are asleep
_ACTIVE = 2  # while so many children compute, no more are forked
_LOW_FDS = 16  # our own descriptors lie above those that a child is given
_PATIENCE = 10  # a program that still computes at its wall limit may go on up to this many times
_CPU_CLOCK = 2


class Zygote:
    """Runs jobs in children: as many at once as the machine is idle for. hosts: of judges alone."""

    def __init__(
        self, link: Link, children: Children, hosts: "Hosts | None", plan: "dict[str, Any]"
    ) -> None:
        self.link = link
        self.children = children
        self.hosts = hosts
        self.judges = hosts.alive if hosts else {}
        self._kills = "kill at end" not in plan["without_own"]
        self._cpu_s: float = plan["limits"]["cpu_s"]
        self._wall_s: float = plan["limits"]["wall_s"]
        self._channels: dict[int, int] = {}  # the channel's descriptor -> the child's pid
        self._queue: list[tuple[Any, ...]] = []
        self._active = self._running = 0
        self._more = 0  # that may be started although some run, since all of these are asleep
        self._looks = 0  # that come sooner than a tick
        self._refused = False  # a fork has just failed
        self._last_tick = self._next_tick = 0.0
        self._ends = _child_ends()
        self._epoll = select.epoll()
        for fd in (link.fd, self._ends, children.failed):
            self._epoll.register(fd, select.EPOLLIN)

    def run(self) -> None:
        """Serve until the caller is gone; the children end with this process.

        Raises: Closed: the caller is gone.
        """
        writing, now = False, time.monotonic()
        self.link.gathers = True
        while True:
            self.link.flush()
            if self.link.pending != writing:
                writing = not writing
                wanted = select.EPOLLIN | (select.EPOLLOUT if writing else 0)
                self._epoll.modify(self.link.fd, wanted)
            for fd, _ in self._epoll.poll(self._pause(now)):
                if fd == self.link.fd:
                    self.link.flush()
                    for message in self.link.receive():
                        self.take(message)
                elif fd == self._ends:
                    os.read(fd, 4096)
                elif fd == self.children.failed:
                    self.children.note_failures()
                elif (pid := self._channels.pop(fd, 0)) != 0:
                    # The judge has closed its end: what is left of the candidate is not needed.
                    self._epoll.unregister(fd)
                    if self._kills:
                        self._end(pid, "judged")
            if self.children.alive or self.judges:
                self._reap()
            now = time.monotonic()
            if now >= self._next_tick:
                self._tick(now)
            if self._queue and (self._active < _ACTIVE or self._more) and self._can_start():
                self._start(min(max(_BATCH, self._more), _MOST_IN_A_ROW), now)

    def _pause(self, now: float) -> "float | None":
        return max(0.0, self._next_tick - now) if self.children.alive else None

    def take(self, message: "tuple[Any, ...]") -> None:
        """Do as the caller says."""
        what = message[0]
        if what == "run":
            if message[-1]:
                self._queue.append(message)
            else:
                text = "the sandbox could not start a run: it has too many files open"
                self.link.send(("error", message[1], text))
        elif self.hosts is not None:
            (self.hosts.start if what == "host" else self.hosts.kill)(*message[1:-1])

    # Runs

    def _can_start(self) -> bool:
        return self.children.room() > 0 and not self._refused

    def _start(self, most: int, now: float) -> None:
        """Give the oldest jobs a child each, and look soon what becomes of them."""
        children = self.children
        count = min(most, len(self._queue), children.room())
        jobs, self._queue = self._queue[:count], self._queue[count:]
        self._more = max(0, self._more - count)
        self._looks, self._next_tick = _QUIET + 1, min(self._next_tick, now + _LOOK_S)
        prepared, forked = [], []
        for place, (_, number, kind, size, fds) in enumerate(jobs):
            try:
                prepared.append(children.prepare(number, kind, size, fds[0]))
            except OSError as error:
                self._queue[:0] = jobs[place + 1 :]
                self._refuse(number, kind, size, fds[0], error, alone=not prepared)
                break
        for child in prepared:
            child.start = time.monotonic()
            child.next_check = child.start + self._wall_s * 0.9
            try:
                forked.append((children.fork(child), child))
            except OSError as error:
                if child.judge >= 0:
                    os.close(child.judge)
                self._refuse(child.number, child.kind, child.size, child.job, error)
                children.release(child)
        # With nobody whose end could be waited for, the next is tried all the same.
        self._refused = self._refused and bool(children.alive)
        for pid, child in forked:
            self._active += 1
            self._running += 1
            if child.judge >= 0:
                self.link.send(("started", child.number), child.judge)
                self._channels[child.channel] = pid
                self._epoll.register(child.channel, 0)

    def _refuse(
        self, number: int, kind: str, size: int, job: int, error: OSError, *, alone: bool = True
    ) -> None:
        """There was no room for a child: wait for another to end, or give its run up.

        alone: no other is about to be forked.
        """
        self._refused = True
        if self.children.alive or not alone:
            self._queue.insert(0, ("run", number, kind, size, (job,)))
        else:
            os.close(job)
            text = f"the sandbox could not start a run: {error}"
            self.link.send(("error", number, text))

    def _end(self, pid: int, cause: str) -> None:
        """Kill a child that has not been reaped yet, and note why."""
        child = self.children.alive[pid]
        if child.cause == "itself":
            child.cause = cause
        os.kill(pid, _signal.SIGKILL)

    def _reap(self) -> None:
        while True:
            try:
                pid, status, usage = os.wait4(-1, os.WNOHANG)
            except ChildProcessError:
                return
            if pid == 0:
                return
            exit_code = os.waitstatus_to_exitcode(status)
            if exit_code == 1:  # perhaps because it could not be set up
                self.children.note_failures()
            if (child := self.children.alive.pop(pid, None)) is None:
                if self.hosts is not None:
                    self.hosts.ended(pid, exit_code)
                continue
            self._refused = False
            self._report(child, exit_code, usage)

    def _report(self, child: Child, exit_code: int, usage: "Any") -> None:
        wall_s = time.monotonic() - child.start
        self._active -= child.active
        self._running -= 1
        if self._channels.pop(child.channel, 0):
            # Closing is not enough: while a sibling still holds a copy, its end would be told
            # under this number, which by then may be another child's channel.
            self._epoll.unregister(child.channel)
        _, out, err, *answers = child.files
        out_size, err_size = os.lseek(out, 0, os.SEEK_CUR), os.lseek(err, 0, os.SEEK_CUR)
        # Files go to the caller unread: later children inherit what is read here.
        left = {"out": out_size if child.kind in SCRIPTS else 0, "err": err_size, "report": 0}
        if answers:
            left["report"] = os.lseek(answers[0], 0, os.SEEK_CUR)
        files = [fd for fd, size in zip(child.files[1:], left.values(), strict=False) if size]
        cpu_s = usage.ru_utime + usage.ru_stime
        self.link.send(
            ("end", child.number, exit_code, child.cause, cpu_s, wall_s, usage.ru_maxrss * 1024,
             out_size + err_size, child.failure, left), *files
        )  # fmt: skip
        self.children.release(child, files)

    # Time

    def _tick(self, now: float) -> None:
        """See who computes and who is over a limit; start more where the machine is idle."""
        passed, self._last_tick = min(now - self._last_tick, TICK_S), now
        self._looks -= self._looks > 0
        self._next_tick = now + (_LOOK_S if self._looks else TICK_S)
        self._active = 0
        for pid, child in self.children.alive.items():
            cpu = _cpu_of(pid, max(child.last_cpu, 0.0))
            computes = child.last_cpu < 0.0 or cpu - child.last_cpu > passed / 50
            child.quiet = 0 if computes else child.quiet + 1
            child.active = child.quiet < _QUIET
            child.last_cpu = cpu
            self._active += child.active
            if cpu >= self._cpu_s:
                self._end(pid, "cpu")
            elif now >= child.next_check:
                self._check_wall(pid, child, now, cpu)
        # If all are asleep, three times as many may as well be.
        if not self._active:
            self._more = 2 * self._running
        elif not self._queue:
            self._more = 0
        if self._running and self._active < _ACTIVE and len(self._queue) < max(self._more, 1):
            self.link.send(("hungry", self._running))

    def _check_wall(self, pid: int, child: Child, now: float, cpu: float) -> None:
        """End a program at its wall limit, unless it computes and only lacks a processor.

        The first check comes at nine tenths of the limit, to have something to compare with.
        """
        pause = self._wall_s * 0.1
        waited = now - child.start
        idle = cpu - child.cpu_at_check < 0.01 * pause
        if waited >= self._wall_s and (idle or waited >= _PATIENCE * self._wall_s):
            self._end(pid, "wall")
        child.cpu_at_check = cpu
        child.next_check = now + pause


def _rise(fd: int) -> int:
    """Move a descriptor up; take the low ones, so that every later one lies above them."""
    high: int = fcntl.fcntl(fd, fcntl.F_DUPFD_CLOEXEC, _LOW_FDS)
    os.close(fd)
    null = os.open("/dev/null", os.O_RDWR)
    while null < _LOW_FDS:
        null = os.dup(null)
    os.close(null)
    return high


def _cpu_of(pid: int, before: float) -> float:
    """CPU seconds of a process; clock numbers as in the kernel's posix-timers.h."""
    try:
        return time.clock_gettime((~pid << 3) | _CPU_CLOCK)
    except OSError:  # it has ended and waits to be reaped
        return before


def _child_ends() -> int:
    """A descriptor that can be read when a child has ended; the signal itself stays blocked.

    A handler would have to be taken back in every child.
    """
    _signal.pthread_sigmask(_signal.SIG_BLOCK, (_signal.SIGCHLD,))
    signals = (1 << (_signal.SIGCHLD - 1)).to_bytes(128, "little")
    fd: int = ctypes.CDLL(None, use_errno=True).signalfd(-1, signals, os.O_NONBLOCK | os.O_CLOEXEC)
    if fd < 0:
        raise OSError(ctypes.get_errno(), "signalfd")
    return fd


def main() -> None:
    """Take the plan, load what programs need, seal, serve."""
    link = Link(socket(fileno=_rise(int(sys.argv[1]))))
    link.sock.setblocking(True)
    while not (messages := link.receive()):
        continue  # it comes in parts
    (_, plan, _), *early = messages
    try:
        make_hosts: type[Hosts] | None = None
        if not plan["candidates"]:
            from . import hosts

            make_hosts = hosts.Hosts
        warm.load(plan["preload"], plan["paths"])
        seal = enter(plan)
        warm.prepare(plan)
        children = Children(seal, plan)
        own = make_hosts(link, children) if make_hosts else None
        zygote = Zygote(link, children, own, plan)
        candidate.Bounds.message_bytes = plan["limits"]["message_bytes"]
        candidate.Bounds.output_bytes = plan["limits"]["output_bytes"]
        seal.finish()
        warm.exercise()
        if own is None:
            warm.rehearse(children)
        else:
            own.rehearse()
        for name in [name for name in sys.modules if name.partition(".")[0] == __package__]:
            del sys.modules[name]  # no program has any use for these
        gc.collect()
        gc.disable()
        warm.fill_holes()
        gc.freeze()
    except Exception as error:
        link.send(("failed", candidate.describe(error)))
        raise
    link.sock.setblocking(False)
    link.send(("ready", seal.layers, len(seal.slots)))
    for message in early:
        zygote.take(message)
    try:
        zygote.run()
    except Closed:  # the caller is gone or has enough
        for pid in (*zygote.children.alive, *zygote.judges):
            os.kill(pid, _signal.SIGKILL)
        os._exit(0)
