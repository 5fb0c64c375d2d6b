"""Evaluations as the harness and the evaluation verb leave them, their scores made up."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from peft_bench.records import (
    AdapterRecord,
    ModelRecord,
    RunRecord,
    Score,
    StoredRecord,
    TaskRecord,
    hash_ids,
    write_record,
)

MakeRun = Callable[..., StoredRecord]


@pytest.fixture
def make_run(tmp_path: Path) -> MakeRun:
    """Writes a run below the test's folder: a name, the value of each item, and changes."""

    def make(
        name: str,
        values: Sequence[Any],
        *,
        metric: str = "em@10",
        score: float | None = None,
        adapter: AdapterRecord | None = None,
        sample: dict[str, Any] | None = None,
        run: dict[str, Any] | None = None,
        **task: Any,
    ) -> StoredRecord:
        ids = [f"i{i}" for i in range(len(values))]
        n = len(values)
        settings: dict[str, Any] = {
            "task": "conala",
            "version": "2.0",
            "n": n,
            "scores": {metric: Score(sum(values) / n if score is None else score, 0.1, n)},
            "primary_metric": metric,
            "num_fewshot": 0,
            "decoding": {"num_beams": 10},
            "prompt_hash": None,
            "sandbox_level": None,
            "profile": "default",
            "custom_data": False,
            "demonstration": False,
            "data_sha256": {"test": "0" * 64},
            "samples_file": "samples.jsonl",
            "ids_sha256": hash_ids(ids),
        }
        record = RunRecord(
            schema_version=1,
            name=name,
            created="2025-01-31T12:00:00+00:00",
            status="complete",
            model=ModelRecord("org/model", "rev", "bfloat16", parameters=350_000_000),
            adapter=adapter,
            tasks=(TaskRecord(**settings | task),),
            harness={},
            versions={},
        )
        record = dataclasses.replace(record, **run or {})
        folder = tmp_path / "runs" / name
        write_record(folder, record)
        lines = []
        for i, (identity, value) in enumerate(zip(ids, values, strict=True)):
            one = {"doc_id": i, "doc": {"id": identity, "question_id": f"q{i // 2}"}}
            lines.append(json.dumps({**one, metric: value, **(sample or {})}) + "\n")
        (folder / "samples.jsonl").write_text("".join(lines), encoding="utf-8")
        return StoredRecord(record, folder)

    return make
