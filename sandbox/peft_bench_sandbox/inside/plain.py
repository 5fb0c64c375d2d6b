"""Plain data as text: what a candidate and a judge may tell each other.

None, bool, int, float, complex, str, bytes, list, tuple, set, frozenset, dict and range, nested;
the standard library's dates, times, decimals and fractions; Python's own classes by name;
generators, other iterators and views of dictionaries, as what they go over.

The text is JSON; what JSON cannot say is an object with one key, the type's tag. Encoding happens
in the candidate's process, where nothing can be trusted. So `decode` believes nothing: whatever
the text, it gives values of exactly these types or raises.

Objects of a subclass are told as their base (a Counter as a dict): nothing of a candidate's own
methods ever reaches the judge, `__eq__` least of all.
"""

import builtins
import json
import sys
from collections import OrderedDict
from collections.abc import Iterator
from json.encoder import c_make_encoder  # type: ignore[attr-defined]
from json.encoder import encode_basestring_ascii as quote

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

# Python refuses to read back an int of over 4300 digits; this is well below, and quick to test.
_LONG_BITS = 1024
_SMALL = 1 << 60
_AS_THEY_ARE = frozenset((type(None), bool, float))


class NotPlain(Exception):
    """A value that cannot be told as plain data."""


class Malformed(Exception):
    """A text that no honest encoder writes."""


def _refuse(value: object) -> "Any":
    raise NotPlain(f"{_name_of(type(value))} is not plain data")


# As it is, whatever a metaclass says.
_name_of: "Callable[[Any], str]" = type.__dict__["__name__"].__get__


def _writer(refuse: "Callable[[object], Any]") -> "Callable[[Any, int], Any]":
    """What json.dumps makes anew at every call; without the C accelerator there is only that.

    A value that holds itself is a RecursionError.
    """
    if c_make_encoder is None:
        return lambda value, _: json.dumps(value, default=refuse)
    writer: Callable[[Any, int], Any] = c_make_encoder(
        None, refuse, quote, None, ": ", ", ", False, False, True
    )
    return writer


written = _writer(_refuse)


def _not_json(value: object) -> "Any":
    raise TypeError(f"Object of type {_name_of(type(value))} is not JSON serializable")


_written_as_json = _writer(_not_json)


def as_json(value: object) -> str:
    """A value as json.dumps has it.

    Raises:
        TypeError, ValueError, RecursionError: it is nothing that JSON has, or nested too deep.
    """
    return "".join(_written_as_json(value, 0))


def encode(value: "Any") -> str:
    """The text of a value; ASCII.

    Raises:
        NotPlain: the value, or something in it, is of another type, or nested too deep.
    """
    kind = type(value)
    if kind is str and value.isascii():
        return quote(value)
    if kind is int and -_SMALL < value < _SMALL:
        return int.__repr__(value)
    try:
        return "".join(written(told(value), 0))
    except (RecursionError, ValueError) as error:
        raise NotPlain(f"nested too deep, or within itself ({error})") from None


def told(value: "Any") -> "Any":
    """What JSON is to be made of for a value. Raises: NotPlain."""
    kind = type(value)
    if kind is str:
        return value if value.isascii() else _told_text(value)
    if kind in _AS_THEY_ARE:
        return value
    if kind is int:
        return value if value.bit_length() < _LONG_BITS else {"i": hex(value)}
    if kind is list:
        return [told(item) for item in value]
    teller = _TELLERS.get(kind)
    if teller is not None:
        return teller(value)
    for base, make in _BASES:
        if issubclass(kind, base):
            return told(make(value))
    if kind is type and getattr(builtins, _name_of(value), None) is value:
        return {"T": _name_of(value)}
    for (module, name), (tag, teller) in _VALUES.items():
        if (loaded := sys.modules.get(module)) and issubclass(kind, getattr(loaded, name)):
            return {tag: teller(value)}
    if issubclass(kind, Iterator):
        return {"n": [told(item) for item in value]}
    return _refuse(value)


def _told_text(value: str) -> "Any":
    try:
        value.encode()
    except UnicodeEncodeError:  # JSON would make one character of two halves
        return {"u": value.encode("utf-8", "surrogatepass").hex()}
    return value


def _told_items(tag: str) -> "Callable[[Any], Any]":
    return lambda value: {tag: [told(item) for item in value]}


_TELLERS = {
    tuple: _told_items("t"),
    set: _told_items("s"),
    frozenset: _told_items("f"),
    dict: lambda value: {"d": [[told(key), told(item)] for key, item in value.items()]},
    bytes: lambda value: {"b": value.hex()},
    complex: lambda value: {"c": [value.real, value.imag]},
    type(_ for _ in ()): _told_items("g"),
    range: lambda value: {"r": [told(value.start), told(value.stop), told(value.step)]},
    type({}.keys()): _told_items("dk"),
    type({}.values()): _told_items("dv"),
    type({}.items()): _told_items("di"),
}

# Values of modules that are loaded only where they are used: where from, tag, what is told.
_VALUES: "dict[tuple[str, str], tuple[str, Callable[[Any], Any]]]" = {
    ("datetime", "datetime"): ("dt", lambda value: value.isoformat()),
    ("datetime", "date"): ("da", lambda value: value.isoformat()),
    ("datetime", "time"): ("ti", lambda value: value.isoformat()),
    ("datetime", "timedelta"): (
        "td",
        lambda value: [value.days, value.seconds, value.microseconds],
    ),
    ("decimal", "Decimal"): ("de", str),
    ("fractions", "Fraction"): (
        "fr",
        lambda value: [told(value.numerator), told(value.denominator)],
    ),
}

# What a subclass is told as; bool has none. int.__index__ and so on would keep the subclass.
_BASES = (
    (int, lambda value: int.__add__(value, 0)),
    (float, float.__pos__),
    (str, str.__str__),
    (bytes, lambda value: bytes(memoryview(value))),
    (complex, complex.__pos__),
    (list, lambda value: list(list.__iter__(value))),
    (tuple, lambda value: tuple(tuple.__iter__(value))),
    (frozenset, lambda value: frozenset(frozenset.__iter__(value))),
    (set, lambda value: set(set.__iter__(value))),
    (OrderedDict, lambda value: dict(OrderedDict.items(value))),
    (dict, lambda value: dict(dict.items(value))),
)


# json.loads without what is around it.
scan: "Callable[[str, int], tuple[Any, int]]" = json.JSONDecoder().scan_once  # type: ignore[attr-defined]


def decode(text: str) -> "Any":
    """The value of a text, which may be hostile.

    Raises:
        Malformed: the text is not what `encode` writes.
    """
    try:
        value, end = scan(text, 0)
        if end != len(text):
            raise Malformed("no plain data: more than one value")
        return value if "{" not in text else built(value)
    except (
        ValueError, TypeError, LookupError, ArithmeticError, RecursionError, StopIteration
    ) as error:  # fmt: skip
        raise Malformed(f"no plain data: {error}") from None


def built(node: "Any") -> "Any":
    """The value of what JSON gave. Raises: Malformed, or what the last of `decode` catches."""
    if type(node) is list:
        return [built(item) for item in node]
    if type(node) is not dict:
        return node
    if len(node) != 1:
        raise Malformed("an object with more than one tag")
    [(tag, content)] = node.items()
    return _BUILDERS[tag](content)


def _built_complex(content: "Any") -> complex:
    real, imaginary = content
    if type(real) is not float or type(imaginary) is not float:
        raise TypeError("a complex number is two floats")
    return complex(real, imaginary)


def _built_dict(content: "Any") -> "dict[Any, Any]":
    return {built(key): built(item) for key, item in content}


def _built_class(content: "Any") -> type:
    kind = vars(builtins).get(content)
    if type(kind) is not type or (kind.__module__, kind.__name__) != ("builtins", content):
        raise TypeError("not one of Python's own classes")
    return kind


def _built_value(module: str, name: str, tag: str) -> "Callable[[Any], Any]":
    def build(content: "Any") -> "Any":
        kind = getattr(__import__(module), name)
        if tag in ("dt", "da", "ti"):
            return kind.fromisoformat(content)
        if tag == "de":
            if type(content) is not str:
                raise TypeError("a decimal is a text")
            return kind(content)
        return kind(*map(_built_int, content))

    return build


def _built_int(content: "Any") -> int:
    value = built(content)
    if type(value) is not int:
        raise TypeError("not a whole number")
    return value


_BUILDERS: "dict[str, Callable[[Any], Any]]" = {
    "t": lambda content: tuple([built(item) for item in content]),
    "s": lambda content: {built(item) for item in content},
    "f": lambda content: frozenset([built(item) for item in content]),
    "d": _built_dict,
    "b": bytes.fromhex,
    "u": lambda content: bytes.fromhex(content).decode("utf-8", "surrogatepass"),
    "c": _built_complex,
    "r": lambda content: range(*map(_built_int, content)),
    "i": lambda content: int(content, 16),
    "g": lambda content: (item for item in [built(item) for item in content]),
    "n": lambda content: iter([built(item) for item in content]),
    "dk": lambda content: dict.fromkeys([built(item) for item in content]).keys(),
    "dv": lambda content: dict(enumerate([built(item) for item in content])).values(),
    "di": lambda content: dict([built(item) for item in content]).items(),
    "T": _built_class,
}
_BUILDERS.update({tag: _built_value(*where, tag) for where, (tag, _) in _VALUES.items()})


def is_marshalled_whole(value: "Any") -> bool:
    """Whether marshal gives back just this: what has a buffer, it would make bytes of."""
    kind = type(value)
    if kind in _MARSHALLED:
        return True
    if kind is dict:
        return _are_marshalled_whole(value) and _are_marshalled_whole(value.values())
    return kind in _HOLDING and _are_marshalled_whole(value)


def _are_marshalled_whole(values: "Any") -> bool:
    return _MARSHALLED.issuperset(map(type, values)) or all(map(is_marshalled_whole, values))


_MARSHALLED = frozenset((type(None), bool, int, float, complex, str, bytes))
_HOLDING = frozenset((list, tuple, set, frozenset))
