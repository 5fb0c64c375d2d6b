"""Programs and their tests under way."""

from __future__ import annotations

import marshal
import os
from dataclasses import dataclass
from typing import Any

from .batch import BATCHES
from .jsonlike import plain_json
from .score import Ended, Judged, Result, kind_of
from .types import AssertTest, CallTest, Program, StdinTest, Test


@dataclass(eq=False, slots=True)
class Work:
    """A program under way. size: about what it takes to hold it, in bytes. clean: see batch.py."""

    program: Program
    results: list[Result | None]
    size: int
    clean: bool = False


@dataclass(eq=False, slots=True)
class Run:
    """A process of one program on its way through a zygote and perhaps a judge.

    tests: the places of the tests it runs; several only as batch.py groups them. channel: the
    judge's end of the socket to the candidate, while it lies with the caller.
    """

    number: int
    work: Work
    tests: tuple[int, ...]
    attempt: int = 1
    ended: Ended | None = None
    judged: Judged | None = None
    channel: int = -1
    failed: bool = False

    @property
    def of(self) -> list[Test]:
        """The tests themselves."""
        return [self.work.program.tests[place] for place in self.tests]

    @property
    def files(self) -> bool:
        """Whether its judge works in a directory."""
        test = self.of[0]
        return isinstance(test, AssertTest) and test.judge == "split-files"

    @property
    def kind(self) -> str:
        kind = kind_of(self.of[0])
        return kind if len(self.tests) == 1 else BATCHES[kind]


def job_file(source: str, *tests: Test, clean: bool = False) -> tuple[int, int]:
    """What a candidate's process is told: a file in memory, and its size. clean: see batch.py.

    A single script's input comes first, and does not count: the process cuts off what follows it,
    and has its standard input. For the eyes of that one process: its zygote passes the file on
    unread. No reference output of a split test is in it.
    """
    kind, extras = kind_of(tests[0]), [_extra(test) for test in tests]
    first = b""
    if len(tests) == 1 and isinstance(tests[0], StdinTest):
        first, extras = _input(tests[0]), [{}]
    told: tuple[Any, ...] = kind, source, extras[0]
    if len(tests) > 1:
        told = BATCHES[kind], source, {"clean": clean, "tests": extras}
    data = marshal.dumps(told)
    fd = os.memfd_create("job")
    for part in (first, data):
        view = memoryview(part)
        while view:
            view = view[os.write(fd, view) :]
    os.lseek(fd, 0, os.SEEK_SET)
    return fd, len(data)


def _input(test: StdinTest) -> bytes:
    return test.stdin.encode("utf-8", "surrogatepass")


def _extra(test: Test) -> dict[str, object]:
    if isinstance(test, CallTest):
        return {"function": test.function, "args": plain_json(test.args)}
    if not isinstance(test, AssertTest):
        return {"stdin": _input(test)}
    if test.judge == "shared":
        return {"code": test.code, "entry_point": test.entry_point}
    return {} if test.judge == "split" else {"judge": test.judge}
