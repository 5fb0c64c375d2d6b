"""From what a child did to a verdict: the table of statuses."""

from __future__ import annotations

import json
import marshal
import math
import secrets
import signal
import subprocess
from dataclasses import dataclass

from .channel import Kind, Report, Said, read_channel
from .judge import judge_stdout, judge_value
from .launch import Cause, Children, Raw, run_child
from .types import AssertTest, CallTest, Limits, Program, Status, StdinTest, Test, Verdict
from .workdir import working_directory

_ATTEMPTS = 2


@dataclass(frozen=True, slots=True)
class Result:
    """What became of one test."""

    status: Status
    message: str
    cpu_s: float = 0.0
    wall_s: float = 0.0
    peak_bytes: int = 0


def run_program(program: Program, limits: Limits, children: Children) -> Verdict:
    """Run every test of a program, one after the other.

    Raises:
        Stopped: the run is being given up.
    """
    results = [run_test(program.source, test, limits, children) for test in program.tests]
    total = len(results)
    place, worst = _deciding(results)
    message = worst.message
    if total > 1 and worst.status is not Status.PASSED:
        message = f"test {place} of {total}: {message}"
    return Verdict(
        id=program.id,
        status=worst.status,
        passed=sum(result.status is Status.PASSED for result in results),
        total=total,
        message=cut(message, limits.message_bytes),
        cpu_s=sum(result.cpu_s for result in results),
        wall_s=sum(result.wall_s for result in results),
        peak_bytes=max(result.peak_bytes for result in results),
        judge=program.judge,
    )


def run_test(source: str, test: Test, limits: Limits, children: Children) -> Result:
    """Run one test; once more if the sandbox itself failed.

    Raises:
        Stopped: the run is being given up.
    """
    result = Result(Status.HARNESS_ERROR, "not tried")
    for _ in range(_ATTEMPTS):
        children.check()
        try:
            result = _attempt(source, test, limits, children)
        except (OSError, subprocess.SubprocessError) as error:
            result = Result(Status.HARNESS_ERROR, f"the sandbox could not start a run: {error}")
        if result.status is not Status.HARNESS_ERROR:
            break
    return result


def cut(message: str, limit_bytes: int) -> str:
    """Cut a message to so many bytes of UTF-8, never inside a character."""
    data = message.encode("utf-8", "replace")
    return data[:limit_bytes].decode("utf-8", "ignore")


def make_job(source: str, test: Test, limits: Limits, token: str) -> bytes:
    """Everything the child is told. Of a split test it is told no expected value."""
    told: dict[str, object] = {
        "token": token,
        "kind": _kind(test),
        "source": source,
        "limits": {
            "cpu_s": math.ceil(limits.cpu_s),  # the kernel counts whole seconds
            "wall_s": math.ceil(limits.wall_s),
            "memory_bytes": limits.memory_bytes,
            "file_bytes": limits.file_bytes,
            "output_bytes": limits.output_bytes,
            "message_bytes": limits.message_bytes,
        },
    }
    if isinstance(test, AssertTest):
        told |= {"code": test.code, "entry_point": test.entry_point}
    elif isinstance(test, CallTest):
        told |= {"function": test.function, "args": json.loads(json.dumps(test.args))}
    return marshal.dumps(told)


def _attempt(source: str, test: Test, limits: Limits, children: Children) -> Result:
    token = secrets.token_hex(16)
    stdin = test.stdin.encode("utf-8", "surrogatepass") if isinstance(test, StdinTest) else None
    with working_directory() as directory:
        job = make_job(source, test, limits, token)
        raw = run_child(job, stdin, limits, directory, children)
    said = read_channel(raw.channel, token, _kind(test))
    status, message = _status(raw, said, limits) or _outcome(raw, said.report, test)
    return Result(status, message, raw.cpu_s, raw.wall_s, _peak_bytes(raw, said))


def _status(raw: Raw, said: Said, limits: Limits) -> tuple[Status, str] | None:
    """What the caller saw, in order of weight; None if the child ended well and reported."""
    if said.ready is None:
        return Status.HARNESS_ERROR, f"the sandbox's own code did not start: {_last_words(raw)}"
    if raw.cause is Cause.OUTPUT:
        return Status.OUTPUT, f"printed more than {limits.output_bytes} bytes"
    if raw.cause is Cause.CHANNEL:
        return Status.OUTPUT, "sent more over the result channel than a result can take"
    if raw.cpu_s >= limits.cpu_s or raw.exit == -signal.SIGXCPU:
        return Status.CPU, f"used {raw.cpu_s:.2f} s of CPU time, may use {limits.cpu_s:g} s"
    orphaned = raw.exit == -signal.SIGALRM and raw.wall_s >= limits.wall_s
    if raw.cause is not Cause.ITSELF or orphaned:
        return Status.TIMEOUT, f"did not end within {limits.wall_s:g} s"
    if said.fault:
        return Status.EXITED, said.fault
    if raw.exit < 0:
        return Status.CRASHED, f"killed by {_signal_name(-raw.exit)}: {_last_words(raw)}"
    if said.report is None or raw.exit != 0:
        return Status.EXITED, f"exit code {raw.exit} before the test had ended"
    return None


def _outcome(raw: Raw, report: Report | None, test: Test) -> tuple[Status, str]:
    """What the child reported; its answer is compared here, where the reference is."""
    assert report is not None, "_status lets no run without a report through"
    if report.outcome not in ("completed", "returned"):
        return Status(report.outcome), report.message
    fault: str | None = None
    if isinstance(test, StdinTest):
        fault = judge_stdout(test.stdout, raw.stdout.decode("utf-8", "backslashreplace"))
    elif isinstance(test, CallTest):
        fault = judge_value(test.expected, report.value)
    return (Status.PASSED, "") if fault is None else (Status.WRONG, fault)


def _deciding(results: list[Result]) -> tuple[int, Result]:
    """The test that gives a program its status, with its number: a failure of the sandbox
    before any other, for then the rest says nothing; else the first that failed."""
    numbered = list(enumerate(results, 1))
    failed = [item for item in numbered if item[1].status is not Status.PASSED]
    ours = [item for item in failed if item[1].status is Status.HARNESS_ERROR]
    return (ours or failed or numbered)[0]


def _peak_bytes(raw: Raw, said: Said) -> int:
    """The child's own peak. The kernel's figure begins at the caller's size when the child was
    started, so it says something only once the child has grown beyond that."""
    if said.ready is None:
        return 0
    if raw.max_resident_bytes > said.ready.baseline_bytes:
        return raw.max_resident_bytes
    own = said.report.peak_bytes if said.report is not None else said.ready.peak_bytes
    return min(own, raw.max_resident_bytes)


def _last_words(raw: Raw) -> str:
    lines = raw.stderr_tail.decode("utf-8", "backslashreplace").strip().splitlines()
    return lines[-1] if lines else f"no message, exit code {raw.exit}"


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:  # real-time signals have no names
        return f"signal {number}"


def _kind(test: Test) -> Kind:
    if isinstance(test, AssertTest):
        return "asserts"
    return "stdin" if isinstance(test, StdinTest) else "call"
