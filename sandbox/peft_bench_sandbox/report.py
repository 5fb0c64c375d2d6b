"""What a candidate reports at its end, read as the hostile text it may be."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass

from .jsonlike import number_of

MAX_DEPTH = 100
OUTCOMES = {
    "stdin": ("completed", "exited", "memory", "exception"),
    "call": ("returned", "wrong", "output", "exited", "memory", "exception"),
    "shared": ("completed", "wrong", "exited", "memory", "exception"),
}
# Written so that no text makes it go back over itself: a string that does not end goes to the end.
_STRING = re.compile(r'"(?:[^"\\]|\\.)*+\\?"?', re.DOTALL)
_BRACKET = re.compile(r"[\[\]{}]")


@dataclass(frozen=True, slots=True)
class Report:
    """outcome: one of `OUTCOMES`. value: what was returned, as JSON has it."""

    outcome: str
    message: str
    value: object


def read_report(data: bytes, kind: str) -> Report | str:
    """The report of a run of this kind, or what is wrong with it."""
    if not data:
        return "ended before the test had"
    try:
        text = data.decode("ascii")
        if _too_deep(text):
            return Report("wrong", f"returned a value nested over {MAX_DEPTH} deep", None)
        told = json.loads(text, parse_int=number_of)
    except (ValueError, RecursionError) as error:
        return f"left no report but other data ({error})"
    if not isinstance(told, dict):
        return "left no report but other data"
    outcome, message = told.get("outcome"), told.get("message")
    if outcome not in OUTCOMES[kind] or not isinstance(message, str):
        return "left no report but other data"
    return Report(outcome, message, told.get("value"))


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
