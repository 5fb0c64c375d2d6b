"""The command line: ``peft-bench VERB``. Verbs are imported only when they run.

Exit codes: 0 done, 1 failed, 2 usage, 3 something missing.
"""

from __future__ import annotations

import argparse
import logging
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from peft_bench import __version__
from peft_bench.errors import PeftBenchError
from peft_bench.verbs import (
    audit,
    doctor,
    eval_,
    exec_,
    fit,
    leaderboard,
    list_,
    quickstart,
    repack,
    report,
    rescore,
    sweep,
    train,
)

_DESCRIPTION = """\
Train adapters for code models, score them with lm-evaluation-harness, run what they wrote in a
sandbox, and compare them on one leaderboard."""

# In the order of --help.
_VERBS = (
    quickstart,
    train,
    eval_,
    rescore,
    sweep,
    leaderboard,
    report,
    fit,
    audit,
    repack,
    exec_,
    list_,
    doctor,
)


def main(argv: Sequence[str] | None = None) -> int:
    """Runs one verb; returns the exit code."""
    parser = _parser()
    arguments, rest = parser.parse_known_args(argv)
    if arguments.verb == "eval" and rest and not rest[0].startswith("-"):
        arguments.adapter = Path(rest.pop(0))
    if rest and arguments.verb != "eval":
        parser.error(f"unrecognized arguments: {' '.join(rest)}")
    arguments.rest = rest
    # On a CPU it tells at each start which faster kernel it lacks, and nobody asked.
    logging.getLogger("bitsandbytes").setLevel(logging.ERROR)
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
    for verb in _VERBS:
        verb.add(verbs)
    return parser


if __name__ == "__main__":
    raise SystemExit(main())
