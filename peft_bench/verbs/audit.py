"""``peft-bench audit``: duplicates between data sets."""

from __future__ import annotations

import argparse
from pathlib import Path

from peft_bench.verbs import Verbs


def add(verbs: Verbs) -> None:
    """The verb's options."""
    parser = verbs.add_parser("audit", help="duplicates between train, test and retrieval pool")
    parser.add_argument("left", metavar="A[:split]", help="a data set or a file of JSON lines")
    parser.add_argument("right", nargs="?", metavar="B[:split]", help="default: A's own splits")
    parser.add_argument("--pool", metavar="C[:split]", help="rows that examples are retrieved from")
    parser.add_argument("--threshold", type=float, default=0.8, metavar="T", help="of near: 0.8")
    parser.add_argument("--json", type=Path, metavar="FILE", help="every match")
    parser.add_argument("--fail-on", action="append", default=[], metavar="exact|near|question")
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Runs it; returns the exit code."""
    from peft_bench import audit

    return audit.run(
        arguments.left,
        arguments.right,
        pool=arguments.pool,
        threshold=arguments.threshold,
        json_file=arguments.json,
        fail_on=arguments.fail_on,
    )
