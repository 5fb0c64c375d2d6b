"""The folder of a sweep: who works on what, what failed and why, what was said meanwhile.

``adapters/`` and ``evaluations/`` hold what is finished, and are all that counts; ``logs/``,
``failures/`` and ``locks/`` may be deleted when no sweep runs.
"""

from __future__ import annotations

import fcntl
import json
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout, suppress
from pathlib import Path

from peft_bench import records
from peft_bench.errors import PeftBenchError


class Layout:
    """Where the parts of a sweep lie in its folder."""

    def __init__(self, out: Path) -> None:
        self.out = out
        self.adapters = out / "adapters"
        self.evaluations = out / "evaluations"
        self.data = out / "data"
        self._locks = out / "locks"
        self._logs = out / "logs"
        self._failures = out / "failures"

    def make(self) -> None:
        """Makes the folders.

        Raises:
            PeftBenchError: they cannot be made.
        """
        folders = (self.adapters, self.evaluations, self._locks, self._logs, self._failures)
        try:
            for folder in folders:
                folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise PeftBenchError(
                place=str(self.out),
                problem=f"cannot be written: {error.strerror}",
                remedy="name another folder: --out DIR",
            ) from error

    def record(self, evaluation: str) -> records.RunRecord | None:
        """The record of a finished evaluation, None where there is none that can be read."""
        try:
            return records.read_record(self.evaluations / evaluation)
        except PeftBenchError:
            return None

    def log_file(self, name: str) -> Path:
        """Where a cell's log goes."""
        return self._logs / f"{name}.log"

    @contextmanager
    def lock(self, name: str, *, wait: bool) -> Iterator[bool]:
        """Holds the lock of a folder; False where another process holds it and ``wait`` is not set.

        The system gives a dead process's locks back, so that none is left behind by kill -9.
        """
        with (self._locks / f"{name}.lock").open("a") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
            except BlockingIOError:
                yield False
                return
            yield True

    def note_failure(self, name: str, cause: str, log: Path) -> None:
        """Keeps why a cell failed, to be seen by other sweeps and later ones."""
        text = json.dumps({"cell": name, "cause": cause, "log": str(log)}) + "\n"
        with suppress(OSError):  # a full disk: the cause is told on the terminal all the same
            records.write_text(self._failures / f"{name}.json", text)

    def forget_failure(self, name: str) -> None:
        """Once the cell is done."""
        with suppress(OSError):
            (self._failures / f"{name}.json").unlink(missing_ok=True)

    def failure(self, name: str) -> str | None:
        """Why a cell failed last time, in one line; None where it did not."""
        try:
            noted = json.loads((self._failures / f"{name}.json").read_text(encoding="utf-8"))
            return str(noted["cause"])
        except (OSError, ValueError, KeyError, TypeError):
            return None


@contextmanager
def said_to(file: Path) -> Iterator[None]:
    """All that this process and its children print goes to the end of a file meanwhile."""
    sys.stdout.flush()
    sys.stderr.flush()
    kept = [os.dup(descriptor) for descriptor in (1, 2)]
    try:
        with file.open("a", encoding="utf-8", errors="backslashreplace") as log:
            for descriptor in (1, 2):
                os.dup2(log.fileno(), descriptor)
            with redirect_stdout(log), redirect_stderr(log):
                yield
    finally:
        with suppress(OSError, ValueError):  # the log's disk is full
            sys.stdout.flush()
        for descriptor, before in zip((1, 2), kept, strict=True):
            os.dup2(before, descriptor)
            os.close(before)
