"""Where a test is to be judged, settled from its reference before any candidate runs."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable
from dataclasses import dataclass

from .pool import run_all
from .types import AssertTest, Judge, Level, Limits, Program, Status, Verdict


@dataclass(frozen=True, slots=True)
class Settled:
    """A reference program whose assert tests carry the judge they need, and how it fared.

    verdict: of the reference with these tests. reason: why an assert test is judged in the
    candidate's process, as the split judge told it; "" where all are split.
    """

    program: Program
    verdict: Verdict
    reason: str = ""


def settle(
    references: Iterable[Program],
    *,
    limits: Limits = Limits(),  # noqa: B008 - frozen
    workers: int | None = None,
    profile: str = "stdlib",
    require: Level | str = "strong",
) -> list[Settled]:
    """Run reference programs with split judges, and those that fail so with shared ones.

    A test that only passes in the reference's own process (it passes functions to and fro, looks
    at what was changed in place, ...) is settled as "shared"; one that passes neither way stays
    "split", and its reference is at fault. Give the tests of `Settled.program` to every candidate
    of the problem: what a candidate returns has no say in it.

    Raises: as `run_all`.
    """
    listed = list(references)

    def run(programs: list[Program]) -> list[Verdict]:
        return run_all(programs, limits=limits, workers=workers, profile=profile, require=require)

    split = [_judged(program, "split") for program in listed]
    settled = [Settled(*pair) for pair in zip(split, run(split), strict=True)]
    again = [place for place, one in enumerate(settled) if _may_need_shared(one)]
    shared = [_judged(listed[place], "shared") for place in again]
    for place, program, verdict in zip(again, shared, run(shared), strict=True):
        if verdict.status is Status.PASSED:
            settled[place] = Settled(program, verdict, settled[place].verdict.message)
    return settled


def _may_need_shared(one: Settled) -> bool:
    has_asserts = any(isinstance(test, AssertTest) for test in one.program.tests)
    return has_asserts and one.verdict.status is not Status.PASSED


def _judged(program: Program, judge: Judge) -> Program:
    tests = tuple(
        dataclasses.replace(test, judge=judge) if isinstance(test, AssertTest) else test
        for test in program.tests
    )
    return dataclasses.replace(program, tests=tests)
