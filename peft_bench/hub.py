"""Rows of a data set on the Hugging Face hub, without running data-set scripts.

Tried in order: JSON lines (or a JSON array) in the repository itself, parquet files in it, and
the hub's own parquet conversion (branch ``refs/convert/parquet``). Where a commit is asked for,
that commit and no other. ``HF_ENDPOINT``, ``HF_TOKEN``,
``HF_HOME`` and ``HF_HUB_OFFLINE`` work as everywhere in huggingface_hub: what was read once is
read again without the hub.
"""

from __future__ import annotations

import gzip
import itertools
import re
import zlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from peft_bench.errors import MissingError, UsageError
from peft_bench.jsonl import parse_json

_PARQUET_BRANCH = "refs/convert/parquet"
_SUFFIXES = ("jsonl", "jsonl.gz", "json", "parquet")
# Kept beside the rows; as it is always there, huggingface_hub does not warn of finding nothing.
_CARD = "README.md"


def read_rows(
    repo: str,
    split_names: Sequence[str],
    *,
    config: str | None = None,
    revision: str | None = None,
) -> tuple[Iterable[tuple[str, object]], str]:
    """The rows of a split as (where, value) pairs, read as they are asked for, and their origin.

    Args:
        repo: the data set's id.
        split_names: the names that the split may go by, the best first.
        config: the configuration: a folder, or a part of the files' names, as in
            ``en_test.jsonl``. Files of no configuration serve any.
        revision: a commit, branch or tag.

    Returns:
        The rows, and ``repo@commit``.

    Raises:
        MissingError: the hub cannot be reached and the rows are not in its local cache, or it
            holds no such data set, revision or split.
        UsageError: a file is not what its name says (while reading, for all but the first row).
    """
    # HTTPError is that of the HTTP library below, which differs between huggingface_hub's versions.
    from huggingface_hub.errors import (  # type: ignore[attr-defined]
        HTTPError,
        LocalEntryNotFoundError,
        RevisionNotFoundError,
    )

    unreachable: Exception | None = None
    for branch in (None, _PARQUET_BRANCH) if revision is None else (revision,):
        try:
            folder = _download(repo, split_names, config, branch)
        except RevisionNotFoundError as error:
            if revision is not None:
                raise _no_rows(repo, error) from error
            continue
        except LocalEntryNotFoundError as error:
            # No hub, and no copy of this branch; there may be one of the next.
            unreachable = unreachable or error
            continue
        except (HTTPError, OSError) as error:
            raise _no_rows(repo, error) from error
        files = _files_of_split(folder, split_names, config)
        if files:
            return _rows_of(folder, files), f"{repo}@{folder.name}"
    if unreachable is not None:
        raise _no_rows(repo, unreachable) from unreachable
    named = f"{' or '.join(split_names)}" + (f" of configuration {config}" if config else "")
    raise MissingError(
        place=f"data set {repo}",
        problem=f"has no file for a split named {named}",
        remedy="set PEFT_BENCH_DATA=DIR to read DIR/<task>/<split>.jsonl instead",
    )


def _rows_of(folder: Path, files: Sequence[str]) -> Iterator[tuple[str, object]]:
    for name in files:
        for number, row in enumerate(_read(folder / name, name)):
            yield f"{name} row {number}", row


def _no_rows(repo: str, error: Exception) -> MissingError:
    return MissingError(
        place=f"data set {repo}",
        problem=f"the hub gave no rows: {_first_line(error)}",
        remedy="check the network, HF_ENDPOINT and HF_HUB_OFFLINE, or set PEFT_BENCH_DATA=DIR to "
        "read DIR/<task>/<split>.jsonl instead",
    )


def _download(
    repo: str, split_names: Sequence[str], config: str | None, branch: str | None
) -> Path:
    """The folder of a branch's files, named by their commit; it holds those of the split."""
    from huggingface_hub import snapshot_download

    # APPS' configurations repeat one another's rows: those not asked for stay on the hub.
    sets = ("", "*[/_-]") if config is None else ("", "data/", f"{config}[/_-]", f"*/{config}/")
    wanted = [
        f"{before}{split}{after}{suffix}"
        for split in split_names
        for before in sets
        for after in (".", "-*-of-*.", "/*.")
        for suffix in _SUFFIXES
    ]
    return Path(
        snapshot_download(
            repo, repo_type="dataset", revision=branch, allow_patterns=[_CARD, *wanted]
        )
    )


def _files_of_split(folder: Path, split_names: Sequence[str], config: str | None) -> list[str]:
    """A split's data files: ``train.jsonl``, ``train-0-of-2.parquet``, ``NAME/train/0.parquet``.

    Where several sets have such a split (``data/train/``, ``docs/train/``), it is the
    configuration's, or the first one's if none was asked for.
    """
    files = [path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()]
    for split in split_names:
        for suffix in _SUFFIXES:
            name = re.compile(
                rf"(?P<set>|.*[/_-]){split}(-\d+-of-\d+(-[0-9a-f]+)?)?\.{re.escape(suffix)}"
                rf"|(?P<folder>|.*/){split}/[^/]*\.{re.escape(suffix)}"
            )
            sets: dict[str, list[str]] = {}
            for file in files:
                if match := name.fullmatch(file):
                    sets.setdefault(match["set"] or match["folder"] or "", []).append(file)
            if config is not None:
                sets = _sets_of_config(sets, config)
            if sets:
                return sorted(sets[min(sets)], key=_shard_order)
    return []


def _sets_of_config(sets: Mapping[str, list[str]], config: str) -> dict[str, list[str]]:
    """The configuration's own files, else those that belong to none."""
    own = re.compile(rf"(.*/)?{re.escape(config)}[/_-]")
    found = {name: files for name, files in sets.items() if own.fullmatch(name)}
    return found or {name: files for name, files in sets.items() if name in ("", "data/")}


def _shard_order(file: str) -> tuple[list[int], str]:
    # Older uploads end in a hash, train-00000-of-00002-5f3a.parquet, whose digits order nothing.
    numbers = re.findall(r"\d+", re.sub(r"(-of-\d+)-[0-9a-f]+", r"\1", file))
    return [int(digits) for digits in numbers], file


def _read(file: Path, name: str) -> Iterator[Any]:
    try:
        if name.endswith(".parquet"):
            yield from _read_parquet(file)
        else:
            yield from _read_text(file)
    except (ValueError, OSError, EOFError, zlib.error) as error:
        kind = "parquet" if name.endswith(".parquet") else "JSON in UTF-8"
        raise UsageError(
            place=name, problem=f"is not {kind}: {error}", remedy="tell the data set's owner"
        ) from None


def _read_parquet(file: Path) -> Iterator[Any]:
    import pyarrow.parquet

    with pyarrow.parquet.ParquetFile(file) as table:
        # A few rows at a time: APPS' tests are megabytes a row.
        for batch in table.iter_batches(batch_size=64):
            yield from batch.to_pylist()


def _read_text(file: Path) -> Iterator[Any]:
    opened = gzip.open if file.suffix == ".gz" else open
    with opened(file, "rb") as lines:
        first = next((line for line in lines if line.strip()), b"")
        if first.lstrip().startswith(b"["):
            yield from parse_json((first + lines.read()).decode("utf-8"))
            return
        for line in itertools.chain([first], lines):
            if line.strip():
                yield parse_json(line.decode("utf-8"))


def _first_line(error: BaseException) -> str:
    return str(error).strip().split("\n", 1)[0][:300] or type(error).__name__
