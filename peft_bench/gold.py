"""The gold self-check: do the reference solutions pass on this machine, and judged where?

Before a task that executes answers is scored, the references of the problems at hand run once,
in the sandbox that the answers will run in. A problem whose references fail here (a package is
missing, Python is newer, several outputs are right) says nothing about a model: it is told, kept
apart and counted. The same run settles whether a test can be judged apart from the candidate's
process (see ``peft_bench_sandbox.settle``), before any candidate is seen.

What was found is kept under :func:`peft_bench.paths.cache_dir`, by the content of problem and
tests, and by everything of this machine that may change it.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import platform
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from importlib import metadata
from pathlib import Path
from typing import Any, Literal

from peft_bench_sandbox import AssertTest, Program, Settled, Status, settle
from peft_bench_sandbox.types import Judge

from peft_bench import paths
from peft_bench.errors import PeftBenchError

Outcome = Literal["passed", "failed", "none", "unchecked"]

_SHOWN = 10
_MESSAGE_LENGTH = 300
_KEPT_EVERY = 500


@dataclass(frozen=True, slots=True)
class Gold:
    """How a problem's references fared here.

    Attributes:
        outcome: ``passed`` if one of them did, ``failed`` if none; ``none`` where the problem has
            no reference, ``unchecked`` where none was run.
        judge: where the problem's assert tests are judged.
        message: what the first reference failed by; for a judge but ``split``, why.
    """

    outcome: Outcome
    judge: Judge = "split"
    message: str = ""


@dataclass(frozen=True, slots=True)
class Sandbox:
    """Where programs run: a level of isolation and a profile of packages."""

    level: str
    profile: str = "stdlib"


def check(
    references: Mapping[str, Sequence[Program]], sandbox: Sandbox, *, workers: int | None = None
) -> dict[str, Gold]:
    """How the references fare, problem by problem; runs those that are not known yet.

    What is found is kept some hundred problems at a time: a check that is stopped goes on there.

    Args:
        references: a problem's id -> its reference programs; the first that passes stands for it.
        sandbox: where they run.
        workers: as in ``peft_bench_sandbox.run_all``.

    Raises:
        PeftBenchError: the sandbox failed on a reference.
    """
    setting = describe_setting(sandbox)
    file = _cache_file(setting)
    known = _read(file)
    keys = {name: _key(programs) for name, programs in references.items()}
    unknown = {name: references[name] for name, key in keys.items() if key not in known}
    names = list(unknown)
    for begin in range(0, len(names), _KEPT_EVERY):
        part = {name: tuple(unknown[name]) for name in names[begin : begin + _KEPT_EVERY]}
        found = _run({name: them for name, them in part.items() if them}, sandbox, workers)
        found |= {name: Gold("none") for name, them in part.items() if not them}
        # Another process may have written meanwhile; what it found is the same or more.
        known = {**_read(file), **known, **{keys[name]: gold for name, gold in found.items()}}
        _write(file, setting, known)
        _tell(begin + len(part), len(names))
    return {name: known[key] for name, key in keys.items()}


def _tell(done: int, of: int) -> None:
    if of > _KEPT_EVERY and sys.stderr.isatty():
        end = "\n" if done == of else ""
        print(
            f"\rreferences: {done} of {of} problems checked", end=end, file=sys.stderr, flush=True
        )


def describe_setting(sandbox: Sandbox) -> dict[str, str]:
    """What the outcome of a reference may depend on besides itself."""
    described = {
        "level": sandbox.level,
        "profile": sandbox.profile,
        "sandbox": _sandbox_sha256(),
        "python": platform.python_version(),
        "machine": platform.machine(),
    }
    if sandbox.profile != "stdlib":
        for package in ("numpy", "pandas"):
            described[package] = _version(package)
    return described


def report(task: str, checked: Mapping[str, Gold]) -> None:
    """Tells on stderr which references fail here, and how many problems have none."""
    failed = {name: gold for name, gold in checked.items() if gold.outcome == "failed"}
    if failed:
        print(
            f"{task}: {len(failed)} of {len(checked)} reference solutions fail on this machine; "
            "these problems are kept apart from the scores:",
            file=sys.stderr,
        )
        for name, gold in list(failed.items())[:_SHOWN]:
            print(f"  {name}: {' '.join(gold.message.split())[:100]}", file=sys.stderr)
        if len(failed) > _SHOWN:
            rest = list(failed)[_SHOWN:]
            print(f"  and {', '.join(rest)}", file=sys.stderr)
    without = sum(gold.outcome == "none" for gold in checked.values())
    if without:
        print(
            f"{task}: {without} of {len(checked)} problems have no reference solution; "
            "they are scored unchecked",
            file=sys.stderr,
        )


def _run(
    references: dict[str, tuple[Program, ...]], sandbox: Sandbox, workers: int | None
) -> dict[str, Gold]:
    """Each problem's references in turn, until one passes."""
    found: dict[str, Gold] = {}
    turn, left = 0, list(references)
    while left:
        programs = [references[name][turn] for name in left]
        settled = settle(programs, workers=workers, profile=sandbox.profile, require=sandbox.level)
        for name, one in zip(left, settled, strict=True):
            gold = _gold(one)
            if turn == 0 or gold.outcome == "passed":
                found[name] = gold
        turn += 1
        left = [
            name
            for name in left
            if found[name].outcome == "failed" and turn < len(references[name])
        ]
    return found


def _gold(settled: Settled) -> Gold:
    verdict = settled.verdict
    if verdict.status is Status.HARNESS_ERROR:
        raise PeftBenchError(
            place=f"reference of {verdict.id}",
            problem=f"the sandbox failed: {verdict.message}",
            remedy="run it again; if it fails again, see `peft-bench doctor`",
        )
    if verdict.status is not Status.PASSED:
        return Gold("failed", "split", f"{verdict.status}: {verdict.message}"[:_MESSAGE_LENGTH])
    return Gold("passed", verdict.judge, settled.reason[:_MESSAGE_LENGTH])


def program_key(program: Program, judge: Judge, setting: Mapping[str, str]) -> str:
    """Tells a program with its tests, judged so and run in such a setting, from every other."""
    told = json.dumps([_key([program]), program.id, judge, dict(setting)], sort_keys=True)
    return hashlib.sha256(told.encode("ascii")).hexdigest()


def _key(programs: Sequence[Program]) -> str:
    digest = hashlib.sha256()
    for program in programs:
        digest.update(program.source.encode("utf-8", "surrogatepass") + b"\0")
    for program in programs[:1]:
        for test in program.tests:
            # The judge is what is to be found out.
            fields = asdict(test) | ({"judge": ""} if isinstance(test, AssertTest) else {})
            digest.update(_plain(fields).encode("utf-8", "surrogatepass") + b"\0")
    return digest.hexdigest()


def _plain(value: Any) -> str:
    """A text that tells values apart; hexadecimal, since long integers have no decimal form."""
    match value:
        case int() if not isinstance(value, bool):
            return hex(value)
        case list() | tuple():
            return "[" + ",".join(map(_plain, value)) + "]"
        case dict():
            return "{" + ",".join(f"{_plain(k)}:{_plain(v)}" for k, v in value.items()) + "}"
    return repr(value)


def _sandbox_sha256() -> str:
    """The sandbox has no version of its own but its source."""
    import peft_bench_sandbox

    digest = hashlib.sha256()
    assert peft_bench_sandbox.__file__ is not None
    folder = Path(peft_bench_sandbox.__file__).parent
    for file in sorted(folder.rglob("*.py")):
        digest.update(file.read_bytes())
    return digest.hexdigest()


def _version(package: str) -> str:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return "none"


def _cache_file(setting: Mapping[str, str]) -> Path:
    name = hashlib.sha256(json.dumps(setting, sort_keys=True).encode()).hexdigest()[:16]
    return paths.cache_dir() / "gold" / f"{name}.json"


def _read(file: Path) -> dict[str, Gold]:
    """What is known; nothing where the file is missing or broken: it is then found anew."""
    try:
        kept = json.loads(file.read_text(encoding="utf-8"))["problems"]
        return {key: Gold(**value) for key, value in kept.items()}
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return {}


def _write(file: Path, setting: Mapping[str, str], known: Mapping[str, Gold]) -> None:
    """Under another name first, so that no reader ever sees half a file."""
    problems = {key: asdict(gold) for key, gold in sorted(known.items())}
    content = json.dumps({"setting": dict(setting), "problems": problems}, indent=1) + "\n"
    partial = file.with_name(f"{file.name}.{os.getpid()}")
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        partial.write_text(content, encoding="utf-8")
        partial.replace(file)
    except OSError as error:
        with contextlib.suppress(OSError):
            partial.unlink()
        print(
            f"peft-bench: references were checked, but {file.parent} cannot be written "
            f"({error.strerror}): they will run again next time",
            file=sys.stderr,
        )
