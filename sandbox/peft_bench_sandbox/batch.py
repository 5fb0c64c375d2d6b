"""Tests of one program that may share its process, and what is believed of such a run.

Starting and sealing a process costs some two milliseconds, and an APPS problem has dozens of tests
that need a tenth of one. With `Program.isolate` "program" they are tried in one process, in order
(inside/batch.py). What is believed of it:

- the first test has had the process for itself: its result stands, whatever it is;
- of the others a pass stands: the output was right, and the reference was never there to be seen;
- a failure stands where the program's text names nothing by which one test could leave something
  to the next (`leaves_nothing`), but for one of memory, and of a program that does not compile;
- every other test, and what was not reached, is run in a process of its own, and that counts.

All tests together have the limits of one. The times and the memory of the process are put down to
the first test.
"""

from __future__ import annotations

import dataclasses
import marshal
import re
import sys
from collections.abc import Iterator, Sequence
from itertools import pairwise

from .jsonlike import plain_json
from .score import Ended, Result, kind_of, score_test
from .types import CallTest, Limits, Program, Status, StdinTest, Test

# Kinds of run with one test -> with several.
BATCHES = {"stdin": "scripts", "call": "calls"}
_MOST_TESTS = 64
_MOST_BYTES = 256 << 10  # of inputs
_DIGITS = 12
_STATELESS = (
    "abc", "array", "bisect", "cmath", "collections", "contextlib", "copy", "dataclasses",
    "datetime", "enum", "fractions", "functools", "heapq", "io", "itertools", "math", "numbers",
    "operator", "random", "re", "statistics", "string", "sys", "textwrap", "time", "typing",
)  # fmt: skip
_TELLING = (
    sys.stdlib_module_names.difference(_STATELESS)
    | {"numpy", "pandas", "open", "modules", "path", "settrace", "setprofile", "globals"}
    | {"setattr", "delattr", "exec", "eval", "compile", "breakpoint"}
)
_WORD = re.compile(r"[A-Za-z_]\w*")
# `__name__` and `__init__`-like methods are every program's; `__builtins__` and the like are not.
_PRIVATE = re.compile(r"__(?:builtins|dict|class|globals|subclasses|import|loader|spec)__")
# What is assigned to, names and dots; each part of a text is gone over once, however hostile it is.
_ASSIGNED = re.compile(r"(?<![\w.])([\w.]++)\s*+=(?!=)")


def grouped(program: Program) -> Iterator[tuple[int, ...]]:
    """The places of the tests that go into one process each, in order."""
    group: list[int] = []
    size, kind = 0, ""
    for place, test in enumerate(program.tests):
        also, its_kind = _input_size(test), kind_of(test)
        fits = its_kind == kind and len(group) < _MOST_TESTS and size + also <= _MOST_BYTES
        if group and not (fits and kind in BATCHES and program.isolate == "program"):
            yield tuple(group)
            group, size = [], 0
        group.append(place)
        size, kind = size + also, its_kind
    yield tuple(group)


def leaves_nothing(source: str) -> bool:
    """Whether a program's text names no way to change what its next run would find.

    By words alone: no module of the standard library but those that hold no state (or whose state
    inside/batch.py puts back), nothing assigned in these, no file, no underscore name. An honest
    program that passes here and leaves something all the same would have to work for it; one that
    means to can only make its own tests fail.
    """
    words = set(_WORD.findall(source))
    if words & _TELLING or _PRIVATE.search(source):
        return False
    return not any(map(_in_module, _ASSIGNED.findall(source)))


def _in_module(target: str) -> bool:
    """Whether `a.b.c` is something in a module; sys.stdout and its like are put back."""
    parts = target.rpartition("..")[2].split(".")
    return parts[-1] != "" and any(
        owner in _STATELESS and not (owner == "sys" and inner.startswith("std"))
        for owner, inner in pairwise(parts)
    )


def score_batch(
    tests: Sequence[Test], ended: Ended, limits: Limits, *, clean: bool
) -> list[Result | None]:
    """The results of a run with several tests; None for what a process of its own has to say."""
    lines = ended.report.split(b"\n", len(tests))[:-1]
    if not lines:  # it is the first test's end
        return [score_test(tests[0], ended, None, limits), *[None] * (len(tests) - 1)]
    results: list[Result | None] = [None] * len(tests)
    if ended.output_bytes > limits.output_bytes:
        return results
    if lines[0].startswith(b"- "):  # did not compile
        lines = [b"0" + line[1:] for line in lines[:1] for _ in tests]
        clean = True
    begin = 0
    for place, (test, line) in enumerate(zip(tests, lines, strict=False)):
        told, _, report = line.partition(b" ")
        end = int(told) if told.isdigit() and len(told) <= _DIGITS else -1
        if not begin <= end <= max(len(ended.out), begin):
            break
        out = ended.out[begin:end]
        alone = Ended(0, "itself", 0.0, 0.0, 0, len(out), "", out, ended.err, report)
        result = score_test(test, alone, None, limits)
        if place == 0:
            used = {name: getattr(ended, name) for name in ("cpu_s", "wall_s", "peak_bytes")}
            results[0] = dataclasses.replace(result, **used)
        elif result.status is Status.PASSED or (clean and not _of_memory(result)):
            results[place] = result
        begin = end
    return results


def _of_memory(result: Result) -> bool:
    """Whether there was too little memory: what earlier tests have left counts against it."""
    return result.status is Status.MEMORY or "MemoryError" in result.message


def _input_size(test: Test) -> int:
    if isinstance(test, StdinTest):
        return len(test.stdin)
    return len(marshal.dumps(plain_json(test.args))) if isinstance(test, CallTest) else 0
