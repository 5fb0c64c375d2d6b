"""The sockets to all processes of a run: who has spoken, who is gone, who takes no more now."""

from __future__ import annotations

import contextlib
import selectors
from collections.abc import Iterator
from typing import Any

from .inside.link import Closed, Link


class Switchboard:
    """Links and their owners; an owner is whatever the caller wants to be told of."""

    def __init__(self) -> None:
        self._selector = selectors.DefaultSelector()
        self._blocked: set[Link] = set()
        self._unsent: set[Link] = set()

    def add(self, link: Link, owner: object) -> None:
        """Begin to listen to a link."""
        wanted = selectors.EVENT_READ | (selectors.EVENT_WRITE if link.pending else 0)
        if link.pending:
            self._blocked.add(link)
        self._selector.register(link.sock, wanted, (link, owner))

    def drop(self, link: Link) -> None:
        """Close a link; one that was dropped before is let be."""
        self._blocked.discard(link)
        self._unsent.discard(link)
        with contextlib.suppress(KeyError, ValueError):
            self._selector.unregister(link.sock)
        link.close()

    def post(self, link: Link, message: tuple[object, ...], *fds: int) -> None:
        """Have sent by `flush`, which `wait` begins with; `fds` are closed once they are sent.

        The link is one that gathers.
        """
        link.send(message, *fds)
        self._unsent.add(link)

    def flush(self) -> None:
        """Send what was posted; where the other end is gone, `wait` tells or has told."""
        while self._unsent:
            link = self._unsent.pop()
            try:
                link.flush()
            except Closed:
                continue
            if link.pending and link not in self._blocked:
                self._blocked.add(link)
                owner = self._selector.get_key(link.sock).data
                events = selectors.EVENT_READ | selectors.EVENT_WRITE
                self._selector.modify(link.sock, events, owner)

    def wait(self, seconds: float) -> Iterator[tuple[Any, list[tuple[Any, ...]] | None]]:
        """Whoever has spoken within the time, with the messages; None in their place: is gone."""
        self.flush()
        for key, events in self._selector.select(seconds):
            link, owner = key.data
            if link.sock.fileno() < 0:  # dropped since, with what it belonged to
                continue
            try:
                if events & selectors.EVENT_WRITE:
                    self._flush(link, key)
                yield owner, link.receive() if events & selectors.EVENT_READ else []
            except Closed:
                self._selector.unregister(link.sock)
                yield owner, None

    def close(self) -> None:
        """Stop listening; the links are their owners' to close."""
        self._selector.close()

    def _flush(self, link: Link, key: selectors.SelectorKey) -> None:
        link.flush()
        if not link.pending:
            self._blocked.discard(link)
            self._selector.modify(link.sock, selectors.EVENT_READ, key.data)
