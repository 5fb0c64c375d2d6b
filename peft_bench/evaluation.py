"""``peft-bench eval``: the harness scores an adapter (or a base model), and a record is kept.

The work happens in ``NAME.partial``; it is renamed to ``NAME`` when results, samples and record
are whole. Answers are cached as they come, so that an interrupted evaluation goes on where it
stopped.
"""

from __future__ import annotations

import argparse
import json
import sqlite3
import time
from collections.abc import Mapping, Sequence
from contextlib import closing
from itertools import chain
from pathlib import Path
from typing import Any

from peft_bench import adapters, catalog, data, paths, records, runtime
from peft_bench.errors import MissingError, PeftBenchError, UsageError
from peft_bench.executed.kept import VERDICT_FILES
from peft_bench.generation.made import KEPT_FILES, KEPT_IN
from peft_bench.harness_args import identity, parse
from peft_bench.prompts import CHAT
from peft_bench.recording import build_record
from peft_bench.subject import Subject, find_subject
from peft_bench.workfolder import alone, disk_error, open_partial

_REQUEST_FILE = "request.json"


def evaluate(
    adapter: str | Path | None = None,
    *,
    model: str | None = None,
    tasks: Sequence[str],
    out: str | Path | None = None,
    harness_args: Sequence[str] = (),
) -> records.RunRecord:
    """Scores an adapter, or a base model alone, with the harness; returns the record kept.

    Base, revision, dtype, quantisation and prompt come from the adapter's card. If the folder
    exists already and holds the same evaluation, nothing is done: one that differs in nothing but
    how it was computed (``--batch_size``, ``--device``) is the same.

    Args:
        adapter: an adapter's folder, or its id on the hub (``ORG/NAME``, ``ORG/NAME@REVISION``);
            None scores ``model`` alone.
        model: a hub id or folder; with an adapter, where its base lies now (it is verified).
        tasks: names of harness tasks, ours or its own.
        out: the evaluation's folder; ``evaluations/<model or adapter>--<tasks>`` by default.
        harness_args: further options of ``lm_eval``, such as ``["--batch_size", "8"]``.

    Raises:
        UsageError: faulty arguments or adapter; ``out`` holds another evaluation, or
            ``OUT.partial`` answers of another; or another process is making ``out``.
        MissingError: the adapter, the model or the data cannot be had.
        PeftBenchError: the adapter did not really load, was made for another base, or was
            trained with another prompt; or results could not be written.
        KeyboardInterrupt: stopped; answers so far are kept in ``OUT.partial``.
    """
    if (count := runtime.processes()) > 1:
        raise UsageError(
            place="peft-bench eval",
            problem=f"was started as one of {count} processes",
            remedy="start it by itself; `accelerate launch -m lm_eval` scores on several GPUs, and "
            "the leaderboard reads what it writes",
        )
    options = parse(harness_args)
    subject = find_subject(adapter, model, options.model_args or {})
    _refuse_unsafe(tasks, options)
    folder = Path(out) if out is not None else _default_folder(subject, tasks)
    request = _request(subject, tasks, options)
    try:
        if folder.exists():
            return _finished(folder, request)
        with alone(folder):
            if folder.exists():
                return _finished(folder, request)
            return _evaluated(subject, tasks, options, folder, request)
    except OSError as error:
        raise disk_error(folder, error) from error


def _evaluated(
    subject: Subject,
    tasks: Sequence[str],
    options: argparse.Namespace,
    folder: Path,
    request: Mapping[str, Any],
) -> records.RunRecord:
    partial = _open(folder, request)
    started = time.perf_counter()
    facts = _run_harness(subject, tasks, options, partial)
    results, stamp = _read_results(partial)
    record = build_record(
        folder.name,
        partial,
        results,
        facts,
        stamp=stamp,
        adapter_name=subject.name if subject.adapter else None,
        adapter_sha256=request["adapter_sha256"],
        card=subject.card,
        wall_s=time.perf_counter() - started,
    )
    for task in record.tasks:
        records.keep_items(partial, task)
    records.write_record(partial, record)
    for pattern in ("answers_rank*.db*", KEPT_FILES, VERDICT_FILES):
        for kept in partial.glob(pattern):
            kept.unlink()
    partial.rename(folder)
    return record


def _refuse_unsafe(tasks: Sequence[str], options: argparse.Namespace) -> None:
    if getattr(options, "confirm_run_unsafe_code", False):
        return
    for task in catalog.leaf_tasks(tasks):
        config = catalog.task_config(task)
        if config is not None and config.get("unsafe_code"):
            raise UsageError(
                place=f"task {task}",
                problem="executes programs that the model wrote",
                remedy="read sandbox/README.md, then add --confirm_run_unsafe_code",
            )


def _default_folder(subject: Subject, tasks: Sequence[str]) -> Path:
    return Path("evaluations") / f"{subject.name}--{'+'.join(tasks)}"


def _request(
    subject: Subject,
    tasks: Sequence[str],
    options: argparse.Namespace,
) -> dict[str, Any]:
    """What tells one evaluation from another: the same request gives the same scores.

    Reads the rows, so that missing or faulty ones are told before the model loads.
    """
    versions: dict[str, Any] = {}
    asked: set[tuple[str, str]] = set()
    for task in catalog.leaf_tasks(tasks):
        config = catalog.task_config(task)
        metadata = (config or {}).get("metadata") or {}
        versions[task] = metadata.get("version")
        source = str(metadata.get("data", task))
        if source in data.SOURCES:
            asked.add((source, "test"))
            shots, split = (config or {}).get("num_fewshot"), (config or {}).get("fewshot_split")
            if split and (shots if options.num_fewshot is None else options.num_fewshot):
                asked.add((source, split))
    folder = subject.adapter
    data_dir = (options.metadata or {}).get("data_dir")
    rows = {
        f"{source} {split}": data.load_split(source, split, data_dir=data_dir).sha256
        for source, split in sorted(asked)
    }
    return {
        "model": subject.model,
        "revision": subject.revision,
        "dtype": subject.dtype,
        "quantization": subject.quantization,
        "adapter_sha256": adapters.content_sha256(folder) if folder is not None else None,
        "tasks": versions,
        "rows": rows,
        "options": identity(options),
    }


def _finished(folder: Path, request: Mapping[str, Any]) -> records.RunRecord:
    if others := _differences(folder, request):
        raise UsageError(
            place=str(folder),
            problem=f"holds another evaluation: {others}",
            remedy="choose another --out, or delete the folder",
        )
    return records.read_record(folder)


def _open(folder: Path, request: Mapping[str, Any]) -> Path:
    """Begins the working folder, or goes on with it.

    Raises:
        UsageError: it keeps answers to another request.
    """
    partial = folder.with_name(f"{folder.name}.partial")
    if (others := _differences(partial, request)) and _keeps_answers(partial):
        raise UsageError(
            place=str(partial),
            problem=f"keeps answers of another evaluation, interrupted: {others}",
            remedy="ask for the same, choose another --out, or delete this folder to begin anew",
        )
    open_partial(folder, {_REQUEST_FILE: json.dumps(request, indent=2) + "\n"})
    stale_files = ("results_*.json", "samples_*.jsonl", "items_*.jsonl")
    for stale in chain.from_iterable(map(partial.glob, stale_files)):
        stale.unlink()
    return partial


def _differences(folder: Path, request: Mapping[str, Any]) -> str:
    """In what the request kept in a folder is another, in words; empty where it is the same."""
    file = folder / _REQUEST_FILE
    try:
        before = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        before = None
    if not isinstance(before, dict):
        return f"{_REQUEST_FILE} is missing or cannot be read"
    was, now = _flat(before), _flat(request)
    return "; ".join(
        f"{name} was {was.get(name)!r}, is {now.get(name)!r}"
        for name in {**was, **now}
        if was.get(name) != now.get(name)
    )


def _flat(request: Mapping[str, Any]) -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for name, value in request.items():
        inner = {f"{name} {key}": value[key] for key in value} if isinstance(value, dict) else None
        flat.update({name: value} if inner is None else inner)
    return flat


def _keeps_answers(partial: Path) -> bool:
    """Whether a working folder has anything that was made by a model."""
    if any(file.stat().st_size for file in partial.glob(KEPT_FILES)):
        return True
    return any(map(_holds_rows, partial.glob("answers_rank*.db")))


def _holds_rows(database: Path) -> bool:
    with closing(sqlite3.connect(database)) as cache:
        try:
            tables = cache.execute("select name from sqlite_master where type = 'table'").fetchall()
            return any(
                cache.execute(f'select 1 from "{name}" limit 1').fetchone() for (name,) in tables
            )
        except sqlite3.DatabaseError:
            return True  # it cannot be read, and is not to be deleted for that


def _run_harness(
    subject: Subject, tasks: Sequence[str], options: argparse.Namespace, partial: Path
) -> dict[str, Any]:
    """Runs the harness' own command with our model class; returns what was seen of the model."""
    from peft_bench.verified_model import MODEL_NAME, Expected, VerifiedHFLM

    options.model = MODEL_NAME
    options.tasks = list(tasks)
    options.model_args = {
        **(options.model_args or {}),
        "pretrained": subject.model,
        "dtype": subject.dtype,
        **({"revision": subject.revision} if subject.revision else {}),
        **({"peft": str(subject.peft)} if subject.peft else {}),
        **({"quantization": subject.quantization} if subject.quantization else {}),
    }
    if subject.prompt is not None:
        options.metadata = {"prompt": subject.prompt, **(options.metadata or {})}
    if subject.prompt == CHAT and not options.apply_chat_template:
        options.apply_chat_template = True
    # The harness treats a path that ends in .json as a file name to put its date into.
    options.output_path = str(partial / "results.json")
    options.log_samples = True
    options.use_cache = str(partial / "answers")
    if not paths.tasks_are_installed() and options.include_path is None:
        options.include_path = str(paths.tasks_dir())
    VerifiedHFLM.expected = Expected(subject.peft, subject.card)
    kept_in = KEPT_IN.set(partial)
    try:
        options.func(options)
    except PeftBenchError:
        raise
    except (ValueError, OSError, RuntimeError) as error:
        raise _harness_error(error) from error
    finally:
        KEPT_IN.reset(kept_in)
    return VerifiedHFLM.facts


def _harness_error(error: Exception) -> PeftBenchError:
    said = str(error).strip().split("\n", 1)[0][:400]
    if "Tasks not found" in said:
        return UsageError(place="--tasks", problem=said, remedy="see `peft-bench list tasks`")
    if isinstance(error, OSError):
        return MissingError(
            place="lm_eval",
            problem=said,
            remedy="check the model's id or folder, the network, and free disk space",
        )
    return PeftBenchError(
        place="lm_eval",
        problem=said,
        remedy="see the traceback with `peft-bench --verbose eval ...`",
    )


def _read_results(partial: Path) -> tuple[dict[str, Any], str]:
    """The harness' results and their stamp.

    It only warns when it cannot save them or the samples, so they are looked for.
    """
    found = sorted(partial.glob("results_*.json"))
    if not found:
        raise PeftBenchError(
            place=str(partial),
            problem="the harness could not save its results",
            remedy="free some disk space and run the same command again: answers are kept",
        )
    results: dict[str, Any] = json.loads(found[-1].read_text(encoding="utf-8"))
    stamp = records.stamp_of(found[-1])
    for task in results["configs"]:
        if records.find_samples(partial, task, stamp) is None:
            raise PeftBenchError(
                place=str(partial),
                problem=f"the harness could not save the samples of {task}",
                remedy="free some disk space and run the same command again: answers are kept",
            )
    return results, stamp
