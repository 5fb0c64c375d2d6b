"""Runs found in folders and files: our records, the harness' results, PEFT's comparisons."""

from __future__ import annotations

import hashlib
import json
import math
import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from peft_bench import method_comparison
from peft_bench.errors import Faults, MissingError, PeftBenchError, UsageError
from peft_bench.quirks import active_quirks, describe_profile
from peft_bench.records import (
    RECORD_NAME,
    SCHEMA_VERSION,
    AdapterRecord,
    ModelRecord,
    RunRecord,
    Score,
    StoredRecord,
    TaskRecord,
    find_records,
    find_samples,
    holds_record,
    stamp_of,
)
from peft_bench.records.check import check
from peft_bench.report.row import LeaderboardRow

_OURS = frozenset({"conala", "codealpacapy", "apps", "odex", "humaneval", "mbpp", "quickstart"})


@dataclass(frozen=True)
class Found:
    """What there was: records, rows that have no record, what could not be read, and older results.

    ``superseded`` names the results of ``lm_eval``, a task each, that give way to newer ones.
    """

    records: list[StoredRecord]
    rows: list[LeaderboardRow]
    problems: list[PeftBenchError]
    superseded: list[str]


def find_runs(paths: Iterable[Path]) -> Found:
    """Reads every run at or below the paths.

    A folder with records gives those alone, also where they cannot be read. One without gives the
    harness' ``results_*.json`` below it, of each task in a folder the newest, and the results of
    PEFT's ``method_comparison`` in it. A JSON file may be any of these.
    """
    found = Found([], [], [], [])
    paths = list(paths)
    for path in paths:
        if path.suffix == ".json" and _is_file(path) and path.name != RECORD_NAME:
            _read_file(path, found)
            continue
        records, problems = find_records([path])
        if not records and os.path.isdir(path) and not holds_record(path):  # noqa: PTH112 - as below
            files = sorted(filter(_is_file, path.rglob("results_*.json")))
            others = [file for file in _comparisons(path) if file not in files]
            _read_newest(files, found)
            for file in others:
                _read_file(file, found)
            if files or others:  # that there is no record is then no problem
                problems = [one for one in problems if not isinstance(one, MissingError)]
        found.records.extend(records)
        found.problems.extend(problems)
    if len(paths) == 1:
        return found
    seen: dict[Path, StoredRecord] = {}
    for stored in found.records:
        seen.setdefault(stored.folder.absolute() / stored.record.name, stored)
    superseded = list(dict.fromkeys(found.superseded))
    return Found(list(seen.values()), found.rows, found.problems, superseded)


def _is_file(path: Path) -> bool:
    return os.path.isfile(path)  # noqa: PTH113 - that one raises where it may not look


def _read_newest(files: list[Path], found: Found) -> None:
    """Of each task in a folder the newest: the harness puts all runs of a model into one."""
    have: set[tuple[Path, str]] = set()
    for file in sorted(files, key=stamp_of, reverse=True):
        alone = Found([], found.rows, found.problems, [])
        _read_file(file, alone)
        for record, folder in alone.records:
            new = tuple(task for task in record.tasks if (folder, task.task) not in have)
            found.superseded.extend(
                f"{file}: {task.task}" for task in record.tasks if task not in new
            )
            have.update((folder, task.task) for task in new)
            if new:
                found.records.append(StoredRecord(replace(record, tasks=new), folder))


def _comparisons(folder: Path) -> list[Path]:
    """The JSON files in a folder that have the parts of method_comparison's."""
    return [
        file
        for file in sorted(folder.glob("*.json"))
        if _is_file(file) and method_comparison.is_result(_load(file, []))
    ]


def _read_file(file: Path, found: Found) -> None:
    value = _load(file, found.problems)
    if value is None:
        return
    try:
        if method_comparison.is_result(value):
            found.rows.append(method_comparison.read_row(file, value))
        elif isinstance(value, dict) and isinstance(value.get("results"), dict):
            found.records.append(StoredRecord(harness_record(file, value), file.parent))
        else:
            raise UsageError(
                place=str(file),
                problem="is neither a record, nor a result of lm_eval or of PEFT's"
                " method_comparison",
                remedy="leave it out",
            )
    except PeftBenchError as problem:
        found.problems.append(problem)


def _load(file: Path, problems: list[PeftBenchError]) -> Any:
    try:
        return json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        problems.append(UsageError(place=str(file), problem=f"cannot be read as JSON ({error})"))
        return None


def harness_record(file: Path, results: Mapping[str, Any]) -> RunRecord:
    """A record of a run under plain ``lm_eval``, as far as its results tell.

    They name neither the rows' hash nor an adapter's content, so such a run is on the scale of
    others like it alone; a mark says where it is from. Metrics that are no shares are left out.

    Raises:
        UsageError: results that have no task with a score from 0 to 1, or are faulty.
    """
    try:
        record = _harness_record(file, results)
    except (KeyError, TypeError, ValueError, AttributeError, OverflowError) as error:
        raise UsageError(
            place=str(file), problem=f"is no result of lm_eval ({type(error).__name__}: {error})"
        ) from error
    faults = Faults(str(file))
    check(record, faults)
    faults.raise_if_any()
    if not record.tasks:
        raise UsageError(place=str(file), problem="has no task with a score from 0 to 1")
    return record


def _harness_record(file: Path, results: Mapping[str, Any]) -> RunRecord:
    config = results.get("config") or {}
    given = config.get("model_args")
    given = given if isinstance(given, dict) else _parse_arguments(str(given or ""))
    model = given.get("pretrained") or given.get("model") or results.get("model_name")
    peft = given.get("peft")
    stamp = results.get("date")
    when = datetime.fromtimestamp(stamp if isinstance(stamp, int | float) else 0, UTC)
    adapter = None
    if peft:
        # Its content is not here; a mark says so.
        digest = hashlib.sha256(f"unseen: {peft}".encode()).hexdigest()
        adapter = AdapterRecord(Path(str(peft)).name, digest, "unknown")
    tasks = [
        task
        for name in results.get("configs") or {}
        if (task := _task(file, name, results, adapter)) is not None
    ]
    parameters = config.get("model_num_parameters")
    seconds: Any = results.get("total_evaluation_time_seconds")
    return RunRecord(
        schema_version=SCHEMA_VERSION,
        name=f"{file.parent.name}/{file.stem}",
        created=when.isoformat(timespec="seconds"),
        status="complete",
        model=ModelRecord(
            id=str(model or "unknown"),
            revision=_text(given.get("revision")),
            dtype=_text(given.get("dtype")),
            parameters=parameters if isinstance(parameters, int) else None,
        ),
        adapter=adapter,
        tasks=tuple(tasks),
        harness={"model_args": {key: str(value) for key, value in given.items()}},
        versions={"lm_eval": str(results.get("lm_eval_version") or "unknown")},
        eval_wall_s=float(seconds) if isinstance(seconds, int | float | str) else None,
    )


def _task(
    file: Path, name: str, results: Mapping[str, Any], adapter: AdapterRecord | None
) -> TaskRecord | None:
    config = results["configs"][name]
    metadata = config.get("metadata") or {}
    counts = (results.get("n-samples") or {}).get(name) or {}
    n, original = int(counts.get("effective", 0)), int(counts.get("original", 0))
    scores: dict[str, Score] = {}
    raw = results["results"].get(name) or {}
    for key, value in raw.items():
        metric, comma, filter_name = key.partition(",")
        error = raw.get(f"{metric}_stderr,{filter_name}")
        share = isinstance(value, int | float) and math.isfinite(value) and 0 <= value <= 1
        if not comma or metric.endswith("_stderr") or not share or metric in scores or n < 1:
            continue
        stderr = float(error) if isinstance(error, int | float) else math.nan
        scores[metric] = Score(float(value), stderr if 0 <= stderr < math.inf else None, n)
    if not scores:
        return None
    primary = str(metadata.get("primary_metric"))
    source = str(metadata.get("data", name))
    marks = ["imported from lm_eval: rows not verified"]
    if n < original:
        marks.append(f"{n} of {original} problems")
    if adapter is not None:
        marks.append("adapter not seen")
    samples = find_samples(file.parent, name, stamp_of(file))
    return TaskRecord(
        task=name,
        version=str((results.get("versions") or {}).get(name, "unknown")),
        n=n,
        scores=scores,
        primary_metric=primary if primary in scores else next(iter(scores)),
        num_fewshot=int((results.get("n-shot") or {}).get(name) or 0),
        decoding=dict(config.get("generation_kwargs") or {}),
        prompt_hash=None,
        sandbox_level=_text(metadata.get("sandbox")),
        profile=_profile(source, metadata),
        custom_data=False,
        demonstration=bool(metadata.get("demonstration", False)),
        data_sha256={},
        marks=tuple(marks),
        samples_file=samples.name if samples else None,
    )


def _profile(source: str, metadata: Mapping[str, Any]) -> str:
    if source not in _OURS:
        return "lm_eval"
    try:
        return describe_profile(active_quirks(source, **metadata), source)
    except PeftBenchError:
        return "unknown"


def _parse_arguments(given: str) -> dict[str, str]:
    pairs = (part.partition("=") for part in given.split(","))
    return {key: value for key, equals, value in pairs if equals}


def _text(value: object) -> str | None:
    return value if isinstance(value, str) else None
