"""Profiles: how a score is taken. ``default`` is right; ``study`` is faithful to the study.

Source of the quirks: the scripts that the authors of arXiv 2308.10462 published, for CoNaLa and
CodeAlpacaPy at commit e7971c0, for APPS on the branch ``revision``. Each can be had by name, too:
``--metadata '{"quirks": ["cut_at_angle"]}'``.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Literal

from peft_bench.errors import UsageError

Stage = Literal["prompt", "decoding", "scoring"]

SNIPPETS = frozenset({"conala", "codealpacapy"})
APPS = frozenset({"apps"})


@dataclass(frozen=True, slots=True)
class Quirk:
    """One way in which the study's scripts differ from the default.

    Attributes:
        name: as in ``--metadata '{"quirks": [...]}'``.
        stage: where it acts. Only ``scoring`` can be applied to saved answers.
        data: the data sets whose tasks have it.
        about: what it does, for people.
    """

    name: str
    stage: Stage
    data: frozenset[str]
    about: str


QUIRKS: dict[str, Quirk] = {
    quirk.name: quirk
    for quirk in (
        Quirk(
            "leading_newline",
            "prompt",
            SNIPPETS,
            "the prompt begins with a newline that training did not have",
        ),
        Quirk(
            "stray_spaces",
            "prompt",
            SNIPPETS,
            "32 spaces stand at the end of a line of each example in the prompt",
        ),
        Quirk(
            "fixed_shots",
            "prompt",
            SNIPPETS,
            "examples are drawn once for all questions",
        ),
        Quirk(
            "runs_on",
            "decoding",
            SNIPPETS,
            "with examples in the prompt, an answer goes on where the model begins another example",
        ),
        Quirk(
            "swapped_formats",
            "prompt",
            APPS,
            'problems on standard input are asked with "Use Call-Based format", and the reverse',
        ),
        Quirk(
            "newline_after_search",
            "decoding",
            frozenset({"conala"}),
            "beams are cut at a newline after the search, so that some become equal",
        ),
        Quirk(
            "cut_at_angle",
            "scoring",
            SNIPPETS,
            "answers are cut at the first < or >, stop strings being taken for a pattern",
        ),
        Quirk(
            "tokenizer_references",
            "scoring",
            SNIPPETS,
            "references go through the model's tokenizer and back",
        ),
        Quirk(
            "flatten",
            "scoring",
            SNIPPETS,
            "newlines and tabs become blanks on both sides before anything is compared",
        ),
        Quirk(
            "codexglue",
            "scoring",
            SNIPPETS,
            "codebleu is CodeXGLUE's, which strips comments by Java's rule",
        ),
        Quirk(
            "legacy_comparison",
            "scoring",
            APPS,
            "outputs are compared as the published harness does: as sets, rounded, unwrapped",
        ),
    )
}

PROFILES: dict[str, frozenset[str]] = {"default": frozenset(), "study": frozenset(QUIRKS)}


def active_quirks(
    data: str, /, *, profile: Any = "default", quirks: Any = (), **_: Any
) -> frozenset[str]:
    """The quirks that hold for a data set's task, from the harness' metadata.

    Args:
        data: the data set's name.
        profile: a name of :data:`PROFILES`.
        quirks: further names of :data:`QUIRKS`: a list, or a text with ``+`` between them.

    Raises:
        UsageError: no profile or quirk has that name.
    """
    if not isinstance(profile, str) or profile not in PROFILES:
        raise UsageError(
            place=f"--metadata profile={profile}",
            problem="no such profile",
            remedy=f"known: {', '.join(PROFILES)}",
        )
    named = quirks.split("+") if isinstance(quirks, str) else quirks
    named = named if isinstance(named, list | tuple | set | frozenset) else [named]
    for name in named:
        if not isinstance(name, str) or name not in QUIRKS:
            raise UsageError(
                place=f"--metadata quirks={name}",
                problem="no such quirk",
                remedy=f"known: {', '.join(QUIRKS)}",
            )
    return frozenset(name for name in PROFILES[profile].union(named) if data in QUIRKS[name].data)


def describe_profile(quirks: Iterable[str], data: str) -> str:
    """A profile's name for a record: ``default``, ``study``, or ``default+NAME+NAME``."""
    found = frozenset(quirks)
    if found and found == active_quirks(data, profile="study"):
        return "study"
    return "+".join(["default", *sorted(found)])


_ANGLE = re.compile("[<>]")
_LINE_BREAKS = str.maketrans("\n\t", "  ")


def cut_at_angle(answer: str) -> str:
    """What is left of an answer: stop strings such as ``<|endoftext|>``, read as a pattern,
    are the alternatives ``<`` and ``>`` among others.
    """
    return _ANGLE.split(answer, maxsplit=1)[0]


def flatten(code: str) -> str:
    """Newlines and tabs as blanks."""
    return code.translate(_LINE_BREAKS)
