"""How long a leaderboard takes: synthetic records, their figures drawn at random.

    python benchmarks/leaderboard.py [RECORDS] [--samples ROWS] [--keep FOLDER]

Prints CPU seconds of reading the records, building the rows and writing each format: at first,
and again with what the first time kept. The figures in the records mean nothing.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import random
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from peft_bench.verbs.leaderboard import keep_to_one_thread

keep_to_one_thread()  # as the command line does, before numpy is imported
from peft_bench import leaderboard, records  # noqa: E402

T = TypeVar("T")
_METHODS = ("none", "lora", "ia3", "prompt_tuning", "prefix_tuning", "dora", "qlora")
_METRICS = ("em@1", "em@2", "em@5", "em@10")


def main() -> None:
    """Makes the records and measures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("records", nargs="?", type=int, default=10_000)
    parser.add_argument("--samples", type=int, default=20, help="rows of each samples file")
    parser.add_argument("--keep", type=Path, help="make the records here and leave them")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        folder = arguments.keep or Path(scratch) / "runs"
        make(folder, arguments.records, arguments.samples)
        for title in ("at first", "again"):
            print(f"{arguments.records} records of {arguments.samples} rows, {title}:")
            with records.collector_paused():  # as the command line does
                measure(folder, Path(scratch))


def make(folder: Path, count: int, samples: int) -> None:
    """Writes evaluations: models with a base run each, methods, seeds."""
    rng = random.Random(0)
    per_model = 50
    for i in range(count):
        model, place = divmod(i, per_model)
        method = _METHODS[place % len(_METHODS)] if place else "none"
        write_run(folder / f"run-{i:05}", f"org/model-{model:03}", method, place, samples, rng)


def write_run(
    folder: Path, model: str, method: str, seed: int, samples: int, rng: random.Random
) -> None:
    """One evaluation with its samples."""
    rate = 0.1 if method == "none" else 0.1 + 0.3 * rng.random()
    values = [[float(rng.random() < rate * k**0.3) for k in (1, 2, 5, 10)] for _ in range(samples)]
    lines = []
    for row, value in enumerate(values):
        scores = dict(zip(_METRICS, value, strict=True))
        sample = {
            "doc_id": row,
            "doc": {"id": f"q{row}", "nl": f"question {row}", "cmd": f"f({row})",
                    "question_id": f"q{row // 2}"},
            "resps": [[f"f({row if scores['em@1'] else row + beam + 1})"] for beam in range(10)],
            "metrics": list(_METRICS),
            **scores,
        }  # fmt: skip
        lines.append(json.dumps(sample) + "\n")
    adapter = None
    if method != "none":
        digest = hashlib.sha256(folder.name.encode()).hexdigest()
        adapter = records.AdapterRecord(
            *(folder.name, digest, method, digest),
            *(rng.randrange(10_000, 5_000_000), rng.randrange(1 << 20, 1 << 25)),
            *(rng.uniform(60, 3600), rng.uniform(100, 5000), rng.randrange(1 << 30, 24 << 30)),
        )
    task = records.TaskRecord(
        task="conala",
        version="2.0",
        n=samples,
        scores={
            metric: records.Score(
                sum(value[i] for value in values) / samples, 0.02, samples, int(metric[3:])
            )
            for i, metric in enumerate(_METRICS)
        },
        primary_metric="em@10",
        num_fewshot=0,
        decoding={"num_beams": 10, "max_gen_toks": 64},
        prompt_hash=None,
        sandbox_level=None,
        profile="default",
        custom_data=False,
        demonstration=False,
        data_sha256={"test": "0" * 64},
        samples_file="samples_conala.jsonl",
        ids_sha256=records.hash_ids([f"q{row}" for row in range(samples)]),
    )
    record = records.RunRecord(
        schema_version=records.SCHEMA_VERSION,
        name=folder.name,
        created="2025-01-31T12:00:00+00:00",
        status="complete",
        model=records.ModelRecord(model, "main", "bfloat16", None, "llama", 350_000_000),
        adapter=adapter,
        tasks=(task,),
        harness={"seeds": {"torch_seed": seed}},
        versions={"peft": "0.0"},
        eval_wall_s=rng.uniform(60, 600),
    )
    records.write_record(folder, record)
    (folder / "samples_conala.jsonl").write_text("".join(lines), encoding="utf-8")
    records.keep_items(folder, task)  # as an evaluation does


def measure(folder: Path, out: Path) -> None:
    """Prints CPU seconds, part by part."""
    start = time.process_time()
    found, problems = _timed("reading records", lambda: records.find_records([folder]))
    cache = out / "cache.json"
    board = _timed("rows and tests", lambda: leaderboard.build_board(found, cache=cache))
    _timed("CSV", lambda: leaderboard.write_csv(board.rows, out / "b.csv"))
    _timed("Markdown", lambda: leaderboard.write_markdown(board.rows, out / "b.md"))
    _timed("HTML", lambda: leaderboard.write_html(board.rows, out / "b.html", board=board))
    _timed("terminal", lambda: leaderboard.format_table(board.rows))
    differences = sum(row.difference is not None for row in board.rows)
    print(f"  {'in all':16} {time.process_time() - start:7.2f} s CPU", end="")
    print(f"  ({len(board.rows)} rows, {differences} differences, {len(problems)} skipped)")


def _timed(name: str, work: Callable[[], T]) -> T:
    start = time.process_time()
    done = work()
    print(f"  {name:16} {time.process_time() - start:7.2f} s CPU")
    return done


if __name__ == "__main__":
    main()
