"""Verdicts of a run that may be stopped: what was executed once is not executed again."""

from __future__ import annotations

import json
import os
from pathlib import Path

from peft_bench_sandbox import Status, Verdict, verdict_from_json, verdict_to_json

from peft_bench.generation.made import KEPT_IN

#: Beside what is known of answers, in the folder of a run (:data:`KEPT_IN`).
VERDICT_FILES = "verdicts_*.jsonl"


class KeptVerdicts:
    """Verdicts by keys that tell program, tests and setting from all others.

    Nothing is kept outside of a folder to keep it in. The sandbox's own failures are never kept.
    """

    def __init__(self) -> None:
        self._folder = KEPT_IN.get()
        self._known: dict[str, Verdict] = {}
        self._file: Path | None = None
        if self._folder is None:
            return
        self._file = self._folder / f"verdicts_rank{os.environ.get('RANK', '0')}.jsonl"
        for file in sorted(self._folder.glob(VERDICT_FILES)):
            for line in file.read_text(encoding="utf-8").splitlines():
                try:
                    told = json.loads(line)
                    self._known[told["key"]] = verdict_from_json(told["verdict"])
                except (ValueError, KeyError, TypeError):
                    continue  # the process was killed while it wrote this line
        if self._file.is_file() and not self._file.read_bytes().endswith(b"\n"):
            with self._file.open("a", encoding="utf-8") as lines:
                lines.write("\n")

    @property
    def wanted(self) -> bool:
        """Whether there is a folder to keep verdicts in."""
        return self._file is not None

    def get(self, key: str) -> Verdict | None:
        """The verdict of an earlier run."""
        return self._known.get(key)

    def keep(self, key: str, verdict: Verdict) -> None:
        """Writes a verdict down, before the next one is awaited."""
        if self._file is None or verdict.status is Status.HARNESS_ERROR:
            return
        line = json.dumps({"key": key, "verdict": verdict_to_json(verdict)})
        with self._file.open("a", encoding="utf-8") as lines:
            lines.write(f"{line}\n")
