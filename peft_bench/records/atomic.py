"""Files written whole or not at all, and small ones read by the thousand."""

from __future__ import annotations

import os
import secrets
import stat
from pathlib import Path


def write_text(path: Path, text: str) -> None:
    """Writes a text as UTF-8 so that the file is the old one or the new one, never half of it.

    Lone surrogates, which no UTF-8 can hold, become backslash escapes. A link stays, and what it
    points to is written. A pipe or a device is written into.

    Raises:
        OSError: when the folder is missing or cannot be written; an old file is then untouched.
    """
    if not _may_be_replaced(path):
        with path.open("w", encoding="utf-8", errors="backslashreplace", newline="") as into:
            into.write(text)
        return
    path = Path(os.path.realpath(path))
    # Beside the target, because a rename across file systems is no single step.
    temporary = path.with_name(f".{path.name}.{os.getpid()}.{secrets.token_hex(4)}.tmp")
    try:
        with temporary.open("x", encoding="utf-8", errors="backslashreplace", newline="") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def _may_be_replaced(path: Path) -> bool:
    try:
        return stat.S_ISREG(path.stat().st_mode)
    except FileNotFoundError:
        return True


def read_bytes(file: str | Path) -> bytes:
    """What a file holds; ``open`` takes twice as long, most of it for what is not needed here.

    Raises:
        OSError: as ``open``.
    """
    descriptor = os.open(file, os.O_RDONLY | os.O_CLOEXEC)
    try:
        return _rest(descriptor)
    finally:
        os.close(descriptor)


def read_dated(file: str | Path) -> tuple[bytes, int]:
    """As :func:`read_bytes`, and when the file was last written, in nanoseconds since 1970."""
    descriptor = os.open(file, os.O_RDONLY | os.O_CLOEXEC)
    try:
        return _rest(descriptor), os.fstat(descriptor).st_mtime_ns
    finally:
        os.close(descriptor)


def _rest(descriptor: int) -> bytes:
    content = b""
    while piece := os.read(descriptor, 1 << 20):
        content += piece
    return content
