"""From the harness' results to a record: scores, errors over questions, what they rest on."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np

from peft_bench import cards, data, harness, records, runtime
from peft_bench.metrics.bootstrap import bootstrap_stderr

_SEED_KEYS = ("random_seed", "numpy_seed", "torch_seed", "fewshot_seed")


def build_record(
    name: str,
    folder: Path,
    results: Mapping[str, Any],
    facts: Mapping[str, Any],
    *,
    adapter_name: str | None,
    adapter_sha256: str | None,
    card: cards.AdapterCard | None,
    wall_s: float,
) -> records.RunRecord:
    """The record of one evaluation, from the harness' results and samples in ``folder``."""
    config = results["config"]
    model_args = config["model_args"] if isinstance(config["model_args"], dict) else {}
    return records.RunRecord(
        schema_version=records.SCHEMA_VERSION,
        name=name,
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        status="complete",
        model=records.ModelRecord(**facts),
        adapter=_adapter_record(adapter_name, adapter_sha256, card),
        tasks=tuple(
            _task_record(task, folder, results, card, model_args) for task in results["configs"]
        ),
        harness={
            "model_args": {key: str(value) for key, value in model_args.items()},
            "seeds": {key: config.get(key) for key in _SEED_KEYS},
            "batch_size": config.get("batch_size"),
            "limit": config.get("limit"),
            "gen_kwargs": config.get("gen_kwargs"),
        },
        versions=runtime.versions(),
        eval_wall_s=wall_s,
        eval_peak_bytes=runtime.peak_device_bytes(),
    )


def _adapter_record(
    name: str | None, sha256: str | None, card: cards.AdapterCard | None
) -> records.AdapterRecord | None:
    if name is None or sha256 is None:
        return None
    if card is None:
        return records.AdapterRecord(name=name, sha256=sha256, method="unknown")
    return records.AdapterRecord(
        name=card.name,
        sha256=sha256,
        method=card.method,
        recipe_sha256=card.recipe_sha256,
        trainable_parameters=card.trainable_parameters,
        size_bytes=card.adapter_bytes,
        train_wall_s=card.costs.train_wall_s,
        train_tokens_per_s=card.costs.tokens_per_s,
        train_peak_bytes=card.costs.train_peak_bytes,
    )


def _task_record(
    task: str,
    folder: Path,
    results: Mapping[str, Any],
    card: cards.AdapterCard | None,
    model_args: Mapping[str, Any],
) -> records.TaskRecord:
    config = results["configs"][task]
    metadata = {**model_args, **(config.get("metadata") or {})}
    counted = results["n-samples"][task]
    n = int(counted["effective"])
    splits = _splits(task, metadata)
    level = harness.sandbox_level(**metadata) if config.get("unsafe_code") else None
    values = _values(results["results"][task])
    primary = metadata.get("primary_metric")
    [samples] = sorted(folder.glob(f"samples_{task}_*.jsonl"))[-1:]
    template = harness.choose_prompt(**metadata) if task in data.SOURCES else None
    shots = int((results.get("n-shot") or {}).get(task) or 0)
    record = records.TaskRecord(
        task=task,
        version=str(results["versions"][task]),
        n=n,
        scores={metric: records.Score(value, None, n) for metric, value in values.items()},
        primary_metric=primary if primary in values else next(iter(values)),
        num_fewshot=shots,
        decoding=dict(config.get("generation_kwargs") or {}),
        prompt_hash=template.sha256 if template is not None else None,
        sandbox_level=level,
        profile=str(metadata.get("profile", "default")),
        custom_data=any(split.custom for split in splits),
        demonstration=bool(metadata.get("demonstration", False)),
        data_sha256={split.name: split.sha256 for split in splits},
        marks=_marks(n, int(counted["original"]), shots, level, card, config),
        samples_file=samples.name,
    )
    return _with_errors(folder, record)


def _with_errors(folder: Path, record: records.TaskRecord) -> records.TaskRecord:
    """Adds bootstrap errors over questions, and the hash of the items scored."""
    scores: dict[str, records.Score] = {}
    ids: tuple[str, ...] = ()
    for metric, score in record.scores.items():
        items = records.per_item_scores(folder, record, metric)
        ids = items.ids
        stderr: float | None = None
        if items.values and abs(float(np.mean(items.values)) - score.value) < 1e-9:
            stderr = bootstrap_stderr(items.values, groups=items.groups)
            if not np.isfinite(stderr):
                stderr = None
        k = re.search(r"@(\d+)", metric)
        scores[metric] = records.Score(score.value, stderr, score.n, int(k[1]) if k else None)
    return replace(record, scores=scores, ids_sha256=records.hash_ids(ids) if ids else None)


def _values(raw: Mapping[str, Any]) -> dict[str, float]:
    """The harness' ``metric,filter`` keys as metrics; only one filter's values are kept."""
    values: dict[str, float] = {}
    for key, value in raw.items():
        metric, comma, _ = key.partition(",")
        if not comma or metric.endswith("_stderr") or not isinstance(value, int | float):
            continue
        values.setdefault(metric, float(value))
    return values


def _splits(task: str, metadata: Mapping[str, Any]) -> list[data.Split]:
    if task not in data.SOURCES:
        return []
    return [data.load_split(task, "test", data_dir=metadata.get("data_dir"))]


def _marks(
    n: int,
    original: int,
    shots: int,
    level: str | None,
    card: cards.AdapterCard | None,
    config: Mapping[str, Any],
) -> tuple[str, ...]:
    marks: list[str] = []
    if n < original:
        marks.append(f"{n} of {original} problems")
    if shots:
        marks.append(f"{shots}-shot prompt, trained zero-shot" if card else f"{shots}-shot prompt")
    if config.get("unsafe_code"):
        if level is None:
            marks.append("nothing executed: no sandbox here")
        elif level != "strong":
            marks.append(f"sandbox {level}")
    if card is not None and card.custom_data:
        marks.append("trained on custom data")
    return tuple(marks)
