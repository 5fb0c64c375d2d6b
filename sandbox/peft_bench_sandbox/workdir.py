"""The removal of a directory, whatever the programs that ran in it left there."""

from __future__ import annotations

import os
import stat
from pathlib import Path

PREFIX = "peft-bench-sandbox-"
_ROUNDS = 20


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
