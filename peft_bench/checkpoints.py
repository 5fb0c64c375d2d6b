"""Checkpoints to go on from: the newest whole one, and the time spent until it."""

from __future__ import annotations

import json
import shutil
import sys
import time
import zipfile
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from peft_bench import adapters
from peft_bench.errors import PeftBenchError

_STATE_FILE = "trainer_state.json"
_TORCH_FILES = ("optimizer.pt", "scheduler.pt", "rng_state.pth")
_SPENT_FILE = "spent.json"


@dataclass(frozen=True, slots=True)
class Spent:
    """Time that training took: in all, in its steps alone, and of the CPU, in seconds."""

    wall_s: float = 0.0
    step_wall_s: float = 0.0
    cpu_s: float = 0.0


def last_checkpoint(folder: Path) -> Path | None:
    """The newest checkpoint to go on from; half-written ones are told of and deleted."""
    for checkpoint in sorted(folder.glob("checkpoint-*"), key=_step_of, reverse=True):
        if _is_usable(checkpoint):
            return checkpoint
        print(f"{checkpoint}: not a whole checkpoint, passed over", file=sys.stderr)
        shutil.rmtree(checkpoint)
    return None


def _is_usable(checkpoint: Path) -> bool:
    """Whether a checkpoint is whole, and so is the best one so far, which it names."""
    if not _is_whole(checkpoint):
        return False
    state = json.loads((checkpoint / _STATE_FILE).read_text(encoding="utf-8"))
    best = state.get("best_model_checkpoint")
    return best is None or Path(best) == checkpoint.absolute() or _is_whole(Path(best))


def _is_whole(checkpoint: Path) -> bool:
    try:
        json.loads((checkpoint / _STATE_FILE).read_text(encoding="utf-8"))
        adapters.saved_tensors(checkpoint)
    except (OSError, ValueError, PeftBenchError):
        return False
    # The directory of a zip file stands at its end.
    return all(zipfile.is_zipfile(checkpoint / name) for name in _TORCH_FILES)


def _step_of(checkpoint: Path) -> int:
    return int(checkpoint.name.rpartition("-")[2])


def newest(folder: Path) -> Path | None:
    """The newest checkpoint that can be gone on from; nothing is deleted."""
    found = sorted(folder.glob("checkpoint-*"), key=_step_of, reverse=True)
    return next((checkpoint for checkpoint in found if _is_usable(checkpoint)), None)


def spent(checkpoint: Path | None) -> Spent:
    """The time spent until a checkpoint; nothing where it does not tell."""
    file = None if checkpoint is None else checkpoint / _SPENT_FILE
    if file is None or not file.is_file():
        return Spent()
    return Spent(**json.loads(file.read_text(encoding="utf-8")))


def clock(earlier: Spent) -> Any:
    """Counts the time spent, and keeps it beside each checkpoint so that a resumed run adds up.

    A callback for the Trainer; ``clock.spent()`` is the sum so far.
    """
    from transformers import TrainerCallback

    class Clock(TrainerCallback):  # type: ignore[misc]
        def __init__(self) -> None:
            self.wall_start = time.perf_counter() - earlier.wall_s
            self.cpu_start = time.process_time() - earlier.cpu_s
            self.step_wall_s = earlier.step_wall_s
            self.step_start: float | None = None

        def spent(self) -> Spent:
            wall_s = time.perf_counter() - self.wall_start
            return Spent(wall_s, self.step_wall_s, time.process_time() - self.cpu_start)

        def on_step_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
            self.step_start = time.perf_counter()

        def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
            assert self.step_start is not None
            self.step_wall_s += time.perf_counter() - self.step_start

        def on_save(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
            if state.is_world_process_zero:
                folder = Path(args.output_dir) / f"checkpoint-{state.global_step}"
                text = json.dumps(asdict(self.spent()))
                (folder / _SPENT_FILE).write_text(text, encoding="utf-8")

    return Clock()
