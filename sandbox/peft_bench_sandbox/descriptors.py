"""How many files the caller's process may have open, and how many runs that is enough for."""

from __future__ import annotations

import contextlib
import os
import threading

_RESERVE = 192  # judges that wait, what one message brings, and what the caller opens meanwhile
_A_WORKER = 4  # its socket, its words, its folder's lock; its share of the judges'
_A_RUN = 2  # the socket to its judge, and the one to its program or the file of its job
_UNKNOWN = 64  # open files where nobody tells

_lock = threading.Lock()
_wanted: dict[object, int] = {}
_before = _set = 0


class Room:
    """The soft limit, raised where the hard one lets it be, until `close` puts it back.

    width: how many workers there is room for. runs: how many may be under way in all.
    """

    def __init__(self, width: int, runs_each: int) -> None:
        taken = _open_files() + _RESERVE
        soft = _raise(self, taken + width * (_A_WORKER + _A_RUN * runs_each))
        left = soft - taken
        self.width = max(1, min(width, left // (_A_WORKER + 4 * _A_RUN)))
        self.runs = max(self.width, (left - self.width * _A_WORKER) // _A_RUN)

    def close(self) -> None:
        """Put the limit back, unless others still need it or somebody else has set it since."""
        _lower(self)


def _open_files() -> int:
    try:
        return len(os.listdir("/proc/self/fd"))  # noqa: PTH208 - names only
    except OSError:
        return _UNKNOWN


def _raise(owner: object, wanted: int) -> int:
    """Raise the soft limit to so many if that is more than it is; what it is now."""
    import resource  # not there on every system this package can be imported on

    global _before, _set
    with _lock:
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        if soft == resource.RLIM_INFINITY:
            return wanted
        if hard != resource.RLIM_INFINITY:
            wanted = min(wanted, hard)
        if wanted <= soft:
            return soft
        with contextlib.suppress(OSError, ValueError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
            if not _wanted:
                _before = soft
            _wanted[owner], _set = wanted, wanted
            return wanted
        return soft


def _lower(owner: object) -> None:
    import resource

    global _set
    with _lock:
        if _wanted.pop(owner, None) is None:
            return
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        if soft == _set:
            _set = max([_before, *_wanted.values()])
            with contextlib.suppress(OSError, ValueError):
                resource.setrlimit(resource.RLIMIT_NOFILE, (_set, hard))
