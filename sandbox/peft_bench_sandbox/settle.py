"""Where a test is to be judged, settled from its reference before any candidate runs."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable
from dataclasses import dataclass

from .pool import run_all
from .types import JUDGES, AssertTest, Judge, Level, Limits, Program, Status, Verdict


@dataclass(frozen=True, slots=True)
class Settled:
    """A reference program whose assert tests carry the judge they need, and how it fared.

    verdict: of the reference with these tests; its `judge` is the one that was settled. reason:
    what the split judge told where that is another; "" where it is "split".
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
    """Run reference programs with split judges, and those that fail so with the next, and so on.

    The judges are tried from the strictest on ("split", "split-mocks", "split-arguments",
    "split-files", "shared"), and the first with which the reference passes is settled; where it
    passes with none, the tests stay "split", and the reference is at fault. Give the tests of
    `Settled.program` to every candidate of the problem: what a candidate returns has no say in it.

    Raises: as `run_all`.
    """
    listed = list(references)

    def run(programs: list[Program]) -> list[Verdict]:
        return run_all(programs, limits=limits, workers=workers, profile=profile, require=require)

    split = [_judged(program, "split") for program in listed]
    settled = [Settled(*pair) for pair in zip(split, run(split), strict=True)]
    for judge in JUDGES:  # the first once more: a test of the clock may fail by chance
        again = [place for place, one in enumerate(settled) if _may_need_another(one)]
        programs = [_judged(listed[place], judge) for place in again]
        for place, program, verdict in zip(again, programs, run(programs), strict=True):
            if verdict.status is Status.PASSED:
                reason = "" if judge == "split" else settled[place].verdict.message
                settled[place] = Settled(program, verdict, reason)
    return settled


def _may_need_another(one: Settled) -> bool:
    has_asserts = any(isinstance(test, AssertTest) for test in one.program.tests)
    return has_asserts and one.verdict.status is not Status.PASSED


def _judged(program: Program, judge: Judge) -> Program:
    tests = tuple(
        dataclasses.replace(test, judge=judge) if isinstance(test, AssertTest) else test
        for test in program.tests
    )
    return dataclasses.replace(program, tests=tests)
