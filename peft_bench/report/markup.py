"""Builds HTML and SVG in which a text can never become markup."""

from __future__ import annotations

import html
import re
from collections.abc import Callable, Mapping
from functools import cache

from peft_bench.report.text import printable

_VOID = {"meta", "input", "br"}
_SPECIAL = re.compile("[&<>\"']")
_Attribute = str | float | bool | None


class Markup(str):
    """Text that is markup already. Only :func:`tag` and trusted constants make it."""

    __slots__ = ()


def tag(_name: str, *children: str | Markup, **attributes: _Attribute) -> Markup:
    """An element; children that are not :class:`Markup` are escaped, as is every attribute.

    An attribute that is None or False is left out, one that is True has no value. Underscores in
    attribute names stand for hyphens; one at the end is dropped (``class_``, ``for_``).
    """
    if _name in _VOID:
        return Markup(f"<{_name}{_written(attributes)}>")
    return Markup(f"<{_name}{_written(attributes)}>{join(*children)}</{_name}>")


def tags(_name: str, **attributes: _Attribute) -> Callable[..., Markup]:
    """What makes elements as :func:`tag` does, all with these attributes and more of their own.

    For a table's thousands of cells, which differ in little.
    """
    shared = _written(attributes)

    def make(*children: str | Markup, **more: _Attribute) -> Markup:
        return Markup(f"<{_name}{shared}{_written(more)}>{join(*children)}</{_name}>")

    return make


def _written(attributes: Mapping[str, _Attribute]) -> str:
    return "".join(
        [
            f" {_attribute(name)}" if value is True else f' {_attribute(name)}="{_quote(value)}"'
            for name, value in attributes.items()
            if value is not None and value is not False
        ]
    )


@cache
def _attribute(name: str) -> str:
    return name.rstrip("_").replace("_", "-")


def join(*children: str | Markup) -> Markup:
    """The children one after another, escaped unless they are markup."""
    return Markup(
        "".join(
            [
                child if isinstance(child, Markup) else _escape(printable_keeping(child))
                for child in children
            ]
        )
    )


def _escape(value: str) -> str:
    return html.escape(value) if _SPECIAL.search(value) else value  # most have none


def printable_keeping(value: str) -> str:
    """The text without unseen characters, its outer blanks kept as they separate elements."""
    inner = printable(value)
    head = " " if value[:1].isspace() and inner else ""
    tail = " " if value[-1:].isspace() and inner else ""
    return f"{head}{inner}{tail}"


def _quote(value: str | float) -> str:
    if isinstance(value, float):
        return f"{value:.6g}"
    return _escape(printable(str(value)))
