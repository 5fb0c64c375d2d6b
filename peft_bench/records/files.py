"""Records as files: written whole or not at all, read strictly, found in folders."""

from __future__ import annotations

import dataclasses
import json
import os
import secrets
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from peft_bench.errors import Faults, MissingError, PeftBenchError, UsageError
from peft_bench.records.check import check
from peft_bench.records.model import SCHEMA_VERSION, RunRecord, StoredRecord
from peft_bench.records.paused import collector_paused
from peft_bench.schema import read

RECORD_NAME = "record.json"


def write_text(path: Path, text: str) -> None:
    """Writes a text as UTF-8 so that the file is the old one or the new one, never half of it.

    Lone surrogates, which no UTF-8 can hold, become backslash escapes.

    Raises:
        OSError: when the folder is missing or cannot be written; an old file is then untouched.
    """
    # Beside the target, because a rename across file systems is no single step.
    temporary = path.with_name(f".{path.name}.{os.getpid()}.{secrets.token_hex(4)}.tmp")
    try:
        with temporary.open("x", encoding="utf-8", errors="backslashreplace", newline="") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


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


def _read_file(file: Path) -> RunRecord:
    try:
        with open(file, "rb") as stream:  # noqa: PTH123 - thousands of files
            text = stream.read().decode()
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
        value = json.loads(text, parse_constant=_refuse_constant)
    except (ValueError, RecursionError) as error:
        raise UsageError(
            place=str(file), problem=f"is no JSON ({error})", remedy="Evaluate again"
        ) from error
    return _from_json(file, value)


def find_records(paths: Iterable[Path]) -> tuple[list[StoredRecord], list[PeftBenchError]]:
    """Reads the records of evaluations, and of all evaluations below other folders.

    Hidden folders are passed over: unfinished evaluations are written under such names.
    Links to folders are not followed.

    Returns:
        The records, sorted by folder, each once; and one problem for each that cannot be read
        and each path that holds none.
    """
    folders: dict[object, Path] = {}  # by inode, so that overlapping paths count once
    problems: list[PeftBenchError] = []
    for path in paths:
        before = len(folders) + len(problems)
        seen = False
        for folder in _evaluations(path, problems):
            seen = True
            folders.setdefault(_identity(folder), folder)
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
        for folder in sorted(folders.values()):
            try:
                records.append(StoredRecord(_read_file(folder / RECORD_NAME), folder))
            except PeftBenchError as problem:
                problems.append(problem)
    return records, problems


def _identity(folder: Path) -> object:
    try:
        stat = os.stat(folder)  # noqa: PTH116 - thousands of folders
    except OSError:
        return folder
    return stat.st_dev, stat.st_ino


def _evaluations(path: Path, problems: list[PeftBenchError]) -> Iterator[Path]:
    if path.name == RECORD_NAME and path.is_file():
        yield path.parent
        return

    def note(error: OSError) -> None:
        if not isinstance(error, FileNotFoundError):
            problems.append(
                PeftBenchError(
                    place=str(error.filename),
                    problem=f"cannot be listed ({error.strerror})",
                    remedy="Check its permissions",
                )
            )

    for parent, children, files in os.walk(path, onerror=note):
        if RECORD_NAME in files:
            yield Path(parent)
            children.clear()  # an evaluation holds no other
        children[:] = sorted(name for name in children if not name.startswith("."))


def _from_json(file: Path, value: Any) -> RunRecord:
    version = value.get("schema_version") if isinstance(value, dict) else None
    if isinstance(version, int) and version > SCHEMA_VERSION:
        raise UsageError(
            place=f"{file}: schema_version",
            problem=f"is {version}; this program reads up to {SCHEMA_VERSION}",
            remedy="Use a newer peft-bench",
        )
    faults = Faults(str(file))
    try:
        record = read(RunRecord, value, "", faults)
    except OverflowError as error:  # an integer that no float can hold
        raise UsageError(
            place=str(file), problem=f"a number is out of range ({error})", remedy="Evaluate again"
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
