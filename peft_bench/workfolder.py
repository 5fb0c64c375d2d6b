"""Folders that are complete once they have their name: worked on as ``NAME.partial``, then renamed.

What stays in ``NAME.partial`` after an interruption is gone on with, if its identity (the texts of
a few files: recipe, rows, request) is that of the new run; else it is begun anew.
"""

from __future__ import annotations

import errno
import fcntl
import os
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TextIO

from peft_bench.errors import PeftBenchError, UsageError

_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


@contextmanager
def alone(folder: Path) -> Iterator[None]:
    """Holds the lock of ``folder``, which one process at a time makes.

    The lock is a file beside it, which is gone afterwards; the system gives a killed process's
    lock back. Where the file system has no locks, nothing is held.

    Raises:
        UsageError: another process holds it.
        OSError: the file cannot be made.
    """
    folder.parent.mkdir(parents=True, exist_ok=True)
    path = folder.with_name(f".{folder.name}.lock")
    file = _locked(path)
    if file is None:
        raise UsageError(
            place=str(folder),
            problem="another process is making it",
            remedy="wait until that has ended, or choose another --out",
        )
    with file:
        try:
            yield
        finally:
            path.unlink(missing_ok=True)  # while it is held: nobody else's is deleted


def _locked(path: Path) -> TextIO | None:
    while True:
        file = path.open("a")
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            file.close()
            return None
        except OSError:
            return file
        with suppress(FileNotFoundError):
            if os.path.samestat(path.stat(), os.fstat(file.fileno())):
                return file
        file.close()  # its holder has deleted it meanwhile


def open_partial(folder: Path, identity: Mapping[str, str]) -> Path:
    """The working folder of ``folder``, new or gone on with; ``identity`` maps file names to texts.

    Raises:
        PeftBenchError: it cannot be written.
    """
    partial = folder.with_name(f"{folder.name}.partial")
    try:
        if partial.exists() and differing(partial, identity):
            shutil.rmtree(partial)
        partial.mkdir(parents=True, exist_ok=True)
        for name, text in identity.items():
            (partial / name).write_text(text, encoding="utf-8")
    except OSError as error:
        raise disk_error(partial, error) from error
    return partial


def differing(partial: Path, identity: Mapping[str, str]) -> list[str]:
    """The names of the files whose texts in a working folder are not those of ``identity``."""
    return [name for name, text in identity.items() if _text(partial / name) != text]


def _text(file: Path) -> str | None:
    return file.read_text(encoding="utf-8", errors="replace") if file.is_file() else None


def disk_error(place: Path, error: Exception) -> PeftBenchError:
    """What to raise when work cannot be written: what was done before is kept."""
    said = str(error).splitlines() or [type(error).__name__]
    # safetensors and torch give no number, and write nothing but large files.
    number = error.errno if isinstance(error, OSError) else None
    full = number is None or number in _FULL
    return PeftBenchError(
        place=str(place),
        problem=f"could not be written: {said[0]}",
        remedy="free some space and run the same command again: what is done is kept"
        if full
        else "give another folder: --out DIR",
    )
