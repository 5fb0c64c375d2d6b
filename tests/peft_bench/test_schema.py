from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal

import pytest

from peft_bench.errors import Faults, UsageError
from peft_bench.schema import as_float, read


@dataclass(frozen=True)
class Inner:
    size: int
    ratio: float = 0.5


@dataclass(frozen=True)
class Outer:
    name: str
    inner: Inner
    mode: Literal["fast", "slow"] = "fast"
    tags: tuple[str, ...] = ()
    extra: dict[str, Any] = field(default_factory=dict)
    note: str | None = None
    flag: bool = False
    either: int | str | None = None


def parse(**values: Any) -> Outer:
    faults = Faults("thing")
    found = read(Outer, {"name": "n", "inner": {"size": 1}, **values}, "", faults)
    faults.raise_if_any()
    assert found is not None
    return found


def refused(**values: Any) -> str:
    with pytest.raises(UsageError) as caught:
        parse(**values)
    assert caught.value.exit_code == 2
    return str(caught.value)


def test_a_mapping_becomes_the_dataclass() -> None:
    found = parse(
        inner={"size": 3, "ratio": 2},
        mode="slow",
        tags=["a", "b"],
        extra={"k": [1, None]},
        note="x",
        flag=True,
        either="7",
    )
    assert found == Outer("n", Inner(3, 2.0), "slow", ("a", "b"), {"k": [1, None]}, "x", True, "7")
    assert isinstance(found.inner.ratio, float)


def test_what_is_left_out_takes_its_default() -> None:
    assert parse() == Outer("n", Inner(1))
    assert parse(note=None).note is None


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"nam": "x"}, "nam: unknown key. did you mean name?"),
        ({"zzz": "x"}, "zzz: unknown key. known keys: name, inner, mode"),
        ({"inner": {"size": 1, "sice": 2}}, "inner.sice: unknown key. did you mean size?"),
        ({"inner": {}}, "inner.size: missing. give a whole number"),
        ({"inner": 5}, "inner: 5 is not a mapping"),
        ({"inner": {"size": True}}, "inner.size: True is not a whole number"),
        ({"inner": {"size": 1.0}}, "inner.size: 1.0 is not a whole number"),
        ({"inner": {"size": "1"}}, "inner.size: '1' is not a whole number"),
        ({"inner": {"size": 1, "ratio": True}}, "inner.ratio: True is not a number"),
        ({"inner": {"size": 1, "ratio": "half"}}, "inner.ratio: 'half' is not a number"),
        ({"inner": {"size": 1, "ratio": 10**400}}, "is not a number"),
        ({"name": 7}, "name: 7 is not a text"),
        ({"name": None}, "name: None is not a text"),
        ({"mode": "medium"}, "mode: 'medium' is not a value of: fast, slow"),
        ({"tags": "a"}, "tags: 'a' is not a list of text"),
        ({"tags": ["a", 2]}, "tags[1]: 2 is not a text"),
        ({"extra": ["a"]}, "extra: ['a'] is not a mapping"),
        ({"flag": "yes"}, "flag: 'yes' is not a true or false"),
        ({"flag": 1}, "flag: 1 is not a true or false"),
        ({"either": [1]}, "either: [1] is not a whole number or text"),
    ],
)
def test_a_fault_names_place_value_and_remedy(values: dict[str, Any], said: str) -> None:
    assert said in refused(**values)


def test_all_faults_are_told_at_once() -> None:
    faults = Faults("thing")
    assert read(Outer, {"inner": {"size": "x"}, "mod": 1, "flag": 0}, "", faults) is None
    with pytest.raises(UsageError) as caught:
        faults.raise_if_any()
    assert [fault.place for fault in caught.value.faults] == ["inner.size", "mod", "flag", "name"]
    assert "4 faults" in str(caught.value)


def whole(**values: Any) -> dict[str, Any]:
    """Every key of an Outer, as a file written by this program has them."""
    given = {"name": "n", "inner": {"size": 1, "ratio": 0.5}, "mode": "slow", "tags": ["a"]}
    return {**given, "extra": {}, "note": None, "flag": True, "either": 7, **values}


def test_it_matters_to_no_value_whether_every_key_is_there() -> None:
    assert parse(**whole()) == Outer("n", Inner(1), "slow", ("a",), {}, None, True, 7)
    backwards = dict(reversed(whole(inner={"ratio": 2, "size": 1}).items()))
    assert read(Outer, backwards, "", Faults("thing")) == parse(
        **whole(inner={"size": 1, "ratio": 2})
    )


PLACES = (
    *("name", "tags[1]", "flag", "mode", "either"),
    *("inner.size", "inner.ratio", "inner.ration", "inner.sice"),
)


@pytest.mark.parametrize(
    ("values", "places"),
    [
        ({"name": 7, "tags": ["a", 2], "flag": "no"}, ["name", "tags[1]", "flag"]),
        ({"inner": {"size": True, "ratio": "x"}}, ["inner.size", "inner.ratio"]),
        ({"inner": {"size": 1, "ration": 0.5}}, ["inner.ration"]),
        ({"inner": {"sice": 1, "ratio": 0.5}}, ["inner.sice", "inner.size"]),
        ({"mode": ["slow"]}, ["mode"]),
        ({"either": 1.5}, ["either"]),
    ],
)
def test_faults_are_the_same_where_every_key_is_there(
    values: dict[str, Any], places: list[str]
) -> None:
    said = refused(**whole(**values))
    found = [place for place in PLACES if f"{place}: " in said]
    assert found == [place for place in PLACES if place in places]


def test_a_value_of_another_type_is_not_taken_for_one_seen_before() -> None:
    assert parse(**whole(flag=True)).flag is True
    assert "flag: 1 is not a true or false" in refused(**whole(flag=1))
    assert type(parse(**whole(inner={"size": 1, "ratio": 1})).inner.ratio) is float


def test_a_long_value_is_shown_short() -> None:
    said = refused(inner="x" * 500)
    assert "..." in said and len(said) < 150


@pytest.mark.parametrize(
    ("value", "number"),
    [
        ("3e-4", 3e-4),
        ("-1", -1.0),
        (2, 2.0),
        ("nan", None),
        ("infinity", None),
        ("", None),
        ("1x", None),
        (False, None),
        (None, None),
        (10**400, None),
    ],
)
def test_what_counts_as_a_number(value: object, number: float | None) -> None:
    assert as_float(value) == number
