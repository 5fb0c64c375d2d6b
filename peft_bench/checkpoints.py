"""Checkpoints to go on from: the newest whole one, and the wall time spent until it."""

from __future__ import annotations

import json
import shutil
import sys
import time
import zipfile
from pathlib import Path
from typing import Any

from peft_bench import adapters
from peft_bench.errors import PeftBenchError

_STATE_FILE = "trainer_state.json"
_TORCH_FILES = ("optimizer.pt", "scheduler.pt", "rng_state.pth")
_WALL_FILE = "wall_s.json"


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


def wall_s(checkpoint: Path) -> float:
    file = checkpoint / _WALL_FILE
    return float(json.loads(file.read_text(encoding="utf-8"))) if file.is_file() else 0.0


def wall_clock(earlier_wall_s: float) -> Any:
    """Keeps the wall time spent so far beside each checkpoint, so that a resumed run adds up."""
    from transformers import TrainerCallback

    class WallClock(TrainerCallback):  # type: ignore[misc]
        def __init__(self) -> None:
            self.started = time.perf_counter() - earlier_wall_s

        def on_save(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
            folder = Path(args.output_dir) / f"checkpoint-{state.global_step}"
            spent = time.perf_counter() - self.started
            (folder / _WALL_FILE).write_text(json.dumps(spent), encoding="utf-8")

    return WallClock()
