"""Messages between the caller, its zygotes and its judges, over a Unix stream socket.

A message is four bytes of length and marshalled data; both ends are ours, run the same
interpreter and are trusted. Descriptors may travel with a message. Nothing a candidate can
write to comes this way (see plain.py for that).
"""

import marshal
import os
import time
from _socket import SCM_RIGHTS, SOL_SOCKET, socket
from errno import ETOOMANYREFS

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

_CHUNK = 1 << 14
_INT = 4
_CLOEXEC = 0x40000000  # MSG_CMSG_CLOEXEC: a descriptor is not for processes the caller starts
_MOST_FDS = 64
_NAP_S = 0.002  # while a user's sockets hold all the descriptors that they may
_ROOM = _MOST_FDS * 24  # ancillary data for so many descriptors a read


class Closed(Exception):
    """The other end is gone."""


class Link:
    """One end of the socket. Never blocks; `pending` tells whether `flush` has work left.

    gathers: nothing is sent before `flush`, but then together: who is waked once runs once.
    """

    def __init__(self, sock: socket, *, gathers: bool = False) -> None:
        sock.setblocking(False)
        self.gathers = gathers
        self.sock = sock
        self.fd = sock.fileno()
        self._in = bytearray()
        self._fds: list[int] = []
        self._out: list[tuple[memoryview, tuple[int, ...]]] = []

    @property
    def pending(self) -> bool:
        return bool(self._out)

    def send(self, message: "tuple[Any, ...]", *fds: int) -> None:
        """Send, or keep for `flush` what the socket does not take now. Closes `fds` once sent.

        Raises:
            Closed: the other end is gone.
        """
        data = marshal.dumps((*message, len(fds)))
        self._out.append((memoryview(len(data).to_bytes(_INT, "little") + data), fds))
        if not self.gathers:
            self.flush()

    def flush(self) -> None:
        """Raises: Closed: the other end is gone."""
        while self._out:
            if len(self._out) > 1:
                self._join()
            view, fds = self._out[0]
            try:
                if fds:
                    told = b"".join([fd.to_bytes(_INT, "little") for fd in fds])
                    sent = self.sock.sendmsg([view], [(SOL_SOCKET, SCM_RIGHTS, told)])
                    for fd in fds:
                        os.close(fd)
                else:
                    sent = self.sock.send(view)
            except BlockingIOError:
                return
            except OSError as error:
                if error.errno != ETOOMANYREFS:
                    raise Closed(str(error)) from error
                time.sleep(_NAP_S)  # the socket itself would take it at once
                return
            if sent < len(view):
                self._out[0] = (view[sent:], ())
            else:
                del self._out[0]

    def _join(self) -> None:
        """Make one of the first messages, with no more descriptors than are read at once."""
        count = held = 0
        for _, fds in self._out:
            held += len(fds)
            if count and held > _MOST_FDS:
                break
            count += 1
        first = self._out[:count]
        joined = memoryview(b"".join([view for view, _ in first]))
        self._out[:count] = [(joined, tuple([fd for _, fds in first for fd in fds]))]

    def receive(self) -> "list[tuple[Any, ...]]":
        """The messages that are there; each with a tuple of its descriptors as last item.

        Raises:
            Closed: the other end is gone.
        """
        try:
            data, ancillary, _, _ = self.sock.recvmsg(_CHUNK, _ROOM, _CLOEXEC)
        except BlockingIOError:
            return []
        except OSError as error:
            raise Closed(str(error)) from error
        if not data:
            raise Closed("end of file")
        for _, _, raw in ancillary:
            for at in range(0, len(raw) - len(raw) % _INT, _INT):
                self._fds.append(int.from_bytes(raw[at : at + _INT], "little"))
        self._in += data
        return self._parse()

    def _parse(self) -> "list[tuple[Any, ...]]":
        messages = []
        begin, end = 0, len(self._in)
        while end - begin >= _INT:
            size = int.from_bytes(self._in[begin : begin + _INT], "little")
            if end - begin - _INT < size:
                break
            begin += _INT
            with memoryview(self._in) as whole:
                message = marshal.loads(whole[begin : begin + size])
            begin += size
            count = message[-1]
            fds = tuple(self._fds[:count])
            del self._fds[:count]
            messages.append((*message[:-1], fds))
        if begin:
            del self._in[:begin]
        return messages

    def close(self) -> None:
        """Close this end, and what has not been handed over."""
        for fd in (*self._fds, *(fd for _, fds in self._out for fd in fds)):
            os.close(fd)
        self._fds, self._out = [], []
        self.sock.close()
