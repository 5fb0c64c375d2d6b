"""Dataclasses as the only schema: reads mappings into them and tells all faults at once.

Unknown keys, missing keys and wrong types are collected with the dotted place of
each; nothing is coerced but whole numbers to floats, and texts such as ``3e-4`` that YAML 1.1
does not take for a number.
"""

from __future__ import annotations

import dataclasses
import difflib
import math
import types
from collections.abc import Callable, Iterable, Mapping
from functools import cache, lru_cache
from operator import itemgetter
from typing import Any, Literal, NamedTuple, TypeVar, Union, get_args, get_origin, get_type_hints

from peft_bench.errors import Faults

T = TypeVar("T")


class _Invalid:
    """Stands for a value that was refused; its fault is already noted."""


INVALID = _Invalid()

_TOO_LARGE = 2**53


def read(cls: type[T], data: object, place: str, faults: Faults) -> T | None:
    """An instance of dataclass ``cls`` from a mapping, or None once ``faults`` names why not."""
    if type(data) is not dict and not isinstance(data, Mapping):
        faults.add(
            place=place,
            problem=f"{_show(data)} is not a mapping",
            remedy="write KEY: VALUE lines here",
        )
        return None
    plan: _Plan = _plan(cls)  # type: ignore[arg-type]
    if plan.every is not None and len(data) == len(plan.hints):
        try:
            return _read_every(cls, plan, plan.every(data), place, faults)
        except KeyError:
            pass  # a key is missing and another unknown: told below
    hints, taken, readers, required, _ = plan
    sound = required <= data.keys()
    values = {**data}
    for key, value in data.items():
        if type(value) in taken.get(key, ()):
            continue
        where = f"{place}.{key}" if place else str(key)
        if key not in hints:
            near = difflib.get_close_matches(str(key), list(hints), n=1)
            hint = f"did you mean {near[0]}?" if near else f"known keys: {', '.join(hints)}"
            faults.add(place=where, problem="unknown key", remedy=hint)
            sound = False
            continue
        values[key] = readers[key](value, where, faults)
        sound = sound and values[key] is not INVALID
    if sound:
        return cls(**values)
    for name in hints:
        if name in required and name not in data:
            where = f"{place}.{name}" if place else name
            faults.add(place=where, problem="missing", remedy=f"give a {_describe(hints[name])}")
    return None


def _read_every(
    cls: type[T], plan: _Plan, given: tuple[Any, ...], place: str, faults: Faults
) -> T | None:
    """As :func:`read`, from the values of every field in order.

    Thousands of records are read at a time, which have all their keys, and most of their values
    are of the types that are wanted: that is looked up for all values together.
    """
    rest = _not_taken(cls, tuple(map(type, given)))  # type: ignore[arg-type]
    if not rest:
        return cls(*given)
    values = list(given)
    sound = True
    for i, name, reader in rest:
        values[i] = reader(given[i], f"{place}.{name}" if place else name, faults)
        sound = sound and values[i] is not INVALID
    return cls(*values) if sound else None


#: (value, place, faults) -> what was read, or INVALID once ``faults`` names why not.
_Reader = Callable[[Any, str, Faults], Any]


class _Plan(NamedTuple):
    """How a dataclass is read: by field its type, what is taken as it is, and what reads the rest;
    the names of those without a default; and what gets the values of all from a mapping, if these
    are its arguments."""

    hints: dict[str, Any]
    taken: dict[str, frozenset[type]]
    readers: dict[str, _Reader]
    required: frozenset[str]
    every: Callable[[Mapping[str, Any]], tuple[Any, ...]] | None


@cache
def _plan(cls: Any) -> _Plan:
    every, fields = get_type_hints(cls), dataclasses.fields(cls)
    hints = {field.name: every[field.name] for field in fields}
    required = frozenset(
        field.name
        for field in fields
        if field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING
    )
    return _Plan(
        hints,
        {name: _taken(hint) for name, hint in hints.items()},
        {name: _reader(hint) for name, hint in hints.items()},
        required,
        itemgetter(*hints) if len(hints) > 1 and _by_position(fields) else None,
    )


def _by_position(fields: Iterable[dataclasses.Field[Any]]) -> bool:
    return all(field.init and not field.kw_only for field in fields)


@lru_cache(maxsize=4096)
def _not_taken(cls: Any, found: tuple[type, ...]) -> tuple[tuple[int, str, _Reader], ...]:
    """Place, name and reader of the fields whose values, of these types, must be read."""
    plan = _plan(cls)
    return tuple(
        (i, name, plan.readers[name])
        for i, (name, kind) in enumerate(zip(plan.hints, found, strict=True))
        if kind not in plan.taken[name]
    )


@cache
def _reader(hint: Any) -> _Reader:
    """What reads the values that are not taken as they are."""
    origin, arguments = get_origin(hint), get_args(hint)
    if origin in (Union, types.UnionType):
        return _union_reader(hint, arguments)
    if dataclasses.is_dataclass(hint) and isinstance(hint, type):
        return _dataclass_reader(hint)
    if origin is tuple:
        return _tuple_reader(hint, arguments[0])
    if origin is dict:
        return _dict_reader(hint, arguments[1])
    if hint is Any:
        return lambda value, place, faults: value
    return _plain_reader(hint, origin, arguments)


@cache
def _taken(hint: Any) -> frozenset[type]:
    """The types whose values are taken as they are."""
    if hint in (str, int, float, bool, type(None)):
        return frozenset((hint,))
    if get_origin(hint) in (Union, types.UnionType):
        return frozenset().union(*(_taken(option) for option in get_args(hint)))
    return frozenset()


def _parse(hint: Any, value: object, place: str, faults: Faults) -> Any:
    return value if type(value) in _taken(hint) else _reader(hint)(value, place, faults)


def _dataclass_reader(cls: type) -> _Reader:
    def reader(value: Any, place: str, faults: Faults) -> Any:
        parsed = read(cls, value, place, faults)
        return INVALID if parsed is None else parsed

    return reader


def _tuple_reader(hint: Any, inner: Any) -> _Reader:
    taken, item_reader = _taken(inner), _reader(inner)

    def reader(value: Any, place: str, faults: Faults) -> Any:
        if type(value) is not list and not isinstance(value, list | tuple):
            return _wrong_type(hint, value, place, faults)
        items = list(value)
        sound = True
        for i, item in enumerate(items):
            if type(item) not in taken:
                items[i] = item_reader(item, f"{place}[{i}]", faults)
                sound = sound and items[i] is not INVALID
        return tuple(items) if sound else INVALID

    return reader


def _dict_reader(hint: Any, inner: Any) -> _Reader:
    taken, item_reader = _taken(inner), _reader(inner)

    def reader(value: Any, place: str, faults: Faults) -> Any:
        if type(value) is not dict and not isinstance(value, Mapping):
            return _wrong_type(hint, value, place, faults)
        pairs = {str(key): item for key, item in value.items()}
        if inner is Any:
            return pairs
        sound = True
        for key, item in pairs.items():
            if type(item) not in taken:
                pairs[key] = item_reader(item, f"{place}.{key}", faults)
                sound = sound and pairs[key] is not INVALID
        return pairs if sound else INVALID

    return reader


def _plain_reader(hint: Any, origin: Any, arguments: tuple[Any, ...]) -> _Reader:
    def reader(value: Any, place: str, faults: Faults) -> Any:
        if origin is Literal:
            if value in arguments:
                return value
        elif hint is float:
            number = as_float(value)
            if number is not None:
                return number
        elif origin is None and isinstance(value, hint) and not _is_bool_for_int(hint, value):
            return value
        return _wrong_type(hint, value, place, faults)

    return reader


def _union_reader(hint: Any, options: tuple[Any, ...]) -> _Reader:
    rest = [option for option in options if option is not type(None)]
    if len(rest) == 1:
        return _reader(rest[0])  # None was taken as it is

    def reader(value: Any, place: str, faults: Faults) -> Any:
        for option in rest:
            parsed = _parse(option, value, place, Faults(""))
            if parsed is not INVALID:
                return parsed
        return _wrong_type(hint, value, place, faults)

    return reader


def _wrong_type(hint: Any, value: object, place: str, faults: Faults) -> _Invalid:
    wanted = _describe(hint)
    faults.add(place=place, problem=f"{_show(value)} is not a {wanted}", remedy=f"give a {wanted}")
    return INVALID


def _is_bool_for_int(hint: Any, value: object) -> bool:
    return hint is int and isinstance(value, bool)


def as_float(value: object) -> float | None:
    """A number, or a text that says one such as ``3e-4``, as a float; None for anything else."""
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        return None
    if isinstance(value, str) and not any(character.isdigit() for character in value):
        return None  # float() would take "nan" and "infinity"
    try:
        return float(value)
    except (ValueError, OverflowError):
        return None


def as_number(value: object) -> float | None:
    """As :func:`as_float`, but integers as they are: some are too large for a float."""
    if isinstance(value, int) and not isinstance(value, bool):
        return value
    return as_float(value)


def check_positive(value: object, place: str, faults: Faults) -> None:
    """Notes a number that is not above 0, or that counts nothing there is; other types pass."""
    number = as_number(value)
    if number is not None and not 0 < number < _TOO_LARGE:
        fault = "is too large" if _TOO_LARGE <= number < math.inf else "is not positive"
        faults.add(
            place=place,
            problem=f"{value!s:.60} {fault}",
            remedy="give a finite number above 0",
        )


def _describe(hint: Any) -> str:
    names = {
        str: "text",
        int: "whole number",
        float: "number",
        bool: "true or false",
        dict: "mapping",
    }
    origin = get_origin(hint)
    if origin in (Union, types.UnionType):
        return " or ".join(_describe(arg) for arg in get_args(hint) if arg is not type(None))
    if origin is Literal:
        return "value of: " + ", ".join(str(arg) for arg in get_args(hint))
    if origin is tuple:
        return f"list of {_describe(get_args(hint)[0])}"
    if origin is dict or dataclasses.is_dataclass(hint):
        return "mapping"
    return names.get(hint, str(hint))


def _show(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "..."
