"""``peft-bench doctor``: what is here and what is missing."""

from __future__ import annotations

import argparse

from peft_bench.verbs import Verbs


def add(verbs: Verbs) -> None:
    """The verb's options."""
    parser = verbs.add_parser("doctor", help="what is here, what is missing, and the remedy")
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Runs it; returns the exit code."""
    from peft_bench.doctor import examine

    findings = examine()
    for finding in findings:
        print(finding)
    return 0 if all(finding.ok for finding in findings) else 3
