"""Rows and splits: what every data set becomes, and the hash that tells them apart."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

_NOTHING: Mapping[str, str] = MappingProxyType({})


@dataclass(frozen=True, slots=True)
class Row:
    """One example: an intent, its reference code, and what else its task needs.

    Attributes:
        id: unique within its split.
        nl: the whole intent that a model is shown; a prompt template goes around it.
        cmd: the reference code; empty where the data set has none.
        question_id: shared by rows made from one question; they are not independent.
        test: assertions, in the plain schema of tasks that execute code.
        extra: the schema's other fields, as texts; lists and objects as JSON text.
    """

    id: str
    nl: str
    cmd: str
    question_id: str
    test: str | None = None
    extra: Mapping[str, str] = field(default_factory=lambda: _NOTHING)

    def __reduce__(self) -> tuple[object, ...]:
        # The empty default cannot be pickled; a plain dict equals it.
        values = (self.id, self.nl, self.cmd, self.question_id, self.test, dict(self.extra))
        return (Row, values)


@dataclass(frozen=True, slots=True)
class Split:
    """The rows of one split, their content hash and their origin, such as ``hub id@commit``."""

    task: str
    name: str
    rows: tuple[Row, ...]
    sha256: str
    origin: str
    custom: bool


def content_sha256(rows: Iterable[Row]) -> str:
    """Hash of ids, intents, codes, tests and extras in order.

    The format of the file, the order of its fields and fields that are not read do not matter.
    """
    digest = hashlib.sha256()
    for row in rows:
        content: list[Any] = [row.id, row.nl, row.cmd, row.test]
        if row.extra:
            content.append(dict(sorted(row.extra.items())))
        digest.update(json.dumps(content).encode())
        digest.update(b"\n")
    return digest.hexdigest()


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
