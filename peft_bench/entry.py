"""One run on one task, and what a fair comparison with another must agree on."""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from peft_bench.records import RunRecord, TaskRecord

_RETRIEVAL = "_rag"
_ENCODER = json.JSONEncoder(sort_keys=True, default=str)


@dataclass(frozen=True)
class Entry:
    """One run on one task."""

    record: RunRecord
    task: TaskRecord
    folder: Path

    @property
    def metric(self) -> str:
        """The task's primary metric."""
        return self.task.primary_metric

    @cached_property
    def data(self) -> str:
        """The task that its rows are: ``conala`` for ``conala_rag``."""
        return self.task.task.removesuffix(_RETRIEVAL)

    @cached_property
    def approach(self) -> str:
        """How the base model was made to do the task.

        ``zero-shot``, ``in-context`` (examples in the prompt), ``retrieval`` (examples like the
        question), ``full fine-tuning`` or ``adapter``.
        """
        adapter = self.record.adapter
        if adapter is not None:
            return "full fine-tuning" if adapter.method == "full" else "adapter"
        if self.task.task.endswith(_RETRIEVAL):
            return "retrieval"
        return "in-context" if self.task.num_fewshot else "zero-shot"

    @cached_property
    def model_key(self) -> tuple[str | None, ...]:
        """The base model; its dtype may differ and is told as a mark."""
        model = self.record.model
        return model.id, model.revision, model.quantization

    @cached_property
    def rules(self) -> tuple[object, ...]:
        """What two scores must agree on to be of one scale; the scored ids are compared apart."""
        task = self.task
        return (
            task.n,
            task.profile,
            task.sandbox_level,
            tuple(sorted(task.data_sha256.items())),
        )

    @cached_property
    def seed(self) -> tuple[int | None, ...]:
        """The seeds that a repetition would change: of training, of examples, of sampling."""
        seeds = self.record.harness.get("seeds")
        seeds = seeds if isinstance(seeds, dict) else {}
        examples = seeds.get("fewshot_seed") if self.task.num_fewshot else None
        drawn = seeds.get("torch_seed") if self.task.decoding.get("do_sample") else None
        trained = self.record.adapter.seed if self.record.adapter else None
        return trained, _whole(examples), _whole(drawn)

    @cached_property
    def variant(self) -> tuple[object, ...]:
        """Equal for runs that differ in a seed only."""
        adapter = self.record.adapter
        made: object = None
        if adapter is not None:
            known = adapter.variant_sha256 is not None and adapter.seed is not None
            made = (adapter.method, adapter.variant_sha256 if known else adapter.sha256)
        return (
            self.task.task,
            self.task.version,
            self.metric,
            self.task.num_fewshot,
            self.model_key,
            self.record.model.dtype,
            made,
            self.rules,
            self.task.ids_sha256,
            self._decoding,
        )

    @cached_property
    def compared_by(self) -> tuple[object, ...]:
        """Equal for runs whose possible baselines are the same, best first."""
        task, model = self.task, self.record.model
        return (
            *(task.task, task.version, task.n, task.ids_sha256, self.metric, self._decoding),
            *(self.model_key, model.fingerprint, model.dtype),
        )

    @cached_property
    def _decoding(self) -> str:
        return _ENCODER.encode(self.task.decoding)


def same_items(a: Entry, b: Entry) -> bool:
    """Whether two runs scored the same items, as far as their records tell."""
    ids = {a.task.ids_sha256, b.task.ids_sha256} - {None}
    return len(ids) < 2 and a.task.n == b.task.n


def _whole(value: object) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) else None
