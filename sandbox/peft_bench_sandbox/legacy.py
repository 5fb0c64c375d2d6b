"""What APPS' published scorer accepts beyond judge.py: the comparison "legacy", rule by rule.

Read from eval/testing_util.py of hendrycks/apps and testing_util.py of codeparrot/apps_metric. Of
their chain of comparisons these rules accept what judge.py does not; the others (the same text but
for white space at its ends, lines stripped, empty lines left out) compare token by token in order
and so are part of judge.py's. An answer is accepted by "legacy" if judge.py or the published scorer
accepts it. Applied in the caller's process, like judge.py, to hostile but bounded text.

Each rule has a name, which a verdict tells where only that rule made a test pass.
"""

from __future__ import annotations

import math

from .jsonlike import plain_json

# Any `sys.exit(...)` is an ordinary end: what has been printed counts. See score.py.
EXIT_IGNORED = "exit code ignored"
# As many lines as the reference, empty ones left out; each line is one number, and the numbers are
# close as numpy.allclose has it by default: |have - want| <= 1e-8 + 1e-5 |want|.
CLOSE_LINES = "lines are close numbers"
# A line is the set of its words, a text the set of its lines: neither order nor repetition counts.
SETS = "lines and words as sets"
# The same with every word a number rounded to three decimals.
ROUNDED_SETS = "lines and words as sets of numbers rounded to 3 decimals"
# The reference is a list, and the returned value equals its first element.
FIRST_ELEMENT = "first element of the reference"

_RELATIVE, _ABSOLUTE = 1e-5, 1e-8
_DECIMALS = 3


def accept_stdout(expected: str, got: str) -> str | None:
    """The first rule by which the published scorer takes `got` for `expected`, or None."""
    # Its own way to lines differs by side: the reference is split at newlines alone.
    wanted = [line.strip() for line in expected.split("\n") if line]
    given = [line for line in got.splitlines() if line]
    if _close(wanted, given):
        return CLOSE_LINES
    # A line of blanks is an empty set in the reference, and no line in the answer.
    want_words = [line.split() for line in wanted]
    have_words = [words for line in given if (words := line.split())]
    if _as_sets(want_words) == _as_sets(have_words):
        return SETS
    try:
        same = _as_rounded_sets(want_words) == _as_rounded_sets(have_words)
    except ValueError:  # a word that is no number
        return None
    return ROUNDED_SETS if same else None


def accept_value(expected: object, got: object) -> str | None:
    """The rule by which the published scorer takes a returned value for `expected`, or None.

    `got` is the value as JSON has it. A dictionary as reference is wrapped in a list there, and
    compared with the list's first element: what judge.py does without.
    """
    plain = plain_json(expected)
    return FIRST_ELEMENT if isinstance(plain, list) and plain and plain[0] == got else None


def _close(wanted: list[str], given: list[str]) -> bool:
    if len(wanted) != len(given):
        return False
    try:
        pairs = [(float(want), float(have)) for want, have in zip(wanted, given, strict=True)]
    except ValueError:
        return False
    return all(_is_close(want, have) for want, have in pairs)


def _is_close(want: float, have: float) -> bool:
    if want == have:
        return True
    return math.isfinite(want) and abs(have - want) <= _ABSOLUTE + _RELATIVE * abs(want)


def _as_sets(lines: list[list[str]]) -> set[frozenset[str]]:
    return {frozenset(words) for words in lines}


def _as_rounded_sets(lines: list[list[str]]) -> set[frozenset[str]]:
    return {frozenset(map(_rounded, words)) for words in lines}


def _rounded(word: str) -> str:
    """A number rounded, as text: whoever prints may choose numbers whose hashes all collide.

    Raises: ValueError: it is no number, or the one that is equal to none.
    """
    value = round(float(word), _DECIMALS) + 0.0  # there is one zero
    if math.isnan(value):
        raise ValueError("nothing is equal to it")
    return repr(value)
