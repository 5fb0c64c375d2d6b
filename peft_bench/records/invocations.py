"""The files that one call of the harness wrote: their names end in the time of it.

Beside ``results_<stamp>.json`` lies ``samples_<task>_<stamp>.jsonl``. A task's name may hold
anything, and may begin another's (``conala``, ``conala_rag``); a stamp, such as
``2025-01-31T12-00-00.123456``, has no ``_``.
"""

from __future__ import annotations

from pathlib import Path


def stamp_of(results: Path) -> str:
    """The stamp of a results file."""
    return results.stem.rpartition("_")[2]


def find_samples(folder: Path, task: str, stamp: str) -> Path | None:
    """The samples of exactly this task and this call; None where they were not kept."""
    file = folder / f"samples_{task}_{stamp}.jsonl"
    try:
        return file if file.is_file() else None
    except OSError:  # a name that no file can have
        return None
