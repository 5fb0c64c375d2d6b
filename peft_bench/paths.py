"""Where the project's own files lie, in a checkout and when installed from a wheel."""

from __future__ import annotations

import os
from importlib.util import find_spec
from pathlib import Path

from peft_bench.errors import MissingError

_PACKAGE = Path(__file__).resolve().parent


def tasks_dir() -> Path:
    """The folder of the harness tasks: ``tasks/`` in a checkout, else inside the installed harness.

    A wheel puts the tasks where ``lm_eval`` looks for its own (``lm_eval/tasks/peft_bench``), so
    that ``--tasks conala`` needs no further flag; in a checkout ``--include_path`` names them.

    Raises:
        MissingError: neither place holds them.
    """
    candidates = [_PACKAGE.parent / "tasks"]
    harness = find_spec("lm_eval")
    if harness is not None and harness.origin is not None:
        candidates.append(Path(harness.origin).parent / "tasks" / "peft_bench")
    for folder in candidates:
        if (folder / "conala" / "conala.yaml").is_file():
            return folder
    raise MissingError(
        place="tasks",
        problem="the harness tasks of peft-bench are nowhere to be found: looked in "
        + ", ".join(str(folder) for folder in candidates),
        remedy="reinstall with `pip install --force-reinstall --no-deps peft-bench`",
    )


def tasks_are_installed() -> bool:
    """Whether plain ``lm_eval --tasks NAME`` finds our tasks, with no ``--include_path``."""
    harness = find_spec("lm_eval")
    if harness is None or harness.origin is None:
        return False
    return (Path(harness.origin).parent / "tasks" / "peft_bench" / "conala").is_dir()


def recipes_dir() -> Path:
    """The folder of the recipes that come with the project."""
    inside = _PACKAGE / "recipes"
    return inside if inside.is_dir() else _PACKAGE.parent / "recipes"


def cache_dir() -> Path:
    """Where converted models are kept: ``PEFT_BENCH_CACHE``, else ``~/.cache/peft-bench``."""
    configured = os.environ.get("PEFT_BENCH_CACHE")
    if configured:
        return Path(configured)
    base = os.environ.get("XDG_CACHE_HOME")
    return (Path(base) if base else Path.home() / ".cache") / "peft-bench"
