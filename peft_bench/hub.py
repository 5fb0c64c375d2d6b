"""Rows of a data set on the Hugging Face hub, without running data-set scripts.

Tried in order: JSON lines (or a JSON array) in the repository itself, parquet files in it, and
the hub's own parquet conversion (branch ``refs/convert/parquet``). ``HF_ENDPOINT``, ``HF_TOKEN``,
``HF_HOME`` and ``HF_HUB_OFFLINE`` work as everywhere in huggingface_hub.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from peft_bench.errors import MissingError, UsageError

_PARQUET_BRANCH = "refs/convert/parquet"


def read_rows(
    repo: str, split_names: Sequence[str], *, revision: str | None = None
) -> tuple[list[tuple[str, object]], str]:
    """The rows of a split as (where, value) pairs, and their origin ``repo@commit``.

    ``split_names`` are the names that the split may go by, the best first.

    Raises:
        MissingError: the hub cannot be reached, or holds no such data set or split.
    """
    from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError, OfflineModeIsEnabled

    try:
        for branch in (revision, _PARQUET_BRANCH):
            found = _find(repo, split_names, branch)
            if found is not None:
                return found
    except (HfHubHTTPError, LocalEntryNotFoundError, OfflineModeIsEnabled, OSError) as error:
        raise MissingError(
            place=f"data set {repo}",
            problem=f"the hub gave no rows: {_first_line(error)}",
            remedy="check the network and HF_ENDPOINT, or set PEFT_BENCH_DATA=DIR to read "
            "DIR/<task>/<split>.jsonl instead",
        ) from error
    raise MissingError(
        place=f"data set {repo}",
        problem=f"has no file for a split named {' or '.join(split_names)}",
        remedy="set PEFT_BENCH_DATA=DIR to read DIR/<task>/<split>.jsonl instead",
    )


def _find(
    repo: str, split_names: Sequence[str], branch: str | None
) -> tuple[list[tuple[str, object]], str] | None:
    from huggingface_hub import HfApi, hf_hub_download
    from huggingface_hub.errors import RevisionNotFoundError

    try:
        info = HfApi().dataset_info(repo, revision=branch)
    except RevisionNotFoundError:
        return None
    commit = info.sha or branch or "main"
    files = _files_of_split([sibling.rfilename for sibling in info.siblings or ()], split_names)
    if not files:
        return None
    rows: list[tuple[str, object]] = []
    for name in files:
        local = hf_hub_download(repo, name, repo_type="dataset", revision=commit)
        rows.extend((f"{name} row {i}", row) for i, row in enumerate(_read(Path(local), name)))
    return rows, f"{repo}@{commit}"


def _files_of_split(files: Sequence[str], split_names: Sequence[str]) -> list[str]:
    """A split's data files: ``train.jsonl``, ``train-0-of-2.parquet``, ``NAME/train/0.parquet``."""
    for split in split_names:
        for suffix in ("jsonl", "jsonl.gz", "json", "parquet"):
            name = re.compile(
                rf"(^|.*[/_-]){split}(-\d+-of-\d+)?\.{re.escape(suffix)}$"
                rf"|(^|.*/){split}/[^/]*\.{re.escape(suffix)}$"
            )
            found = sorted(file for file in files if name.match(file))
            if found:
                return found
    return []


def _read(file: Path, name: str) -> Iterator[Any]:
    if name.endswith(".parquet"):
        import pyarrow.parquet

        yield from pyarrow.parquet.read_table(file).to_pylist()
        return
    import gzip

    content = gzip.decompress(file.read_bytes()) if name.endswith(".gz") else file.read_bytes()
    try:
        text = content.decode("utf-8")
        if text.lstrip().startswith("["):
            yield from json.loads(text)
        else:
            yield from (json.loads(line) for line in text.split("\n") if line.strip())
    except ValueError as error:
        raise UsageError(
            place=name, problem=f"is not JSON in UTF-8: {error}", remedy="tell the data set's owner"
        ) from None


def _first_line(error: BaseException) -> str:
    return str(error).strip().split("\n", 1)[0][:300] or type(error).__name__
