"""Folders that are complete once they have their name: worked on as ``NAME.partial``, then renamed.

What stays in ``NAME.partial`` after an interruption is gone on with, if its identity (the texts of
a few files: recipe, rows, request) is that of the new run; else it is begun anew.
"""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from pathlib import Path

from peft_bench.errors import PeftBenchError


def open_partial(folder: Path, identity: Mapping[str, str]) -> Path:
    """The working folder of ``folder``, new or gone on with; ``identity`` maps file names to texts.

    Raises:
        PeftBenchError: it cannot be written.
    """
    partial = folder.with_name(f"{folder.name}.partial")
    try:
        if partial.exists() and any(_text(partial / n) != identity[n] for n in identity):
            shutil.rmtree(partial)
        partial.mkdir(parents=True, exist_ok=True)
        for name, text in identity.items():
            (partial / name).write_text(text, encoding="utf-8")
    except OSError as error:
        raise disk_error(partial, error) from error
    return partial


def _text(file: Path) -> str | None:
    return file.read_text(encoding="utf-8") if file.is_file() else None


def disk_error(place: Path, error: Exception) -> PeftBenchError:
    """What to raise when work cannot be written: what was done before is kept."""
    return PeftBenchError(
        place=str(place),
        problem=f"could not be written: {str(error).splitlines()[0]}",
        remedy="free some space and run the same command again: what is done is kept",
    )
