"""The leaderboard as CSV (RFC 4180), safe to open in a spreadsheet."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence

from peft_bench.report.row import Cell, LeaderboardRow, cells, columns

# The csv module writes None as an empty cell and a float by repr: read back, it is the same.
_AS_THEY_ARE = frozenset((int, float, type(None)))
_FORMULA_STARTS = ("=", "+", "-", "@", "\t", "\r", "\n")


def to_csv(rows: Sequence[LeaderboardRow]) -> str:
    """All columns of all rows; lines end in CR LF, missing values are empty.

    A text that begins with ``= + - @``, a tab or a line break gets an apostrophe before it, since
    a spreadsheet would run it as a formula. Numbers stay as they are, true and false in lower
    case.
    """
    header = columns(rows)
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\r\n")
    writer.writerow([_cell(name) for name in header])
    for row in rows:
        writer.writerow(
            [value if type(value) in _AS_THEY_ARE else _cell(value) for value in cells(row, header)]
        )
    return out.getvalue()


def _cell(value: Cell) -> Cell:
    if isinstance(value, str):
        return f"'{value}" if value.startswith(_FORMULA_STARTS) else value
    if isinstance(value, bool):
        return "true" if value else "false"
    return value
