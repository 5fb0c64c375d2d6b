"""Messages between the caller, its zygotes and its judges, over a Unix stream socket.

A message is four bytes of length and marshalled data; both ends are ours, run the same
interpreter and are trusted. Descriptors may travel with a message. Nothing a candidate can
write to comes this way (see plain.py for that).

Descriptors of several messages may be sent together, with or before the first byte of the first of
these, whose length is marked. A process that can open no more files loses some of them, and is told
so by the kernel, but not how many: by the marks it knows whose they were.
"""

import marshal
import os
import time
from _socket import MSG_CTRUNC, SCM_RIGHTS, SOL_SOCKET, socket
from errno import ETOOMANYREFS

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

_CHUNK = 1 << 14
_INT = 4
_MARK = 0x80  # in the last byte of a length: descriptors have come for this message and the next
_LENGTH = 0x7FFFFFFF
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
        self._later: list[list[int]] = []  # of messages that have not come whole; some may be lost
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
        told = bytearray(len(data).to_bytes(_INT, "little"))
        if fds:
            told[_INT - 1] |= _MARK
        self._out.append((memoryview(told + data), fds))
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
        for view, fds in self._out:
            if count and held + len(fds) > _MOST_FDS:
                break
            if held and fds:  # what is marked already has come before
                view[_INT - 1] &= ~_MARK & 0xFF
            held += len(fds)
            count += 1
        first = self._out[:count]
        joined = memoryview(bytearray().join([view for view, _ in first]))
        self._out[:count] = [(joined, tuple([fd for _, fds in first for fd in fds]))]

    def receive(self) -> "list[tuple[Any, ...]]":
        """The messages that are there; each with a tuple of its descriptors as last item.

        The tuple is empty if one of them is lost: this process may have no more files open.

        Raises:
            Closed: the other end is gone.
        """
        try:
            data, ancillary, flags, _ = self.sock.recvmsg(_CHUNK, _ROOM, _CLOEXEC)
        except BlockingIOError:
            return []
        except OSError as error:
            raise Closed(str(error)) from error
        if not data:
            raise Closed("end of file")
        if ancillary or flags & MSG_CTRUNC:
            came: list[int] = []
            for _, _, raw in ancillary:
                for at in range(0, len(raw) - len(raw) % _INT, _INT):
                    came.append(int.from_bytes(raw[at : at + _INT], "little"))
            self._later.append(came)
        self._in += data
        return self._parse()

    def _parse(self) -> "list[tuple[Any, ...]]":
        messages = []
        begin, end = 0, len(self._in)
        while end - begin >= _INT:
            told = int.from_bytes(self._in[begin : begin + _INT], "little")
            size = told & _LENGTH
            if end - begin - _INT < size:
                break
            begin += _INT
            if told != size:
                self._fds = self._later.pop(0)
            with memoryview(self._in) as whole:
                message = marshal.loads(whole[begin : begin + size])
            begin += size
            messages.append((*message[:-1], self._taken(message[-1])))
        if begin:
            del self._in[:begin]
        return messages

    def _taken(self, count: int) -> tuple[int, ...]:
        """The next of the descriptors that have come; none if they are fewer."""
        fds = tuple(self._fds[:count])
        del self._fds[:count]
        if len(fds) < count:
            for fd in fds:
                os.close(fd)
            return ()
        return fds

    def close(self) -> None:
        """Close this end, and what has not been handed over."""
        unsent = [fd for _, fds in self._out for fd in fds]
        for fd in (*self._fds, *(fd for came in self._later for fd in came), *unsent):
            os.close(fd)
        self._fds, self._later, self._out = [], [], []
        self.sock.close()
