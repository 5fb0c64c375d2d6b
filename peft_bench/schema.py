"""Dataclasses as the only schema: reads mappings into them and tells all faults at once.

Unknown keys, missing keys and wrong types are collected with the dotted place of
each; nothing is coerced but whole numbers to floats, and texts such as ``3e-4`` that YAML 1.1
does not take for a number.
"""

from __future__ import annotations

import dataclasses
import difflib
import types
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

from peft_bench.errors import Faults, MissingError, UsageError

T = TypeVar("T")


class _Invalid:
    """Stands for a value that was refused; its fault is already noted."""


INVALID = _Invalid()


def read_yaml(file: Path, *, kind: str, known: str) -> object:
    """What a YAML file holds.

    Args:
        file: the file.
        kind: what it should be, such as ``recipe``.
        known: which ones there are, told where there is no such file.

    Raises:
        MissingError: there is no such file.
        UsageError: the file is not YAML.
    """
    import yaml

    try:
        return yaml.safe_load(file.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise MissingError(place=str(file), problem=f"no such {kind}", remedy=known) from None
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise UsageError(
            place=str(file), problem=f"not a readable YAML file: {error}", remedy="mend the file"
        ) from None


def read(cls: type[T], data: object, place: str, faults: Faults) -> T | None:
    """An instance of dataclass ``cls`` from a mapping, or None once ``faults`` names why not."""
    if not isinstance(data, Mapping):
        faults.add(
            place=place,
            problem=f"{_show(data)} is not a mapping",
            remedy="write KEY: VALUE lines here",
        )
        return None
    hints, taken, required = _plan(cls)  # type: ignore[arg-type]
    before = len(faults)
    values: dict[str, Any] = {}
    for key, value in data.items():
        if type(value) in taken.get(key, ()):
            values[key] = value
            continue
        where = f"{place}.{key}" if place else str(key)
        if key not in hints:
            near = difflib.get_close_matches(str(key), list(hints), n=1)
            hint = f"did you mean {near[0]}?" if near else f"known keys: {', '.join(hints)}"
            faults.add(place=where, problem="unknown key", remedy=hint)
            continue
        parsed = _parse(hints[key], value, where, faults)
        if parsed is not INVALID:
            values[key] = parsed
    for name in required:
        if name not in data:
            where = f"{place}.{name}" if place else name
            faults.add(place=where, problem="missing", remedy=f"give a {_describe(hints[name])}")
    return cls(**values) if len(faults) == before else None


@cache
def _plan(cls: Any) -> tuple[dict[str, Any], dict[str, frozenset[type]], tuple[str, ...]]:
    """By field, its type and what is taken as it is; the names of those without a default."""
    hints = get_type_hints(cls)
    fields = dataclasses.fields(cls)
    required = tuple(
        field.name
        for field in fields
        if field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING
    )
    types_ = {field.name: hints[field.name] for field in fields}
    return types_, {name: _taken(hint) for name, hint in types_.items()}, required


@cache
def _taken(hint: Any) -> frozenset[type]:
    """The types whose values are taken as they are; thousands of records are read at a time."""
    if hint in (str, int, float, bool, type(None)):
        return frozenset((hint,))
    if get_origin(hint) in (Union, types.UnionType):
        return frozenset().union(*(_taken(option) for option in get_args(hint)))
    return frozenset()


def _parse(hint: Any, value: object, place: str, faults: Faults) -> Any:
    taken, origin, arguments, is_class = _kind(hint)
    if type(value) in taken:
        return value
    if origin in (Union, types.UnionType):
        return _parse_union(hint, arguments, value, place, faults)
    if is_class:
        parsed = read(hint, value, place, faults)
        return INVALID if parsed is None else parsed
    if origin is tuple and isinstance(value, list | tuple):
        return _parse_items(arguments[0], value, place, faults)
    if origin is dict and isinstance(value, Mapping):
        inner = arguments[1]
        if inner is Any:
            return {str(k): v for k, v in value.items()}
        pairs = {str(k): _parse(inner, v, f"{place}.{k}", faults) for k, v in value.items()}
        return INVALID if any(each is INVALID for each in pairs.values()) else pairs
    if origin is Literal:
        if value in arguments:
            return value
    elif hint is Any:
        return value
    elif hint is float:
        number = as_float(value)
        if number is not None:
            return number
    elif origin is None and isinstance(value, hint) and not _is_bool_for_int(hint, value):
        return value
    _wrong_type(hint, value, place, faults)
    return INVALID


@cache
def _kind(hint: Any) -> tuple[frozenset[type], Any, tuple[Any, ...], bool]:
    """What is taken as it is, the origin and its arguments, and whether it is a dataclass."""
    is_class = dataclasses.is_dataclass(hint) and isinstance(hint, type)
    return _taken(hint), get_origin(hint), get_args(hint), is_class


def _parse_union(
    hint: Any, options: tuple[Any, ...], value: object, place: str, faults: Faults
) -> Any:
    if value is None and type(None) in options:
        return None
    rest = [option for option in options if option is not type(None)]
    if len(rest) == 1:
        return _parse(rest[0], value, place, faults)
    for option in rest:
        parsed = _parse(option, value, place, Faults(""))
        if parsed is not INVALID:
            return parsed
    _wrong_type(hint, value, place, faults)
    return INVALID


def _parse_items(hint: Any, value: object, place: str, faults: Faults) -> Any:
    assert isinstance(value, list | tuple)
    items = tuple(_parse(hint, item, f"{place}[{i}]", faults) for i, item in enumerate(value))
    return INVALID if any(each is INVALID for each in items) else items


def _wrong_type(hint: Any, value: object, place: str, faults: Faults) -> None:
    wanted = _describe(hint)
    faults.add(place=place, problem=f"{_show(value)} is not a {wanted}", remedy=f"give a {wanted}")


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
