"""Functions of modules that a test replaces by mocks: replaced in the program's process as well.

Only what a mock returns goes over, as plain data, and only to the program: nothing comes back, so
what a test asks of a mock after a call (`assert_called_with`) it asks of one that was not called.
"""

import re
import sys
from types import ModuleType

from .plain import NotPlain, decode, encode

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

_WORD = re.compile(r"\w+")


def words_of(source: str) -> "set[str]":
    """What the modules and functions that a test replaces are named by."""
    return set(_WORD.findall(source))


def replaced(words: "set[str]") -> "list[tuple[str, str, str]]":
    """On the judge's side: module, name, and the text of what the mock returns that is there.

    A mock that was told no value returns None. One that does more is left out.
    """
    mock = sys.modules.get("unittest.mock")
    if mock is None:
        return []
    found = []
    for module_name, module in list(sys.modules.items()):
        if type(module) is not ModuleType or not words.issuperset(module_name.split(".")):
            continue
        for name, value in list(vars(module).items()):
            # Each mock is of a class of its own.
            if name not in words or not issubclass(type(value), mock.Mock) or value.side_effect:
                continue
            returned = vars(value).get("_mock_return_value", mock.DEFAULT)
            try:
                text = encode(None if returned is mock.DEFAULT else returned)
            except NotPlain:
                continue
            found.append((module_name, name, text))
    return found


class Replacements:
    """On the program's side: what is in the place of modules' functions, and what was."""

    def __init__(self) -> None:
        self._made: dict[tuple[str, str], tuple[str, Any]] = {}

    def put(self, told: "list[tuple[str, str, str]]") -> None:
        """Replace what the judge's side tells, and nothing else any more."""
        wanted = {(module, name): text for module, name, text in told}
        for place, (text, was) in list(self._made.items()):
            if wanted.get(place) == text:
                del wanted[place]
            else:
                setattr(sys.modules[place[0]], place[1], was)
                del self._made[place]
        for place, text in wanted.items():
            __import__(place[0])
            module = sys.modules[place[0]]
            self._made[place] = text, getattr(module, place[1], None)
            setattr(module, place[1], _returning(decode(text)))


def _returning(value: "Any") -> "Callable[..., Any]":
    return lambda *_, **__: value
