"""Records: what is kept of one evaluation, and how it is written, found and read again.

An evaluation is a folder with the harness' own ``results_*.json`` and ``samples_*.jsonl`` and our
``record.json``, a :class:`RunRecord`. Standard library only.
"""

from peft_bench.records.files import (
    RECORD_NAME,
    find_records,
    read_record,
    write_record,
    write_text,
)
from peft_bench.records.model import (
    SCHEMA_VERSION,
    AdapterRecord,
    ItemScores,
    ModelRecord,
    RunRecord,
    Score,
    StoredRecord,
    TaskRecord,
)
from peft_bench.records.samples import hash_ids, per_item_scores

__all__ = [
    "RECORD_NAME",
    "SCHEMA_VERSION",
    "AdapterRecord",
    "ItemScores",
    "ModelRecord",
    "RunRecord",
    "Score",
    "StoredRecord",
    "TaskRecord",
    "find_records",
    "hash_ids",
    "per_item_scores",
    "read_record",
    "write_record",
    "write_text",
]
