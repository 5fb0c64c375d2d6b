"""The harness' own options, as ``peft-bench eval`` is given them.

They are read by the harness' own parser, checked before anything loads, and told apart from those
that change no answer, such as ``--batch_size``.
"""

from __future__ import annotations

import argparse
import json
import math
from collections.abc import Sequence
from typing import Any, NoReturn

from peft_bench.errors import UsageError

_PLACE = "peft-bench eval"
_OURS = ("model", "tasks", "output_path", "use_cache", "log_samples", "predict_only")
# How and where the same is computed, what is printed of it, and who is told: a batch's size may
# move the last digit of a logit, but an evaluation that was stopped by a full GPU must go on.
_SAME_ANSWERS = frozenset(
    {
        "batch_size",
        "cache_requests",
        "check_integrity",
        "confirm_run_unsafe_code",
        "device",
        "func",
        "hf_hub_log_args",
        "max_batch_size",
        "show_config",
        "trackio_args",
        "verbosity",
        "wandb_args",
        "wandb_config_args",
        "write_out",
    }
)
_COUNTS = ("num_beams", "num_samples", "num_return_sequences", "max_gen_toks", "max_new_tokens")


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise UsageError(place=_PLACE, problem=message, remedy="see `lm_eval run --help`")


def parse(arguments: Sequence[str]) -> argparse.Namespace:
    """The harness' options; those that nobody typed are None or not there.

    Raises:
        UsageError: an option that is not the harness', that eval sets itself, or out of range.
    """
    from lm_eval._cli.run import Run

    parser = _Parser(prog=_PLACE)
    Run.create(parser.add_subparsers())
    try:
        options = parser.parse_args(["run", *arguments])
    except ValueError as error:  # of a value in JSON
        raise UsageError(
            place=_PLACE, problem=str(error), remedy="see `lm_eval run --help`"
        ) from None
    _refuse_ours(options)
    _check(options)
    return options


def _refuse_ours(options: argparse.Namespace) -> None:
    for name in _OURS:
        if getattr(options, name, None) is not None:
            raise UsageError(
                place=f"--{name}",
                problem="is set by peft-bench eval itself",
                remedy="leave it out, or call lm_eval directly",
            )
    if options.config is not None:
        raise UsageError(
            place=f"--config {options.config}",
            problem="is not read by peft-bench eval",
            remedy="give the file's values as options, or call lm_eval directly",
        )


def _check(options: argparse.Namespace) -> None:
    """What the harness would find out late, or not at all."""
    limit = options.limit
    if limit is not None and not (0 < limit < 1 or (limit >= 1 and limit.is_integer())):
        _refuse("limit", limit, "a whole number of rows, or their share between 0 and 1")
    if options.num_fewshot is not None and options.num_fewshot < 0:
        _refuse("num_fewshot", options.num_fewshot, "0 or more")
    if options.max_batch_size is not None and options.max_batch_size < 1:
        _refuse("max_batch_size", options.max_batch_size, "1 or more")
    size = getattr(options, "batch_size", None)
    if size is not None and not _is_batch_size(size):
        _refuse("batch_size", size, "a whole number, 'auto' or 'auto:N'")
    for name in _COUNTS:
        count = (options.gen_kwargs or {}).get(name)
        if count is not None and (type(count) is not int or count < 1):
            _refuse(f"gen_kwargs {name}", count, "a whole number, 1 or more", sign="=")


def _is_batch_size(text: str) -> bool:
    if text.isascii() and text.isdigit():
        return int(text) > 0
    auto, _, times = text.partition(":")
    return auto == "auto" and (times == "" or _is_share(times))


def _is_share(text: str) -> bool:
    try:
        return 0 < float(text) < math.inf
    except ValueError:
        return False


def _refuse(name: str, value: Any, wanted: str, *, sign: str = " ") -> NoReturn:
    typed = f"{value:g}" if isinstance(value, float) else value
    raise UsageError(
        place=f"--{name}{sign}{typed}", problem="is out of range", remedy=f"give {wanted}"
    )


def identity(options: argparse.Namespace) -> dict[str, Any]:
    """The options by which one evaluation's answers or scores differ from another's, as JSON has
    them."""
    told = {
        name: value
        for name, value in vars(options).items()
        if value is not None and name not in _SAME_ANSWERS
    }
    read: dict[str, Any] = json.loads(json.dumps(told, sort_keys=True, default=repr))
    return read
