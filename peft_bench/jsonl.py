"""JSON lines as data sets hold them: files of any size, integers of any length.

Python refuses to read or write integers of more than 4300 digits unless a limit of the whole
process is lifted; some programming problems have such integers in their tests. ``decimal`` knows
no such limit, so here they pass through it, and the process is left alone.
"""

from __future__ import annotations

import gzip
import json
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import Any, BinaryIO, cast

from peft_bench.errors import UsageError

# Below any limit that Python can be given (sys.int_info.str_digits_check_threshold).
_SHORT_DIGITS = 640


@dataclass(frozen=True, slots=True)
class NotJson:
    """Stands for a line that cannot be read, so that it is told with the file's other faults."""

    problem: str
    remedy: str = "write one JSON object a line"


def parse_json(text: str) -> Any:
    """The value of a JSON text; its integers may have any number of digits.

    Raises:
        ValueError: it is not JSON, or nested too deeply.
    """
    try:
        return json.loads(text, parse_int=_integer)
    except RecursionError:
        raise ValueError("nested too deeply") from None


def dump_json(value: Any) -> str:
    """JSON text of plain data; integers may have any number of digits.

    Raises:
        ValueError: the value is nested too deeply.
    """
    try:
        return json.dumps(value, ensure_ascii=False)
    except RecursionError:
        raise ValueError("nested too deeply") from None
    except ValueError:
        return _dump_long(value)  # an integer too long for json


def read_lines(file: Path) -> Iterator[tuple[str, object]]:
    """The lines of ``.jsonl`` or ``.jsonl.gz`` as ("line N", value); :class:`NotJson` for bad ones.

    Lines end at line feeds alone: U+2028 and the like may stand inside a JSON text. Blank lines
    are passed over. One line is held in memory at a time.

    Raises:
        UsageError: a gzip file that is cut short or broken.
    """
    with _open(file) as lines:
        number = 0
        while line := _next_line(lines, file):
            number += 1
            value = _parse_line(line)
            if value is not _BLANK:
                yield f"line {number}", value


_BLANK = object()


def _open(file: Path) -> BinaryIO:
    if file.suffix == ".gz":
        return cast(BinaryIO, gzip.open(file))
    return file.open("rb")


def _next_line(lines: BinaryIO, file: Path) -> bytes:
    try:
        return lines.readline()
    except (OSError, EOFError, zlib.error) as error:
        kind = "a whole gzip file" if file.suffix == ".gz" else "readable"
        raise UsageError(
            place=str(file), problem=f"is not {kind}: {error}", remedy="write it anew"
        ) from None


def _parse_line(line: bytes) -> object:
    try:
        text = line.decode("utf-8")
    except UnicodeDecodeError as error:
        # Its own words, since "is not JSON" would send the reader looking for a comma.
        return NotJson(f"UTF-8 (byte {line[error.start]:#04x})", "save the file as UTF-8")
    if not text.strip():
        return _BLANK
    try:
        return parse_json(text)
    except ValueError as error:
        return NotJson(f"JSON: {error}")


def _integer(digits: str) -> int:
    return int(digits) if len(digits) <= _SHORT_DIGITS else int(Decimal(digits))


def _dump_long(value: Any) -> str:
    match value:
        case bool() | None:
            return json.dumps(value)
        case int():
            return str(Decimal(value))
        case list() | tuple():
            return "[" + ", ".join(map(_dump_long, value)) + "]"
        case dict():
            pairs = (f"{json.dumps(str(key))}: {_dump_long(item)}" for key, item in value.items())
            return "{" + ", ".join(pairs) + "}"
    return json.dumps(value, ensure_ascii=False)
