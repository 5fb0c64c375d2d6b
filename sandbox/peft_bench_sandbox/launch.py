"""One child process: started, watched, killed with its group, and reaped.

Nothing is decided here; `Raw` says what the kernel and the pipes said.
"""

from __future__ import annotations

import contextlib
import os
import selectors
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import IO

from .types import Limits

SHELL = "/bin/sh"
START_S = 60.0  # an interpreter that has not begun by then is the machine's fault
_RUNNER = Path(__file__).with_name("runner.py")
# The stack's limit shapes the address space at exec, so it has to be there before Python is;
# a function between fork and exec would copy the caller's page tables, which a shell does not.
_SCRIPT = 'ulimit -s "$1" && shift && exec "$@"'
_CHUNK = 1 << 16
_POLL_S = 0.01
_STDERR_TAIL = 2000


class Stopped(Exception):
    """The run is being given up: no further child may start."""


class Cause(Enum):
    """Why a child ended: by itself, or killed by us for the reason named."""

    ITSELF = "itself"
    WALL = "wall"
    OUTPUT = "output"
    CHANNEL = "channel"
    START = "start"


@dataclass(frozen=True, slots=True)
class Raw:
    """How a child ended. exit: as subprocess has it, negative for a signal."""

    exit: int
    cause: Cause
    stdout: bytes
    stderr_tail: bytes
    channel: bytes
    cpu_s: float
    wall_s: float
    max_resident_bytes: int


class Children:
    """The children that live now, so that one call from another thread can end them all."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._groups: set[int] = set()
        self._stopped = False

    def check(self) -> None:
        """Raises: Stopped: after `kill_all`."""
        with self._lock:
            if self._stopped:
                raise Stopped

    def add(self, pid: int) -> None:
        """Take a child in. Raises: Stopped: after `kill_all`."""
        with self._lock:
            self._groups.add(pid)
            if self._stopped:
                raise Stopped

    def end(self, pid: int) -> None:
        """Kill a child's group and forget it; to be called before the child is reaped.

        Until then the kernel gives its number to nobody else, so the right group is hit.
        """
        with self._lock:
            _kill_group(pid)
            self._groups.discard(pid)

    def kill_all(self) -> None:
        """Kill every child and let none start any more."""
        with self._lock:
            self._stopped = True
            for pid in self._groups:
                _kill_group(pid)


def run_child(
    job: bytes, stdin: bytes | None, limits: Limits, directory: Path, children: Children
) -> Raw:
    """Run the child's side on one job, to its end or to a limit.

    Raises:
        OSError: the process could not be started.
        Stopped: the run is being given up.
    """
    with contextlib.ExitStack() as stack:
        job_file = stack.enter_context(_memory_file(job))
        stdin_file = None if stdin is None else stack.enter_context(_memory_file(stdin))
        read_end, write_end = os.pipe()
        channel = stack.enter_context(os.fdopen(read_end, "rb", buffering=0))
        with os.fdopen(write_end, "wb", buffering=0):
            process = subprocess.Popen(
                _command(limits, job_file.fileno(), write_end),
                stdin=subprocess.DEVNULL if stdin_file is None else stdin_file,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                cwd=directory,
                env={},
                bufsize=0,
                start_new_session=True,
                pass_fds=(job_file.fileno(), write_end),
            )
        try:
            watch = _Watch(process, channel, limits, stack)
            children.add(process.pid)
            cause = watch.run()
        finally:
            children.end(process.pid)
            _, status, usage = os.wait4(process.pid, 0)
            process.returncode = os.waitstatus_to_exitcode(status)
        ended = time.monotonic()
        cause = watch.drain(cause)
        return Raw(
            exit=process.returncode,
            cause=cause,
            stdout=watch.stdout.data,
            stderr_tail=watch.stderr.data[-_STDERR_TAIL:],
            channel=watch.channel.data,
            cpu_s=usage.ru_utime + usage.ru_stime,
            wall_s=ended - watch.began,
            max_resident_bytes=usage.ru_maxrss * 1024,
        )


class _Pipe:
    """The reading end of a pipe and what came through it so far."""

    def __init__(self, file: IO[bytes]) -> None:
        self._fd = file.fileno()
        self._parts: list[bytes] = []
        self.size = 0
        self.ended = False
        os.set_blocking(self._fd, False)

    def fileno(self) -> int:
        return self._fd

    def pull(self) -> bool:
        """Read once; False if there is nothing more to read now."""
        try:
            part = os.read(self._fd, _CHUNK)
        except BlockingIOError:
            return False
        self.ended = not part
        self._parts.append(part)
        self.size += len(part)
        return bool(part)

    @property
    def data(self) -> bytes:
        return b"".join(self._parts)


class _Watch:
    """Reads a child's pipes until it ends or goes over what it may do."""

    def __init__(
        self,
        process: subprocess.Popen[bytes],
        channel: IO[bytes],
        limits: Limits,
        stack: contextlib.ExitStack,
    ) -> None:
        assert process.stdout is not None and process.stderr is not None
        stack.enter_context(process.stdout)
        stack.enter_context(process.stderr)
        self._pid = process.pid
        self._limits = limits
        self.stdout, self.stderr = _Pipe(process.stdout), _Pipe(process.stderr)
        self.channel = _Pipe(channel)
        self._pipes = (self.stdout, self.stderr, self.channel)
        self.began = time.monotonic()
        self._ready = False

    def run(self) -> Cause:
        with contextlib.ExitStack() as stack:
            selector = stack.enter_context(selectors.DefaultSelector())
            has_ended = _watch_end(self._pid, selector, stack)
            for pipe in self._pipes:
                selector.register(pipe, selectors.EVENT_READ, pipe)
            while True:
                left_s = self._left_s()
                if left_s <= 0:
                    return Cause.WALL if self._ready else Cause.START
                for key, _ in selector.select(min(left_s, has_ended.poll_s)):
                    if isinstance(key.data, _Pipe):
                        key.data.pull()
                        if key.data.ended:
                            selector.unregister(key.data)
                if (over := self._over()) is not None:
                    return over
                if has_ended.now():
                    return Cause.ITSELF

    def drain(self, cause: Cause) -> Cause:
        """Read what is still in the pipes; a process that got away may keep them open."""
        for pipe in self._pipes:
            while self._over() is None and pipe.pull():
                pass
        return cause if cause is not Cause.ITSELF else self._over() or cause

    def _left_s(self) -> float:
        now = time.monotonic()
        if not self._ready and self.channel.size:
            # The child's own first line: the candidate's time begins here.
            self._ready, self.began = True, now
        return self.began + (self._limits.wall_s if self._ready else START_S) - now

    def _over(self) -> Cause | None:
        if self.stdout.size + self.stderr.size > self._limits.output_bytes:
            return Cause.OUTPUT
        # A message's character takes at most 6 bytes of JSON, a report's frame well under 1 KiB.
        room = self._limits.output_bytes + 6 * self._limits.message_bytes + 4096
        return Cause.CHANNEL if self.channel.size > room else None


@dataclass(frozen=True, slots=True)
class _End:
    now: Callable[[], bool]
    poll_s: float


def _watch_end(pid: int, selector: selectors.BaseSelector, stack: contextlib.ExitStack) -> _End:
    """Tell when a child has ended, without reaping it: its number must stay taken."""

    def now() -> bool:
        return os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None

    try:
        pidfd = os.pidfd_open(pid)
    except OSError:  # an old kernel, or one that filters the call
        return _End(now, _POLL_S)
    stack.callback(os.close, pidfd)
    selector.register(pidfd, selectors.EVENT_READ)
    return _End(now, float("inf"))


def _command(limits: Limits, job_fd: int, result_fd: int) -> list[str]:
    import resource  # not there on every system this package can be imported on

    stack_bytes = limits.stack_bytes
    _, ceiling = resource.getrlimit(resource.RLIMIT_STACK)
    if ceiling != resource.RLIM_INFINITY:
        stack_bytes = min(stack_bytes, ceiling)
    python = [sys.executable, "-I", "-S", "-B", "-X", "utf8", str(_RUNNER)]
    return [
        *(SHELL, "-c", _SCRIPT, "sh", str(stack_bytes // 1024)),
        *python,
        *(str(job_fd), str(result_fd)),
    ]


def _memory_file(content: bytes) -> IO[bytes]:
    """A file in memory with this content, at its start: no pipe to fill, no disk to clean."""
    file = os.fdopen(os.memfd_create("sandbox"), "w+b", buffering=0)
    view = memoryview(content)
    while view:
        view = view[file.write(view) :]
    file.seek(0)
    return file


def _kill_group(pid: int) -> None:
    # The group is gone only if its leader was reaped elsewhere, and then there is nothing to do.
    with contextlib.suppress(ProcessLookupError):
        os.killpg(pid, signal.SIGKILL)
