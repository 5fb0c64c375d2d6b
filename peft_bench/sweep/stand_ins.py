"""Packaged rows under another data set's name, so that its tasks can be shown with no download.

Records mark such rows as custom data: no score on them is the data set's.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from peft_bench import data, records


@contextmanager
def standing_in(names: Mapping[str, str], folder: Path) -> Iterator[None]:
    """Writes the rows to ``folder`` and has data loaded from there meanwhile."""
    if not names:
        yield
        return
    for name, other in names.items():
        for split in data.SOURCES[name].splits:
            (folder / name).mkdir(parents=True, exist_ok=True)
            lines = [
                json.dumps({"nl": row.nl, "cmd": row.cmd, "question_id": f"{number}-{number}"})
                for number, row in enumerate(data.load_split(other, split).rows)
            ]
            records.write_text(folder / name / f"{split}.jsonl", "\n".join(lines) + "\n")
    before = os.environ.get(data.ENVIRONMENT_VARIABLE)
    os.environ[data.ENVIRONMENT_VARIABLE] = str(folder.resolve())
    try:
        yield
    finally:
        if before is None:
            del os.environ[data.ENVIRONMENT_VARIABLE]
        else:
            os.environ[data.ENVIRONMENT_VARIABLE] = before
