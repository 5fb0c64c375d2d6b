"""Records as files: written whole or not at all, read strictly, found in folders."""

from __future__ import annotations

import dataclasses
import json
import os
import stat
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from peft_bench.errors import Faults, MissingError, PeftBenchError, UsageError
from peft_bench.records.atomic import read_bytes, write_text
from peft_bench.records.check import check
from peft_bench.records.model import SCHEMA_VERSION, RunRecord, StoredRecord
from peft_bench.records.paused import collector_paused
from peft_bench.schema import read

RECORD_NAME = "record.json"


def write_record(folder: Path, record: RunRecord) -> Path:
    """Writes ``record.json`` into a folder, making the folder if need be, and returns its path.

    Raises:
        UsageError: when the record is one that :func:`read_record` would refuse; all faults are
            told at once and nothing is written.
        OSError: when the folder cannot be written.
    """
    path = folder / RECORD_NAME
    faults = Faults(str(path))
    if record.schema_version != SCHEMA_VERSION:
        faults.add(
            place="schema_version",
            problem=f"is {record.schema_version}",
            remedy=f"Write {SCHEMA_VERSION}",
        )
    check(record, faults)
    faults.raise_if_any()
    try:
        text = json.dumps(dataclasses.asdict(record), indent=2, allow_nan=False)
    except (TypeError, ValueError) as error:
        raise UsageError(
            place=str(path),
            problem=f"a value is no JSON ({error})",
            remedy="Keep to texts, finite numbers, lists and objects",
        ) from error
    folder.mkdir(parents=True, exist_ok=True)
    write_text(path, text + "\n")
    return path


def read_record(path: Path) -> RunRecord:
    """Reads the record of an evaluation, given its folder or the file itself.

    Raises:
        MissingError: when there is no such file.
        UsageError: when it is no record: no JSON, a newer schema, unknown or missing keys, values
            of a wrong type or out of range. All faults are told at once.
    """
    return _read_file(path / RECORD_NAME if path.is_dir() else path)


def _read_file(file: Path | str) -> RunRecord:
    try:
        text = read_bytes(file).decode()
    except FileNotFoundError as error:
        raise MissingError(
            place=str(file),
            problem="no such file",
            remedy="Give the folder of an evaluation, or a folder that holds some",
        ) from error
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(
            place=str(file), problem=f"cannot be read ({error})", remedy="Evaluate again"
        ) from error
    try:
        value = _DECODER.decode(text)
    except (ValueError, RecursionError) as error:
        raise UsageError(
            place=str(file), problem=f"is no JSON ({error})", remedy="Evaluate again"
        ) from error
    return _from_json(str(file), value)


def find_records(paths: Iterable[Path]) -> tuple[list[StoredRecord], list[PeftBenchError]]:
    """Reads the records of evaluations, and of all evaluations below other folders.

    Hidden folders are passed over: unfinished evaluations are written under such names.
    Links to folders are not followed.

    Returns:
        The records, sorted by folder, each once; and one problem for each that cannot be read
        and each path that holds none.
    """
    paths = list(paths)
    folders: dict[object, str] = {}  # by inode, so that overlapping paths count once
    problems: list[PeftBenchError] = []
    for path in paths:
        before = len(folders) + len(problems)
        seen = False
        for folder in _evaluations(path, problems):
            seen = True
            folders.setdefault(_identity(folder) if len(paths) > 1 else folder, folder)
        if not seen and len(folders) + len(problems) == before:
            problems.append(
                MissingError(
                    place=str(path),
                    problem="no evaluation there" if path.exists() else "no such folder",
                    remedy=f"Give a folder with a {RECORD_NAME}, or one that holds such folders",
                )
            )
    records = []
    with collector_paused():
        for found in sorted(map(Path, folders.values())):
            try:
                records.append(StoredRecord(_read_file(f"{found}/{RECORD_NAME}"), found))
            except PeftBenchError as problem:
                problems.append(problem)
    return records, problems


def holds_record(path: Path) -> bool:
    """Whether there is a record at or below a path, be it one that cannot be read."""
    return any(True for _ in _evaluations(path, []))


def _identity(folder: str) -> object:
    try:
        found = os.stat(folder)  # noqa: PTH116 - thousands of folders
    except OSError:
        return folder
    return found.st_dev, found.st_ino


def _evaluations(path: Path, problems: list[PeftBenchError]) -> Iterator[str]:
    # No Path's own is_file: that raises where it may not look.
    if path.name == RECORD_NAME and os.path.isfile(path):  # noqa: PTH113
        yield str(path.parent)
    else:
        yield from _below(str(path), problems)


def _below(folder: str, problems: list[PeftBenchError]) -> Iterator[str]:
    """The evaluations at or below a folder; one holds no other."""
    try:
        # Thousands of folders: that of an evaluation need not be listed.
        if _has_record(folder):
            yield folder
            return
        with os.scandir(folder) as found:
            children = sorted(
                child.name
                for child in found
                if not child.name.startswith(".") and child.is_dir(follow_symlinks=False)
            )
    except (FileNotFoundError, ValueError):
        return
    except NotADirectoryError:
        problems.append(
            UsageError(
                place=folder,
                problem="is a file, and no record",
                remedy="Give the folder of an evaluation, or results in JSON",
            )
        )
        return
    except OSError as error:
        problems.append(
            PeftBenchError(
                place=folder,
                problem=f"cannot be listed ({error.strerror})",
                remedy="Check its permissions",
            )
        )
        return
    for child in children:
        yield from _below(os.path.join(folder, child), problems)  # noqa: PTH118


def _has_record(folder: str) -> bool:
    try:
        return not stat.S_ISDIR(os.lstat(f"{folder}/{RECORD_NAME}").st_mode)
    except FileNotFoundError:
        return False


def _from_json(file: str, value: Any) -> RunRecord:
    version = value.get("schema_version") if isinstance(value, dict) else None
    if isinstance(version, int) and version > SCHEMA_VERSION:
        raise UsageError(
            place=f"{file}: schema_version",
            problem=f"is {version}; this program reads up to {SCHEMA_VERSION}",
            remedy="Use a newer peft-bench",
        )
    faults = Faults(file)
    try:
        record = read(RunRecord, value, "", faults)
    except OverflowError as error:  # an integer that no float can hold
        raise UsageError(
            place=file, problem=f"a number is out of range ({error})", remedy="Evaluate again"
        ) from error
    if record is not None:
        if record.schema_version < 1:
            faults.add(
                place="schema_version",
                problem=f"is {record.schema_version}",
                remedy=f"Give 1 to {SCHEMA_VERSION}",
            )
        check(record, faults)
    faults.raise_if_any()
    assert record is not None  # read() noted a fault otherwise
    return record


def _refuse_constant(name: str) -> None:
    raise ValueError(f"{name} is no JSON number")


_DECODER = json.JSONDecoder(parse_constant=_refuse_constant)
