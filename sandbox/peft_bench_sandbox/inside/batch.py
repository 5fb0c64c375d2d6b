"""Several tests of one program in one candidate's process: kinds "scripts" and "calls".

Between tests the process is put back to how a fresh one looks, as far as that is cheap; where it
is not, or a test does not end well, or they take long, the rest is left to processes of their own.
The caller believes little of it (see ../batch.py): a test that does not pass in this process is
run again in its own, unless the program's text names nothing by which one test could leave
something to the next ("clean").

Each test leaves a line in the report: where its output ends, a blank, a report as candidate.py's.
A program that does not compile leaves one for all of them, which begins with a minus.
"""

import gc
import io
import os
import sys
from _json import encode_basestring_ascii as quote
from time import monotonic, process_time
from types import CodeType

from . import candidate

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

# No further test is begun after so much of CPU or wall time: a process of its own is cheap then.
_SHORT_S = 0.25
# What takes less CPU time leaves little memory: to collect it would take a quarter more.
_LIGHT_S = 0.001
_STREAMS = ("stdin", "stdout", "stderr")


def _run_script(code: CodeType, test: "dict[str, Any]") -> candidate.Report:
    """Fill the input, an empty file until now; its beginning stays where reading begins."""
    data = memoryview(test["stdin"])
    offset = 0
    while offset < len(data):
        offset += os.pwrite(0, data[offset:], offset)
    return candidate.run_stdin(code, test)


_RUNS = {"scripts": _run_script, "calls": candidate.run_call}
KINDS = frozenset(_RUNS)


def run(kind: str, source: str, extra: "dict[str, Any]") -> None:
    """Run test after test; the caller of this ends the process."""
    run_one, fresh, began = _RUNS[kind], _Fresh(reads=kind == "scripts"), monotonic()
    if kind == "scripts" and "/dev/" in source:
        candidate.name_streams()
    try:
        code = candidate.compiled(source)
    except BaseException as error:
        _write("-", candidate.describe_end(error))
        return
    for number, test in enumerate(extra["tests"]):
        if number and not fresh.again():
            return
        used = process_time()
        try:
            report = run_one(code, test)
        except BaseException as error:
            report = candidate.describe_end(error)
        ended = report[0] in ("completed", "returned")
        if not ended or process_time() - used > _LIGHT_S:
            fresh.let_go()
        _write(f"{os.lseek(fresh.kept[1], 0, os.SEEK_CUR)}", report)
        if report[0] == "memory" or not (extra["clean"] or ended):
            return
        if process_time() > _SHORT_S or monotonic() - began > _SHORT_S:
            return


def _write(end: str, report: candidate.Report) -> None:
    outcome, message, value = report
    line = f'{end} {{"outcome": "{outcome}", "message": {quote(message)}, "value": {value}}}\n'
    data = line.encode("ascii")
    while data:
        data = data[os.write(candidate.REPORT, data) :]


class _Fresh:
    """What a program finds when it begins, to be had back for the next test."""

    def __init__(self, *, reads: bool) -> None:
        self._reads = reads
        self.kept = [os.dup(fd) for fd in (0, 1, 2)]
        self._streams: dict[str, Any] = {name: getattr(sys, name) for name in _STREAMS}
        self._recursion = sys.getrecursionlimit()
        self._digits = sys.get_int_max_str_digits()

    def let_go(self) -> None:
        """Of what a test has made: its memory, and what it prints last, are not the next one's."""
        try:
            for name in ("__main__", "candidate"):
                sys.modules.pop(name, None)
            gc.collect()
            if self._reads:  # what else is printed counts for nothing
                self._streams["stdout"].flush()
        except BaseException:
            return

    def again(self) -> bool:
        """Whether the process could be put back."""
        if "threading" in sys.modules:  # its end comes once, and with it that of the interpreter
            return False
        try:
            for fd, kept in enumerate(self.kept):
                os.dup2(kept, fd)
            if self._reads:
                self._renew_input()
            for name, stream in self._streams.items():
                setattr(sys, name, stream)
                setattr(sys, f"__{name}__", stream)
            sys.setrecursionlimit(self._recursion)
            sys.set_int_max_str_digits(self._digits)
            for name in ("random", "numpy"):  # as warm.py has seeded them
                if (module := sys.modules.get(name)) is not None:
                    (module.random if name == "numpy" else module).seed(0)
        except BaseException:
            return False
        return not (self._streams["stdout"].closed or self._streams["stderr"].closed)

    def _renew_input(self) -> None:
        """An empty file, and a new stream: the old one has read ahead."""
        os.ftruncate(0, 0)
        os.lseek(0, 0, os.SEEK_SET)
        raw, old = io.BufferedReader(io.FileIO(0, "r", closefd=False)), self._streams["stdin"]
        self._streams["stdin"] = io.TextIOWrapper(raw, old.encoding, old.errors, newline="\n")
