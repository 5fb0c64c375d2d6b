"""``peft-bench report``: what the runs say about the study's questions."""

from __future__ import annotations

import argparse
from pathlib import Path

from peft_bench.verbs import Verbs, leaderboard


def add(verbs: Verbs) -> None:
    """The verb's options."""
    parser = verbs.add_parser("report", help="the study's questions, answered from your runs")
    parser.add_argument("runs", nargs="+", type=Path, metavar="RUNS", help="as for leaderboard")
    parser.add_argument("--out", type=Path, metavar="F", help="write it here (Markdown)")
    parser.add_argument("--strict", action="store_true", help="fail if a record cannot be read")
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Runs it; returns the exit code."""
    leaderboard.keep_to_one_thread()
    from peft_bench.showing import tell

    return tell(arguments.runs, out=arguments.out, strict=arguments.strict)
