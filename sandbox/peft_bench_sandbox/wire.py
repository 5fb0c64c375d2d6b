"""The JSONL forms of programs and verdicts: one object a line, in and out."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict
from typing import cast

from .types import (
    JUDGES,
    AssertTest,
    BadProgram,
    CallTest,
    Isolate,
    Program,
    Status,
    StdinTest,
    Test,
    Verdict,
)

_Build = Callable[..., Test]

# kind -> (class, fields that must be there, fields that may be)
_KINDS: dict[str, tuple[_Build, tuple[str, ...], tuple[str, ...]]] = {
    "asserts": (AssertTest, ("code",), ("entry_point", "judge")),
    "stdin": (StdinTest, ("stdin", "stdout"), ("comparison",)),
    "call": (CallTest, ("function", "args", "expected"), ("comparison",)),
}
# What goes without saying.
_UNSAID = {"judge": "split", "comparison": "default"}
_KIND_OF = {AssertTest: "asserts", StdinTest: "stdin", CallTest: "call"}


def program_from_json(line: Mapping[str, object]) -> Program:
    """Make a Program of one parsed line, `{"id", "source", "tests": [{"kind", ...}], "isolate"}`.

    Raises:
        BadProgram: a key is missing or unknown, or a value is of the wrong kind; the text
            names the field, the value and the remedy.
    """
    _check_keys("the line", line, ("id", "source", "tests"), ("isolate",))
    tests = line["tests"]
    if not isinstance(tests, list):
        raise BadProgram(f"tests is {tests!r:.80}; give a list of tests")
    made = tuple(_test_from_json(f"tests[{place}]", test) for place, test in enumerate(tests))
    isolate = cast(Isolate, line.get("isolate", "test"))
    return Program(cast(str, line["id"]), cast(str, line["source"]), made, isolate)


def program_to_json(program: Program) -> dict[str, object]:
    """Give the line that `program_from_json` reads back."""
    tests = [{"kind": _KIND_OF[type(test)], **asdict(test)} for test in program.tests]
    for test in tests:
        for name, value in _UNSAID.items():
            if test.get(name) == value:
                del test[name]
    line: dict[str, object] = {"id": program.id, "source": program.source, "tests": tests}
    return line if program.isolate == "test" else {**line, "isolate": program.isolate}


def verdict_to_json(verdict: Verdict) -> dict[str, object]:
    """Give a verdict's line: its fields by their names, times to the microsecond.

    "lenient" is left out where it is empty.
    """
    line = asdict(verdict)
    if not line["lenient"]:
        del line["lenient"]
    return {
        **line,
        "status": verdict.status.value,
        "cpu_s": round(verdict.cpu_s, 6),
        "wall_s": round(verdict.wall_s, 6),
    }


_VERDICT_TYPES: dict[str, tuple[type, ...]] = {
    "id": (str,),
    "status": (str,),
    "passed": (int,),
    "total": (int,),
    "message": (str,),
    "cpu_s": (int, float),
    "wall_s": (int, float),
    "peak_bytes": (int,),
    "judge": (str,),
}


def verdict_from_json(line: Mapping[str, object]) -> Verdict:
    """Read a verdict's line back. What it was asked (see `exec_jsonl`) is left aside.

    Raises:
        ValueError: a key is missing or unknown, or a value is of the wrong kind.
    """
    _check_keys("the verdict", line, tuple(_VERDICT_TYPES), ("lenient", "asked"))
    for name, kinds in _VERDICT_TYPES.items():
        if not isinstance(line[name], kinds):
            raise ValueError(f"{name} is {line[name]!r:.80}; give {kinds[0].__name__}")
    judge = line["judge"]
    if judge not in JUDGES:
        raise ValueError(f"judge is {judge!r:.80}; give one of {', '.join(JUDGES)}")
    return Verdict(
        id=cast(str, line["id"]),
        status=Status(cast(str, line["status"])),
        passed=cast(int, line["passed"]),
        total=cast(int, line["total"]),
        message=cast(str, line["message"]),
        cpu_s=float(cast(float, line["cpu_s"])),
        wall_s=float(cast(float, line["wall_s"])),
        peak_bytes=cast(int, line["peak_bytes"]),
        judge=judge,
        lenient=_lenient(line.get("lenient", [])),
    )


def _lenient(told: object) -> tuple[tuple[int, str], ...]:
    pairs = list(told) if isinstance(told, list | tuple) else [None]
    made = []
    for pair in pairs:
        match pair:
            case [int(place), str(rule)]:
                made.append((place, rule))
            case _:
                raise ValueError(
                    f"lenient is {told!r:.80}; give pairs of a test's number and a rule"
                )
    return tuple(made)


def _test_from_json(place: str, test: object) -> Test:
    if not isinstance(test, Mapping):
        raise BadProgram(f"{place} is {test!r:.80}; give an object with a kind")
    kind = test.get("kind")
    if not isinstance(kind, str) or kind not in _KINDS:
        raise BadProgram(f"{place}.kind is {kind!r:.80}; give one of {', '.join(_KINDS)}")
    build, needed, optional = _KINDS[kind]
    _check_keys(place, test, ("kind", *needed), optional)
    try:
        return build(**{name: value for name, value in test.items() if name != "kind"})
    except BadProgram as fault:
        raise BadProgram(f"{place}.{fault}") from fault


def _check_keys(
    place: str, line: object, needed: tuple[str, ...], optional: tuple[str, ...]
) -> None:
    if not isinstance(line, Mapping):
        raise BadProgram(f"{place} is {line!r:.80}; give an object with {', '.join(needed)}")
    missing = [name for name in needed if name not in line]
    unknown = [str(name) for name in line if name not in (*needed, *optional)]
    faults = []
    if missing:
        faults.append(f"{place} lacks {', '.join(missing)}; add it")
    if unknown:
        faults.append(
            f"{place} has unknown {', '.join(unknown):.80}; "
            f"keep to {', '.join((*needed, *optional))}"
        )
    if faults:
        raise BadProgram("; ".join(faults))
