"""What scoring APPS costs, beside its published metric, and where the verdicts differ.

    PEFT_BENCH_DATA=DIR python benchmarks/apps.py --apps-metric FOLDER [--rounds N] [--json FILE]

The programs: up to five reference solutions of each problem at hand, and a mutant of each problem's
first with one slip. FOLDER holds the metric (apps_metric.py, utils.py, testing_util.py).
benchmarks/README.md says what each table means. Times are printed, never asserted: the exit status
is 1 when a verdict differs and nothing explains it.
"""

from __future__ import annotations

import argparse
import json
import random
import re
import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

from bench_compare import Part, Row, Sides
from bench_mutants import slipped
from bench_sets import data_dir, read_rows
from bench_table import Table, machine, spread

_TRIED = 5
_OURS, _ALONE, _PEER = "apps, ours", "apps, a process a test", "apps_metric"
_SHOWN = {_OURS: "ours", _ALONE: "ours, a process a test", _PEER: "apps_metric"}
_ENDLESS = re.compile(r"^\d+/\d+ (?:cpu|timeout)")
UNEXPLAINED = "not explained"

_LENIENT = "the metric compares as sets, or numbers loosely"
_BY_SOURCE = (
    (r"readline\(\)\[:-1\]", "readline gives lines without their newline there"),
    (r"end=|join|write", "the words are right, but in other lines than the reference's"),
)
# What is looked for in what both said, in this order: (who fails, pattern, reason).
_REASONS = (
    ("here", r"close numbers|as sets", _LENIENT),
    ("here", r"exit code ignored", "the metric takes any sys.exit for an ordinary end"),
    ("here", r"first element", "the metric also takes the reference's first element"),
    ("here", r"'return' outside function|no binding for nonlocal",
     "no module: valid only in the function that the metric puts around it"),
    ("here", r"NameError", "the metric puts its own imports before every program"),
    ("here", r"(?:cpu|timeout): ", "more than 4 s of CPU time here, of wall time there"),
    ("there", r"NoneType\W+object is not callable", "exit, quit and parts of os are None there"),
    ("there", r"no attribute 'buffer'", "stdin is text without a buffer there"),
    ("there", r"SyntaxError|invalid syntax|nonlocal|global declaration|outside|indent|expected an",
     "the metric puts the program into a function, and so breaks it"),
    ("there", r"UnboundLocal|cannot access|local variable|free variable|is not defined",
     "the metric puts the program into a function: its names are no globals"),
    ("there", r"too long.*\| $|TimeoutException",
     "over 4 s of wall time for a test, or 11 s in all"),
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Difference:
    """A program on which the two differ: what each said, what the metric printed of it."""

    name: str
    theirs: str
    ours: str
    legacy: str
    told: str
    source: str

    @property
    def reason(self) -> str:
        """Why, by the first pattern that fits."""
        there = _score(self.theirs) < _score(self.ours)
        if not there and _score(self.legacy) > _score(self.ours):
            return _LENIENT
        text = f"{self.theirs} | {self.told}" if there else f"{self.ours} | {self.legacy}"
        for side, pattern, reason in _REASONS:
            if side == ("there" if there else "here") and re.search(pattern, text):
                return reason
        if there and " wrong " in self.theirs:
            # Nothing is printed of these: how the program reads or writes has to tell.
            for pattern, reason in _BY_SOURCE:
                if re.search(pattern, self.source):
                    return reason
        return UNEXPLAINED


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, print, and return the exit status."""
    options = _parser().parse_args(arguments)
    folder = data_dir()
    if folder is None:
        print("PEFT_BENCH_DATA is not set: name the folder with apps/test.jsonl", file=sys.stderr)
        return 2
    sides = Sides(options.require, apps_metric=options.apps_metric)
    print(Table("Machine", ("what", "value"), list(machine().items())).markdown())
    kept: dict[str, Any] = {"machine": machine()}
    differences: list[Difference] = []
    references = list(_references(folder))
    mutants = list(_mutants(references, sides, options.seed))
    for title, rows in (("Reference solutions", references), ("Mutants with one slip", mutants)):
        parts = _measure(rows, sides, options.rounds)
        print(_costs(title, rows, parts).markdown(), flush=True)
        found = list(_differences(rows, parts, sides))
        print(_explained(title, found).markdown(), flush=True)
        differences += found
        kept[title] = {side: [part.cpu_s for part in all_] for side, all_ in parts.items()}
    kept["differences"] = [
        [one.name, one.reason, one.theirs, one.ours, one.legacy, one.told] for one in differences
    ]
    if options.json:
        options.json.write_text(json.dumps(kept, indent=1))
    lost = [one for one in differences if one.reason == UNEXPLAINED]
    for one in lost:
        print(f"not explained: {one}", file=sys.stderr)
    return 1 if lost else 0


def _references(folder: Path) -> Iterator[Row]:
    for split in ("train", "test"):
        for row in read_rows(folder / "apps" / f"{split}.jsonl"):
            yield {
                "id": f"apps/{split}/{row['problem_id']}",
                "input_output": row["input_output"],
                "starter_code": row["starter_code"],
                "programs": json.loads(row["solutions"])[:_TRIED],
            }


def _mutants(references: list[Row], sides: Sides, seed: int) -> Iterator[Row]:
    """The first solution of each problem with one slip; those that use over 0.2 s for a test are
    left out: they would only measure the time-outs, 4 s a test here and 11 s in all there."""
    rows = []
    for row in references:
        chance = random.Random(f"{seed}:{row['id']}")
        made = [slipped(program, chance) for program in row["programs"][:1]]
        rows.append({**row, "programs": [program for program in made if program is not None]})
    [part], _ = sides.run("apps, short", rows)
    said = iter(part.said)
    for row in rows:
        ends = [program for program in row["programs"] if not _ENDLESS.search(next(said))]
        if ends:
            yield {**row, "programs": ends}


def _measure(rows: list[Row], sides: Sides, rounds: int) -> dict[str, list[Part]]:
    """Every side on the same programs, in turn, the order rotating."""
    names = [_OURS, _ALONE, _PEER]
    parts: dict[str, list[Part]] = {name: [] for name in names}
    for turn in range(rounds):
        for place in range(len(names)):
            name = names[(turn + place) % len(names)]
            [part], _ = sides.run(name, rows)
            parts[name].append(part)
    return parts


def _costs(title: str, rows: list[Row], parts: dict[str, list[Part]]) -> Table:
    count = sum(len(row["programs"]) for row in rows)
    tests = sum(
        len(json.loads(row["input_output"])["inputs"]) * len(row["programs"]) for row in rows
    )
    base = median(part.each_ms for part in parts[_OURS])
    lines = [
        (
            _SHOWN[name],
            spread([part.each_ms for part in all_]),
            f"{median(part.each_ms for part in all_) / base:.1f}",
            f"{median(part.wall_s for part in all_):.0f}",
            sum(_score(said) == 1 for said in all_[0].said),
            max(part.alive for part in all_),
        )
        for name, all_ in parts.items()
    ]
    heads = ("side", "CPU ms a program", "times ours", "wall s", "passed", "left behind")
    return Table(f"{title}: {count} programs, {tests} tests", heads, lines)


def _differences(
    rows: list[Row], parts: dict[str, list[Part]], sides: Sides
) -> Iterator[Difference]:
    """Programs of which another number of tests pass; asked again with more words."""
    flat = [(row, place) for row in rows for place in range(len(row["programs"]))]
    pairs = zip(flat, parts[_PEER][0].said, parts[_OURS][0].said, strict=True)
    differing = [(at, theirs, ours) for at, theirs, ours in pairs if _score(theirs) != _score(ours)]
    again = [{**row, "programs": [row["programs"][place]]} for (row, place), _, _ in differing]
    if not again:
        return
    [told], _ = sides.run("apps_metric, told", again)
    [legacy], _ = sides.run("apps, legacy", again)
    for ((row, place), theirs, ours), words, rule in zip(
        differing, told.said, legacy.said, strict=True
    ):
        yield Difference(f"{row['id']}#{place}", theirs, ours, rule, words, row["programs"][place])


def _score(said: str) -> float:
    """The share of tests passed, from what a side said."""
    if said.startswith("passed"):
        return 1.0
    passed, total = said.split()[0].split("/")
    return int(passed) / int(total)


def _explained(title: str, differences: list[Difference]) -> Table:
    def key(one: Difference) -> tuple[str, str]:
        here = _score(one.ours) > _score(one.theirs)
        return ("here" if here else "there"), one.reason

    counted = Counter(key(one) for one in differences)
    strict = Counter(
        key(one) for one in differences if (_score(one.ours) == 1) != (_score(one.theirs) == 1)
    )
    lines = [(*one, count, strict[one]) for one, count in counted.most_common()]
    heads = ("more tests pass", "why", "programs", "of these another verdict")
    return Table(f"{title}: where they differ", heads, lines)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--apps-metric", required=True, help="the folder with the metric")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seed", type=int, default=0, help="of the mutants")
    parser.add_argument("--require", default="strong", help="the sandbox's level")
    parser.add_argument("--json", type=Path, help="keep the raw figures here")
    return parser


if __name__ == "__main__":
    sys.exit(main())
