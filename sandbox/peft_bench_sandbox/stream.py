"""A file of programs to a file of verdicts: in order, in bounded memory, resumable."""

from __future__ import annotations

import json
import os
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from .jsonlike import parse_json
from .pool import Progress, admit, run_ordered
from .types import Level, Limits, Program, Status, Verdict
from .wire import program_from_json, verdict_from_json, verdict_to_json
from .worker import Setting

_CHUNK = 1 << 16
_SHOWN = 300


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
    output exists, its verdicts must be those of the first programs of this input: they are
    kept, a torn last line is dropped, and the run goes on after them. The other arguments are
    those of `run_all`.

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
    counted = _Counts()
    with source_path.open("rb") as source, target_path.open("a+b") as target:
        _drop_torn_line(target)
        programs = _programs(source, bad)
        resumed = _skip_done(programs, target, target_path, counted)
        ran = 0
        told = Progress(None, shown=progress)
        setting, strong = Setting(limits, profile), level is Level.STRONG
        with closing(run_ordered(programs, setting, workers=workers, strong=strong)) as verdicts:
            for verdict in verdicts:
                line = json.dumps(verdict_to_json(told.count(verdict)))
                target.write(line.encode("ascii") + b"\n")
                target.flush()
                counted.add(verdict)
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


def _programs(source: BinaryIO, bad: list[BadLine]) -> Iterator[Program]:
    for number, line in enumerate(source, 1):
        if not line.strip():
            continue
        try:
            yield program_from_json(parse_json(line))
        except (ValueError, RecursionError) as fault:  # BadProgram, bad JSON, bad UTF-8
            bad.append(BadLine(number, str(fault)[:_SHOWN]))


def _skip_done(programs: Iterator[Program], target: BinaryIO, path: Path, counted: _Counts) -> int:
    """Pass over the programs that have a verdict; return how many those are."""
    target.seek(0)
    number = 0
    for number, line in enumerate(target, 1):
        verdict = _verdict(line, f"{path}:{number}")
        program = next(programs, None)
        if program is None or program.id != verdict.id:
            meant = "no program" if program is None else f"program {program.id!r}"
            raise ValueError(
                f"{path}:{number} is a verdict on {verdict.id!r}, but the input has {meant} "
                "there; give another output, or remove this one"
            )
        counted.add(verdict)
    return number


def _verdict(line: bytes, place: str) -> Verdict:
    try:
        return verdict_from_json(json.loads(line))
    except ValueError as fault:
        raise ValueError(
            f"{place} is no verdict ({fault}); give another output, or remove this one"
        ) from fault


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
