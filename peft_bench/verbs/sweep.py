"""``peft-bench sweep``: a grid of recipes, trained, scored and compared."""

from __future__ import annotations

import argparse
from pathlib import Path

from peft_bench.verbs import Verbs


def add(verbs: Verbs) -> None:
    """The verb's options."""
    parser = verbs.add_parser(
        "sweep",
        help="train and score every cell of a grid, then the leaderboard",
        description="Does what is left of a grid: finished cells are never done again, and "
        "several calls at once share the work.",
    )
    parser.add_argument("grid", type=Path, metavar="GRID.yaml")
    parser.add_argument("--out", type=Path, metavar="DIR", help="default: sweeps/NAME")
    parser.add_argument("--dry-run", action="store_true", help="list the cells and what is done")
    parser.add_argument("--shard", metavar="I/N", help="one part of N, counted from 1")
    parser.add_argument("--engine", choices=("local", "ray"), default="local")
    parser.add_argument("--gpus", type=float, metavar="X", help="with ray: GPUs that a cell needs")
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Runs it; returns the exit code."""
    from peft_bench.sweep import driver

    return driver.run(
        arguments.grid,
        out=arguments.out,
        engine=arguments.engine,
        shard_of=arguments.shard,
        dry_run_only=arguments.dry_run,
        gpus=arguments.gpus,
    )
