"""Profiles and quirks: which hold where, and what those that act on text do."""

from __future__ import annotations

import re

import pytest

from peft_bench import paths
from peft_bench.errors import UsageError
from peft_bench.quirks import (
    PROFILES,
    QUIRKS,
    active_quirks,
    cut_at_angle,
    describe_profile,
    flatten,
)


def test_the_default_has_none() -> None:
    assert active_quirks("conala") == frozenset()
    assert active_quirks("conala", profile="default", version=2.0) == frozenset()


@pytest.mark.parametrize("data", ["conala", "codealpacapy", "apps"])
def test_the_study_has_those_of_the_data(data: str) -> None:
    found = active_quirks(data, profile="study")
    assert found == {name for name, quirk in QUIRKS.items() if data in quirk.data}
    assert found < PROFILES["study"]


def test_quirks_by_name_and_only_where_they_belong() -> None:
    assert active_quirks("conala", quirks=["flatten", "legacy_comparison"]) == {"flatten"}
    assert active_quirks("conala", quirks="flatten+cut_at_angle") == {"flatten", "cut_at_angle"}


@pytest.mark.parametrize(
    "given",
    [
        {"profile": "studdy"},
        {"profile": ["study"]},
        {"quirks": ["flaten"]},
        {"quirks": None},
        {"quirks": 3},
        {"quirks": [[]]},
    ],
)
def test_unknown_names_are_refused_with_those_known(given: dict[str, object]) -> None:
    with pytest.raises(UsageError, match="no such") as caught:
        active_quirks("conala", **given)
    assert "known: " in str(caught.value)


def test_profiles_are_named_as_they_hold() -> None:
    assert describe_profile((), "conala") == "default"
    assert describe_profile(active_quirks("conala", profile="study"), "conala") == "study"
    assert describe_profile(["flatten", "codexglue"], "conala") == "default+codexglue+flatten"


@pytest.mark.parametrize(
    ("answer", "cut"),
    [("a[1:]", "a[1:]"), ("[x for x in y if x > 2]", "[x for x in y if x "), ("<|end|>", "")],
)
def test_cut_at_angle_is_what_an_unescaped_stop_string_does(answer: str, cut: str) -> None:
    assert cut_at_angle(answer) == cut
    # The fault itself: stop strings joined into a pattern and not escaped.
    assert re.split("|".join(["<|endoftext|>"]), answer)[0] == cut


def test_flatten() -> None:
    assert flatten("if a:\n\tb()\r\n") == "if a:  b()\r "


def test_every_quirk_is_in_the_documentation() -> None:
    page = paths.tasks_dir().parent / "docs" / "profiles.md"
    if not page.is_file():
        pytest.skip("no docs/ beside an installed package")
    table = page.read_text(encoding="utf-8")
    assert re.findall(r"^\| `(\w+)` \|", table, re.MULTILINE) == list(QUIRKS)
