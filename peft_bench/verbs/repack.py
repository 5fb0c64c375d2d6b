"""``peft-bench repack``: CodeGen2 for transformers' own class."""

from __future__ import annotations

import argparse
from pathlib import Path

from peft_bench.verbs import Verbs


def add(verbs: Verbs) -> None:
    """The verb's options."""
    parser = verbs.add_parser("repack", help="a CodeGen2 checkpoint as transformers' own class")
    parser.add_argument("source", metavar="SRC", help="a hub id or folder")
    parser.add_argument("target", type=Path, metavar="DST", help="the new folder")
    parser.add_argument("--revision", metavar="R")
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Runs it; returns the exit code."""
    from peft_bench.codegen2 import repack

    print(repack(arguments.source, arguments.target, revision=arguments.revision))
    return 0
