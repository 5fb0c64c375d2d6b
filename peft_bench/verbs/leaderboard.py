"""``peft-bench leaderboard``: one table of evaluations."""

from __future__ import annotations

import argparse
import os
from pathlib import Path

from peft_bench.errors import UsageError
from peft_bench.verbs import Verbs


def add(verbs: Verbs) -> None:
    """The verb's options."""
    parser = verbs.add_parser("leaderboard", help="one table of evaluations: CSV, Markdown, HTML")
    parser.add_argument(
        "runs",
        nargs="+",
        type=Path,
        metavar="RUNS",
        help="folders of evaluations; results of lm_eval and of PEFT's method_comparison",
    )
    parser.add_argument("--csv", type=Path, metavar="F")
    parser.add_argument("--md", type=Path, metavar="F")
    parser.add_argument("--html", type=Path, metavar="F")
    parser.add_argument(
        "--method-comparison",
        type=Path,
        metavar="DIR",
        help="write the tuned runs in the form of PEFT's method_comparison results",
    )
    parser.add_argument(
        "--compare",
        nargs=2,
        action="append",
        default=[],
        metavar=("A", "B"),
        help="test the difference of two runs question by question; may be given again",
    )
    parser.add_argument("--metric", metavar="NAME", help="what --compare compares by")
    parser.add_argument(
        "--baseline", metavar="RUN", help="compare with this run instead of each row's base model"
    )
    parser.add_argument(
        "--pscp", action="store_true", help="add the PEFT soft-score penalty and its constants"
    )
    parser.add_argument("--strict", action="store_true", help="fail if a record cannot be read")
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Runs it; returns the exit code.

    Raises:
        UsageError: a metric without runs to compare by it, or a name that no run has.
    """
    if arguments.metric is not None and not arguments.compare:
        raise UsageError(
            place=f"--metric {arguments.metric}",
            problem="it is what --compare compares by, and no runs to compare are given",
            remedy="add --compare A B",
        )
    keep_to_one_thread()
    from peft_bench.records import collector_paused
    from peft_bench.showing import show

    with collector_paused():
        return show(
            arguments.runs,
            csv=arguments.csv,
            md=arguments.md,
            html=arguments.html,
            comparisons=arguments.method_comparison,
            compare=[(first, second) for first, second in arguments.compare],
            metric=arguments.metric,
            baseline=arguments.baseline,
            pscp=arguments.pscp,
            strict=arguments.strict,
        )


def keep_to_one_thread() -> None:
    """Asks numpy's linear algebra for one thread, where nobody asked otherwise.

    Thousands of small products: threads would wait for one another at twice the CPU time. It has
    an effect before numpy is imported only.
    """
    for name in ("OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "OMP_NUM_THREADS"):
        os.environ.setdefault(name, "1")
