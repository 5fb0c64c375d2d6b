"""Data as JSON has it, with integers of any length.

Python refuses to read or write integers of more than 4300 digits unless a limit of the whole
process is lifted, which is not this package's to do; some problems have such integers in their
tests. `decimal` knows no such limit.
"""

from __future__ import annotations

import json
from decimal import Decimal
from typing import Any

# Below any limit that Python can be given.
_SHORT_DIGITS = 640


def plain_json(value: object) -> Any:
    """A value as JSON has it: tuples are lists, keys are strings.

    Raises:
        TypeError, ValueError, RecursionError: it cannot be said in JSON.
    """
    try:
        return json.loads(json.dumps(value))
    except ValueError:  # an integer too long, or a circle, which then is too deep
        return _plain(value)


def parse_json(text: str | bytes) -> Any:
    """The value of a JSON text that can be trusted to be meant well: a long integer takes time.

    Raises:
        ValueError, RecursionError: it is not JSON, or nested too deeply.
    """
    return json.loads(text, parse_int=lambda digits: int(number_of(digits)))


def number_of(digits: str) -> int | Decimal:
    """The whole number of these digits, in time linear in their number.

    A long one is a Decimal, which is exact, and equal to the int.
    """
    return int(digits) if len(digits) <= _SHORT_DIGITS else Decimal(digits)


def shown(value: object) -> str:
    """JSON text for people to read."""
    try:
        return json.dumps(value, default=str)
    except (TypeError, ValueError, RecursionError):
        return "a value with an integer of thousands of digits"


def _plain(value: object) -> Any:
    if isinstance(value, dict):
        # Only keys go through JSON's own rules for keys; the values may be long.
        keys = [next(iter(json.loads(json.dumps({key: None})))) for key in value]
        return dict(zip(keys, map(_plain, value.values()), strict=True))
    if isinstance(value, list | tuple):
        return [_plain(each) for each in value]
    if isinstance(value, int) and not isinstance(value, bool):
        return int(value)
    return json.loads(json.dumps(value))
