"""Records: what is kept of one evaluation, and how it is written, found and read again.

An evaluation is a folder with the harness' own ``results_*.json`` and ``samples_*.jsonl`` and our
``record.json``, a :class:`RunRecord`; ``items_*.jsonl`` beside the samples is read in their place.
Standard library only.
"""

from peft_bench.records.atomic import write_text
from peft_bench.records.files import (
    RECORD_NAME,
    find_records,
    holds_record,
    read_record,
    write_record,
)
from peft_bench.records.invocations import find_samples, stamp_of
from peft_bench.records.model import (
    SCHEMA_VERSION,
    AdapterRecord,
    ItemScores,
    ItemStatistics,
    ModelRecord,
    RunRecord,
    Score,
    StoredRecord,
    TaskRecord,
)
from peft_bench.records.paused import collector_paused
from peft_bench.records.samples import (
    hash_ids,
    keep_items,
    per_item_scores,
    per_item_statistics,
)
from peft_bench.records.variants import variant_sha256

__all__ = [
    "RECORD_NAME",
    "SCHEMA_VERSION",
    "AdapterRecord",
    "ItemScores",
    "ItemStatistics",
    "ModelRecord",
    "RunRecord",
    "Score",
    "StoredRecord",
    "TaskRecord",
    "collector_paused",
    "find_records",
    "find_samples",
    "hash_ids",
    "holds_record",
    "keep_items",
    "per_item_scores",
    "per_item_statistics",
    "read_record",
    "stamp_of",
    "variant_sha256",
    "write_record",
    "write_text",
]
