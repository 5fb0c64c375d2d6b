"""``peft-bench list``: what there is."""

from __future__ import annotations

import argparse

from peft_bench.verbs import Verbs


def add(verbs: Verbs) -> None:
    """The verb's options."""
    parser = verbs.add_parser("list", help="tasks, methods or families")
    parser.add_argument("what", choices=("tasks", "methods", "families"))
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Runs it; returns the exit code."""
    from peft_bench import listing

    for line in listing.LISTS[arguments.what]():
        print(line)
    return 0
