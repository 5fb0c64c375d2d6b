"""``peft-bench exec``: programs of a JSONL file, run in the sandbox, verdicts to another."""

from __future__ import annotations

import dataclasses
import sys
from collections.abc import Sequence
from pathlib import Path

from peft_bench_sandbox import Level, Limits, SandboxUnavailable, exec_jsonl

from peft_bench.errors import MissingError, UsageError


def execute(
    programs: Path,
    out: Path,
    *,
    workers: int | None = None,
    limits: Sequence[str] = (),
    profile: str = "stdlib",
    require: str = "strong",
) -> int:
    """Runs the programs; returns 0, or 1 if lines had to be left out or the sandbox failed.

    Raises:
        MissingError: no such file, or no such sandbox level on this machine.
        UsageError: faulty limits, profile, level or output file.
    """
    if require not in list(Level):
        raise UsageError(
            place=f"--require {require}",
            problem="no such sandbox level",
            remedy=f"known: {', '.join(Level)}",
        )
    parsed = parse_limits(limits)
    try:
        summary = exec_jsonl(
            programs,
            out,
            limits=parsed,
            workers=workers,
            profile=profile,
            require=require,
            progress=True,
        )
    except SandboxUnavailable as error:
        raise MissingError(
            place="sandbox",
            problem=str(error),
            remedy="On the command line that is --require limits; see also `peft-bench doctor`",
        ) from error
    except FileNotFoundError as error:
        raise MissingError(
            place=str(error.filename), problem="no such file", remedy="mend the path"
        ) from error
    except OSError as error:
        raise UsageError(
            place=str(error.filename or out),
            problem=error.strerror or str(error),
            remedy="give a file that can be read, and one that can be written",
        ) from error
    except ValueError as error:
        raise UsageError(place="exec", problem=str(error)) from error
    for bad in summary.bad:
        print(f"peft-bench: {programs}: line {bad.number}: {bad.message}", file=sys.stderr)
    counts = ", ".join(f"{count} {status}" for status, count in summary.statuses.items())
    resumed = f", {summary.resumed} from before" if summary.resumed else ""
    print(f"{summary.ran} programs run{resumed}: {counts or 'none'}")
    if summary.shared_passes:
        print(
            f"{summary.shared_passes} of the passed were judged in the program's own process, "
            "where a pass can be forged (judge: shared)"
        )
    return 1 if summary.bad or summary.statuses.get("harness_error") else 0


def parse_limits(settings: Sequence[str]) -> Limits:
    """Limits from ``KEY=VALUE`` settings.

    Raises:
        UsageError: an unknown key, or a value that is no number or out of range.
    """
    kinds = {field.name: field.type for field in dataclasses.fields(Limits)}
    values: dict[str, float] = {}
    for setting in settings:
        key, _, text = setting.partition("=")
        if key not in kinds:
            raise UsageError(
                place=f"--limit {setting}",
                problem=f"no limit is named {key!r}",
                remedy=f"known: {', '.join(kinds)}",
            )
        whole = kinds[key] == "int"
        try:
            values[key] = int(text) if whole else float(text)
        except ValueError:
            raise UsageError(
                place=f"--limit {setting}",
                problem=f"{text!r} is not a {'whole ' if whole else ''}number",
                remedy="seconds for *_s, bytes for *_bytes",
            ) from None
    try:
        return Limits(**values)  # type: ignore[arg-type]
    except ValueError as error:
        raise UsageError(place="--limit", problem=str(error)) from None
