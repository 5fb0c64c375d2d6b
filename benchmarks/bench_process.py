"""The processes under this one: who lives, what they used, and reaping them all.

A process' own CPU time and that of its reaped children is exact, but says nothing of a child
that lives still, or that was handed to init. So a measuring process becomes the reaper of all
its descendants, reaps what it inherits, and reports what lives on.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import resource
import time
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

_PR_SET_CHILD_SUBREAPER = 36
_PATIENCE_S = 5.0
_POLL_S = 0.01

T = TypeVar("T")


def become_reaper() -> None:
    """Orphans among this process' descendants become its children.

    Raises:
        OSError: the kernel refuses.
    """
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), "prctl(PR_SET_CHILD_SUBREAPER) failed")


def reap_all(patience_s: float = _PATIENCE_S) -> int:
    """Reap every child that ends in time; return how many descendants live on."""
    deadline = time.monotonic() + patience_s
    while time.monotonic() < deadline:
        try:
            pid, _ = os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            return 0
        if not pid:
            time.sleep(_POLL_S)
    return len(descendants())


def reaped_cpu_s() -> float:
    """CPU time of this process and of all that was reaped under it."""
    usages = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(usage.ru_utime + usage.ru_stime for usage in usages)


def measured(run: Callable[[], T]) -> tuple[T, float, float, int]:
    """What `run` gives, the CPU seconds of the whole tree, the wall seconds, who lives on.

    Of those who live on, the CPU time is not counted: a figure with any is too low.
    """
    cpu_s, began = reaped_cpu_s(), time.monotonic()
    value = run()
    wall_s = time.monotonic() - began
    alive = reap_all()
    return value, reaped_cpu_s() - cpu_s, wall_s, alive


def descendants(pid: int | None = None) -> set[int]:
    """The living processes under this one (or under `pid`), zombies left out."""
    children: dict[int, set[int]] = defaultdict(set)
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit():
            continue
        with contextlib.suppress(OSError):
            state, parent = (entry / "stat").read_text().rpartition(")")[2].split()[:2]
            if state not in "ZX":
                children[int(parent)].add(int(entry.name))
    found: set[int] = set()
    frontier = [os.getpid() if pid is None else pid]
    while frontier:
        new = children[frontier.pop()] - found
        found |= new
        frontier.extend(new)
    return found


def resident_bytes() -> int:
    """The memory this process has resident now."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * resource.getpagesize()
