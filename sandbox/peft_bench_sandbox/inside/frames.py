"""Frames between a candidate and its judge: four bytes of length, then that many bytes."""

import os

_LENGTH = 4
_CHUNK = 1 << 13
_LARGE = 1 << 20
# In how many parts a frame may come. Who writes it at once is read by thousands of bytes; a byte at
# a time, the reading costs more than the writing.
_PARTS, _PART = 1000, 1 << 10

TYPE_CHECKING = False
if TYPE_CHECKING:
    from mmap import mmap


class TooLong(Exception):
    """A frame is announced that is longer than it may be."""


def write_frame(fd: int, payload: bytes) -> None:
    """Write all of it.

    Raises:
        OSError: the other end is gone.
    """
    data = len(payload).to_bytes(_LENGTH, "little") + payload
    sent = os.write(fd, data)
    while sent < len(data):
        data = data[sent:]
        sent = os.write(fd, data)


def read_frame(fd: int) -> bytes:
    """The one frame that is there or comes next, from a trusted end that waits for an answer.

    Empty if the other end is gone.
    """
    data = os.read(fd, _CHUNK)
    size = _LENGTH + int.from_bytes(data[:_LENGTH], "little")
    if len(data) < size:
        parts = [data]
        left = size - len(data)
        while left > 0 and data:
            data = os.read(fd, min(left, _LARGE))
            parts.append(data)
            left -= len(data)
        data = b"".join(parts)
    return data[_LENGTH:]


class TooManyParts(Exception):
    """A frame comes in more parts than it may."""


class Frames:
    """Reads frames from a descriptor, each of at most `most` bytes.

    heard: its first byte is set as soon as anything comes.
    """

    def __init__(self, fd: int, most: int, heard: "mmap | bytearray") -> None:
        self._fd = fd
        self._most = most
        self._heard = heard
        self._data = b""

    def read(self) -> "bytes | None":
        """The next frame, or None if the other end is gone, in the middle of one or not.

        Raises:
            TooLong: it has more than `most` bytes; they are not read.
            TooManyParts: its bytes come too few at a time; the others are not read.
        """
        while len(self._data) < _LENGTH:
            if not self._more():
                return None
        end = _LENGTH + int.from_bytes(self._data[:_LENGTH], "little")
        if end - _LENGTH > self._most:
            raise TooLong(f"a message of {end - _LENGTH} bytes")
        if len(self._data) < end:
            parts, size = [self._data], len(self._data)
            while size < end:
                self._data = b""
                if not self._more():
                    return None
                parts.append(self._data)
                size += len(self._data)
                if len(parts) > _PARTS + end // _PART:
                    raise TooManyParts(f"a message in over {len(parts) - 1} parts")
            self._data = b"".join(parts)
        frame, self._data = self._data[_LENGTH:end], self._data[end:]
        return frame

    def _more(self) -> bool:
        try:
            part = os.read(self._fd, _CHUNK)
        except OSError:  # reset: the other end died with unread data
            return False
        if not part:
            return False
        self._heard[0] = 1
        self._data += part
        return True
