"""The nouns of the sandbox: what goes in, what comes out, and what can be wrong.

Sizes are in bytes, times in seconds; `cpu_s` and `wall_s` of `Limits` count per test,
those of `Verdict` are the sum over a program's tests.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, fields
from enum import StrEnum
from typing import Literal, get_args

from .jsonlike import plain_json, shown

KIB = 1024
MIB = 1024 * KIB
GIB = 1024 * MIB


class BadProgram(ValueError):
    """A program or a test that cannot be run as given; the text says field, value and remedy."""


class SandboxUnavailable(RuntimeError):
    """The level of isolation asked for is not to be had here; the text says what would help."""


class WeakSandboxWarning(UserWarning):
    """Programs are run at a level below "strong"."""


class Level(StrEnum):
    """How much the sandbox holds back, weakest first; compared by strength, recorded by name.

    "none": nothing. "limits": resource limits, and what else of the seal this machine gives.
    "strong": sealed, the only level for untrusted code.
    """

    NONE = "none"
    LIMITS = "limits"
    STRONG = "strong"

    def _rank(self) -> int:
        return tuple(Level).index(self)

    # str would compare by the alphabet, where "limits" comes before "none".
    def __lt__(self, other: str) -> bool:
        return self._rank() < Level(other)._rank()

    def __le__(self, other: str) -> bool:
        return self._rank() <= Level(other)._rank()

    def __gt__(self, other: str) -> bool:
        return self._rank() > Level(other)._rank()

    def __ge__(self, other: str) -> bool:
        return self._rank() >= Level(other)._rank()


class Status(StrEnum):
    """What became of a program. Only HARNESS_ERROR is not the program's own doing."""

    PASSED = "passed"
    WRONG = "wrong"
    EXCEPTION = "exception"
    TIMEOUT = "timeout"
    CPU = "cpu"
    MEMORY = "memory"
    OUTPUT = "output"
    CRASHED = "crashed"
    EXITED = "exited"
    HARNESS_ERROR = "harness_error"


# Where a test is judged, from the strictest on: apart from the candidate's process; so, but what
# the test replaces in modules is replaced for the candidate; what the candidate changes in its
# arguments changes in the test, too; what it changes in files, too; or in the candidate's process.
Judge = Literal["split", "split-mocks", "split-arguments", "split-files", "shared"]
JUDGES: tuple[Judge, ...] = get_args(Judge)
# By which rules an answer is compared: judge.py's alone, or those of legacy.py besides.
Comparison = Literal["default", "legacy"]
# What has a process that nothing else ever had.
Isolate = Literal["test", "program"]

# Below these an interpreter does not start, or a message says nothing.
_LEAST: dict[str, float] = {
    "cpu_s": 0.05,
    "wall_s": 0.05,
    "memory_bytes": 64 * MIB,
    "stack_bytes": 256 * KIB,
    "output_bytes": 1,
    "file_bytes": 0,
    "message_bytes": 16,
}


@dataclass(frozen=True, slots=True)
class Limits:
    """What one test may use.

    cpu_s: CPU seconds of the program's process. wall_s: seconds from its start; a program that
    still computes then, because the machine is loaded, goes on within cpu_s.
    memory_bytes: address space of a process. stack_bytes: its main thread's stack; a program that
    raises its own, as many do before they recurse, is bounded by memory_bytes.
    output_bytes: standard output and error together; also the size of a returned value.
    What a test gives to a program is bounded by a sixteenth of memory_bytes.
    file_bytes: what may be written in the working directory, in all; nothing can be written
    where there is no mount namespace. message_bytes: length of `Verdict.message`.

    Raises:
        ValueError: a limit is no finite number, no whole number of bytes, or too small.
    """

    cpu_s: float = 5.0
    wall_s: float = 15.0
    memory_bytes: int = 2 * GIB
    stack_bytes: int = 256 * MIB
    output_bytes: int = 1 * MIB
    file_bytes: int = 16 * MIB
    message_bytes: int = 4 * KIB

    def __post_init__(self) -> None:
        faults = [fault for field in fields(self) if (fault := self._fault(field.name))]
        if faults:
            raise ValueError("; ".join(faults))

    def _fault(self, name: str) -> str | None:
        value, least = getattr(self, name), _LEAST[name]
        kinds = (int, float) if name.endswith("_s") else (int,)
        wanted = "seconds" if name.endswith("_s") else "a whole number of bytes"
        fits = isinstance(value, kinds) and not isinstance(value, bool) and math.isfinite(value)
        if fits and value >= least:
            return None
        return f"Limits.{name} is {value!r}; give {wanted}, at least {least}"


@dataclass(frozen=True, slots=True)
class AssertTest:
    """Code that uses what the program defines, and must end without raising.

    The program's `__name__` is not "__main__", so that its main block does not run.
    With `entry_point`, the program must define that name.

    judge: "split", the code runs in a judge's process, where the program's functions are
    stand-ins: arguments go to the program and plain data comes back (None, bool, int, float,
    complex, str, bytes, list, tuple, set, frozenset, dict, range, nested; what is returned
    otherwise is wrong, and the program changes no argument of the test's). Names that the code
    does not define itself are the program's, if it has them; a built-in's name only as entry
    point. "split-mocks": so, but functions of modules that the test replaces by mocks are
    replaced for the program. "split-arguments": so, and what the program changes in its arguments
    (lists, dictionaries, sets, bytearrays) changes in the test. "split-files": so, and what either
    makes of files in its own working directory is made in the other's. "shared": the code runs in
    the program's own namespace, where a program that means to can forge a pass; for tests that
    pass functions or objects to and fro (see `settle`).

    Raises:
        BadProgram: a field has the wrong type, or there is no such judge.
    """

    code: str
    entry_point: str | None = None
    judge: Judge = "split"

    def __post_init__(self) -> None:
        _require_text("code", self.code)
        if self.entry_point is not None:
            _require_text("entry_point", self.entry_point)
        if self.judge not in JUDGES:
            raise BadProgram(f"judge is {self.judge!r:.80}; give one of {', '.join(JUDGES)}")


@dataclass(frozen=True, slots=True)
class StdinTest:
    """The program runs as a script on `stdin` and must print `stdout` (see judge.py).

    Ending by `sys.exit()` or `sys.exit(0)` is a script's ordinary end. Judged by the caller.
    comparison: "legacy" also accepts what APPS' published scorer accepts (see legacy.py), any
    exit code of `sys.exit` included; `Verdict.lenient` tells where that made the difference.

    Raises:
        BadProgram: a field has the wrong type, or there is no such comparison.
    """

    stdin: str
    stdout: str
    comparison: Comparison = "default"

    def __post_init__(self) -> None:
        _require_text("stdin", self.stdin)
        _require_text("stdout", self.stdout)
        _require_comparison(self.comparison)


@dataclass(frozen=True, slots=True)
class CallTest:
    """`function(*args)` must return `expected`; all of it is data as JSON has it.

    `function` may be "Class.method": the class is instantiated without arguments. A tuple in
    `args` reaches the program as a list. Judged by the caller: `expected` never enters the child.
    comparison: "legacy" also accepts the first element of a list in `expected` (see legacy.py).

    Raises:
        BadProgram: a field has the wrong type or cannot be said in JSON, or there is no such
            comparison.
    """

    function: str
    args: Sequence[object]
    expected: object
    comparison: Comparison = "default"

    def __post_init__(self) -> None:
        _require_text("function", self.function)
        if not all(part.isidentifier() for part in self.function.split(".", 1)):
            raise BadProgram(
                f"function is {self.function!r}; give a function's name or Class.method"
            )
        if not isinstance(self.args, list | tuple):
            raise BadProgram(f"args is {type(self.args).__name__}; give a list")
        _require_plain("args", list(self.args))
        _require_plain("expected", self.expected)
        _require_comparison(self.comparison)


Test = AssertTest | StdinTest | CallTest


@dataclass(frozen=True, slots=True)
class Program:
    """A program in source form and the tests it has to pass.

    isolate: "test", each test has a process of its own. "program", for many short tests: stdin and
    call tests may pass in a process that they share with others of this program; one that does not
    pass there is run again in a process of its own, which alone counts (see batch.py).

    Raises:
        BadProgram: a field has the wrong type, or there are no tests.
    """

    id: str
    source: str
    tests: tuple[Test, ...]
    isolate: Isolate = "test"

    def __post_init__(self) -> None:
        _require_text("id", self.id)
        _require_text("source", self.source)
        object.__setattr__(self, "tests", tuple(self.tests))
        if not self.tests:
            raise BadProgram("tests is empty; give at least one test")
        for number, test in enumerate(self.tests, 1):
            if not isinstance(test, Test):
                raise BadProgram(
                    f"tests[{number - 1}] is {type(test).__name__}; "
                    "give an AssertTest, StdinTest or CallTest"
                )
        if self.isolate not in ("test", "program"):
            raise BadProgram(f"isolate is {self.isolate!r:.80}; give 'test' or 'program'")

    @property
    def judge(self) -> Judge:
        """The least strict of its tests' judges."""
        judges = [test.judge for test in self.tests if isinstance(test, AssertTest)]
        return max(judges, key=JUDGES.index, default="split")


@dataclass(frozen=True, slots=True)
class Verdict:
    """What became of one program.

    status: PASSED if every test passed, HARNESS_ERROR if any could not be run, otherwise
    that of the first test that failed; `message` is that test's, for people, never parsed.
    cpu_s, wall_s: sums over the tests. peak_bytes: the most resident memory of a test; it may
    be told too low for a test that had to be killed. lenient: the tests, counted from 1, that
    only passed by a rule of the comparison "legacy", each with the rule's name (see legacy.py);
    `passed` counts them.
    """

    id: str
    status: Status
    passed: int
    total: int
    message: str
    cpu_s: float
    wall_s: float
    peak_bytes: int
    judge: Judge
    lenient: tuple[tuple[int, str], ...] = ()


def _require_text(name: str, value: object) -> None:
    if not isinstance(value, str):
        raise BadProgram(f"{name} is {value!r:.80}; give a string")


def _require_comparison(value: object) -> None:
    if value not in ("default", "legacy"):
        raise BadProgram(f"comparison is {value!r:.80}; give 'default' or 'legacy'")


def _require_plain(name: str, value: object) -> None:
    try:
        plain_json(value)
    except (TypeError, ValueError, RecursionError) as error:
        raise BadProgram(
            f"{name} is {shown(value):.80}; give data that JSON can say ({error})"
        ) from error
