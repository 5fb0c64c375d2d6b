"""The command line: ``peft-bench VERB``. Verbs are imported only when they run.

Exit codes: 0 done, 1 failed, 2 usage, 3 something missing.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from peft_bench import __version__
from peft_bench.errors import PeftBenchError

_DESCRIPTION = """\
Train adapters for code models, score them with lm-evaluation-harness, run what they wrote in a
sandbox, and compare them on one leaderboard."""


def main(argv: Sequence[str] | None = None) -> int:
    """Runs one verb; returns the exit code."""
    parser = _parser()
    arguments, rest = parser.parse_known_args(argv)
    if arguments.verb == "eval" and rest and not rest[0].startswith("-"):
        arguments.adapter = Path(rest.pop(0))
    if rest and arguments.verb != "eval":
        parser.error(f"unrecognized arguments: {' '.join(rest)}")
    arguments.rest = rest
    run: Callable[[argparse.Namespace], int] = arguments.run
    try:
        code = run(arguments)
        # What is still buffered must meet a closed pipe here, not at interpreter shutdown.
        sys.stdout.flush()
        return code
    except PeftBenchError as error:
        if arguments.verbose:
            raise
        print(f"peft-bench: {error}", file=sys.stderr)
        return error.exit_code
    except KeyboardInterrupt:
        print(
            "\npeft-bench: interrupted. What is finished is kept: "
            "run the same command again to go on.",
            file=sys.stderr,
        )
        return 1
    except BrokenPipeError:
        # The reader (head, less) has seen enough; nothing more can or need be said to it.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="peft-bench", description=_DESCRIPTION)
    parser.add_argument("--version", action="version", version=f"peft-bench {__version__}")
    parser.add_argument("--verbose", action="store_true", help="show tracebacks of errors")
    verbs = parser.add_subparsers(dest="verb", metavar="VERB", required=True)
    _add_quickstart(verbs)
    _add_train(verbs)
    _add_eval(verbs)
    _add_exec(verbs)
    _add_leaderboard(verbs)
    _add_list(verbs)
    doctor = verbs.add_parser("doctor", help="what is here, what is missing, and the remedy")
    doctor.set_defaults(run=_run_doctor)
    return parser


# What add_subparsers() returns has no public name.
_Verbs = argparse._SubParsersAction


def _add_quickstart(verbs: _Verbs[argparse.ArgumentParser]) -> None:
    parser = verbs.add_parser(
        "quickstart",
        help="the main job end to end on a small model, in minutes",
        description="Train a LoRA adapter for SmolLM2-135M, score base and adapter, export the "
        "leaderboard. Programs that the model writes are executed in the sandbox.",
    )
    parser.add_argument("--out", type=Path, default=Path("quickstart-results"), metavar="DIR")
    parser.add_argument("--model", metavar="ID", help="another hub id or folder")
    parser.set_defaults(run=_run_quickstart)


def _add_train(verbs: _Verbs[argparse.ArgumentParser]) -> None:
    parser = verbs.add_parser("train", help="a recipe becomes an adapter")
    parser.add_argument("recipe", type=Path, metavar="RECIPE", help="a YAML file, see recipes/")
    parser.add_argument(
        "--set", action="append", default=[], metavar="KEY=VALUE", help="e.g. training.seed=7"
    )
    parser.add_argument("--out", type=Path, metavar="DIR", help="default: adapters/<recipe name>")
    parser.set_defaults(run=_run_train)


def _add_eval(verbs: _Verbs[argparse.ArgumentParser]) -> None:
    parser = verbs.add_parser(
        "eval",
        help="the harness scores an adapter or a base model",
        usage="peft-bench eval [ADAPTER] [--model ID] --tasks A,B [--out DIR] [lm_eval's options]",
        description="Score the adapter in folder ADAPTER: its base, quantisation and prompt come "
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
    parser.set_defaults(run=_run_eval)


def _add_exec(verbs: _Verbs[argparse.ArgumentParser]) -> None:
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
    parser.set_defaults(run=_run_exec)


def _add_leaderboard(verbs: _Verbs[argparse.ArgumentParser]) -> None:
    parser = verbs.add_parser("leaderboard", help="one table of evaluations: CSV, Markdown, HTML")
    parser.add_argument("runs", nargs="+", type=Path, metavar="RUNS", help="evaluation folders")
    parser.add_argument("--csv", type=Path, metavar="F")
    parser.add_argument("--md", type=Path, metavar="F")
    parser.add_argument("--html", type=Path, metavar="F")
    parser.add_argument("--strict", action="store_true", help="fail if a record cannot be read")
    parser.set_defaults(run=_run_leaderboard)


def _add_list(verbs: _Verbs[argparse.ArgumentParser]) -> None:
    parser = verbs.add_parser("list", help="tasks, methods or families")
    parser.add_argument("what", choices=("tasks", "methods", "families"))
    parser.set_defaults(run=_run_list)


def _run_quickstart(arguments: argparse.Namespace) -> int:
    from peft_bench.quickstart import quickstart

    quickstart(arguments.out, model=arguments.model)
    return 0


def _run_train(arguments: argparse.Namespace) -> int:
    from peft_bench.recipe import load_recipe

    recipe = load_recipe(arguments.recipe, arguments.set)
    from peft_bench.training import train

    folder = train(recipe, arguments.out)
    print(folder)
    return 0


def _run_eval(arguments: argparse.Namespace) -> int:
    from peft_bench.evaluation import evaluate

    record = evaluate(
        arguments.adapter,
        model=arguments.model,
        tasks=[task for task in arguments.tasks.split(",") if task],
        out=arguments.out,
        harness_args=arguments.rest,
    )
    for task in record.tasks:
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


def _run_exec(arguments: argparse.Namespace) -> int:
    from peft_bench.execution import execute

    return execute(
        arguments.programs,
        arguments.out,
        workers=arguments.workers,
        limits=arguments.limit,
        profile=arguments.profile,
        require=arguments.require,
    )


def _run_leaderboard(arguments: argparse.Namespace) -> int:
    from peft_bench import leaderboard, records

    found, problems = records.find_records(arguments.runs)
    for problem in problems:
        print(f"peft-bench: skipped: {problem}", file=sys.stderr)
    rows = leaderboard.build_rows(found)
    if arguments.csv:
        leaderboard.write_csv(rows, arguments.csv)
    if arguments.md:
        leaderboard.write_markdown(rows, arguments.md)
    if arguments.html:
        leaderboard.write_html(rows, arguments.html)
    print(leaderboard.format_table(rows), end="")
    if not rows:
        return 1
    return 1 if problems and arguments.strict else 0


def _run_list(arguments: argparse.Namespace) -> int:
    from peft_bench import listing

    for line in listing.LISTS[arguments.what]():
        print(line)
    return 0


def _run_doctor(arguments: argparse.Namespace) -> int:
    from peft_bench.doctor import examine

    findings = examine()
    for finding in findings:
        print(finding)
    return 0 if all(finding.ok for finding in findings) else 3


if __name__ == "__main__":
    raise SystemExit(main())
