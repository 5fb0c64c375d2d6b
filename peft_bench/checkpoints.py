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

from peft_bench import adapters, records, runtime, schema
from peft_bench.errors import Faults, PeftBenchError

_STATE_FILE = "trainer_state.json"
_TORCH_FILES = ("optimizer.pt", "scheduler.pt")
_SPENT_FILE = "spent.json"


@dataclass(frozen=True, slots=True)
class Spent:
    """Time that training took: in all, in its steps alone, and of the CPU, in seconds.

    Attributes:
        known: False where a checkpoint that was gone on from did not tell of the time before, or
            was made by another number of processes.
        processes: how many trained together until the checkpoint; None where it does not tell.
    """

    wall_s: float = 0.0
    step_wall_s: float = 0.0
    cpu_s: float = 0.0
    known: bool = True
    processes: int | None = None


def last_checkpoint(folder: Path) -> Path | None:
    """The newest checkpoint to go on from; half-written ones are told of and deleted.

    What it says of the place of the best one so far is set right, should the folder have moved.
    """
    for checkpoint in sorted(folder.glob("checkpoint-*"), key=_step_of, reverse=True):
        if _is_usable(checkpoint):
            _correct_place(checkpoint)
            return checkpoint
        print(f"{checkpoint}: not a whole checkpoint, passed over", file=sys.stderr)
        shutil.rmtree(checkpoint)
    return None


def _is_usable(checkpoint: Path) -> bool:
    """Whether a checkpoint is whole, and so is the best one so far, which it names."""
    if not _is_whole(checkpoint):
        return False
    best = _best(checkpoint)
    return best is None or best == checkpoint.absolute() or _is_whole(best)


def _is_whole(checkpoint: Path) -> bool:
    try:
        _state(checkpoint)
        adapters.check_weights(checkpoint)
    except (OSError, ValueError, PeftBenchError):
        return False
    # The directory of a zip file stands at its end.
    names = (*_TORCH_FILES, *_random_state_files(checkpoint))
    return all(zipfile.is_zipfile(checkpoint / name) for name in names)


def _random_state_files(checkpoint: Path) -> list[str]:
    """Each process writes its own, when it comes to it."""
    processes = spent(checkpoint).processes or runtime.processes()
    if processes == 1:
        return ["rng_state.pth"]
    return [f"rng_state_{rank}.pth" for rank in range(processes)]


def _state(checkpoint: Path) -> dict[str, Any]:
    state = json.loads((checkpoint / _STATE_FILE).read_text(encoding="utf-8"))
    if not isinstance(state, dict):
        raise ValueError("the Trainer's state is not a JSON object")
    return state


def _best(checkpoint: Path) -> Path | None:
    """The best checkpoint so far, by its name: the path is that of the folder's old place."""
    best = _state(checkpoint).get("best_model_checkpoint")
    return None if best is None else checkpoint.absolute().with_name(Path(best).name)


def _correct_place(checkpoint: Path) -> None:
    state, best = _state(checkpoint), _best(checkpoint)
    if best is not None and state["best_model_checkpoint"] != str(best):
        state["best_model_checkpoint"] = str(best)
        text = json.dumps(state, indent=2, sort_keys=True) + "\n"
        records.write_text(checkpoint / _STATE_FILE, text)


def _step_of(checkpoint: Path) -> int:
    return int(checkpoint.name.rpartition("-")[2])


def newest(folder: Path) -> Path | None:
    """The newest checkpoint that can be gone on from; nothing is deleted."""
    found = sorted(folder.glob("checkpoint-*"), key=_step_of, reverse=True)
    return next((checkpoint for checkpoint in found if _is_usable(checkpoint)), None)


def is_last(checkpoint: Path) -> bool:
    """Whether training ended at a whole checkpoint, by its number of steps or by early stopping."""
    control = (_state(checkpoint).get("stateful_callbacks") or {}).get("TrainerControl") or {}
    return bool((control.get("args") or {}).get("should_training_stop"))


def load_last(trainer: Any, checkpoint: Path) -> None:
    """Leaves a Trainer as training until a checkpoint that :func:`is_last` leaves it.

    The Trainer would go on from it with one more step wherever the epoch was not over.
    """
    from transformers import TrainerState

    trainer.state = TrainerState.load_from_json(str(checkpoint / _STATE_FILE))
    trainer._load_best_model()


def train_loss(state: Any) -> float:
    """The mean over all steps, those before an interruption too, by what the Trainer has logged."""
    total, step = 0.0, 0
    for entry in state.log_history:
        if "loss" in entry:
            total += entry["loss"] * (entry["step"] - step)
            step = entry["step"]
    return total / max(step, 1)


def spent(checkpoint: Path | None) -> Spent:
    """The time spent until a checkpoint; unknown where it does not tell."""
    if checkpoint is None:
        return Spent()
    try:
        raw = json.loads((checkpoint / _SPENT_FILE).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        raw = None
    return schema.read(Spent, raw, "", Faults("")) or Spent(known=False)


def clock(earlier: Spent) -> Any:
    """Counts the time spent, and keeps it beside each checkpoint so that a resumed run adds up.

    A callback for the Trainer; ``clock.spent()`` is the sum so far.
    """
    from transformers import TrainerCallback

    processes = runtime.processes()
    known = earlier.known and earlier.processes in (None, processes)

    class Clock(TrainerCallback):  # type: ignore[misc]
        def __init__(self) -> None:
            self.wall_start = time.perf_counter() - earlier.wall_s
            self.cpu_start = time.process_time() - earlier.cpu_s
            self.step_wall_s = earlier.step_wall_s
            self.step_start: float | None = None

        def spent(self) -> Spent:
            wall_s = time.perf_counter() - self.wall_start
            cpu_s = time.process_time() - self.cpu_start
            return Spent(wall_s, self.step_wall_s, cpu_s, known, processes)

        def on_step_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
            self.step_start = time.perf_counter()

        def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
            assert self.step_start is not None
            self.step_wall_s += time.perf_counter() - self.step_start
            if state.global_step >= state.max_steps:
                control.should_log = True  # else the loss of the last steps is in no log

        def on_save(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
            if state.is_world_process_zero:
                folder = Path(args.output_dir) / f"checkpoint-{state.global_step}"
                records.write_text(folder / _SPENT_FILE, json.dumps(asdict(self.spent())))

    return Clock()
