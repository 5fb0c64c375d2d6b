"""Rows of a data set on the Hugging Face hub, without running data-set scripts.

Tried in order: JSON lines (or a JSON array) in the repository itself, parquet files in it, and
the hub's own parquet conversion (branch ``refs/convert/parquet``). ``HF_ENDPOINT``, ``HF_TOKEN``,
``HF_HOME`` and ``HF_HUB_OFFLINE`` work as everywhere in huggingface_hub: what was read once is
read again without the hub.
"""

from __future__ import annotations

import json
import re
import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from peft_bench.errors import MissingError, UsageError

_PARQUET_BRANCH = "refs/convert/parquet"
_SUFFIXES = ("jsonl", "jsonl.gz", "json", "parquet")
# Kept beside the rows; as it is always there, huggingface_hub does not warn of finding nothing.
_CARD = "README.md"


def read_rows(
    repo: str, split_names: Sequence[str], *, revision: str | None = None
) -> tuple[list[tuple[str, object]], str]:
    """The rows of a split as (where, value) pairs, and their origin ``repo@commit``.

    ``split_names`` are the names that the split may go by, the best first.

    Raises:
        MissingError: the hub cannot be reached and the rows are not in its local cache, or it
            holds no such data set or split.
        UsageError: a file is not what its name says.
    """
    # HTTPError is that of the HTTP library below, which differs between huggingface_hub's versions.
    from huggingface_hub.errors import (  # type: ignore[attr-defined]
        HTTPError,
        LocalEntryNotFoundError,
        RevisionNotFoundError,
    )

    unreachable: Exception | None = None
    for branch in (revision, _PARQUET_BRANCH):
        try:
            folder = _download(repo, split_names, branch)
        except RevisionNotFoundError:
            continue
        except LocalEntryNotFoundError as error:
            # No hub, and no copy of this branch; there may be one of the next.
            unreachable = unreachable or error
            continue
        except (HTTPError, OSError) as error:
            raise _no_rows(repo, error) from error
        files = _files_of_split(folder, split_names)
        if files:
            rows = [
                (f"{name} row {number}", row)
                for name in files
                for number, row in enumerate(_read(folder / name, name))
            ]
            return rows, f"{repo}@{folder.name}"
    if unreachable is not None:
        raise _no_rows(repo, unreachable) from unreachable
    raise MissingError(
        place=f"data set {repo}",
        problem=f"has no file for a split named {' or '.join(split_names)}",
        remedy="set PEFT_BENCH_DATA=DIR to read DIR/<task>/<split>.jsonl instead",
    )


def _no_rows(repo: str, error: Exception) -> MissingError:
    return MissingError(
        place=f"data set {repo}",
        problem=f"the hub gave no rows: {_first_line(error)}",
        remedy="check the network, HF_ENDPOINT and HF_HUB_OFFLINE, or set PEFT_BENCH_DATA=DIR to "
        "read DIR/<task>/<split>.jsonl instead",
    )


def _download(repo: str, split_names: Sequence[str], branch: str | None) -> Path:
    """The folder of a branch's files, named by their commit; it holds those of the split."""
    from huggingface_hub import snapshot_download

    wanted = [
        f"{before}{split}{after}{suffix}"
        for split in split_names
        for before in ("", "*[/_-]")
        for after in (".", "-*-of-*.", "/*.")
        for suffix in _SUFFIXES
    ]
    return Path(
        snapshot_download(
            repo, repo_type="dataset", revision=branch, allow_patterns=[_CARD, *wanted]
        )
    )


def _files_of_split(folder: Path, split_names: Sequence[str]) -> list[str]:
    """A split's data files: ``train.jsonl``, ``train-0-of-2.parquet``, ``NAME/train/0.parquet``.

    Where several sets have such a split (``data/train/``, ``docs/train/``), it is the first one's.
    """
    files = [path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()]
    for split in split_names:
        for suffix in _SUFFIXES:
            name = re.compile(
                rf"(?P<set>|.*[/_-]){split}(-\d+-of-\d+)?\.{re.escape(suffix)}"
                rf"|(?P<folder>|.*/){split}/[^/]*\.{re.escape(suffix)}"
            )
            sets: dict[str, list[str]] = {}
            for file in files:
                if match := name.fullmatch(file):
                    sets.setdefault(match["set"] or match["folder"] or "", []).append(file)
            if sets:
                return sorted(sets[min(sets)], key=_shard_order)
    return []


def _shard_order(file: str) -> tuple[list[int], str]:
    return [int(digits) for digits in re.findall(r"\d+", file)], file


def _read(file: Path, name: str) -> Iterator[Any]:
    try:
        if name.endswith(".parquet"):
            import pyarrow.parquet

            yield from pyarrow.parquet.read_table(file).to_pylist()
            return
        import gzip

        content = gzip.decompress(file.read_bytes()) if name.endswith(".gz") else file.read_bytes()
        text = content.decode("utf-8")
        if text.lstrip().startswith("["):
            yield from json.loads(text)
        else:
            yield from (json.loads(line) for line in text.split("\n") if line.strip())
    except (ValueError, OSError, EOFError, zlib.error) as error:
        kind = "parquet" if name.endswith(".parquet") else "JSON in UTF-8"
        raise UsageError(
            place=name, problem=f"is not {kind}: {error}", remedy="tell the data set's owner"
        ) from None


def _first_line(error: BaseException) -> str:
    return str(error).strip().split("\n", 1)[0][:300] or type(error).__name__
