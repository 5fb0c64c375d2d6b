"""The leaderboard as CSV (RFC 4180), safe to open in a spreadsheet."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence

from peft_bench.report.row import Cell, LeaderboardRow, cells, columns

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
        writer.writerow([_cell(value) for value in cells(row, header)])
    return out.getvalue()


def _cell(value: Cell) -> str:
    if isinstance(value, str):
        return f"'{value}" if value.startswith(_FORMULA_STARTS) else value
    if value is None:
        return ""
    if value is True or value is False:
        return "true" if value else "false"
    return repr(value)
