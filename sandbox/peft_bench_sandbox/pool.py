"""Many programs at once, verdicts in order."""

from __future__ import annotations

import os
import sys
import time
import warnings
from collections import deque
from collections.abc import Generator, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing

from .launch import SHELL, Children
from .score import run_program
from .types import (
    Level,
    Limits,
    Program,
    SandboxUnavailable,
    Status,
    Verdict,
    WeakSandboxWarning,
)

PROFILES = ("stdlib",)
BUILT_LEVEL = Level.LIMITS
_AHEAD = 4  # programs in hand for each worker: enough to hide a slow one, few to hold
_warned = False


def run_all(
    programs: Iterable[Program],
    *,
    limits: Limits = Limits(),  # noqa: B008 - frozen
    workers: int | None = None,
    profile: str = "stdlib",
    require: Level | str = "strong",
    progress: bool = False,
) -> list[Verdict]:
    """Run every program against all of its tests; give the verdicts in the same order.

    limits: what each test may use. workers: how many run at once; default: the CPUs this
    process may use. profile: which packages a program can import; "stdlib" is Python alone.
    require: the weakest level accepted. progress: a line on stderr, if that is a terminal.
    Ids may repeat. On Ctrl-C, as on any exception, the running programs are killed first.

    Raises:
        SandboxUnavailable: this machine or this release cannot give the level required.
        ValueError: no such profile or level, or workers is under 1.
        TypeError: something in programs is no Program.

    Warns:
        WeakSandboxWarning: once a process, if the level is below "strong".
    """
    admit(require=require, profile=profile, workers=workers)
    listed = list(programs)
    for place, program in enumerate(listed):
        if not isinstance(program, Program):
            raise TypeError(f"programs[{place}] is {type(program).__name__}; give a Program")
    told = Progress(len(listed), shown=progress)
    with closing(run_ordered(listed, limits=limits, workers=workers)) as verdicts:
        done = [told.count(verdict) for verdict in verdicts]
    told.end()
    return done


def admit(*, require: Level | str, profile: str, workers: int | None) -> Level:
    """Refuse what cannot be run as asked, before anything runs; return the level in force.

    Raises: SandboxUnavailable, ValueError: as `run_all`.
    """
    global _warned
    wanted = Level(require)
    if profile not in PROFILES:
        raise ValueError(f"profile is {profile!r}; give one of {', '.join(PROFILES)}")
    if workers is not None and workers < 1:
        raise ValueError(f"workers is {workers!r}; give 1 or more, or None for one a CPU")
    if lacking := missing():
        raise SandboxUnavailable(f"the sandbox cannot run here: {'; '.join(lacking)}")
    if wanted > BUILT_LEVEL:
        raise SandboxUnavailable(
            f"require is {wanted.value!r}, but this release has only {BUILT_LEVEL.value!r}: "
            "resource limits, without isolation of files, network and processes. If the "
            f"programs may do all that your user may, pass require={BUILT_LEVEL.value!r}; "
            "read sandbox/README.md first"
        )
    if BUILT_LEVEL < Level.STRONG and not _warned:
        _warned = True
        warnings.warn(
            f"programs run at sandbox level {BUILT_LEVEL.value!r}: they can read and write "
            "your files and use the network; see sandbox/README.md",
            WeakSandboxWarning,
            stacklevel=3,
        )
    return BUILT_LEVEL


def missing() -> list[str]:
    """What this machine lacks for running anything at all, each with its remedy."""
    if not sys.platform.startswith("linux"):
        return [f"the system is {sys.platform}; use Linux (a container or WSL 2 will do)"]
    lacking = []
    if not sys.executable:
        lacking.append("Python does not know its own path; start it by its full path")
    if not os.access(SHELL, os.X_OK):
        lacking.append(f"there is no {SHELL}; install a POSIX shell")
    if not hasattr(os, "memfd_create"):
        lacking.append("this Python has no os.memfd_create; use one built on Linux 3.17 or later")
    return lacking


def usable_cpus() -> int:
    """How many CPUs this process may run on."""
    return len(os.sched_getaffinity(0))


def run_ordered(
    programs: Iterable[Program], *, limits: Limits, workers: int | None
) -> Generator[Verdict]:
    """Yield verdicts in order while later programs run; take in only a few ahead.

    Close the iterator (or let it end) to be sure that nothing of it runs any more.
    """
    width = workers or usable_cpus()
    children = Children()
    waiting: deque[Future[Verdict]] = deque()
    with ThreadPoolExecutor(width, thread_name_prefix="sandbox") as executor:
        try:
            for program in programs:
                waiting.append(executor.submit(run_program, program, limits, children))
                if len(waiting) >= width * _AHEAD:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        except BaseException:  # Ctrl-C and a closed iterator too; raised again below
            children.kill_all()
            executor.shutdown(wait=False, cancel_futures=True)
            raise


class Progress:
    """A line that counts, on stderr, if it is a terminal."""

    _EVERY_S = 0.1

    def __init__(self, total: int | None, *, shown: bool) -> None:
        self._shown = shown and sys.stderr is not None and sys.stderr.isatty()
        self._of = "" if total is None else f" of {total}"
        self._done = self._passed = 0
        self._last = 0.0

    def count(self, verdict: Verdict) -> Verdict:
        """Take a verdict in; hand it on."""
        self._done += 1
        self._passed += verdict.status is Status.PASSED
        if self._shown and time.monotonic() - self._last >= self._EVERY_S:
            self._last = time.monotonic()
            self._write("")
        return verdict

    def end(self) -> None:
        """Leave the last count standing."""
        if self._shown:
            self._write("\n")

    def _write(self, end: str) -> None:
        print(
            f"\rsandbox: {self._done}{self._of} programs run, {self._passed} passed",
            end=end,
            file=sys.stderr,
            flush=True,
        )
