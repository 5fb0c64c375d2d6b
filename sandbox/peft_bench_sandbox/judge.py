"""The comparison rules, applied in the caller's process: reference values never leave it.

Both judges return None if the answer is right, else a sentence for people. What they are
given comes from the candidate: it is plain text and plain data, bounded before it gets here.
"""

from __future__ import annotations

import math
import re

from .jsonlike import plain_json, shown

TOLERANCE = 1e-6

# A reference that has a point or an exponent; whole numbers are compared as text.
_INEXACT = re.compile(r"[+-]?(?:(?:\d+\.\d*|\.\d+)(?:[eE][+-]?\d+)?|\d+[eE][+-]?\d+)", re.ASCII)
# Written so that no text makes the match go back over itself: the text is hostile.
_NUMBER = re.compile(r"[+-]?(?:\d+(?:\.\d*)?|\.\d+)(?:[eE][+-]?\d+)?", re.ASCII)
_SHOWN = 80


def judge_stdout(expected: str, got: str) -> str | None:
    """Compare what a script printed with what it should have printed.

    1. The same text is right.
    2. Otherwise both are split at white space, and must have the same number of tokens.
    3. Tokens must be the same text, except that
    4. where the *reference* token is a decimal number with a point or an exponent, a number
       within 1e-6 of it, absolute or relative to the reference, is right too. Whole numbers
       are exact: 3.0 is not right for 3.
    Order counts everywhere; there is no comparison as sets.
    """
    if got == expected:
        return None
    wanted, given = expected.split(), got.split()
    for place, (want, have) in enumerate(zip(wanted, given, strict=False), 1):
        if not same_token(want, have):
            return f"stdout differs at token {place}: expected {_short(want)}, got {_short(have)}"
    if len(wanted) != len(given):
        return f"stdout has {len(given)} tokens, expected {len(wanted)}"
    return None


def same_token(want: str, have: str) -> bool:
    """Rules 3 and 4 of `judge_stdout`, for one token; `want` is the reference."""
    if want == have:
        return True
    if not _INEXACT.fullmatch(want) or not _NUMBER.fullmatch(have):
        return False
    reference, value = float(want), float(have)
    if not (math.isfinite(reference) and math.isfinite(value)):
        return False
    return abs(value - reference) <= TOLERANCE * max(1.0, abs(reference))


def judge_value(expected: object, got: object) -> str | None:
    """Compare a function's return value, as JSON sees it, with the reference.

    Tuples are lists and the keys of dictionaries are strings on both sides; beyond that
    Python's own equality decides: 1, 1.0 and True are equal, numbers have no tolerance,
    NaN is equal to nothing.
    """
    if plain_json(expected) == got:
        return None
    return f"expected {_short(shown(expected))}, got {_short(shown(got))}"


def _short(text: str) -> str:
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}... ({len(text)} characters)"
