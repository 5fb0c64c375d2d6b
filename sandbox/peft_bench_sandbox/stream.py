"""A file of programs to a file of verdicts: in order, in bounded memory, resumable."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections import Counter, deque
from collections.abc import Generator, Iterable, Iterator, Mapping
from contextlib import closing
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import BinaryIO

from .jsonlike import parse_json
from .pool import Progress, admit, run_ordered
from .types import Level, Limits, Program, Status, Verdict
from .wire import program_from_json, verdict_from_json, verdict_to_json
from .worker import Setting

_CHUNK = 1 << 16
_SHOWN = 300
_DIGITS = 16  # of a digest
_REMEDY = "give another output, or remove this one"

# A program, and the digest of its line.
_Asked = tuple[Program, str]


@dataclass(frozen=True, slots=True)
class BadLine:
    """A line of the input that is no program: its number, from 1, and what is wrong with it."""

    number: int
    message: str


@dataclass(frozen=True, slots=True)
class StreamSummary:
    """What a call did. statuses: how many verdicts of each status the output now holds.

    ran: programs run by this call. resumed: verdicts that were there before. bad: lines that
    were left out; they have no verdict line. shared_passes: how many of the passed were judged in
    the candidate's own process, where a pass can be forged.
    """

    ran: int
    resumed: int
    bad: tuple[BadLine, ...]
    statuses: Mapping[str, int]
    shared_passes: int


def exec_jsonl(
    in_path: str | os.PathLike[str],
    out_path: str | os.PathLike[str],
    *,
    limits: Limits = Limits(),  # noqa: B008 - frozen
    workers: int | None = None,
    profile: str = "stdlib",
    require: Level | str = "strong",
    progress: bool = False,
) -> StreamSummary:
    """Run the programs of a JSONL file; append their verdicts to another as they come.

    Blank lines are skipped, bad lines are told in the summary and the rest is run. If the
    output exists, its verdicts must be on the first lines of this input, with these limits, this
    profile and at this level: they are kept, a torn last line is dropped, and the run goes on
    after them. Programs on which the sandbox failed (`harness_error`) are run again before that.
    The other arguments are those of `run_all`.

    Raises:
        SandboxUnavailable, ValueError: as `run_all`; also ValueError if the output does not
            belong to this input.
        OSError: a file cannot be read or written.
    """
    level = admit(require=require, profile=profile, workers=workers)
    source_path, target_path = Path(in_path), Path(out_path)
    if target_path.exists() and target_path.samefile(source_path):
        raise ValueError(f"{out_path} is the input itself; give another output")
    bad: list[BadLine] = []
    how = _digest(json.dumps([asdict(limits), profile, level.value]).encode())
    counted, told = _Counts(), Progress(None, shown=progress)
    setting, strong = Setting(limits, profile), level is Level.STRONG

    def lines(asked: Iterable[_Asked]) -> Generator[bytes]:
        taken: deque[str] = deque()
        programs = _noting(asked, taken)
        with closing(run_ordered(programs, setting, workers=workers, strong=strong)) as verdicts:
            for verdict in verdicts:
                counted.add(told.count(verdict))
                line = verdict_to_json(verdict) | {"asked": how + taken.popleft()}
                yield json.dumps(line).encode("ascii") + b"\n"

    with source_path.open("rb") as source:
        programs = _programs(source, bad)
        with target_path.open("a+b") as target:
            _drop_torn_line(target)
            resumed, failed = _skip_done(programs, target, target_path, how, counted)
        if failed:
            with closing(lines(failed.values())) as anew:
                _replace(target_path, dict(zip(failed, anew, strict=True)))
        ran = len(failed)
        with target_path.open("ab") as end, closing(lines(programs)) as more:
            for line in more:
                end.write(line)
                end.flush()
                ran += 1
    told.end()
    return StreamSummary(
        ran=ran,
        resumed=resumed,
        bad=tuple(bad),
        statuses=dict(counted.statuses),
        shared_passes=counted.shared_passes,
    )


class _Counts:
    """What the output holds."""

    def __init__(self) -> None:
        self.statuses: Counter[str] = Counter()
        self.shared_passes = 0

    def add(self, verdict: Verdict) -> None:
        self.statuses[verdict.status.value] += 1
        self.shared_passes += verdict.status is Status.PASSED and verdict.judge == "shared"


def _programs(source: BinaryIO, bad: list[BadLine]) -> Iterator[_Asked]:
    for number, line in enumerate(source, 1):
        if not line.strip():
            continue
        try:
            yield program_from_json(parse_json(line)), _digest(line.strip())
        except (ValueError, RecursionError) as fault:  # BadProgram, bad JSON, bad UTF-8
            bad.append(BadLine(number, str(fault)[:_SHOWN]))


def _noting(asked: Iterable[_Asked], taken: deque[str]) -> Iterator[Program]:
    for program, digest in asked:
        taken.append(digest)
        yield program


def _digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()[:_DIGITS]


def _skip_done(
    programs: Iterator[_Asked], target: BinaryIO, path: Path, how: str, counted: _Counts
) -> tuple[int, dict[int, _Asked]]:
    """Pass over the programs that have a verdict; how many, and those that the sandbox failed on.

    how: the digest of limits, profile and level. The failed are by their line of the output, and
    neither counted nor among the many.
    """
    target.seek(0)
    number = 0
    failed: dict[int, _Asked] = {}
    for number, line in enumerate(target, 1):
        verdict, told = _verdict(line, f"{path}:{number}")
        asked = next(programs, None)
        if asked is None or asked[0].id != verdict.id:
            meant = "no program" if asked is None else f"program {asked[0].id!r}"
            raise ValueError(
                f"{path}:{number} is a verdict on {verdict.id!r}, but the input has {meant} "
                f"there; {_REMEDY}"
            )
        if told != how + asked[1]:
            same = told[:_DIGITS] == how
            other = "another program or other tests" if same else "other limits, profile or level"
            raise ValueError(
                f"{path}:{number}, the verdict on {verdict.id!r}, was made with {other}; {_REMEDY}"
            )
        if verdict.status is Status.HARNESS_ERROR:
            failed[number] = asked
        else:
            counted.add(verdict)
    return number - len(failed), failed


def _verdict(line: bytes, place: str) -> tuple[Verdict, str]:
    try:
        told = json.loads(line)
        return verdict_from_json(told), str(told.get("asked", ""))
    except ValueError as fault:
        raise ValueError(f"{place} is no verdict ({fault}); {_REMEDY}") from fault


def _replace(path: Path, lines: Mapping[int, bytes]) -> None:
    """Put other lines in the place of some, by their numbers; at no moment is one missing."""
    path = path.resolve()
    beside = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with path.open("rb") as old, beside.open("wb") as new:
            new.writelines(lines.get(number, line) for number, line in enumerate(old, 1))
        shutil.copymode(path, beside)
        beside.replace(path)
    finally:
        beside.unlink(missing_ok=True)


def _drop_torn_line(target: BinaryIO) -> None:
    """Cut the file after its last line's end: what follows was being written at a stop."""
    end = target.seek(0, os.SEEK_END)
    while end > 0:
        begin = max(0, end - _CHUNK)
        target.seek(begin)
        found = target.read(end - begin).rfind(b"\n")
        if found >= 0:
            end = begin + found + 1
            break
        end = begin
    target.truncate(end)
