"""From the harness' results to a record: scores, errors over questions, what they rest on."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np

from peft_bench import cards, data, harness, records, runtime, scoring
from peft_bench.metrics.bootstrap import bootstrap_stderr
from peft_bench.prompts import PROMPTS
from peft_bench.quirks import active_quirks, describe_profile

_SEED_KEYS = ("random_seed", "numpy_seed", "torch_seed", "fewshot_seed")


def build_record(
    name: str,
    folder: Path,
    results: Mapping[str, Any],
    facts: Mapping[str, Any],
    *,
    stamp: str,
    adapter_name: str | None,
    adapter_sha256: str | None,
    card: cards.AdapterCard | None,
    wall_s: float,
) -> records.RunRecord:
    """The record of one evaluation, from the harness' results and samples in ``folder``.

    ``stamp`` is that of the results; see :func:`peft_bench.records.stamp_of`.
    """
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
            task_record(task, folder, results, model_args, stamp=stamp, card=card)
            for task in results["configs"]
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
        seed=(card.recipe.get("training") or {}).get("seed"),
        variant_sha256=records.variant_sha256(card.recipe),
        trained_on=tuple(sorted({name.partition("/")[0] for name in card.data})),
        reserved_peak_bytes=card.costs.reserved_peak_bytes,
        train_tokens=card.costs.train_tokens,
        train_loss=card.outcome.train_loss,
    )


# Their prompts are functions to be gone on with, whatever an adapter was trained on.
_COMPLETED = frozenset({"humaneval", "odex"})


@dataclass(frozen=True, slots=True)
class Asked:
    """What was asked: the prompt's hash and the rows, as a record has them."""

    prompt_hash: str | None
    data_sha256: dict[str, str]
    custom_data: bool

    @classmethod
    def find(cls, source: str, metadata: Mapping[str, Any]) -> Asked:
        """Loads the rows once more, and the model's configuration where no prompt is named."""
        if source not in data.SOURCES:
            return cls(None, {}, False)
        split = data.load_split(source, "test", data_dir=metadata.get("data_dir"))
        if source in _COMPLETED and not metadata.get("chat"):
            return cls(PROMPTS["completion"].sha256, {split.name: split.sha256}, split.custom)
        # What a chat template makes of the prompt is the model's own; no template of ours has it.
        prompt = None if metadata.get("chat") else harness.choose_prompt(**metadata).sha256
        return cls(prompt, {split.name: split.sha256}, split.custom)


def task_record(
    task: str,
    folder: Path,
    results: Mapping[str, Any],
    model_args: Mapping[str, Any],
    *,
    stamp: str,
    card: cards.AdapterCard | None = None,
    asked: Asked | None = None,
) -> records.TaskRecord:
    """The record of one task, from the harness' results and its samples in ``folder``."""
    config = results["configs"][task]
    metadata = {**model_args, **(config.get("metadata") or {})}
    source = str(metadata.get("data", task))
    asked = asked or Asked.find(source, metadata)
    level = harness.sandbox_level(**metadata) if config.get("unsafe_code") else None
    samples = records.find_samples(folder, task, stamp)
    assert samples is not None  # the callers looked, or wrote them
    scored = _Samples.read(samples)
    scores = _scores(results["results"][task], scored)
    primary = str(metadata.get("primary_metric"))
    if scores and primary not in scores:
        primary = next(iter(scores))
    n = scores[primary].n if scores else 0
    shots = int((results.get("n-shot") or {}).get(task) or 0)
    quirks = active_quirks(source, **metadata)
    original = int(results["n-samples"][task]["original"]) if scored.rows else 0
    marks = _marks(len(scored.rows), original, shots, level, card, config)
    if card is not None and source in _COMPLETED:
        marks = (*marks, f"asked by completion, trained on {card.prompt.name}")
    empty = results["results"][task].get("empty_levels,executed")
    if isinstance(empty, int | float) and empty > 0:
        marks = (*marks, f"partial: no problems of {empty:.0f} of 3 levels")
    if cut := metadata.get("truncated_prompts"):
        marks = (*marks, f"{cut} prompts cut at their beginning")
    if scored.kept_apart:
        marks = (
            *marks,
            f"{scored.kept_apart} of {len(scored.rows)} problems kept apart: references fail here",
        )
    record = records.TaskRecord(
        task=task,
        version=str(results["versions"][task]),
        n=n,
        scores=scores,
        primary_metric=primary,
        num_fewshot=shots,
        decoding=dict(config.get("generation_kwargs") or {}),
        prompt_hash=asked.prompt_hash,
        sandbox_level=level,
        profile=describe_profile(quirks, source),
        custom_data=asked.custom_data,
        demonstration=bool(metadata.get("demonstration", False)),
        data_sha256=asked.data_sha256,
        marks=marks,
        samples_file=samples.name,
        kept_apart=scored.kept_apart,
    )
    if not scores:
        return record
    ids = [row["id"] for row in scored.rows if primary in row["metrics"]]
    return replace(_with_errors(folder, record, scored), ids_sha256=records.hash_ids(ids))


@dataclass(frozen=True, slots=True)
class _Samples:
    """What a record needs of the harness' samples: ids, and which metrics each item has."""

    rows: tuple[dict[str, Any], ...]
    own_errors: frozenset[str]
    kept_apart: int

    @classmethod
    def read(cls, file: Path) -> _Samples:
        rows: list[dict[str, Any]] = []
        apart = 0
        own: set[str] = set()
        with file.open(encoding="utf-8", newline="\n") as lines:
            for line in lines:
                sample = json.loads(line, parse_int=str) if line.strip() else {}
                metrics = set(sample.get("metrics") or ())
                if not metrics:
                    continue  # stands for a level without problems
                apart += sample.get("reference_fails") == 1.0
                own |= {name for name in metrics if f"{name}_stderr" in metrics}
                identity = (sample.get("doc") or {}).get("id", sample["doc_id"])
                rows.append({"id": str(identity), "metrics": metrics})
        return cls(tuple(rows), frozenset(own), apart)


def _scores(raw: Mapping[str, Any], samples: _Samples) -> dict[str, records.Score]:
    """The harness' ``metric,filter`` values as scores; only one filter's values are kept.

    Our tasks' errors stand beside their values; those of others are left for later.
    """
    scores: dict[str, records.Score] = {}
    for key, value in raw.items():
        metric, comma, name = key.partition(",")
        counted = metric in scoring.LOGGED or metric == "empty_levels"
        if not comma or metric.endswith("_stderr") or metric in scores or counted:
            continue
        number = isinstance(value, int | float) and not isinstance(value, bool)
        if not number or (samples.own_errors and metric not in samples.own_errors):
            continue
        error = raw.get(f"{metric}_stderr,{name}") if metric in samples.own_errors else None
        k = re.search(r"@(\d+)", metric)
        scores[metric] = records.Score(
            float(value),
            float(error) if isinstance(error, int | float) else None,
            sum(metric in row["metrics"] for row in samples.rows),
            int(k[1]) if k else None,
        )
    return scores


def _with_errors(folder: Path, record: records.TaskRecord, samples: _Samples) -> records.TaskRecord:
    """Adds bootstrap errors over questions where the task did not bring them."""
    scores = dict(record.scores)
    for metric, score in record.scores.items():
        if metric in samples.own_errors:
            continue
        items = records.per_item_scores(folder, record, metric)
        if not items.values or abs(float(np.mean(items.values)) - score.value) >= 1e-9:
            continue
        stderr = bootstrap_stderr(items.values, groups=items.groups)
        if np.isfinite(stderr):
            scores[metric] = replace(score, stderr=stderr)
    return replace(record, scores=scores)


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
    told = config.get("metadata") or {}
    if examples := told.get("examples"):
        marks.append(f"examples {examples['chosen']}")
    if told.get("chat"):
        marks.append("chat template")
    if told.get("other_prompt"):
        marks.append("asked with another prompt than it was trained with")
    if card is not None and card.custom_data:
        marks.append("trained on custom data")
    return tuple(marks)
