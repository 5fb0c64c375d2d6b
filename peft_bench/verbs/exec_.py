"""``peft-bench exec``: programs run in the sandbox."""

from __future__ import annotations

import argparse
from pathlib import Path

from peft_bench.verbs import Verbs


def add(verbs: Verbs) -> None:
    """The verb's options."""
    parser = verbs.add_parser("exec", help="run programs of a JSONL file in the sandbox")
    parser.add_argument("programs", type=Path, metavar="IN.jsonl")
    parser.add_argument("--out", type=Path, required=True, metavar="OUT.jsonl")
    parser.add_argument("--workers", type=int, metavar="N")
    parser.add_argument(
        "--limit", action="append", default=[], metavar="KEY=VALUE", help="e.g. cpu_s=10"
    )
    parser.add_argument(
        "--profile", default="stdlib", metavar="NAME", help="packages to import: stdlib, scientific"
    )
    parser.add_argument(
        "--require", default="strong", metavar="LEVEL", help="least sandbox level (default: strong)"
    )
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Runs it; returns the exit code."""
    from peft_bench.execution import execute

    return execute(
        arguments.programs,
        arguments.out,
        workers=arguments.workers,
        limits=arguments.limit,
        profile=arguments.profile,
        require=arguments.require,
    )
