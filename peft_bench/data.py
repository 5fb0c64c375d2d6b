"""One loader for every data set: rows of intent (``nl``) and code (``cmd``), checked and hashed.

Where rows come from, in this order:

1. ``PEFT_BENCH_DATA=DIR`` (or ``data_dir``): ``DIR/<task>/<split>.jsonl[.gz]`` in the hub's schema;
2. rows packaged with a task (``tasks/<task>/data``), for the project's own sets;
3. the hub, without data-set scripts: the repository's JSON lines, else its parquet conversion.

Rows are told apart by a hash of their content, the same wherever they came from. Rows that are
not the ones pinned here are *custom data*, and every record made with them says so.
"""

from __future__ import annotations

import dataclasses
import gzip
import hashlib
import json
import os
import zlib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from peft_bench.errors import Faults, MissingError, UsageError
from peft_bench.paths import tasks_dir

ENVIRONMENT_VARIABLE = "PEFT_BENCH_DATA"
SPLITS = ("train", "validation", "test")
_LOCAL = "local files"
_ALIASES = {"validation": ("validation", "valid", "dev")}


@dataclass(frozen=True, slots=True)
class Source:
    """Where a task's rows come from, and the hashes of the rows that its scores are meant for.

    ``pinned`` maps a split to the content hash (see :func:`content_sha256`) of its rows. A
    question id is the part of ``question_id`` before its last hyphen.
    """

    task: str
    hub_id: str | None = None
    revision: str | None = None
    packaged: bool = False
    pinned: Mapping[str, str] = field(default_factory=dict)


SOURCES: dict[str, Source] = {
    source.task: source
    for source in (
        Source("quickstart", packaged=True),
        Source(
            "conala",
            hub_id="neulab/docprompting-conala",
            pinned={
                "train": "1c7978b312419bb31a1b9d8798852aab6b575432c4f96538f2ede34e1c05fd0d",
                "validation": "bdfa95987ae89f23bb0dced0987d216e07d8c9a48f6e0c75bf6846d5fee7ebcd",
                "test": "946f64a824e4cf0f20d5392db19b565e3f950051dab1bb2a1734960c16a1f2a9",
            },
        ),
        Source("codealpacapy", hub_id="antolin/codealpaca-filtered"),
    )
}


@dataclass(frozen=True, slots=True)
class Row:
    """One example: an intent, its reference code, and assertions where the task executes code.

    ``question_id`` is shared by rows made from one question; they are not independent.
    """

    id: str
    nl: str
    cmd: str
    question_id: str
    test: str | None = None


@dataclass(frozen=True, slots=True)
class Split:
    """The rows of one split, their content hash and their origin, such as ``hub id@commit``."""

    task: str
    name: str
    rows: tuple[Row, ...]
    sha256: str
    origin: str
    custom: bool


def load_split(task: str, split: str, *, data_dir: str | Path | None = None) -> Split:
    """The rows of one split of a task.

    Raises:
        UsageError: an unknown task or split, or faulty rows, named by file, line and field.
        MissingError: a local folder without the split, or a hub that cannot be reached.
    """
    if task not in SOURCES:
        raise UsageError(
            place=task, problem="no such data set", remedy=f"known: {', '.join(sorted(SOURCES))}"
        )
    if split not in SPLITS:
        raise UsageError(place=split, problem="no such split", remedy=f"known: {', '.join(SPLITS)}")
    source = SOURCES[task]
    folder = data_dir or os.environ.get(ENVIRONMENT_VARIABLE)
    if source.packaged:
        rows, origin = _read_folder(tasks_dir() / task / "data", split), "packaged"
    elif folder:
        rows, origin = _read_folder(Path(folder) / task, split), _LOCAL
    else:
        rows, origin = _read_hub(source, split)
    digest = content_sha256(rows)
    return Split(task, split, rows, digest, origin, _is_custom(source, split, digest, origin))


def _is_custom(source: Source, split: str, digest: str, origin: str) -> bool:
    pinned = source.pinned.get(split)
    if pinned is None:
        # Nothing to compare with: rows from the hub or the package are the data set itself.
        return origin == _LOCAL
    return digest != pinned


def content_sha256(rows: Iterable[Row]) -> str:
    """Hash of ids, intents, codes and tests in order; formats and other fields do not matter."""
    digest = hashlib.sha256()
    for row in rows:
        digest.update(json.dumps([row.id, row.nl, row.cmd, row.test]).encode())
        digest.update(b"\n")
    return digest.hexdigest()


def parse_rows(raw: Iterable[tuple[str, object]], *, place: str) -> tuple[Row, ...]:
    """Rows from (where, value) pairs; the first ten faults are told at once.

    Raises:
        UsageError: a value is no object, lacks ``nl`` or ``cmd``, holds an empty or non-text
            field; or there are no rows at all.
    """
    rows: list[Row] = []
    faults = Faults(place)
    seen: dict[str, int] = {}
    for number, (where, value) in enumerate(raw):
        row = _parse_row(value, where, number, faults)
        if row is not None:
            # Hub ids may repeat (CoNaLa's do): a counter keeps every row's id its own.
            identity = row.id
            while identity in seen:
                seen[row.id] += 1
                identity = f"{row.id}#{seen[row.id]}"
            seen[identity] = 1
            rows.append(dataclasses.replace(row, id=identity))
        if len(faults) >= 10:
            break
    faults.raise_if_any()
    if not rows:
        raise UsageError(place=place, problem="has no rows", remedy="give at least one row")
    return tuple(rows)


@dataclass(frozen=True, slots=True)
class _NotJson:
    """Stands for a line that cannot be parsed, so that it is told with the other faults."""

    problem: str


def _parse_row(value: object, where: str, number: int, faults: Faults) -> Row | None:
    if isinstance(value, _NotJson):
        faults.add(
            place=where,
            problem=f"is not JSON: {value.problem}",
            remedy="write one JSON object a line",
        )
        return None
    if not isinstance(value, Mapping):
        faults.add(place=where, problem="not a JSON object", remedy='write {"nl": ..., "cmd": ...}')
        return None
    before = len(faults)
    for key in ("nl", "cmd"):
        text = value.get(key)
        if not isinstance(text, str):
            problem = "is missing" if key not in value else f"is {type(text).__name__}, not text"
            faults.add(place=f"{where}: {key}", problem=problem, remedy="give a text")
        elif not text.strip():
            faults.add(
                place=f"{where}: {key}", problem="is empty", remedy="fill it or drop the row"
            )
    test = value.get("test")
    if test is not None and (not isinstance(test, str) or not test.strip()):
        faults.add(place=f"{where}: test", problem="is not code", remedy="give assert statements")
    if len(faults) > before:
        return None
    identity = str(value.get("id") or value.get("question_id") or number)
    question = str(value["question_id"]).rpartition("-")[0] if "question_id" in value else ""
    return Row(identity, value["nl"], value["cmd"], question or identity, test)


def _read_folder(folder: Path, split: str) -> tuple[Row, ...]:
    names = [
        f"{alias}{suffix}"
        for alias in _ALIASES.get(split, (split,))
        for suffix in (".jsonl", ".jsonl.gz")
    ]
    for name in names:
        if (folder / name).is_file():
            file = folder / name
            return parse_rows(_read_jsonl(file), place=str(file))
    raise MissingError(
        place=str(folder),
        problem=f"has no {split} split: looked for {', '.join(names)}",
        remedy=f"put the rows there, or unset {ENVIRONMENT_VARIABLE} to load them from the hub",
    )


def _read_jsonl(file: Path) -> Iterator[tuple[str, object]]:
    content = file.read_bytes()
    try:
        if file.suffix == ".gz":
            content = gzip.decompress(content)
        text = content.decode("utf-8")
    except UnicodeDecodeError as error:
        line = content[: error.start].count(b"\n") + 1
        raise UsageError(
            place=f"{file}: line {line}",
            problem=f"is not UTF-8 (byte {content[error.start]:#04x})",
            remedy="save the file as UTF-8",
        ) from None
    except (OSError, EOFError, zlib.error) as error:
        raise UsageError(
            place=str(file), problem=f"is not a whole gzip file: {error}", remedy="write it anew"
        ) from None
    # Not splitlines(): U+2028 and the like may stand inside a JSON text.
    for number, line_text in enumerate(text.split("\n"), start=1):
        if not line_text.strip():
            continue
        try:
            yield f"line {number}", json.loads(line_text)
        except (ValueError, RecursionError) as error:
            yield f"line {number}", _NotJson(str(error))


def _read_hub(source: Source, split: str) -> tuple[tuple[Row, ...], str]:
    from peft_bench.hub import read_rows

    assert source.hub_id is not None
    raw, origin = read_rows(source.hub_id, _ALIASES.get(split, (split,)), revision=source.revision)
    return parse_rows(raw, place=f"{source.hub_id}: {split}"), origin


def describe(splits: Iterable[Split]) -> dict[str, Any]:
    """What a card or record says of the rows used: count, content hash, origin, custom or not."""
    return {
        f"{split.task}/{split.name}": {
            "rows": len(split.rows),
            "sha256": split.sha256,
            "origin": split.origin,
            "custom": split.custom,
        }
        for split in splits
    }
