"""The widened judges: their own arguments and files follow the program's (see wide.py)."""

import marshal
from functools import partial

from . import host
from .folder import Folder, checked
from .inout import Objects, from_text
from .mocks import replaced, words_of
from .plain import Malformed, built
from .wide import FILES, MOCKS

TYPE_CHECKING = False
if TYPE_CHECKING:
    from mmap import mmap
    from typing import Any

# Names of what runs code that it finds in files: there, it may be the candidate's.
_LOADING = (
    "pickle", "shelve", "marshal", "dill", "joblib", "importlib", "__import__", "runpy",
    "zipimport", "ctypes", "doctest", "codeop", "InteractiveInterpreter", "fileConfig",
    "addsitedir", "discover", "sys.path", "from sys import", "import imp",
)  # fmt: skip
_UNBOUND = 1 << 40


class Judgement(host.Judgement):
    """A test whose mocks go over, whose calls may change its arguments (keeps), and its files."""

    def __init__(self, folder: "Folder | None", keeps: bool, *given: "Any") -> None:
        super().__init__(*given)
        self._folder = folder
        self._keeps = keeps
        self._objects = Objects(folder, keeps=keeps)
        self._words = words_of(self.test.source)

    def _request(self, name: str, arguments: "Any", keywords: "Any") -> bytes:
        self._objects = objects = Objects(self._folder, keeps=self._keeps)
        text = None if arguments is None else objects.tell_call(arguments, keywords)
        changes = None if self._folder is None else self._folder.changes(_UNBOUND)
        return marshal.dumps((name, text, replaced(self._words), changes))

    def _reply(self) -> "tuple[str, str]":
        letter, text = super()._reply()
        if letter != "w":
            return letter, text
        try:
            from_text(text, self._take)
        except Malformed as error:
            raise self._end("wrong", f"the program left what is {error}") from None
        return super()._reply()

    def _take(self, node: "Any") -> None:
        changed, files = node
        self._swayed = True
        # An object of a module, if the test gave one, would stay changed for the next test.
        self.lasting = self.lasting or bool(changed)
        if files is not None:
            if self._folder is None:
                raise TypeError("files, of which there are none here")
            self._folder.apply(*checked(built(files)))
        self._objects.change(changed)

    def _decode(self, text: str) -> "Any":
        return from_text(text, self._objects.build)


def begin(
    top: "str | None",
    judge: str,
    test: host.Test,
    entry_point: "str | None",
    fd: int,
    most: int,
    replied: "mmap",
) -> host.Judgement:
    """A test under way, by the judge that it asks for. top: this process's directory, if any.

    Raises:
        host.Fault: there is no such judge here, or not for this test.
    """
    given = test, entry_point, fd, most, replied
    if judge == "split":
        return host.Judgement(*given)
    if judge != FILES:
        return Judgement(None, judge != MOCKS, *given)
    if top is None:
        raise host.Fault("a judge has no working directory of its own here")
    if found := [name for name in _LOADING if name in test.source]:
        raise host.Fault(f"the test may run what is in files by {found[0]}; give it judge='shared'")
    return Judgement(Folder(top), True, *given)


def make(top: "str | None") -> "Any":
    """`begin`, for a judge's process."""
    return partial(begin, top)
