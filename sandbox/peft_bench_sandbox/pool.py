"""Many programs at once, verdicts in order."""

from __future__ import annotations

import os
import sys
import time
import warnings
from collections.abc import Callable, Collection, Generator, Iterable
from contextlib import closing

from .engine import Engine
from .probe import best_level, told_lacking
from .profiles import PROFILES
from .types import (
    Level,
    Limits,
    Program,
    SandboxUnavailable,
    Status,
    Verdict,
    WeakSandboxWarning,
)
from .worker import Setting, missing

_warned = False


def run_all(
    programs: Iterable[Program],
    *,
    limits: Limits = Limits(),  # noqa: B008 - frozen
    workers: int | None = None,
    profile: str = "stdlib",
    require: Level | str = "strong",
    progress: bool = False,
    on_verdict: Callable[[Verdict], object] | None = None,
) -> list[Verdict]:
    """Run every program against all of its tests; give the verdicts in the same order.

    limits: what each test may use. workers: zygotes that run programs at once, each a few that
    compute and up to hundreds that sleep; default: the CPUs this process may use. profile: which
    packages a program can import; "stdlib" is Python alone.
    require: the weakest level accepted. progress: a line on stderr, if that is a terminal.
    on_verdict: called with each verdict as it is known, in the programs' order: what is kept of
    them then is not lost if the run is stopped.
    Ids may repeat. On Ctrl-C, as on any exception, the running programs are killed first.

    Raises:
        SandboxUnavailable: this machine cannot give the level required; says what would help.
        ValueError: no such profile or level, or workers is under 1.
        TypeError: something in programs is no Program.

    Warns:
        WeakSandboxWarning: once a process, if the level is below "strong".
    """
    level = admit(require=require, profile=profile, workers=workers)
    listed = list(programs)
    for place, program in enumerate(listed):
        if not isinstance(program, Program):
            raise TypeError(f"programs[{place}] is {type(program).__name__}; give a Program")
    told = Progress(len(listed), shown=progress)
    setting, strong = Setting(limits, profile), level is Level.STRONG
    with closing(run_ordered(listed, setting, workers=workers, strong=strong)) as verdicts:
        done = []
        for verdict in verdicts:
            done.append(told.count(verdict))
            if on_verdict is not None:
                on_verdict(verdict)
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
    found = best_level()
    if wanted > found:
        raise SandboxUnavailable(
            f"require is {wanted.value!r}, but this machine gives only {found.value!r}: "
            f"{told_lacking()}. If the programs may do all that your user may, pass "
            f"require={found.value!r}; read sandbox/README.md first"
        )
    if found < Level.STRONG and not _warned:
        _warned = True
        warnings.warn(
            f"programs run at sandbox level {found.value!r}: {told_lacking()}; "
            "see sandbox/README.md",
            WeakSandboxWarning,
            stacklevel=3,
        )
    return found


def usable_cpus() -> int:
    """How many CPUs this process may run on."""
    return len(os.sched_getaffinity(0))


def run_ordered(
    programs: Iterable[Program], setting: Setting, *, workers: int | None, strong: bool
) -> Generator[Verdict]:
    """Yield verdicts in order while later programs run; take in only so many ahead.

    Close the iterator (or let it end) to be sure that nothing of it runs any more.
    """
    engine = Engine(setting, workers or usable_cpus(), strong=strong)
    try:
        yield from engine.run(programs)
    finally:
        engine.close()


def run_programs(
    programs: Iterable[Program],
    *,
    limits: Limits = Limits(),  # noqa: B008 - frozen
    workers: int = 1,
    profile: str = "stdlib",
    without: Collection[str] = frozenset(),
) -> list[Verdict]:
    """Run with guards left out, whatever level that makes: to test that each is needed.

    Not for use: nothing is asked of the machine, and nothing is told of what is missing.
    """
    setting = Setting(limits, profile, frozenset(without))
    with closing(run_ordered(programs, setting, workers=workers, strong=False)) as verdicts:
        return list(verdicts)


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
