"""What the child says about itself, read as the hostile text it may be.

The child's own code sends two lines (see runner.py). A candidate can write to the same
descriptor: any byte that is not of those two lines makes the whole of it worthless.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from typing import Literal, cast

MAX_DEPTH = 200

Kind = Literal["asserts", "stdin", "call"]
Outcome = Literal["completed", "returned", "wrong", "exception", "memory", "exited", "output"]

_ANYWAY = frozenset({"exception", "memory", "exited"})
_OUTCOMES: dict[Kind, frozenset[str]] = {
    "asserts": _ANYWAY | {"completed", "wrong"},
    "stdin": _ANYWAY | {"completed"},
    "call": _ANYWAY | {"returned", "wrong", "output"},
}
# What stands for a report that nests too deep to be read: a wrong answer, whoever sent it.
_TOO_DEEP: dict[str, object] = {
    "outcome": "wrong",
    "message": f"returned a value nested more than {MAX_DEPTH} deep",
    "peak_bytes": 0,
}
_STRING = re.compile(r'"(?:[^"\\]|\\.)*"')
_BRACKET = re.compile(r"[\[\]{}]")


@dataclass(frozen=True, slots=True)
class Ready:
    """Sent before the candidate began, so true. baseline_bytes: what wait4 already counts."""

    peak_bytes: int
    baseline_bytes: int


@dataclass(frozen=True, slots=True)
class Report:
    """How the test ended according to the child; `value` is what a call returned."""

    outcome: Outcome
    message: str
    value: object
    peak_bytes: int


@dataclass(frozen=True, slots=True)
class Said:
    """Both lines, None for one that did not come whole and alone; `fault` says what else came."""

    ready: Ready | None
    report: Report | None = None
    fault: str = ""


class _Fault(Exception):
    """A line is not as the runner writes it."""


def read_channel(data: bytes, token: str, kind: Kind) -> Said:
    """Read what came through the channel. Never raises, whatever came."""
    lines = data.split(b"\n")
    rest = lines.pop()
    ready: Ready | None = None
    report: Report | None = None
    try:
        if lines:
            ready = _ready(_parse(lines[0], token, "ready"))
        if rest or len(lines) > 2:
            raise _Fault("the program wrote to the sandbox's result channel")
        if len(lines) == 2:
            report = _report(_parse(lines[1], token, "end"), kind)
    except _Fault as fault:
        return Said(ready, None, str(fault))
    return Said(ready, report)


def _parse(line: bytes, token: str, event: str) -> dict[str, object]:
    try:
        text = line.decode("ascii")
        if _too_deep(text):
            return {"token": token, "event": event, **_TOO_DEEP}
        message = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise _Fault(f"the result channel holds no JSON: {error}") from error
    if not isinstance(message, dict) or message.get("token") != token:
        raise _Fault("a line on the result channel lacks the run's token")
    if message.get("event") != event:
        raise _Fault(f"the result channel has no {event!r} where it belongs")
    return message


def _too_deep(text: str) -> bool:
    """Whether parsing would nest too far; a caller's raised recursion limit must not matter."""
    if text.count("[") + text.count("{") <= MAX_DEPTH:
        return False
    depth = 0
    for bracket in _BRACKET.findall(_STRING.sub("", text)):
        depth += 1 if bracket in "[{" else -1
        if depth > MAX_DEPTH:
            return True
    return False


def _ready(message: dict[str, object]) -> Ready:
    return Ready(_whole(message, "peak_bytes"), _whole(message, "baseline"))


def _report(message: dict[str, object], kind: Kind) -> Report:
    outcome, text = message.get("outcome"), message.get("message")
    if not isinstance(outcome, str) or outcome not in _OUTCOMES[kind] or not isinstance(text, str):
        raise _Fault("the report on the result channel is none for this kind of test")
    return Report(cast(Outcome, outcome), text, message.get("value"), _whole(message, "peak_bytes"))


def _whole(message: dict[str, object], name: str) -> int:
    value = message.get(name)
    if not isinstance(value, int) or isinstance(value, bool) or value < 0:
        raise _Fault(f"{name} on the result channel is no size")
    return value
