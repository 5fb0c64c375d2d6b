"""The judge's process: runs the code of assert tests against a candidate that is elsewhere.

Forked from a zygote that never sees a candidate's source, and sealed like one. What the test calls
is a stand-in that asks the candidate over a socket and gets plain data back (plain.py). A process
judges many tests, one after the other, each in a namespace of its own; after a test that looks as
if it changed more than that, it ends and another takes its place. The tests are trusted not to go
about it by stealth.
"""

import _ast
import _signal  # type: ignore[import-not-found]  # signal itself loads enum
import builtins
import json
import marshal
import os
import sys
from opcode import opmap
from types import CodeType

from . import kernel
from .candidate import cut, describe_assertion, text_of
from .frames import Frames, TooLong, TooManyParts, write_frame
from .link import Closed, Link
from .plain import Malformed, NotPlain, decode, encode, is_marshalled_whole

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from mmap import mmap
    from typing import Any

_KEPT = 1 << 20  # characters of tests that are kept compiled for the next sample of their problem
_ONLY_AST = _ast.PyCF_ONLY_AST
_MOST_GIVEN = 1 << 30
_PROF = 2  # ITIMER_PROF: CPU time; its signal ends the process whatever it is doing
# Names whose use may change the process for the next test.
_LASTING = frozenset(
    ("sys", "os", "builtins", "gc", "ctypes", "importlib", "threading", "signal", "resource",
     "locale", "warnings", "patch", "Mock", "setattr", "delattr", "globals", "vars", "breakpoint",
     "__dict__", "__builtins__", "__import__")
)  # fmt: skip
# A test that runs text can be made to run the candidate's.
_RUNNING_TEXT = frozenset(("eval", "exec"))
_STORES = frozenset(opmap[name] for name in ("STORE_ATTR", "DELETE_ATTR"))
# The letters by which a candidate's process tells that there is no answer.
_ENDS = (("n", "wrong"), ("e", "exited"), ("m", "memory"), ("o", "output"))
_ALIASES = {"np": "numpy", "pd": "pandas"}
_IMPORTABLE = sys.stdlib_module_names.union(_ALIASES.values()) - {"builtins", "__main__"}


class Over(BaseException):
    """The test has come to its end in the middle; `Judgement.over` says how."""


class Fault(Exception):
    """The test cannot be judged here: its own fault, not the candidate's."""


class Test:
    """A compiled test and what its code mentions."""

    def __init__(self, source: str) -> None:
        try:
            self.code = compile(source, "<test>", "exec", dont_inherit=True)
        except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
            raise Fault(f"the test does not compile: {text_of(error)}") from None
        self.source = source
        self._loaded: set[str] | None = None
        self.names: set[str] = set()
        self.stores = False
        self._scan(self.code)
        if self.names & _RUNNING_TEXT:
            raise Fault("the test runs text by eval or exec; give it judge='shared'")
        self.lasting = self.stores or bool(self.names & _LASTING)

    def loaded(self) -> "set[str]":
        """The names that the code loads as such; `names` has those of attributes too."""
        if self._loaded is None:
            tree = compile(self.source, "<test>", "exec", _ONLY_AST, dont_inherit=True)
            self._loaded = set()
            waiting: list[Any] = [tree]
            while waiting:
                node = waiting.pop()
                if isinstance(node, list):
                    waiting += node
                elif isinstance(node, _ast.AST):
                    if isinstance(node, _ast.Name):
                        self._loaded.add(node.id)
                    waiting += [getattr(node, field, None) for field in node._fields]
        return self._loaded

    def _scan(self, code: CodeType) -> None:
        self.names.update(code.co_names)
        self.stores = self.stores or not _STORES.isdisjoint(code.co_code[::2])
        for constant in code.co_consts:
            if type(constant) is CodeType:
                self._scan(constant)


class Judgement:
    """One test of one program, under way."""

    def __init__(
        self, test: Test, entry_point: "str | None", fd: int, most: int, replied: "mmap"
    ) -> None:
        self._replied = replied
        self.test = test
        self.entry_point = entry_point
        self.over: tuple[str, str] | None = None
        self.lasting = test.lasting
        self._fd = fd
        self._most = most
        self._frames = Frames(fd, most, replied)
        self._raised: BaseException | None = None
        # What may become of the test by the candidate's doing before the test has called it: what
        # it has said that lasts, and the names that the test has from it.
        self._swayed = False
        self._from_it: set[str] = set()
        self._answered = False

    def run(self, source: str) -> "tuple[str, str]":
        """The outcome and a message; a status by its name, "gone" if the candidate is."""
        try:
            namespace = self._namespace(self._hello())
            self._replied[0] = self._swayed or self._answered
            exec(self.test.code, namespace)
        except BaseException as error:
            return self.over or self._judge(error, source)
        return self.over or ("passed", "")

    def _judge(self, error: BaseException, source: str) -> "tuple[str, str]":
        if error is self._raised:
            return "exception", self._told
        if isinstance(error, MemoryError):
            if not self._replied[0]:
                return "harness_error", "the test ran out of memory; raise Limits.memory_bytes"
            return "memory", "the test ran out of memory with the program's answers"
        if isinstance(error, AssertionError):
            return "wrong", describe_assertion(error, source)
        return "exception", f"in the test: {describe_assertion(error, source)}"

    def _end(self, outcome: str, message: str) -> Over:
        self.over = outcome, message
        return Over()

    def _hello(self) -> "dict[str, str]":
        letter, text = self._reply()
        kinds = _parsed(text) if letter == "h" else None
        if not isinstance(kinds, dict) or not all(isinstance(kind, str) for kind in kinds.values()):
            raise self._end("gone", "the program spoke out of turn")
        if self.entry_point is not None and self.entry_point not in kinds:
            message = f"NameError: the program defines no {self.entry_point!r}"
            raise self._end("exception", message)
        return kinds

    def _reply(self) -> "tuple[str, str]":
        """The candidate's next frame, ends of the run already dealt with."""
        try:
            frame = self._frames.read()
        except TooLong as error:
            raise self._end("output", f"the program answered with {error}") from None
        except TooManyParts as error:
            raise self._end("gone", f"the program spoke in {error}") from None
        if not frame:
            raise self._end("gone", "the program left its test")
        # What words do to this process, from their first byte on, is the candidate's doing.
        self._replied[0] = 1
        letter, text = chr(frame[0]), frame[1:].decode("ascii", "replace")
        if letter == "v":
            return letter, text
        if letter == "x":
            raise self._exception(text)
        for told, outcome in _ENDS:
            if letter == told:
                message = _parsed(text)
                raise self._end(outcome, message if isinstance(message, str) else "unreadable")
        return letter, text

    def _exception(self, text: str) -> BaseException:
        """The candidate's exception, as the nearest of Python's own that a test may catch."""
        line, message, arguments = _raised(_parsed(text))
        self._told = f"{line[0]}: {message}" if message else line[0]
        if "Exception" not in line:
            return self._end("exception", self._told)
        for name in line:
            kind = getattr(builtins, name, None)
            if isinstance(kind, type) and issubclass(kind, Exception):
                if issubclass(kind, StopIteration | StopAsyncIteration):
                    kind = RuntimeError  # the test's own loops must not take it for their end
                try:
                    self._raised = kind(*arguments)
                except Exception:  # not one that is made with these
                    continue
                return self._raised
        return self._end("exception", self._told)

    def _namespace(self, kinds: "dict[str, str]") -> "dict[str, Any]":
        """What the test sees: the candidate's names that it mentions, its entry point first."""
        namespace: dict[str, Any] = {"__name__": "test", "__builtins__": builtins}
        for name, kind in kinds.items():
            if name not in self.test.names and name != self.entry_point:
                continue
            if name[:2] == "__":
                continue  # `__builtins__` is what the test's own built-ins are
            if hasattr(builtins, name) and name != self.entry_point:
                continue  # a built-in is the candidate's only where the test is about it
            own = self._own(name, kind) if name != self.entry_point else None
            if own is not None:
                namespace[name] = own
                if kind[:2] == "s:":  # the candidate's choice among all that is called so
                    self._swayed = True
                    self._from_it.add(name)
            elif kind[:2] in ("c", "s:"):
                namespace[name] = self._stand_in(name)
                self._from_it.add(name)
            elif kind == "d" and name in self.test.loaded():
                namespace[name] = self._ask(name, None, None)
        return namespace

    def _own(self, name: str, kind: str) -> "Any":
        """The module, or the thing of that name from a module, that the candidate says it has.

        From here, so that the test does not ask the candidate what `isclose` is; None if it is
        not what the name says.
        """
        letter, _, told = kind.partition(":")
        is_module = letter == "m" and told == _ALIASES.get(name, name)
        if not (is_module or letter == "s") or told not in _IMPORTABLE:
            return None
        self.lasting = self.lasting or told not in sys.modules
        try:
            module = __import__(told)
        except ImportError:
            return None
        return module if is_module else getattr(module, name, None)

    def _stand_in(self, name: str) -> "Callable[..., Any]":
        def stand_in(*arguments: "Any", **keywords: "Any") -> "Any":
            return self._ask(name, arguments, keywords)

        stand_in.__name__ = stand_in.__qualname__ = name
        return stand_in

    def _ask(self, name: str, arguments: "Any", keywords: "Any") -> "Any":
        if self.over:  # the test caught the end and goes on
            raise Over
        self._replied[0] = self._may_be_its_doing(name)
        try:
            request = self._request(name, arguments, keywords)
        except NotPlain:
            outcome = "wrong" if self._may_be_its_doing(name) else "harness_error"
            text = f"{name} is given what is no plain data; such a test needs judge='shared'"
            raise self._end(outcome, text) from None
        # What is small enough to come back is small enough to go over.
        if len(request) > self._most and len(request) > (most := _most_given()):
            outcome = "output" if self._may_be_its_doing(name) else "harness_error"
            text = f"the test gives {name} {len(request)} bytes, and may give {most}: a sixteenth"
            raise self._end(outcome, f"{text} of Limits.memory_bytes; raise that")
        self._replied[0] = 1  # from here on, what becomes of the test may be the candidate's doing
        try:
            write_frame(self._fd, request)
        except OSError:
            raise self._end("gone", "the program left its test") from None
        self._answered = True  # if by an exception
        letter, text = self._reply()
        if letter != "v":
            raise self._end("gone", "the program spoke out of turn")
        try:
            return self._decode(text)
        except Malformed as error:
            raise self._end("wrong", f"{name} gave what is {error}") from None

    def _may_be_its_doing(self, name: str) -> bool:
        """Whether what the test gives to a function may have come from the candidate."""
        return self._answered or self._swayed or bool(self._from_it - {name})

    def _request(self, name: str, arguments: "Any", keywords: "Any") -> bytes:
        if arguments is None or (
            is_marshalled_whole(arguments) and (not keywords or is_marshalled_whole(keywords))
        ):
            return marshal.dumps((name, arguments, keywords))
        return marshal.dumps((name, encode((arguments, keywords)), None))

    def _decode(self, text: str) -> "Any":
        return decode(text)


def _most_given() -> int:
    """Bytes that go over to a program in one call: with room for what it makes of them."""
    return min(kernel.limit(kernel.RLIMIT_AS)[0] // 16, _MOST_GIVEN)


def _parsed(text: str) -> object:
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return None


def _raised(told: object) -> "tuple[list[str], str, tuple[Any, ...]]":
    """Of an exception: its classes' names, its text, what it was made with."""
    if isinstance(told, list) and len(told) == 3:
        line, message, arguments = told
        fits = isinstance(line, list) and line and all(isinstance(name, str) for name in line)
        if fits and isinstance(message, str):
            try:
                made_with = decode(arguments) if isinstance(arguments, str) else None
            except Malformed:
                made_with = None
            return line, message, made_with if isinstance(made_with, tuple) else (message,)
    return ["Exception"], "unreadable", ("unreadable",)


def serve(
    link: Link, replied: "mmap", begin: "Callable[..., Judgement]", *, once: bool = False
) -> None:
    """Judge what the caller sends until it has no more, or until this process has changed.

    begin: makes a judgement of a judge's name and of what a `Judgement` is made of. once: this
    process judges one test.
    """
    link.sock.setblocking(True)
    kept: dict[str, Test] = {}
    size = 0
    while True:
        try:
            messages = link.receive()
        except Closed:
            return
        for number, source, entry_point, judge, cpu_s, most, (fd,) in messages:
            modules = len(sys.modules)
            _signal.setitimer(_PROF, cpu_s)
            lasting = once
            try:
                if source not in kept:
                    while kept and size + len(source) > _KEPT:
                        oldest = next(iter(kept))
                        size -= len(oldest)
                        del kept[oldest]
                    kept[source] = Test(source)
                    size += len(source)
                judgement = begin(judge, kept[source], entry_point, fd, most, replied)
                outcome, message = judgement.run(source)
                lasting = once or judgement.lasting or len(sys.modules) != modules
                del judgement
            except Fault as fault:
                outcome, message = "harness_error", str(fault)
            _signal.setitimer(_PROF, 0)
            for name in ("random", "numpy.random"):
                if (module := sys.modules.get(name)) is not None:
                    module.seed(0)
            os.close(fd)
            replied[0] = 0  # what ends this process from here on is no candidate's doing
            link.send((number, outcome, cut(message), lasting))
            if lasting:
                return
