"""From what the kernel, the judge and the candidate said to a verdict: the table of statuses."""

from __future__ import annotations

import os
import signal
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from .judge import judge_stdout, judge_value
from .legacy import EXIT_IGNORED, accept_stdout, accept_value
from .report import Report, read_report
from .types import AssertTest, CallTest, Limits, Program, Status, StdinTest, Test, Verdict

_TAIL = 2000


@dataclass(frozen=True, slots=True)
class Ended:
    """How a candidate's process ended, as its zygote saw it.

    exit: as subprocess has it, negative for a signal. cause: "itself", or killed for "wall",
    "cpu" or "judged" (the judge had its answer). output_bytes: what was printed in all. failure:
    the sandbox's own, before the candidate ran. out: standard output, of scripts. err: the last of
    standard error. report: what the candidate left (see report.py).
    """

    exit: int
    cause: str
    cpu_s: float
    wall_s: float
    peak_bytes: int
    output_bytes: int
    failure: str
    out: bytes = b""
    err: bytes = b""
    report: bytes = b""


@dataclass(frozen=True, slots=True)
class Judged:
    """What a judge's process said: a status by its name, or "gone" if the candidate was."""

    outcome: str
    message: str


@dataclass(frozen=True, slots=True)
class Result:
    """What became of one test. rule: that of legacy.py by which alone it passed, or ""."""

    status: Status
    message: str
    cpu_s: float = 0.0
    wall_s: float = 0.0
    peak_bytes: int = 0
    rule: str = ""


def kind_of(test: Test) -> str:
    """How a candidate's process runs this test (see inside/candidate.py)."""
    if isinstance(test, AssertTest):
        return "shared" if test.judge == "shared" else "serve"
    return "stdin" if isinstance(test, StdinTest) else "call"


def read_left(sizes: Mapping[str, int], fds: Sequence[int], limits: Limits) -> dict[str, bytes]:
    """What a candidate left in files, as far as it counts; closes them.

    sizes: of "out", "err" and "report", as far as the candidate has written, which is its own to
    say; the files of those that are not empty come in the same order.
    """
    most = {
        "out": limits.output_bytes,
        "err": _TAIL,
        # A character of a message takes up to 6 in a report.
        "report": limits.output_bytes + 6 * limits.message_bytes + 4096,
    }
    left = {}
    for name, fd in zip((name for name, size in sizes.items() if size), fds, strict=True):
        size = min(sizes[name], os.fstat(fd).st_size)
        begin = max(0, size - most[name]) if name == "err" else 0
        left[name] = os.pread(fd, min(size, most[name]), begin)
        os.close(fd)
    return left


def score_test(test: Test, ended: Ended, judged: Judged | None, limits: Limits) -> Result:
    """The result of one run of one test."""
    status, message = (
        _over_limits(ended, limits)
        or (judged is not None and _of_judge(ended, judged))
        or _of_candidate(test, ended)
    )
    # Nothing but a rule of legacy.py says anything of a test that passed.
    rule = message if status is Status.PASSED else ""
    message = "" if rule else message
    return Result(status, message, ended.cpu_s, ended.wall_s, ended.peak_bytes, rule)


def _over_limits(ended: Ended, limits: Limits) -> tuple[Status, str] | None:
    """What the zygote saw, in order of weight."""
    if ended.failure:
        return Status.HARNESS_ERROR, ended.failure
    if ended.output_bytes > limits.output_bytes:
        return Status.OUTPUT, f"printed more than {limits.output_bytes} bytes"
    used_up = ended.exit == -signal.SIGXCPU or ended.cause == "cpu"
    if used_up or ended.cpu_s >= limits.cpu_s:
        return Status.CPU, f"used {ended.cpu_s:.2f} s of CPU time, may use {limits.cpu_s:g} s"
    if ended.cause == "wall":
        return Status.TIMEOUT, f"did not end within {limits.wall_s:g} s"
    return None


def _of_judge(ended: Ended, judged: Judged) -> tuple[Status, str] | None:
    """What the judge saw; None if it lost sight of the candidate."""
    if judged.outcome != "gone":
        return Status(judged.outcome), judged.message
    return None if ended.exit < 0 and ended.cause == "itself" else (Status.EXITED, judged.message)


def _of_candidate(test: Test, ended: Ended) -> tuple[Status, str]:
    """What the candidate reported; its answer is compared here, where the reference is."""
    if ended.exit < 0:
        return Status.CRASHED, f"killed by {_signal_name(-ended.exit)}: {_last_words(ended)}"
    kind = kind_of(test)
    if kind == "serve":
        return Status.EXITED, "ended before the test had"
    report = read_report(ended.report, kind)
    if isinstance(report, str):
        return Status.EXITED, f"exit code {ended.exit}: {report}"
    if ended.exit != 0:
        return Status.EXITED, f"exit code {ended.exit} before the test had ended"
    if isinstance(test, StdinTest):
        return _of_script(test, report, ended.out.decode("utf-8", "backslashreplace"))
    if report.outcome not in ("completed", "returned"):
        return Status(report.outcome), report.message
    if isinstance(test, CallTest):
        return _of_call(test, report)
    return Status.PASSED, ""


def _of_script(test: StdinTest, report: Report, out: str) -> tuple[Status, str]:
    """A script's end and its output; the message of a pass is the legacy rule it needs, if any."""
    legacy, completed = test.comparison == "legacy", report.outcome == "completed"
    if not completed and not (legacy and report.outcome == "exited"):
        return Status(report.outcome), report.message
    fault = judge_stdout(test.stdout, out)
    rules = [] if completed else [EXIT_IGNORED]
    if fault is not None:
        rule = accept_stdout(test.stdout, out) if legacy else None
        if rule is None:
            return (Status.WRONG, fault) if completed else (Status.EXITED, report.message)
        rules.append(rule)
    return Status.PASSED, ", ".join(rules)


def _of_call(test: CallTest, report: Report) -> tuple[Status, str]:
    """A returned value; the message of a pass is the legacy rule it needs, if any."""
    fault = judge_value(test.expected, report.value)
    if fault is None:
        return Status.PASSED, ""
    rule = accept_value(test.expected, report.value) if test.comparison == "legacy" else None
    return (Status.WRONG, fault) if rule is None else (Status.PASSED, rule)


def score_program(program: Program, results: Sequence[Result], limits: Limits) -> Verdict:
    """The verdict on a program, from the results of its tests in their order."""
    total = len(results)
    place, worst = _deciding(results)
    message = worst.message
    lenient = tuple((number, one.rule) for number, one in enumerate(results, 1) if one.rule)
    if worst.status is not Status.PASSED:
        message = f"test {place} of {total}: {message}" if total > 1 else message
    elif lenient:
        rules = ", ".join(sorted({rule for _, rule in lenient}))
        message = f"{len(lenient)} of {total} tests accepted by: {rules}"
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
        lenient=lenient,
    )


def _deciding(results: Sequence[Result]) -> tuple[int, Result]:
    """The test that gives a program its status, with its number: a failure of the sandbox
    before any other, for then the rest says nothing; else the first that failed."""
    numbered = list(enumerate(results, 1))
    failed = [item for item in numbered if item[1].status is not Status.PASSED]
    ours = [item for item in failed if item[1].status is Status.HARNESS_ERROR]
    return (ours or failed or numbered)[0]


def cut(message: str, most_bytes: int) -> str:
    """A message of at most so many bytes of UTF-8, cut between characters."""
    data = message.encode("utf-8", "replace")
    return data[:most_bytes].decode("utf-8", "ignore")


def _last_words(ended: Ended) -> str:
    lines = ended.err.decode("utf-8", "backslashreplace").strip().splitlines()
    return lines[-1] if lines else "no message"


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:  # real-time signals have no names
        return f"signal {number}"
