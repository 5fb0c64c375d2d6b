"""Programs and their tests under way."""

from __future__ import annotations

import marshal
import os
from dataclasses import dataclass

from .score import Ended, Judged, Result, kind_of
from .types import AssertTest, CallTest, Program, Test, plain_json


@dataclass(eq=False, slots=True)
class Work:
    """A program under way. size: about what it takes to hold it, in bytes."""

    program: Program
    results: list[Result | None]
    size: int


@dataclass(eq=False, slots=True)
class Run:
    """One test of one program on its way through a zygote and perhaps a judge.

    channel: the judge's end of the socket to the candidate, while it lies with the caller.
    """

    number: int
    work: Work
    test: int
    attempt: int = 1
    ended: Ended | None = None
    judged: Judged | None = None
    channel: int = -1
    failed: bool = False

    @property
    def kind(self) -> str:
        return kind_of(self.work.program.tests[self.test])


def job_file(source: str, test: Test) -> int:
    """What a candidate's process is told, as a file in memory.

    For the eyes of that one process: its zygote passes the file on unread. No reference output of
    a split test is in it.
    """
    extra: dict[str, object] = {}
    if isinstance(test, CallTest):
        extra = {"function": test.function, "args": plain_json(test.args)}
    elif not isinstance(test, AssertTest):
        extra = {"stdin": test.stdin.encode("utf-8", "surrogatepass")}
    elif test.judge == "shared":
        extra = {"code": test.code, "entry_point": test.entry_point}
    data = marshal.dumps((kind_of(test), source, extra))
    fd = os.memfd_create("job")
    view = memoryview(data)
    while view:
        view = view[os.write(fd, view) :]
    return fd
