"""Calls whose arguments come back: what a program changes in place, changes in the test.

Each mutable object among the arguments of a call has a number, the same on both sides. It is told
once, and `{"@": number}` stands wherever it occurs, twice or within itself. After the call the
program's side tells those that changed, and the judge's side changes its own: by number, so that
what was one object remains one. Only lists, dictionaries, sets and bytearrays themselves (and
files, where there is a folder.py for both sides) are numbered; all else is told as plain.py does.

What comes from the program's side is as hostile here as there.
"""

import json
from collections import OrderedDict

from .folder import HANDLES, OpenFile
from .plain import Malformed, NotPlain, built, scan, told, written

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from .folder import Folder

_KEPT: "dict[type, str]" = {list: "l", dict: "d", set: "s", bytearray: "b"}
_MAKERS: "dict[str, Callable[[], Any]]" = {tag: kind for kind, tag in _KEPT.items()}
# What may hold a numbered object, and a subclass is told as.
_HOLDING: "tuple[tuple[type, Callable[[Any], Any]], ...]" = (
    (list, lambda value: list(list.__iter__(value))),
    (tuple, lambda value: list(tuple.__iter__(value))),
    (OrderedDict, lambda value: list(OrderedDict.items(value))),
    (dict, lambda value: list(dict.items(value))),
)


class Objects:
    """The objects of one call that both sides have, by their numbers.

    keeps: else none is given one, and all goes over by its value alone.
    """

    def __init__(self, folder: "Folder | None", *, keeps: bool = True) -> None:
        self.all: list[Any] = []
        self.folder = folder
        self._keeps = keeps
        self._numbers: dict[int, int] = {}
        self._texts: list[str] = []

    def _add(self, value: "Any") -> int:
        self._numbers[id(value)] = number = len(self.all)
        self.all.append(value)
        return number

    # Told

    def tell(self, value: "Any", *, adds: bool = False) -> "Any":
        """What JSON is to be made of for a value. adds: what has no number yet is given one.

        Raises: NotPlain.
        """
        kind = type(value)
        is_handle = kind in HANDLES and self.folder is not None
        if kind in _KEPT or is_handle:
            number = self._numbers.get(id(value))
            if number is None and adds and self._keeps:
                number = self._add(value)
            if number is not None:
                return {"@": number}
            if is_handle:
                return _told_open(value)
        for base, listed in _HOLDING:
            if issubclass(kind, base):
                if issubclass(kind, dict):
                    pairs = listed(value)
                    return {"d": [[self.tell(k, adds=adds), self.tell(v, adds=adds)]
                                  for k, v in pairs]}  # fmt: skip
                items = [self.tell(item, adds=adds) for item in listed(value)]
                return items if base is list else {"t": items}
        return told(value)

    def tell_content(self, number: int, *, adds: bool = False) -> "Any":
        """What JSON is to be made of for what is in a numbered object. Raises: NotPlain."""
        value = self.all[number]
        kind = type(value)
        if kind is dict:
            pairs = value.items()
            return [[self.tell(k, adds=adds), self.tell(v, adds=adds)] for k, v in pairs]
        if kind is bytearray:
            return value.hex()
        if kind in _KEPT:
            return [self.tell(item, adds=adds) for item in value]
        assert self.folder is not None
        return self.folder.tell_handle(value)

    def tell_call(self, arguments: "tuple[Any, ...]", keywords: "dict[str, Any]") -> str:
        """The text of a call: of its arguments, and of all that they lead to.

        Raises: NotPlain.
        """
        try:
            given = [self.tell(item, adds=True) for item in arguments]
            named = {name: self.tell(item, adds=True) for name, item in keywords.items()}
            contents, number = [], 0
            while number < len(self.all):  # which grows
                tag = _KEPT.get(type(self.all[number]), "f")
                contents.append([tag, self.tell_content(number, adds=True)])
                number += 1
        except RecursionError as error:
            raise NotPlain(f"nested too deep ({error})") from None
        return as_text([given, named, contents])

    # Built

    def build(self, node: "Any") -> "Any":
        """The value of what JSON gave. Raises: as plain.built."""
        if type(node) is list:
            return [self.build(item) for item in node]
        if type(node) is not dict or len(node) != 1:
            return built(node)
        [(tag, content)] = node.items()
        if tag == "@":
            if type(content) is not int or content < 0:
                raise TypeError("no number of an object")
            return self.all[content]
        if tag == "t":
            return tuple([self.build(item) for item in content])
        if tag == "d":
            return {self.build(key): self.build(item) for key, item in content}
        if tag == "F" and self.folder is not None:
            return _built_open(content)
        return built(node)

    def build_content(self, number: int, content: "Any") -> "Any":
        """What `fill` is to put into a numbered object. Raises: as `build`."""
        value = self.all[number]
        kind = type(value)
        if kind is dict:
            return {self.build(key): self.build(item) for key, item in content}
        if kind is bytearray:
            return bytes.fromhex(content)
        if type(content) is not list:
            raise TypeError("no content of an object")
        if kind in _KEPT:
            return kind([self.build(item) for item in content])
        assert self.folder is not None
        return self.folder.checked_position(value, content)

    def fill(self, number: int, content: "Any") -> None:
        """Let a numbered object hold this."""
        value = self.all[number]
        kind = type(value)
        if kind is list or kind is bytearray:
            value[:] = content
        elif kind in _KEPT:
            value.clear()
            value.update(content)
        elif self.folder is not None:
            self.folder.move(value, content)

    def build_call(self, text: str) -> "tuple[list[Any], dict[str, Any]]":
        """On the program's side: arguments and keywords."""
        given, named, contents = json.loads(text)
        for tag, content in contents:
            if tag == "f" and self.folder is not None:
                name, *rest = content
                self._add(self.folder.open_handle(built(name), *rest))
            else:
                self._add(_MAKERS[tag]())
        for number, (tag, content) in enumerate(contents):
            if tag != "f":
                self.fill(number, self.build_content(number, content))
        self._texts = [as_text(self.tell_content(number)) for number in range(len(contents))]
        keywords = {name: self.build(item) for name, item in named.items()}
        return [self.build(item) for item in given], keywords

    # Changes

    def changed(self) -> "list[list[Any]]":
        """On the program's side: the objects that no longer hold what they held at first.

        Raises: NotPlain.
        """
        found = []
        try:
            for number, text in enumerate(self._texts):
                content = self.tell_content(number)
                if as_text(content) != text:
                    found.append([number, content])
        except RecursionError as error:
            raise NotPlain(f"nested too deep ({error})") from None
        return found

    def change(self, changes: "Any") -> None:
        """On the judge's side: all of the changes, or none. Raises: as `build`."""
        made = []
        for number, content in changes:
            if type(number) is not int or number < 0:
                raise TypeError("no number of an object")
            made.append((number, self.build_content(number, content)))
        for number, content in made:
            self.fill(number, content)


def as_text(node: "Any") -> str:
    """Raises: NotPlain: it is nested too deep, or within itself."""
    try:
        return "".join(written(node, 0))
    except (RecursionError, ValueError) as error:
        raise NotPlain(f"nested too deep, or within itself ({error})") from None


def from_text(text: str, build: "Callable[[Any], Any]") -> "Any":
    """What is built of a text, which may be hostile. Raises: Malformed."""
    try:
        node, end = scan(text, 0)
        if end != len(text):
            raise Malformed("no plain data: more than one value")
        return build(node)
    except (
        ValueError, TypeError, LookupError, ArithmeticError, RecursionError, StopIteration, OSError,
        BufferError,
    ) as error:  # fmt: skip
        raise Malformed(f"no plain data: {error}") from None


def _told_open(file: "Any") -> "Any":
    name = file.name
    return {"F": [told(name if type(name) is str else ""), file.mode, file.closed]}


def _built_open(content: "Any") -> OpenFile:
    name, mode, closed = content
    name = built(name)
    if type(name) is not str or type(mode) is not str or type(closed) is not bool:
        raise TypeError("no open file")
    return OpenFile(name, mode, closed)
