"""What eight adapters of one base cost: one sweep, beside a harness process each.

    python benchmarks/sweep.py [--model tiny|smollm2] [--limit 16] [--rounds 1] [--adapters 8]

A grid of one base and eight adapters is trained once. Then its evaluations are made again and
again, in turn: by ``lm_eval``, a process an adapter, and by ``peft-bench sweep`` on the grid whose
adapters are there (which writes the leaderboard too). Prints CPU seconds of the process trees,
imports and all, and their ratio. Leaves with 1 if a score or an answer differs between the two.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import bench_process

METHODS = ("lora", "ia3", "prompt_tuning", "prefix_tuning")
CODE = "import sys; from peft_bench.cli import main; sys.exit(main())"


def grid(model: str, adapters: int, limit: int) -> dict[str, Any]:
    """Several methods and seeds on the packaged rows, asked as CoNaLa's: ten beams."""
    seeds = [*range(1, -(-adapters // len(METHODS)) + 1)]
    points = [(method, seed) for seed in seeds for method in METHODS][:adapters]
    return {
        "name": "cost",
        "models": [{"name": model, "source": model, "dtype": "float32"}],
        "data": [{"name": "conala"}],
        "stand_ins": {"conala": "quickstart"},
        "methods": [{"name": method} for method in METHODS],
        "axes": {"methods": [], "seeds": [1]},
        "include": [{"methods": [method], "seeds": [seed]} for method, seed in points],
        "set": {
            # A step makes an adapter that is no one else's; what it learns is no matter here.
            "training.max_steps": 1,
            "training.batch_size": 4,
            "training.evaluations_per_epoch": 1,
            "data.max_train_rows": 8,
            "data.max_prompt_tokens": 64,
            "data.max_target_tokens": 32,
        },
        "args": options(limit),
    }


def options(limit: int) -> list[str]:
    """The harness' options, the same for both."""
    return ["--batch_size", "8", "--limit", str(limit), "--gen_kwargs", "max_gen_toks=24"]


def call(command: list[str], log: Path, **environment: str) -> None:
    """Runs a command to its end.

    Raises:
        SystemExit: it failed; the log says why.
    """
    with log.open("a", encoding="utf-8") as file:
        done = subprocess.run(
            command, stdout=file, stderr=file, env={**os.environ, **environment}, check=False
        )
    if done.returncode:
        raise SystemExit(f"failed: {' '.join(command)}\n{log.read_text(encoding='utf-8')[-3000:]}")


def harness(adapters: list[Path], base: str, limit: int, data: Path, out: Path) -> None:
    """A process an adapter, as typed."""
    lm_eval = [sys.executable, "-m", "lm_eval", "run", "--model", "hf", "--tasks", "conala"]
    lm_eval += ["--log_samples", "--include_path", "tasks", *options(limit)]
    for adapter in adapters:
        own = ["--model_args", f"pretrained={base},peft={adapter},dtype=float32"]
        own += ["--output_path", str(out / adapter.name)]
        call([*lm_eval, *own], out.with_suffix(".log"), PEFT_BENCH_DATA=str(data))


def answers(folder: Path) -> tuple[Any, ...]:
    """Scores and answers of one evaluation by the harness, wherever in the folder they lie."""
    [results] = folder.rglob("results_*.json")
    [samples] = folder.rglob("samples_*.jsonl")
    scores = json.loads(results.read_text(encoding="utf-8"))["results"]["conala"]
    rows = [json.loads(line) for line in samples.read_text(encoding="utf-8").splitlines()]
    numbers = {key: value for key, value in scores.items() if isinstance(value, float)}
    return numbers, sorted((row["doc_id"], json.dumps(row["resps"])) for row in rows)


def main() -> int:
    """Trains, measures, compares."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--model", choices=("tiny", "smollm2"), default="tiny")
    parser.add_argument("--adapters", type=int, default=8)
    parser.add_argument("--limit", type=int, default=16, help="rows that each is scored on")
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--json", type=Path, help="keep the figures there")
    given = parser.parse_args()
    bench_process.become_reaper()
    with tempfile.TemporaryDirectory() as folder:
        figures, equal = measure(given, Path(folder))
    theirs, ours = (statistics.median(figures[side]) for side in ("lm_eval", "sweep"))
    print(f"{given.model}, {given.adapters} adapters, {given.limit} rows, CPU seconds:")
    for side, seconds in figures.items():
        print(f"  {side:8} {statistics.median(seconds):7.1f}  {[round(s, 1) for s in seconds]}")
    print(f"  ratio    {theirs / ours:7.2f}")
    print(f"  the same scores and answers: {equal}")
    if given.json:
        given.json.write_text(json.dumps({**vars(given), "json": None, "cpu_s": figures}) + "\n")
    return 0 if equal else 1


def measure(given: argparse.Namespace, folder: Path) -> tuple[dict[str, list[float]], bool]:
    """CPU seconds by side and round, and whether all scores and answers are the same."""
    file, out = folder / "grid.yaml", folder / "out"
    raw = grid(given.model, given.adapters, given.limit)
    file.write_text(json.dumps(raw), encoding="utf-8")
    sweep = [sys.executable, "-c", CODE, "sweep", str(file), "--out", str(out)]
    call(sweep, folder / "sweep.log")
    adapters = sorted((out / "adapters").iterdir())
    assert len(adapters) == given.adapters
    config = json.loads((adapters[0] / "adapter_config.json").read_text(encoding="utf-8"))
    base = config["base_model_name_or_path"]
    figures: dict[str, list[float]] = {"lm_eval": [], "sweep": []}
    equal = True
    for number in range(given.rounds):
        theirs = folder / f"theirs-{number}"
        _, cpu_s, _, alive = bench_process.measured(
            lambda theirs=theirs: harness(adapters, base, given.limit, out / "data", theirs)
        )
        figures["lm_eval"].append(cpu_s)
        shutil.rmtree(out / "evaluations")
        _, own_s, _, alive_too = bench_process.measured(lambda: call(sweep, folder / "sweep.log"))
        figures["sweep"].append(own_s)
        assert not alive + alive_too, "a process lives on: its time is not counted"
        for adapter in adapters:
            [ours] = (out / "evaluations").glob(f"{adapter.name.rpartition('--')[0]}--*")
            equal = equal and answers(theirs / adapter.name) == answers(ours)
    return figures, equal


if __name__ == "__main__":
    sys.exit(main())
