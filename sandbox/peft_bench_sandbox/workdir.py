"""A directory for a zygote: made, and removed whatever the programs that ran in it left there."""

from __future__ import annotations

import contextlib
import fcntl
import os
import stat
import tempfile
import time
from pathlib import Path

PREFIX = "peft-bench-sandbox-"
_ROUNDS = 20
# Between its making and its locking a directory looks abandoned.
_STALE_S = 60.0


def make() -> tuple[Path, int]:
    """A new temporary directory, and a descriptor that keeps it locked for as long as it is used.

    The lock ends with the process, however that ends: this is how `sweep` tells what is left over.
    """
    sweep()
    folder = Path(tempfile.mkdtemp(prefix=PREFIX))
    lock = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    with contextlib.suppress(OSError):  # a file system without locks: nobody can tell then
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    return folder, lock


def sweep() -> None:
    """Remove what killed processes of this user have left in the temporary folder."""
    with contextlib.suppress(OSError), os.scandir(tempfile.gettempdir()) as entries:
        for entry in entries:
            if entry.name.startswith(PREFIX):
                with contextlib.suppress(OSError):
                    _remove_abandoned(Path(entry.path))


def _remove_abandoned(folder: Path) -> None:
    fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        found = os.fstat(fd)
        if found.st_uid != os.geteuid() or time.time() - found.st_mtime < _STALE_S:
            return
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)  # raises while its owner lives
        remove(folder)
    finally:
        os.close(fd)


def remove(root: Path) -> None:
    """Remove a directory whose content is hostile.

    Directories are moved up to the top before they are emptied: nesting then costs neither
    recursion nor path length, unlike in shutil.rmtree. Links are removed, never followed.

    Raises:
        OSError: something could not be removed, or keeps coming back.
    """
    for _ in range(_ROUNDS):
        _empty(root)
        try:
            root.rmdir()
            return
        except OSError:
            continue  # a process that got away still writes there: empty it again
    root.rmdir()


def _empty(root: Path) -> None:
    waiting, moved = _clear(root), 0
    while waiting:
        directory = waiting.pop()
        for nested in _clear(directory):
            # Moving a directory needs write permission on it, which the program may have removed.
            nested.chmod(stat.S_IRWXU)
            target = root / f".removed-{moved}"
            while os.path.lexists(target):
                moved += 1
                target = root / f".removed-{moved}"
            nested.rename(target)
            waiting.append(target)
        directory.rmdir()


def _clear(directory: Path) -> list[Path]:
    """Unlink what is not a directory; return what is."""
    directory.chmod(stat.S_IRWXU)
    nested = []
    with os.scandir(directory) as entries:
        for entry in list(entries):
            if entry.is_dir(follow_symlinks=False):
                nested.append(Path(entry.path))
            else:
                Path(entry.path).unlink(missing_ok=True)
    return nested
