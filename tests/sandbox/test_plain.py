"""Plain data there and back, and texts that no honest encoder writes."""

from __future__ import annotations

import builtins
import enum
import itertools
import json
import math
import random
import sys
from collections import Counter, OrderedDict, defaultdict, namedtuple
from datetime import date, datetime, time, timedelta, timezone
from decimal import Decimal
from fractions import Fraction
from typing import Any

import pytest
from peft_bench_sandbox.inside.plain import Malformed, NotPlain, decode, encode

CONTAINERS = (list, tuple, set, frozenset, type({}.keys()), type({}.values()), type({}.items()))
SCALARS = (
    *(type(None), bool, int, float, complex, str, bytes, Decimal, Fraction),
    *(datetime, date, time, timedelta),
)
UTC_2 = timezone(timedelta(hours=2, seconds=1))

VALUES: list[Any] = [
    *(None, True, False, 0, -1, 2**63, -(2**1023), 2**1024, 10**5000, -(10**5000)),
    *(0.0, 0.1, 1e308, 5e-324, math.inf, -math.inf, 1j, complex(math.inf, -2.5)),
    *(
        "",
        "text",
        "é\n\0",
        "\ud800",
        "\ud83d\ude00",
        ["\ud83d\ude00"],
        "\U0001f600",
        '{"t": []}',
        b"",
        bytes(range(256)),
    ),
    *([], [[]], [1, [2.5, ["x", None]]], (), (1,), ((), [()]), {}, {"a": {"b": []}}),
    *({1: 2, None: 3, (1, "x"): [4], 2.5: 5, b"k": 6, frozenset({7}): 8},),
    *(set(), {1, "a", (2, 3)}, frozenset(), {frozenset({1}), frozenset()}),
    *(range(0), range(5), range(9, -1, -2), range(10**50)),
    *({"t": [1]}, {"i": "0x1"}, [{"d": []}], {"": None}),
    *(date(1, 1, 1), time(1, 2, 3, 4), timedelta(-1, 2, 3), timedelta.max, datetime.max),
    *(datetime(2024, 2, 29, 1, 2, 3, tzinfo=UTC_2), time(1, tzinfo=UTC_2)),
    *(
        Decimal("1.10"),
        Decimal("-Infinity"),
        Decimal("1E+1000"),
        Fraction(-1, 3),
        Fraction(2**2000),
    ),
    *(int, type, BaseException, [list, {dict: str}]),
]


@pytest.mark.parametrize("value", VALUES, ids=lambda value: f"{type(value).__name__}")
def test_a_plain_value_comes_back_with_its_type(value: Any) -> None:
    text = encode(value)
    assert text.isascii()
    back = decode(text)
    assert same(back, value), back


def same(left: Any, right: Any) -> bool:
    """Equal in value and in every type, order of dictionaries included."""
    if type(left) is not type(right):
        return False
    if isinstance(left, dict):
        return same(list(left.items()), list(right.items()))
    if isinstance(left, list | tuple):
        return len(left) == len(right) and all(map(same, left, right))
    if isinstance(left, set | frozenset):
        return left == right and {*map(type, left)} == {*map(type, right)}
    return bool(left == right)


@pytest.mark.parametrize(
    "value",
    [
        iter([1, (2,)]),
        map(abs, [-1]),
        zip([1], "a", strict=True),
        iter({}),
        reversed("ab"),
    ],
    ids=lambda value: type(value).__name__,
)
def test_an_iterator_is_told_as_what_it_goes_over(value: Any) -> None:
    value, twin = itertools.tee(value)
    told = decode(encode(value))
    assert type(told) is type(iter([]))
    assert same([*told], [*twin])


def test_a_generator_is_told_as_one() -> None:
    told = decode(encode([(item for item in ("a", (2,)))]))[0]
    assert type(told) is type(item for item in "") and [*told] == ["a", (2,)]


def test_a_view_of_a_dictionary_is_told_as_such() -> None:
    table = {(1, 2): "a", 2: [3]}
    for view in (table.keys(), table.values(), table.items()):
        told = decode(encode(view))
        assert type(told) is type(view) and same([*told], [*view])


def test_not_a_number_and_the_zero_below_zero_come_back() -> None:
    nan, zero, pair = decode(encode([math.nan, -0.0, complex(-0.0, math.nan)]))
    assert math.isnan(nan)
    assert math.copysign(1, zero) == -1 and type(zero) is float
    assert math.copysign(1, pair.real) == -1 and math.isnan(pair.imag)


class Text(str):
    def __str__(self) -> str:
        return "lie"

    def __iter__(self) -> Any:
        raise LookupError


class Whole(int):
    def __index__(self) -> int:
        return 42

    __int__ = __index__

    def __add__(self, other: int) -> int:
        return 42


class Lying(list[Any]):
    def __iter__(self) -> Any:
        return iter(["lie"])

    def __len__(self) -> int:
        return 42


class Table(dict[Any, Any]):
    def items(self) -> Any:
        return [("lie", 1)]


class Color(enum.IntEnum):
    RED = 1


Point = namedtuple("Point", "x y")


@pytest.mark.parametrize(
    ("value", "told"),
    [
        (Counter("aab"), {"a": 2, "b": 1}),
        (OrderedDict([("b", 1), ("a", 2)]), {"b": 1, "a": 2}),
        (defaultdict(list, {"a": [1]}), {"a": [1]}),
        (Point(1, [2]), (1, [2])),
        (Color.RED, 1),
        (Text("x"), "x"),
        (Whole(7), 7),
        (Lying([1, 2]), [1, 2]),
        (Table({"a": 1}), {"a": 1}),
        (type("F", (float,), {"__pos__": lambda self: 42.0})(2.5), 2.5),
        (type("C", (complex,), {"__complex__": lambda self: 42j})(1j), 1j),
        (type("B", (bytes,), {"__bytes__": lambda self: b"lie"})(b"x"), b"x"),
        (type("S", (set,), {"__iter__": lambda self: iter("lie")})({1}), {1}),
        (type("Z", (frozenset,), {"__iter__": lambda self: iter("lie")})({1}), frozenset({1})),
        (type("T", (tuple,), {"__iter__": lambda self: iter("lie")})((1,)), (1,)),
        ([Point(Color.RED, Text("k"))], [(1, "k")]),
    ],
    ids=repr,
)
def test_a_subclass_is_told_as_its_base_whatever_its_methods_say(value: Any, told: Any) -> None:
    assert same(decode(encode(value)), told)


@pytest.mark.parametrize(
    "value",
    [
        object(),
        len,
        Text,
        Decimal,
        Ellipsis,
        NotImplemented,
        bytearray(b"x"),
        memoryview(b"x"),
        (object() for _ in "ab"),
        [1, {2: [object()]}],
        {object(): 1},
    ],
    ids=lambda value: type(value).__name__,
)
def test_what_is_not_plain_is_refused(value: Any) -> None:
    with pytest.raises(NotPlain, match="is not plain data"):
        encode(value)


def test_what_is_within_itself_or_nested_too_deep_is_refused() -> None:
    loop: list[Any] = []
    loop.append(loop)
    deep: list[Any] = []
    for _ in range(10**5):
        deep = [deep]
    for value in (loop, deep):
        with pytest.raises(NotPlain, match="nested too deep"):
            encode(value)
    while deep:  # or its end would recurse
        deep = deep.pop()


@pytest.mark.parametrize(
    "text",
    [
        *("", " ", "x", "nan", "[1", "1 2", "'a'", "{", "{}", "\ufeff1", "\ufffd", "[1,]"),
        *('{"t": [], "s": []}', '{"x": 1}', '{"T": []}', '{"__class__": "int"}'),
        *('{"T": "nothing"}', '{"T": "abs"}', '{"T": 5}', '{"T": "int.real"}', '{"T": "__name__"}'),
        *('{"T": "__loader__"}', '{"T": ""}', '{"T": ["int"]}'),
        *('{"n": 5}', '{"dk": [[]]}', '{"dv": 1}', '{"di": [[1]]}', '{"di": [[[], 1]]}'),
        *('{"dt": "2024"}', '{"dt": 5}', '{"dt": [1, 2, 3]}', '{"da": "2023-02-29"}', '{"ti": ""}'),
        *('{"td": [1.5, 0, 0]}', '{"td": [1e30, 0, 0]}', '{"td": [999999999999, 0, 0]}'),
        *('{"de": "x"}', '{"de": 1.5}', '{"de": [0, [1], 2]}', '{"de": "1e9999999999999999999"}'),
        *('{"fr": [1, 0]}', '{"fr": [1.5, 2]}', '{"fr": ["1"]}', '{"s": [{"de": "sNaN"}]}'),
        *('{"t": 1}', '{"t": null}', '{"s": [[]]}', '{"s": [{"d": []}]}', '{"f": [{"s": []}]}'),
        *('{"d": [[1]]}', '{"d": [[1, 2, 3]]}', '{"d": [[[], 1]]}', '{"d": 5}', '{"d": [5]}'),
        *('{"b": "0"}', '{"b": "zz"}', '{"b": 5}', '{"b": ["00"]}'),
        *('{"c": [1, 2]}', '{"c": [1.0]}', '{"c": ["1", 2.0]}', '{"c": {"a": 1}}'),
        *('{"r": [0, 1, 0]}', '{"r": []}', '{"r": [1.5]}', '{"r": "x"}', '{"r": [1, 2, 3, 4]}'),
        *('{"i": 5}', '{"i": ""}', '{"i": "0xg"}', '{"i": []}', '[{"i": null}]'),
        *("1" * 5000, "-" + "1" * 5000, f"[{'9' * 4301}]"),
    ],
    ids=lambda text: text[:20],
)
def test_a_text_that_no_encoder_writes_is_malformed(text: str) -> None:
    with pytest.raises(Malformed, match=r"no plain data|more than one tag"):
        decode(text)


@pytest.mark.parametrize("raised", [None, 3000])
@pytest.mark.parametrize(
    ("opening", "closing"),
    [("[", "]"), ('{"t":[', "]}"), ('{"d":[[1,', "]]}"), ('{"f":[', "]}"), ('{"x":', "}")],
)
def test_deep_nesting_is_malformed(opening: str, closing: str, raised: int | None) -> None:
    before = sys.getrecursionlimit()
    sys.setrecursionlimit(raised or before)
    try:
        for text in (opening * 10**5 + closing * 10**5, opening * 10**5):
            with pytest.raises(Malformed):
                decode(text)
    finally:
        sys.setrecursionlimit(before)


def consists_of_plain(value: Any) -> bool:
    kind = type(value)
    if kind is range:
        return all(type(part) is int for part in (value.start, value.stop, value.step))
    if kind is dict:
        return all(map(consists_of_plain, [*value, *value.values()]))
    if kind in CONTAINERS or kind in (type(iter([])), type(_ for _ in ())):
        return all(map(consists_of_plain, value))
    if kind is type:
        return value.__module__ == "builtins" and getattr(builtins, value.__name__, None) is value
    return kind in SCALARS


PIECES = [
    *'[]{},:"-0159.eE+ntfxdbscri\\ \n\0é',
    *('{"t":', '{"s":', '{"f":', '{"d":', '{"b":', '{"c":', '{"r":', '{"i":', '"0x1"', "[[]]"),
    *(
        '{"n":',
        '{"g":',
        '{"dk":',
        '{"dv":',
        '{"di":',
        '{"dt":',
        '{"td":',
        '{"de":',
        '{"fr":',
        '{"T":',
    ),
    *("null", "true", "false", "NaN", "Infinity", "-Infinity", "1e999", "-0.0", "\\ud800"),
]


def mutated(text: str, chance: random.Random) -> str:
    for _ in range(chance.randint(1, 4)):
        at, to = sorted(chance.randrange(len(text) + 1) for _ in range(2))
        match chance.randrange(4):
            case 0:
                text = text[:at] + chance.choice(PIECES) + text[at:]
            case 1:
                text = text[:at] + chance.choice(PIECES) + text[at + 1 :]
            case 2:
                text = text[:at] + text[to:]
            case 3:
                text = text[:at] + text[at:to] * 2 + text[to:]
    return text


def test_whatever_the_text_what_comes_back_is_plain_or_it_is_malformed() -> None:
    chance = random.Random(20_240)
    texts = [encode(value) for value in VALUES if value not in (10**5000, -(10**5000))]
    seen = {"plain": 0, "malformed": 0}
    for _ in range(20_000):
        text = mutated(chance.choice(texts), chance)
        try:
            value = decode(text)
        except Malformed:
            seen["malformed"] += 1
        else:
            seen["plain"] += 1
            assert consists_of_plain(value), text
            if '"n"' not in text:  # what has been gone over is empty
                assert consists_of_plain(decode(encode(value))), text
    assert min(seen.values()) > 1000, seen


def tree(chance: random.Random, depth: int) -> Any:
    """Any JSON at all, tags more often than not."""
    if depth == 0 or chance.random() < 0.3:
        return chance.choice(
            [None, True, 1, -2, 0.5, "", "00", "0x1f", "\ud800", math.nan, [], {}, 10**30, "int"]
        )
    items = [tree(chance, depth - 1) for _ in range(chance.randrange(4))]
    if chance.random() < 0.5:
        tag = chance.choice([*"tsfdbcrinTx", "dk", "dv", "di", "dt", "da", "ti", "td", "de", "fr"])
        return {tag: chance.choice([items, [[item, item] for item in items], *items])}
    return items


def test_any_tree_of_tags_is_plain_or_malformed() -> None:
    chance = random.Random(7)
    for _ in range(20_000):
        text = json.dumps(tree(chance, 5))
        try:
            assert consists_of_plain(decode(text)), text
        except Malformed:
            continue


def test_a_set_of_many_members_is_read_in_time() -> None:
    assert decode(json.dumps({"s": [*range(10**5)]})) == {*range(10**5)}
