"""Results in the form of PEFT's ``method_comparison``, read and written.

There an experiment is a JSON file of ``run_info``, ``train_info`` and ``meta_info``
(huggingface/peft, ``method_comparison/MetaMathQA/utils.py`` writes it). It does not tell the items
that were scored, so rows read from it are compared with nothing. What we add is in ``peft_bench``.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

from peft_bench.errors import UsageError
from peft_bench.records import RunRecord, Score, TaskRecord, write_text
from peft_bench.report.row import LeaderboardRow

_MARK = "imported from PEFT's method_comparison"
_METRIC = "accuracy"
_PARTS = ("run_info", "train_info", "meta_info")
_PACKAGES = ("transformers", "peft", "datasets", "bitsandbytes", "torch")
_QUANTIZED = {"int8": "8bit", "int4": "4bit"}
_LONGEST = 150  # characters of a file's name before its ending


def is_result(value: object) -> bool:
    """Whether a JSON value has the parts of such a file."""
    return isinstance(value, dict) and all(isinstance(value.get(part), dict) for part in _PARTS)


def read_row(file: Path, value: Mapping[str, Any]) -> LeaderboardRow:
    """A row from a file's parsed content.

    The task and its metric are those that :func:`write_results` notes, else the task is named like
    the folder above ``results``. Memory is the reserved peak minus what was reserved before, as
    they measure it.

    Raises:
        UsageError: the experiment failed, or a part that every file has is absent or faulty.
    """
    run, train = value["run_info"], value["train_info"]
    if train.get("status") != "success":
        raise UsageError(
            place=str(file), problem=f"its experiment ended as {str(train.get('status'))[:40]!r}"
        )
    try:
        config = run["train_config"]
        peft = run.get("peft_config")
        last = train["metrics"][-1]
        accuracy = float(last["test accuracy"])
        created = str(run["created_at"])
        if not 0 <= accuracy <= 1 or datetime.fromisoformat(created).utcoffset() is None:
            raise ValueError("accuracy or date")
        name, model = str(run["experiment_name"]), str(config["model_id"])
        seconds = _number(train.get("train_time"))
        tokens = _number(last.get("train total tokens"))
        dtype = str(config.get("dtype"))
        revision = _text((value["meta_info"].get("model_info") or {}).get("sha"))
    except (LookupError, TypeError, ValueError, AttributeError, OverflowError) as error:
        raise UsageError(
            place=str(file),
            problem=f"is no whole result of method_comparison ({type(error).__name__}: {error})",
            remedy="write it again with PEFT's script",
        ) from error
    method = str(peft.get("peft_type", "unknown")).lower() if isinstance(peft, dict) else "full"
    above = file.resolve().parent
    task = above.parent.name if above.name == "results" else "method_comparison"
    ours = value.get("peft_bench")
    ours = ours if isinstance(ours, dict) else {}
    metric = _text(ours.get("metric")) or _METRIC
    n, stderr = _whole(ours.get("n")), _number(ours.get("stderr"))
    stderr = stderr if stderr is not None and stderr <= 1 else None
    marks = ours.get("marks")
    marks = [mark for mark in marks if _text(mark)] if isinstance(marks, list) else []
    peak = _whole(train.get("accelerator_memory_max", train.get("cuda_memory_max")))  # formerly
    return LeaderboardRow(
        run=name,
        task=_text(ours.get("task")) or task,
        task_version=_text(ours.get("task_version")) or "unknown",
        demonstration=ours.get("demonstration") is True,
        model=model,
        model_revision=revision,
        dtype=dtype,
        quantization=_QUANTIZED.get(dtype),
        method=method,
        adapter=name if method != "full" else None,
        adapter_sha256=None,
        recipe_sha256=None,
        trainable_parameters=_whole(train.get("num_trainable_params")),
        total_parameters=_whole(train.get("num_total_params")),
        adapter_bytes=_whole(train.get("file_size")),
        train_wall_s=seconds,
        train_tokens_per_s=tokens / seconds if tokens and seconds else None,
        train_peak_bytes=peak,
        eval_wall_s=None,
        num_fewshot=0,
        profile="method_comparison",
        sandbox_level=None,
        custom_data=ours.get("custom_data") is True,
        n=n,
        primary_metric=metric,
        primary_value=accuracy,
        primary_stderr=stderr,
        baseline_run=None,
        difference=None,
        difference_low=None,
        difference_high=None,
        difference_p=None,
        marks="; ".join([_MARK, *marks]),
        status="complete",
        created=created,
        approach="adapter" if method != "full" else "full fine-tuning",
        seed=_whole(config.get("seed")),
        reserved_peak_bytes=None if ours.get("memory") == "allocated" else peak,
        metrics={metric: Score(accuracy, stderr, n or 1)},
    )


def write_results(records: Sequence[RunRecord], folder: Path) -> list[Path]:
    """Writes a file for each tuned run on each task; returns their paths.

    The score goes where theirs has the test accuracy. What a record does not tell is null, and
    listed under ``peft_bench.unknown``; nothing is put in its place, though PEFT's own table
    demands numbers. Memory is the reserved peak where the record has it, else the allocated one.
    Runs of one name have files of their own, told apart by number.
    """
    folder.mkdir(parents=True, exist_ok=True)
    written: list[Path] = []
    taken: set[str] = set()
    for record in records:
        for task in record.tasks:
            if record.adapter is None or not task.scores:
                continue
            name = stem = _stem(f"{task.task}--{record.name}")
            number = 1
            while name.lower() in taken:
                number += 1
                name = f"{stem}-{number}"
            taken.add(name.lower())
            path = folder / f"{name}.json"
            write_text(path, json.dumps(to_result(record, task), indent=2) + "\n")
            written.append(path)
    return written


def _stem(name: str) -> str:
    """A file's name without its ending; of a name that cannot be one, with its hash."""
    plain = re.sub(r"[^A-Za-z0-9._+-]+", "-", name).lstrip(".")[:_LONGEST]
    if plain == name:
        return name
    digest = hashlib.sha256(name.encode(errors="surrogatepass")).hexdigest()
    return f"{plain}-{digest[:8]}"


def to_result(record: RunRecord, task: TaskRecord) -> dict[str, Any]:
    """One run on one task in their form."""
    adapter = record.adapter
    assert adapter is not None  # only tuned runs are written
    reserved = adapter.reserved_peak_bytes
    tuned = adapter.method != "full"
    last: dict[str, Any] = {
        "test accuracy": task.scores[task.primary_metric].value,
        "train loss": adapter.train_loss,
        "train samples": None,
        "train total tokens": adapter.train_tokens,
    }
    train_info: dict[str, Any] = {
        "accelerator_memory_reserved_avg": None,
        "accelerator_memory_max": reserved if reserved is not None else adapter.train_peak_bytes,
        "accelerator_memory_reserved_99th": None,
        "train_time": adapter.train_wall_s,
        "file_size": adapter.size_bytes,
        "num_trainable_params": adapter.trainable_parameters,
        "num_total_params": record.model.parameters,
        "status": "success",
        "metrics": [last],
    }
    unknown = [name for name, value in train_info.items() if value is None]
    unknown += [f"metrics: {name}" for name, value in last.items() if value is None]
    packages = {f"{name}-version": record.versions.get(name) for name in _PACKAGES}
    return {
        "run_info": {
            "created_at": record.created,
            "total_time": adapter.train_wall_s,
            "experiment_name": f"{adapter.method}/{record.name}",
            "peft_branch": None,
            "train_config": {
                "model_id": record.model.id,
                "dtype": record.model.dtype,
                "seed": adapter.seed,
            },
            "peft_config": {"peft_type": adapter.method.upper()} if tuned else None,
            "error_msg": "",
        },
        "train_info": train_info,
        "meta_info": {
            "model_info": {"sha": record.model.revision, "created_at": None},
            "dataset_info": {},
            "package_info": {
                **packages,
                **{f"{name}-commit-hash": None for name in _PACKAGES},
            },
            "system_info": {},
            "pytorch_info": "",
        },
        "peft_bench": {
            "task": task.task,
            "task_version": task.version,
            "metric": task.primary_metric,
            "n": task.n,
            "stderr": task.scores[task.primary_metric].stderr,
            "demonstration": task.demonstration,
            "custom_data": task.custom_data,
            "marks": list(task.marks),
            "memory": "reserved" if reserved is not None else "allocated",
            "unknown": unknown,
        },
    }


def _whole(value: object) -> int | None:
    number = _number(value)
    return None if number is None else int(number)


def _number(value: object) -> float | None:
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < 2**63:
        return None
    return value


def _text(value: object) -> str | None:
    return value if isinstance(value, str) else None
