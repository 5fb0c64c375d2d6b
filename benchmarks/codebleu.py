"""What does a pair of CodeBLEU cost, beside PyPI's codebleu 0.7.0?

    PEFT_BENCH_DATA=DIR python benchmarks/codebleu.py --peer-python PATH [--rounds N] [--json FILE]

The pairs are those of DIR/codebleu/pairs.jsonl. Both sides score each pair by itself, in processes
of their own, in turn, the order changing from round to round; imports and a first pair are not
counted, and nothing is remembered from one round to the next. The exit status is 1 if a value of
our variant ``pypi`` is not the peer's, where the peer is deterministic and has the same grammar.

The peer needs a tree-sitter of its own, hence a Python of its own:

    python -m venv peer
    peer/bin/pip install codebleu==0.7.0 'tree-sitter<0.23' 'tree-sitter-python<0.22' setuptools
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

_BEAMS = 10

# Both sides: pairs as JSON on stdin; seconds of CPU time and all scores on stdout.
_OURS = """
import json, sys, time
from peft_bench.metrics.codebleu import codebleu
pairs = json.load(sys.stdin)
variant = sys.argv[1]
codebleu(reference="a = b", hypothesis="a = c", variant=variant)
start = time.process_time()
found = [codebleu(reference=r, hypothesis=h, variant=variant) for r, h in pairs]
spent = time.process_time() - start
rows = [[f.score, f.ngram, f.weighted_ngram, f.syntax, f.dataflow] for f in found]
json.dump({"seconds": spent, "rows": rows}, sys.stdout)
"""
_PEER = """
import json, logging, sys, time
from codebleu import calc_codebleu
logging.disable(logging.WARNING)
pairs = json.load(sys.stdin)
calc_codebleu(["a = b"], ["a = c"], "python")
start = time.process_time()
found = [calc_codebleu([r], [h], "python") for r, h in pairs]
spent = time.process_time() - start
json.dump({"seconds": spent, "rows": [list(f.values()) for f in found]}, sys.stdout)
"""
_FLOOR = """
import json, sys, time
import tree_sitter_python
from tree_sitter import Language, Parser
pairs = [[text.encode() for text in pair] for pair in json.load(sys.stdin)]
parser = Parser(Language(tree_sitter_python.language()))
start = time.process_time()
for reference, hypothesis in pairs:
    parser.parse(reference), parser.parse(hypothesis)
json.dump({"seconds": time.process_time() - start, "rows": []}, sys.stdout)
"""

Pair = tuple[str, str]
Rows = list[list[float]]


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--peer-python", type=Path, help="a Python that has codebleu 0.7.0")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--json", type=Path, help="keep the raw figures there")
    options = parser.parse_args(arguments)
    folder = os.environ.get("PEFT_BENCH_DATA")
    if not folder:
        print("PEFT_BENCH_DATA is not set: no pairs to score", file=sys.stderr)
        return 3
    text = (Path(folder) / "codebleu" / "pairs.jsonl").read_text(encoding="utf-8")
    pairs = [
        (row["reference"], row["hypothesis"]) for row in map(json.loads, text.strip().split("\n"))
    ]
    sides = {
        "ours, `pypi`": [sys.executable, "-c", _OURS, "pypi"],
        "ours, `python`": [sys.executable, "-c", _OURS, "python"],
        "ours, `codexglue`": [sys.executable, "-c", _OURS, "codexglue"],
        "parsing alone": [sys.executable, "-c", _FLOOR],
    }
    if options.peer_python:
        sides = {"codebleu 0.7.0": [str(options.peer_python), "-c", _PEER], **sides}
    workloads = {"each pair once": pairs, f"{_BEAMS} beams a reference": _beams(pairs)}
    figures: dict[str, dict[str, list[float]]] = {}
    faults = 0
    for workload, rows in workloads.items():
        seconds: dict[str, list[float]] = {side: [] for side in sides}
        values: dict[str, Rows] = {}
        for turn in range(options.rounds):
            order = list(sides)[turn % len(sides) :] + list(sides)[: turn % len(sides)]
            for side in order:
                spent, values[side] = _run(sides[side], rows)
                seconds[side].append(spent)
        figures[workload] = seconds
        _print(workload, len(rows), seconds)
        if options.peer_python:
            faults += _differences(rows, values["codebleu 0.7.0"], values["ours, `pypi`"])
    if options.json:
        options.json.write_text(json.dumps(figures, indent=1) + "\n", encoding="utf-8")
    return 1 if faults else 0


def _beams(pairs: Sequence[Pair]) -> list[Pair]:
    """Each reference with ten hypotheses, its own and the next nine, as beams come."""
    count = len(pairs)
    some = range(0, count, _BEAMS)
    return [
        (pairs[start][0], pairs[(start + beam) % count][1])
        for start in some
        for beam in range(_BEAMS)
    ]


def _run(command: Sequence[str], pairs: Sequence[Pair]) -> tuple[float, Rows]:
    done = subprocess.run(
        command, input=json.dumps(pairs), capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise SystemExit(f"{command[0]} failed:\n{done.stderr}")
    found = json.loads(done.stdout)
    return found["seconds"], found["rows"]


def _print(workload: str, count: int, seconds: dict[str, list[float]]) -> None:
    medians = {side: statistics.median(spent) for side, spent in seconds.items()}
    peer = medians.get("codebleu 0.7.0")
    print(f"\n### {workload}: {count} pairs, {len(next(iter(seconds.values())))} rounds\n")
    print(f"{platform.platform(terse=True)}, Python {platform.python_version()}\n")
    print("| side | CPU µs a pair (median) | range | pairs a CPU second | times the peer's |")
    print("|---|---|---|---|---|")
    for side, spent in seconds.items():
        low, mid, high = (1e6 * s / count for s in (min(spent), medians[side], max(spent)))
        times = f"{peer / medians[side]:.1f}" if peer else "-"
        print(f"| {side} | {mid:.0f} | {low:.0f} to {high:.0f} | {1e6 / mid:,.0f} | {times} |")


def _differences(pairs: Sequence[Pair], theirs: Rows, ours: Rows) -> int:
    """Tells in how many pairs the values differ; the number that nothing explains."""
    explained: dict[str, int] = {}
    faults = 0
    for (reference, hypothesis), one, other in zip(pairs, theirs, ours, strict=True):
        far = [abs(a - b) > 1e-6 for a, b in zip(one, other, strict=True)]
        if not any(far):
            reason = "equal"
        elif far[1] or far[2]:
            reason, faults = "n-grams differ", faults + 1
        elif "\n" in hypothesis + reference and not far[3]:
            reason = "data flow: order of a set, or another grammar"
        elif far[3]:
            reason = "subtrees: another grammar"
        else:
            reason = "data flow: order of a set, or another grammar"
        explained[reason] = explained.get(reason, 0) + 1
    print("\nValues: " + "; ".join(f"{reason}: {count}" for reason, count in explained.items()))
    return faults


if __name__ == "__main__":
    sys.exit(main())
