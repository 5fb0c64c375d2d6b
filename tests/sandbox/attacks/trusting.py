"""Judges that trust: the sandbox's own readers with checks left out, fed by the attacks themselves.

A candidate runs in a plain throw-away process, with the descriptors that it has in the sandbox; so
does the judge, the package's own but for the checks named, within outer bounds. An attack gets
through if the judge is fooled ("passed") or lost: it ends, or never ends, without a verdict.
In the sandbox even a lost judge costs nobody else anything; that is a guard of its own, and not
the one that is tried here.
"""

from __future__ import annotations

import builtins
import contextlib
import json
import marshal
import mmap
import os
import resource
import select
import signal
import socket
import sys
import tempfile
import time
from collections.abc import Callable
from typing import Any, NoReturn

from peft_bench_sandbox import AssertTest, Limits, Test, score
from peft_bench_sandbox.inside import candidate, host, plain, widehost
from peft_bench_sandbox.inside.folder import Folder
from peft_bench_sandbox.report import Report
from peft_bench_sandbox.runs import job_file

# The checks that can be left out; of a judge's process, and of the caller that reads a report.
OF_THE_JUDGE = {
    "frames": "the length of a frame, its end, and what is beside its bytes",
    "turns": "that names come first, and then values",
    "names": "that names are a table of texts, and only those that the test asks for count",
    "plain": "that texts are of the right form; what is not raises",
    "exceptions": "that an exception is raised as one that does no harm to the judge",
    "verdict": "that whatever is raised in a test is a verdict on it",
    "blame": "that what a test has from a candidate is never taken for the test's own fault",
    "paths": "that files that a candidate has changed lie in its directory",
    "wall": "that a candidate ends at its wall limit",
}
OF_THE_CALLER = {
    "sizes": "how much is read of what a candidate says it has written",
    "report": "that a report is of the right form",
}
_CPU_S = 0.3  # of a judge; an honest one takes a hundredth
_WALL_S, _GIVEN_UP_S = 2.0, 5.0
_ROOM = 24 << 20  # of memory, for a judge, beyond what this process has
_CANDIDATES_ROOM = 512 << 20


def judged(source: str, test: AssertTest, left_out: frozenset[str], limits: Limits) -> str:
    """What becomes of a split assert test: a status, "gone", or "lost: ..."."""
    ours, theirs = socket.socketpair()
    fds = {candidate.CHANNEL: theirs.fileno()}
    program = _forked(lambda: _candidate("serve", source, {}, fds), _CANDIDATES_ROOM)
    theirs.close()
    fd = ours.fileno()
    told = _told_by(lambda: _judge(fd, test, left_out, limits), program, "wall" not in left_out)
    ours.close()
    _end(program)
    return told


def scored(source: str, test: Test, left_out: frozenset[str], limits: Limits) -> str:
    """What becomes of a test that is judged by a report: a status, or "lost: ..."."""
    job, size = job_file(source, test)
    begin = os.fstat(job).st_size - size
    kind, _, extra = marshal.loads(os.pread(job, size, begin))
    os.ftruncate(job, begin)  # a script's input
    fds = {0: job, **{number: os.memfd_create("file") for number in (1, 2, candidate.REPORT)}}
    program = _forked(lambda: _candidate(kind, source, extra, fds), _CANDIDATES_ROOM)
    exit_code = _end(program, within_s=_GIVEN_UP_S)
    told = _told_by(lambda: _score(test, exit_code, fds, left_out, limits))
    for fd in fds.values():
        os.close(fd)
    return told


# The judge of assert tests


class _Judgement(host.Judgement):
    """One of the package's, without the checks left out."""

    def __init__(self, left_out: frozenset[str], *given: Any) -> None:
        super().__init__(*given)
        self._left_out = left_out
        self._greeted = False
        if "frames" in left_out:
            self._frames = _Frames(self._fd)  # type: ignore[assignment]

    def run(self, source: str) -> tuple[str, str]:
        if "verdict" not in self._left_out:
            return super().run(source)
        try:
            exec(self.test.code, self._namespace(self._hello()))
        except AssertionError:
            return "wrong", ""
        except host.Over:
            assert self.over is not None
            return self.over
        except Exception as error:
            if error is self._raised:
                return "exception", ""
            raise
        return "passed", ""

    def _reply(self) -> tuple[str, str]:
        letter, text = super()._reply()
        expected, self._greeted = "v" if self._greeted else "h", True
        return (expected if "turns" in self._left_out else letter), text

    def _hello(self) -> dict[str, str]:
        if "names" not in self._left_out:
            return super()._hello()
        letter, text = self._reply()
        if letter != "h":
            raise self._end("gone", "")
        return host._parsed(text)  # type: ignore[return-value]

    def _namespace(self, kinds: dict[str, str]) -> dict[str, Any]:
        if "names" not in self._left_out:
            return super()._namespace(kinds)
        found: dict[str, Any] = {"__name__": "test"}
        for name, kind in kinds.items():
            if kind.startswith("m:"):
                found[name] = __import__(kind[2:])
            else:
                found[name] = self._ask(name, None, None) if kind == "d" else self._stand_in(name)
        return found

    def _may_be_its_doing(self, name: str) -> bool:
        return "blame" not in self._left_out and super()._may_be_its_doing(name)

    def _exception(self, text: str) -> BaseException:
        if "exceptions" not in self._left_out:
            return super()._exception(text)
        (name, *_), message, _ = host._raised(host._parsed(text))
        self._told = message
        self._raised = {**vars(host), **vars(builtins)}[name](message)
        assert self._raised is not None
        return self._raised


class _Frames:
    """Takes a frame for as long as it says, and what comes with it."""

    def __init__(self, fd: int) -> None:
        self._sock = socket.socket(fileno=os.dup(fd))

    def read(self) -> bytes:
        frame = self._exactly(int.from_bytes(self._exactly(4), "little"))
        letter, text = frame[0], frame[1:].decode("ascii")
        return bytes((letter,)) + text.encode()

    def _exactly(self, size: int) -> bytearray:
        data = bytearray()
        while len(data) < size:
            part, *_ = socket.recv_fds(self._sock, min(size - len(data), 1 << 20), 64)
            data += part
        return data


def _decoded(text: str) -> Any:
    """As plain.decode, but for what an honest encoder never writes."""
    return plain.built(json.loads(text))


def _raised(told: Any) -> tuple[list[str], str, tuple[Any, ...]]:
    line, message, _ = told
    return line, message, (message,)


def _judge(fd: int, test: AssertTest, left_out: frozenset[str], limits: Limits) -> str:
    if "plain" in left_out:
        host.decode, host._parsed, host._raised = _decoded, json.loads, _raised
    replied = mmap.mmap(-1, mmap.PAGESIZE)
    given = host.Test(test.code), test.entry_point, fd, limits.output_bytes, replied
    if test.judge == "split-files":
        return _judge_files(given, test.code, left_out)
    judgement = _Judgement(left_out, *given)
    before = len(os.listdir("/proc/self/fd"))  # noqa: PTH208 - names only
    outcome, _ = judgement.run(test.code)
    after = len(os.listdir("/proc/self/fd"))  # noqa: PTH208
    return _lost_if_blamed(outcome) if after == before else "lost: it was given descriptors"


class _FilesJudgement(widehost.Judgement):
    """One of the package's, without the blame if told so."""

    blames = True

    def _may_be_its_doing(self, name: str) -> bool:
        return self.blames and super()._may_be_its_doing(name)


def _lost_if_blamed(outcome: str) -> str:
    """A candidate that makes the harness fail stops whoever scores."""
    return "lost: the harness is blamed" if outcome == "harness_error" else outcome


def _judge_files(given: tuple[Any, ...], code: str, left_out: frozenset[str]) -> str:
    if "paths" in left_out:
        widehost.checked = lambda content: content  # type: ignore[assignment]
    with tempfile.TemporaryDirectory() as above:
        top = f"{above}/top"
        os.mkdir(top)  # noqa: PTH102
        os.chdir(top)
        judgement = _FilesJudgement(Folder(top), True, *given)
        judgement.blames = "blame" not in left_out
        outcome, _ = judgement.run(code)
        os.chdir("/")
    return _lost_if_blamed(outcome)


# The caller, who reads reports


def _read_left(sizes: dict[str, int], fds: list[int], _: Limits) -> dict[str, bytes]:
    """All that is said to be there, from the beginning."""
    names = [name for name, size in sizes.items() if size]
    return {name: os.pread(fd, sizes[name], 0) for name, fd in zip(names, fds, strict=True)}


def _read_report(data: bytes, kind: str) -> Report:
    told = json.loads(data)
    return Report(told["outcome"], told["message"], told["value"])


def _score(
    test: Test, exit_code: int, fds: dict[int, int], left_out: frozenset[str], limits: Limits
) -> str:
    if "report" in left_out:
        score.read_report = _read_report
    believed = "sizes" in left_out
    places = dict(zip(("out", "err", "report"), list(fds.values())[1:], strict=True))
    sizes = {name: os.lseek(fd, 0, os.SEEK_CUR) for name, fd in places.items()}
    printed = 0 if believed else sizes["out"] + sizes["err"]
    read = _read_left if believed else score.read_left
    left = read(sizes, [places[name] for name, size in sizes.items() if size], limits)  # type: ignore[arg-type]
    ended = score.Ended(exit_code, "itself", 0.0, 0.0, 0, printed, "", **left)
    result = score.score_test(test, ended, None, limits)
    score.cut(result.message, limits.message_bytes)
    return result.status.value


# Processes


def _candidate(kind: str, source: str, extra: dict[str, Any], fds: dict[int, int]) -> str:
    """Becomes a candidate with these descriptors and no others."""
    null = os.open("/dev/null", os.O_RDWR)
    kept = {number: os.dup2(fds.get(number, null), 100 + number) for number in range(5)}
    for number, fd in kept.items():
        os.dup2(fd, number)
        if number > 2 and number not in fds:
            os.close(number)
    os.closerange(5, 1 << 16)
    for number, name in enumerate(("stdin", "stdout", "stderr")):  # those here are the tests' own
        setattr(sys, name, open(number, "w" if number else "r", closefd=False))  # noqa: SIM115
    os.chdir("/proc/self")  # where nobody can write
    candidate.run(kind, source, extra)
    return ""


def _forked(act: Callable[[], str], room: int, tell: int = -1) -> int:
    """Runs act in a process within outer bounds; its result, or how it failed, goes to tell."""
    pid = os.fork()
    if pid == 0:
        _become(act, room, tell)
    return pid


def _become(act: Callable[[], str], room: int, tell: int) -> NoReturn:
    code = 1
    try:
        os.setsid()
        pages = int(open("/proc/self/statm").read().split()[0])  # noqa: SIM115, PTH123
        memory = pages * mmap.PAGESIZE + room
        for what, most in (
            (resource.RLIMIT_AS, memory),
            (resource.RLIMIT_FSIZE, room),
            (resource.RLIMIT_CPU, 2),
            (resource.RLIMIT_CORE, 0),
        ):
            resource.setrlimit(what, (most, most))
        signal.setitimer(signal.ITIMER_PROF, _CPU_S)
        text = act()
        if tell >= 0:
            os.write(tell, text.encode())
        code = 0
    except BaseException as error:  # noqa: BLE001 - however it ends, that is to be told
        if tell >= 0:
            os.write(tell, f"lost: {type(error).__name__}".encode())
    finally:
        os._exit(code)


def _told_by(act: Callable[[], str], program: int = 0, ends: bool = False) -> str:
    """What a judge tells. ends: its program is ended at the wall limit."""
    reader, writer = os.pipe()
    pid = _forked(act, _ROOM, writer)
    os.close(writer)
    ready, _, _ = select.select([reader], [], [], _WALL_S)
    if not ready:
        if ends:
            os.kill(program, signal.SIGKILL)
        ready, _, _ = select.select([reader], [], [], _GIVEN_UP_S - _WALL_S)
    told = os.read(reader, 1000).decode() if ready else "lost: it waits for ever"
    os.close(reader)
    _end(pid)
    return told or "lost: it was ended"


def _end(pid: int, within_s: float = 0.0) -> int:
    """Ends a process, at once or if it does not end by itself; its exit code."""
    until = time.monotonic() + within_s
    while time.monotonic() < until:
        ended, status = os.waitpid(pid, os.WNOHANG)
        if ended:
            return os.waitstatus_to_exitcode(status)
        time.sleep(0.002)
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, signal.SIGKILL)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
