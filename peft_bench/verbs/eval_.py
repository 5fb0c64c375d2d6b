"""``peft-bench eval``: the harness scores an adapter or a base."""

from __future__ import annotations

import argparse
from pathlib import Path

from peft_bench.verbs import Verbs


def add(verbs: Verbs) -> None:
    """The verb's options."""
    parser = verbs.add_parser(
        "eval",
        help="the harness scores an adapter or a base model",
        usage="peft-bench eval [ADAPTER] [--model ID] --tasks A,B [--out DIR] [lm_eval's options]",
        description="Score the adapter in folder ADAPTER, or of that id on the hub (ORG/NAME, "
        "ORG/NAME@REVISION): its base, quantisation and prompt come "
        "from its card. Without one, --model names the base to score. "
        "Further options are lm_eval's own, such as --batch_size, --limit, --num_fewshot.",
        # Abbreviations would swallow the harness' own options (--mod... and --model_args).
        allow_abbrev=False,
    )
    # ADAPTER is taken from what argparse leaves over (see main): as an optional positional it
    # would, by the version of Python, be missed after an option or swallow `8` of `--limit 8`.
    parser.set_defaults(adapter=None)
    parser.add_argument("--model", metavar="ID", help="the base: a hub id or folder")
    parser.add_argument("--tasks", required=True, metavar="A,B", help="see `peft-bench list tasks`")
    parser.add_argument("--out", type=Path, metavar="DIR", help="default: evaluations/<name>")
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Runs it; returns the exit code."""
    from peft_bench.evaluation import evaluate

    record = evaluate(
        arguments.adapter,
        model=arguments.model,
        tasks=[task for task in arguments.tasks.split(",") if task],
        out=arguments.out,
        harness_args=arguments.rest,
    )
    for task in record.tasks:
        if not task.scores:
            print(f"{task.task} v{task.version}: n = 0, the data holds no problem of it")
            continue
        score = task.scores[task.primary_metric]
        error = "" if score.stderr is None else f" ± {100 * score.stderr:.2f}"
        demonstration = " (demonstration)" if task.demonstration else ""
        marks = f" [{'; '.join(task.marks)}]" if task.marks else ""
        print(
            f"{task.task} v{task.version}{demonstration}: {task.primary_metric} = "
            f"{100 * score.value:.2f}{error} %, n = {task.n}{marks}"
        )
    print(f"record: {record.name}")
    return 0
