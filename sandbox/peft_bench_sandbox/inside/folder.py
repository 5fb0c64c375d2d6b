"""A working directory on both sides of a call: what changed in it goes over as data.

The two sides never see each other's directory. Regular files and directories are told by name and
content, nothing else: no links, no modes, no times, no special files. Files that the test has open
go over as what opens them again. What a candidate tells is checked before it is made true.

The functions are kept by name here, since a test may put others in their place.
"""

import os
from _io import BufferedRandom, BufferedReader, BufferedWriter, TextIOWrapper, open
from os import close, fstat, ftruncate, lstat, mkdir, read, rmdir, scandir, unlink, write
from stat import S_ISDIR, S_ISREG

from .plain import NotPlain, told

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    Content = str | bytes | None  # None is a directory

HANDLES = frozenset((TextIOWrapper, BufferedReader, BufferedWriter, BufferedRandom))
_MOST_PARTS = 64
_MOST_PATH = 1024
_CHUNK = 1 << 16
_NEW = os.O_WRONLY | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC
_OLD = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
_open = os.open


class TooMuch(Exception):
    """There is more in the directory than may be told."""


class OpenFile:
    """An open file that the program gave: its name and mode are all that is there of it."""

    __slots__ = ("closed", "mode", "name")

    def __init__(self, name: str, mode: str, closed: bool) -> None:
        self.name, self.mode, self.closed = name, mode, closed

    def close(self) -> None:
        self.closed = True


class Folder:
    """One side's directory, and what the other side knows of it."""

    def __init__(self, top: str) -> None:
        self.top = top
        self._known: dict[str, Content] = {}

    def changes(self, most: int) -> "tuple[dict[str, Content], list[str]]":
        """What is new, by its path, and what is gone, since the sides were last the same.

        Raises:
            TooMuch: the files have over `most` bytes in all.
        """
        found, known = self._found(most), self._known
        new = {path: it for path, it in found.items() if path not in known or known[path] != it}
        gone = [path for path in known if path not in found]
        self._known = found
        return new, gone

    def apply(self, new: "dict[str, Content]", gone: "list[str]") -> None:
        """Make the other side's changes here. Raises: OSError, UnicodeError."""
        for path in sorted(gone, reverse=True):  # what is inside first
            if path in self._known:
                self._require_parents(path)
                _remove(f"{self.top}/{path}")
                del self._known[path]
        for path, content in sorted(new.items()):
            self._require_parents(path)
            place = f"{self.top}/{path}"
            if content is None:
                _make_directory(place)
            else:
                _write(place, content.encode() if isinstance(content, str) else content)
            self._known[path] = content

    def _found(self, most: int) -> "dict[str, Content]":
        found: dict[str, Content] = {}
        waiting = [""]
        while waiting:
            above = waiting.pop()
            try:
                entries = [*scandir(f"{self.top}/{above}")]
            except OSError:
                continue
            for entry in entries:
                path = above + entry.name
                try:
                    if entry.is_dir(follow_symlinks=False):
                        found[path] = None
                        waiting.append(f"{path}/")
                    elif entry.is_file(follow_symlinks=False):
                        found[path] = content = _read(f"{self.top}/{path}", most)
                        most -= len(content)
                except OSError:  # it cannot be read: the other side does without
                    continue
        return found

    def _require_parents(self, path: str) -> None:
        """No part of the way to a path is a link, whoever made it. Raises: OSError."""
        at = path.find("/")
        while at >= 0:
            if not S_ISDIR(lstat(f"{self.top}/{path[:at]}").st_mode):
                raise NotADirectoryError(20, "no directory", path[:at])
            at = path.find("/", at + 1)

    # Files that are open

    def tell_handle(self, file: "Any") -> "list[Any]":
        """Of a file that the test has open: its name, mode, position and encoding.

        What was written to it is in the directory afterwards. Position: None if it is closed.
        Raises: NotPlain: it is none of the directory's.
        """
        name, position = file.name, None
        if type(name) is not str or os.path.isabs(name) or os.path.normpath(name)[:2] == "..":
            raise NotPlain(f"the open file {name!r:.80} is not of the working directory")
        if not file.closed:
            if not S_ISREG(fstat(file.fileno()).st_mode):  # sys.stdout is named, too
                raise NotPlain(f"the open file {name!r:.80} is none of a directory")
            file.flush()
            try:
                position = file.tell()
            except OSError:
                raise NotPlain(f"{name!r:.80} is in the middle of a loop over its lines") from None
        encoding = file.encoding if type(file) is TextIOWrapper else None
        return [told(name), file.mode, position, encoding]

    def open_handle(self, name: str, mode: str, position: "int | None", encoding: "Any") -> "Any":
        """The same file, open here as there. Raises: OSError."""
        kept = ~(os.O_TRUNC | os.O_EXCL)
        file = open(
            name,
            mode,
            encoding=encoding,
            opener=lambda path, flags: _open(f"{self.top}/{path}", flags & kept),
        )
        file.close() if position is None else file.seek(position)
        return file

    def checked_position(self, file: "Any", content: "Any") -> "int | None":
        """Where the candidate left a file; None if closed. Raises: ValueError, TypeError."""
        _, _, position, _ = content
        if position is None or file.closed:
            return None
        if type(position) is not int or not 0 <= position <= fstat(file.fileno()).st_size:
            raise ValueError("a position outside of its file")
        return position

    def move(self, file: "Any", position: "int | None") -> None:
        """Let an open file here be where it is there."""
        if position is None:
            file.close()
        else:
            file.seek(0, 2)  # so that what it has read ahead is forgotten
            file.seek(position)


def checked(content: "Any") -> "tuple[dict[str, Content], list[str]]":
    """Changes as a candidate tells them. Raises: TypeError, ValueError: they are no such."""
    new, gone = content
    if type(new) is not dict or type(gone) is not list:
        raise TypeError("no changes of a directory")
    for path in (*new, *gone):
        if type(path) is not str or not 0 < len(path) <= _MOST_PATH or "\0" in path:
            raise ValueError("a path that is none")
        parts = path.split("/")
        if len(parts) > _MOST_PARTS or not {"", ".", ".."}.isdisjoint(parts):
            raise ValueError(f"the path {path!r:.80}")
    for it in new.values():
        if it is not None and type(it) is not str and type(it) is not bytes:
            raise TypeError("the content of a file is text or bytes")
    return new, gone


def _read(place: str, most: int) -> "str | bytes":
    fd = _open(place, _OLD)
    try:
        if fstat(fd).st_size > most:
            raise TooMuch(f"over {most} bytes in {place!r:.80}")
        parts: list[bytes] = []
        while part := read(fd, _CHUNK):
            parts.append(part)
            most -= len(part)
            if most < 0:  # it grows
                raise TooMuch(f"without end: {place!r:.80}")
    finally:
        close(fd)
    data = b"".join(parts)
    try:
        return data.decode()
    except UnicodeDecodeError:
        return data


def _write(place: str, data: bytes) -> None:
    """In place, so that whoever has the file open sees it."""
    try:
        mode = lstat(place).st_mode
    except FileNotFoundError:
        mode = 0
    if mode and not S_ISREG(mode):
        _remove(place)
    fd = _open(place, _NEW, 0o666)
    try:
        size = len(data)
        while data:
            data = data[write(fd, data) :]
        ftruncate(fd, size)
    finally:
        close(fd)


def _make_directory(place: str) -> None:
    try:
        if S_ISDIR(lstat(place).st_mode):
            return
        unlink(place)
    except FileNotFoundError:
        pass
    mkdir(place)


def _remove(place: str) -> None:
    try:
        (rmdir if S_ISDIR(lstat(place).st_mode) else unlink)(place)
    except FileNotFoundError:
        return
