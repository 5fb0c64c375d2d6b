"""``peft-bench train``: a recipe becomes an adapter."""

from __future__ import annotations

import argparse
from pathlib import Path

from peft_bench.verbs import Verbs


def add(verbs: Verbs) -> None:
    """The verb's options."""
    parser = verbs.add_parser("train", help="a recipe becomes an adapter")
    parser.add_argument("recipe", type=Path, metavar="RECIPE", help="a YAML file, see recipes/")
    parser.add_argument(
        "--set", action="append", default=[], metavar="KEY=VALUE", help="e.g. training.seed=7"
    )
    parser.add_argument("--out", type=Path, metavar="DIR", help="default: adapters/<recipe name>")
    parser.add_argument(
        "--log-to",
        nargs="+",
        default=[],
        metavar="LOGGER",
        help="the Trainer's own loggers: tensorboard, wandb, mlflow, ...",
    )
    parser.add_argument("--push", metavar="REPO", help="upload the adapter to the hub")
    parser.add_argument("--public", action="store_true", help="... for everyone to see")
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Runs it; returns the exit code."""
    import os

    from peft_bench import runtime
    from peft_bench.recipe import load_recipe

    recipe = load_recipe(arguments.recipe, arguments.set)
    from peft_bench.training import train

    # Its own choice is a folder among the checkpoints, which do not outlive the training.
    os.environ.setdefault("TENSORBOARD_LOGGING_DIR", str(Path("runs") / recipe.name))
    folder = train(recipe, arguments.out, loggers=arguments.log_to)
    print(folder)
    if arguments.push and runtime.is_main():
        from peft_bench.publish import push

        print(push(folder, arguments.push, private=not arguments.public))
    return 0
