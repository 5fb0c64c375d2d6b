"""Children of a zygote: forked, sealed, given what they may use, and cleaned up after."""

import ctypes
import fcntl
import gc
import marshal
import os
from _socket import socketpair

from . import batch, candidate, kernel, wide
from .seal import Seal

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from typing import Any

MOST_CHILDREN = 256
_SPARE = 64  # memory files kept for the next children
# What a child takes of the zygote's descriptors: up to four files, its directory's ruleset, its
# job, and one for jobs that wait. And what the zygote needs besides.
_A_CHILD, _OTHERS = 7, 96
# Limits that do not hamper the zygote: set once, for it and all its children. That of processes
# would: a child that has started all the threads there may be must not keep it from forking.
_INHERITED = (kernel.RLIMIT_MEMLOCK, kernel.RLIMIT_MSGQUEUE, kernel.RLIMIT_FSIZE)
SCRIPTS = ("stdin", "scripts")  # kinds of run that read standard input and are judged by output
FAILED_SETUP = 5  # the descriptor a child tells its setup's failure on


class Child:
    """A forked child with its job.

    files: what it has as descriptors 0, 1, 2 and, unless a judge calls it, 4. channel: our copy of
    its descriptor 3, the socket to its judge; -1 if it has none. judge: the other end. job: a file,
    the last so many bytes of it; a single script's input comes before.
    """

    __slots__ = (
        "active", "cause", "channel", "cpu_at_check", "failure", "files", "job", "judge", "kind",
        "last_cpu", "next_check", "number", "quiet", "size", "slot", "start",
    )  # fmt: skip

    def __init__(self, number: int, kind: str, size: int, job: int, slot: "int | None") -> None:
        self.number, self.kind, self.size, self.job, self.slot = number, kind, size, job, slot
        self.files: tuple[int, ...] = ()
        self.channel = self.judge = -1
        self.cause, self.failure, self.active = "itself", "", True
        self.start = self.next_check = 0.0
        self.last_cpu = self.cpu_at_check = -1.0  # not looked at yet
        self.quiet = 0  # looks in a row that found it asleep


class Children:
    """Makes children; keeps what they take turns at: working directories and memory files."""

    def __init__(self, seal: Seal, plan: "dict[str, Any]") -> None:
        self.seal = seal
        without = plan["without_own"]
        self._closes = "descriptors" not in without
        self._cleans = "cleaning" not in without
        limited = plan["rlimits"] if "rlimits" not in without else []
        # Of a child alone, each as the call that sets it.
        self.limits: dict[int, tuple[object, ...]] = {}
        for what, value in limited:
            lowered = min(value, kernel.limit(what)[1])
            if what in _INHERITED:
                kernel.limit(what, (lowered, lowered))
            else:
                self.limits[what] = kernel.limit_call(what, (lowered, lowered))
        self._own_limits = tuple(self.limits.values())
        self.alive: dict[int, Child] = {}
        most = len(seal.slots) or MOST_CHILDREN
        self._most = max(
            1, min(most, (_descriptors(most * _A_CHILD + _OTHERS) - _OTHERS) // _A_CHILD)
        )
        self._folders = [os.fsencode(slot) for slot in seal.slots]
        self._slots = list(range(len(seal.slots)))
        self._spare: list[int] = []  # empty memory files
        self._file_flags = 0
        self._looks: dict[int, tuple[int, ...]] = {}  # of a memory file when it was new
        self._null = os.open("/dev/null", os.O_RDWR)
        os.dup2(self._null, 0)  # ours was opened outside the seal
        self.failed, writer = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        os.dup2(writer, FAILED_SETUP)  # where every child has it
        os.close(writer)

    def room(self) -> int:
        """How many more may be forked."""
        return self._most - len(self.alive)

    def prepare(self, number: int, kind: str, size: int, job: int) -> Child:
        """What a child is going to have.

        Raises:
            OSError: there are no descriptors left for it.
        """
        child, file = Child(number, kind, size, job, self.take_slot()), self._memory_file
        try:
            if kind == "serve":
                ours, theirs = socketpair()
                child.judge, child.channel = ours.detach(), theirs.detach()
                child.files = (self._null,)
            else:
                # A single script's input is its job's file.
                child.files = (file() if kind == "scripts" else self._null,)
            for _ in range(2 if kind == "serve" else 3):
                child.files += (file(),)
        except OSError:
            if child.judge >= 0:
                os.close(child.judge)
            self.release(child)
            raise
        return child

    def fork(self, child: Child) -> int:
        """Fork a prepared child; its pid.

        To be called for several in a row: each fork costs this process its write access to all of
        its memory, to be had back page by page.

        Raises:
            OSError: the system has no room for it.
        """
        become = self.become
        pid = os.fork()
        if pid == 0:
            become(child, self._own_limits)
        os.close(child.job)
        self.alive[pid] = child
        return pid

    def _memory_file(self) -> int:
        if self._spare:
            return self._spare.pop()
        fd = os.memfd_create("sandbox")
        self._file_flags = fcntl.fcntl(fd, fcntl.F_GETFL)
        self._looks[fd] = _look_of(fd)
        return fd

    def become(
        self,
        child: Child,
        limits: "Iterable[tuple[object, ...]]",
        last: int = 0x7FFFFFFF,
        leave: "Callable[[int], object]" = os._exit,
    ) -> None:
        """In the child: seal, read the job, run the candidate. Never returns.

        Every object touched here is a page copied: few steps, none of them general. Where a kind
        has nothing to read, it opens the null device for itself: what is done to one that others
        have open as well, these could see. last, leave: only an exercise gives others.
        """
        code = 1
        try:
            try:
                dup2, files, kind, begin = os.dup2, child.files, child.kind, 0
                dup2(files[1], 1)
                dup2(files[2], 2)
                if kind == "stdin":
                    dup2(child.job, 0)
                elif files[0] != self._null:
                    dup2(files[0], 0)
                elif self._closes:
                    os.close(0)
                    os.open("/dev/null", os.O_RDONLY)  # the lowest that is free
                if kind == "serve":
                    dup2(child.channel, candidate.CHANNEL)
                else:
                    dup2(files[3], candidate.REPORT)
                if kind == "stdin":
                    # The caller has written it, so that it may be larger than a program's files.
                    begin = os.fstat(0).st_size - child.size
                # The job is for this process alone: what others inherit never held it.
                job = os.pread(child.job, child.size, begin)
                if kind == "stdin":
                    os.ftruncate(0, begin)
                self.set_up(child.slot, limits, last)
                _, source, extra = marshal.loads(job)
            except BaseException as error:
                self.tell_failure(error)
                raise
            # The last acts before foreign code runs.
            os.close(FAILED_SETUP)
            gc.enable()
            if kind == "serve":
                if extra:
                    wide.serve(source, extra["judge"], works=child.slot is not None)
                else:
                    candidate.serve(source)
            else:
                (batch if kind in batch.KINDS else candidate).run(kind, source, extra)
            code = 0
        finally:
            leave(code)

    def set_up(
        self,
        slot: "int | None",
        limits: "Iterable[tuple[object, ...]]",
        last: int = 0x7FFFFFFF,
    ) -> None:
        """Seal a child whose first descriptors are its own; close the others. Raises OSError."""
        if slot is not None:
            os.chdir(self._folders[slot])
        raw = kernel.raw
        for limit in limits:
            if raw(*limit) != 0:
                raise OSError(ctypes.get_errno(), "prlimit64")
        self.seal.seal_child(slot)
        if self._closes:
            os.closerange(FAILED_SETUP + 1, last)

    def rehearse(self, kind: str, source: str, extra: "dict[str, Any]", channel: int) -> None:
        """Do in this process all that a child does, but for the seal and its end.

        See warm.exercise, and `Seal.idle`.
        """
        slot = 0 if self.seal.slots else None
        if slot is not None:
            self.seal.prepare(slot)
        job = marshal.dumps((kind, source, extra))
        child = Child(0, kind, len(job), os.memfd_create("job"), slot)
        os.write(child.job, job)
        child.files, child.channel = (self._null, self._null, 2, self._null), channel
        nothing = (kernel.NOTHING,) * len(self.limits)
        failed_setup = os.dup(FAILED_SETUP)
        self.seal.idle(lambda: self.become(child, nothing, FAILED_SETUP, int))
        gc.disable()
        os.dup2(failed_setup, FAILED_SETUP)
        os.close(failed_setup)
        os.close(child.job)
        if slot is not None:
            os.chdir("/")

    def tell_failure(self, error: BaseException) -> None:
        """In a child that could not be set up: tell the zygote why."""
        text = f"{os.getpid()} a run could not be sealed: {candidate.describe(error)}"
        os.write(FAILED_SETUP, text.replace("\n", " ")[:1000].encode() + b"\n")

    def note_failures(self) -> None:
        """Read what children told that could not be set up."""
        try:
            told = os.read(self.failed, 1 << 14)
        except BlockingIOError:
            return
        for line in told.decode("utf-8", "replace").splitlines():
            pid, _, text = line.partition(" ")
            if (child := self.alive.get(int(pid))) is not None:
                child.failure = text

    def release(self, child: Child, given: "Iterable[int]" = ()) -> None:
        """Close or keep the child's files but those given away, clean its working directory."""
        if child.channel >= 0:
            os.close(child.channel)
        for fd in child.files:
            if fd in given:
                del self._looks[fd]
            elif fd != self._null:
                self._keep(fd)
        self.give_slot(child.slot)

    def take_slot(self) -> "int | None":
        """A directory to work in, by its number, if there is one. Raises OSError."""
        if not self._slots:
            return None
        self.seal.prepare(self._slots[-1])
        return self._slots.pop()

    def give_slot(self, slot: "int | None") -> None:
        """Take a directory back from a process that has ended; clean it."""
        if slot is not None:
            if self._cleans:
                self.seal.clean(slot)
            self._slots.append(slot)

    def _keep(self, fd: int) -> None:
        """Keep an untouched file for the next child; a touched one could tell it something."""
        untouched = (
            _look_of(fd) == self._looks[fd]
            and os.lseek(fd, 0, os.SEEK_CUR) == 0
            and fcntl.fcntl(fd, fcntl.F_GETFL) == self._file_flags
            and len(self._spare) < _SPARE
        )
        if untouched:
            self._spare.append(fd)
        else:
            del self._looks[fd]
            os.close(fd)


def _descriptors(wanted: int) -> int:
    """How many this process may have open; so many, if they are to be had."""
    soft, hard = kernel.limit(kernel.RLIMIT_NOFILE)
    if soft < min(wanted, hard):
        soft = min(wanted, hard)
        kernel.limit(kernel.RLIMIT_NOFILE, (soft, hard))
    return soft


def _look_of(fd: int) -> "tuple[int, ...]":
    """What a program can see of a file that others had, but for its content."""
    seen = os.fstat(fd)
    return seen.st_size, seen.st_mode, seen.st_atime_ns, seen.st_mtime_ns, seen.st_ctime_ns
