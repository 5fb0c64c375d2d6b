"""``peft-bench rescore``: saved answers under other rules."""

from __future__ import annotations

import argparse
from pathlib import Path

from peft_bench.verbs import Verbs


def add(verbs: Verbs) -> None:
    """The verb's options."""
    parser = verbs.add_parser(
        "rescore",
        help="score saved answers again, under another profile, without a model",
        description="RUN is an evaluation's folder, or what lm_eval wrote with --log_samples (also "
        "with --predict_only): a folder, or one of several results in it. Shows what each quirk of "
        "the profile changes.",
    )
    parser.add_argument("run_folder", type=Path, metavar="RUN")
    parser.add_argument("--profile", default="study", metavar="P", help="default, study")
    parser.add_argument(
        "--quirk",
        action="append",
        default=[],
        metavar="NAME",
        help="one more, see docs/profiles.md",
    )
    parser.add_argument("--out", type=Path, metavar="DIR", help="default: RUN--P")
    parser.add_argument(
        "--confirm_run_unsafe_code", action="store_true", help="for tasks that execute answers"
    )
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Runs it; returns the exit code."""
    from peft_bench.rescoring import describe, rescore

    rescored = rescore(
        arguments.run_folder,
        profile=arguments.profile,
        quirks=arguments.quirk,
        out=arguments.out,
        confirm_run_unsafe_code=arguments.confirm_run_unsafe_code,
    )
    print(describe(rescored))
    return 0
