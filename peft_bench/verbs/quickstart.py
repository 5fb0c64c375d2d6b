"""``peft-bench quickstart``: the main job end to end."""

from __future__ import annotations

import argparse
from pathlib import Path

from peft_bench.verbs import Verbs


def add(verbs: Verbs) -> None:
    """The verb's options."""
    parser = verbs.add_parser(
        "quickstart",
        help="the main job end to end on a small model, in minutes",
        description="Train a LoRA adapter for SmolLM2-135M, score base and adapter, export the "
        "leaderboard. Programs that the model writes are executed in the sandbox.",
    )
    parser.add_argument("--out", type=Path, default=Path("quickstart-results"), metavar="DIR")
    parser.add_argument("--model", metavar="ID", help="another hub id or folder")
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Runs it; returns the exit code."""
    from peft_bench.quickstart import quickstart

    quickstart(arguments.out, model=arguments.model)
    return 0
