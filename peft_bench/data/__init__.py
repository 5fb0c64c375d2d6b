"""One loader for every data set: rows of intent (``nl``) and code (``cmd``), checked and hashed.

Where rows come from, in this order:

1. ``PEFT_BENCH_DATA=DIR`` (or ``data_dir``): ``DIR/<task>/<split>.jsonl[.gz]`` in the hub's schema;
2. rows packaged with a task (``tasks/<task>/data``), for the project's own sets, or with a Python
   package that is always installed (HumanEval's);
3. the hub, without data-set scripts: the repository's JSON lines, else its parquet files, else
   the hub's parquet conversion.

Rows are told apart by a hash of their content, the same wherever they came from. Rows that are
not the ones pinned here are *custom data*, and every record made with them says so.
"""

from peft_bench.data.loading import load_split
from peft_bench.data.readers import apps_intent, mbpp_intent, parse_rows
from peft_bench.data.rows import Row, Split, content_sha256, describe
from peft_bench.data.select import apps_level, conala_train_questions, odex_clean
from peft_bench.data.sources import (
    APPS_LEVELS,
    ENVIRONMENT_VARIABLE,
    SOURCES,
    SPLITS,
    STACK_OVERFLOW,
    Source,
)

__all__ = [
    "APPS_LEVELS",
    "ENVIRONMENT_VARIABLE",
    "SOURCES",
    "SPLITS",
    "STACK_OVERFLOW",
    "Row",
    "Source",
    "Split",
    "apps_intent",
    "apps_level",
    "conala_train_questions",
    "content_sha256",
    "describe",
    "load_split",
    "mbpp_intent",
    "odex_clean",
    "parse_rows",
]
