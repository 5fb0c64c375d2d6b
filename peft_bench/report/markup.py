"""Builds HTML and SVG in which a text can never become markup."""

from __future__ import annotations

import html

from peft_bench.report.text import printable

_VOID = {"meta", "input", "br"}


class Markup(str):
    """Text that is markup already. Only :func:`tag` and trusted constants make it."""

    __slots__ = ()


def tag(_name: str, *children: str | Markup, **attributes: str | float | bool | None) -> Markup:
    """An element; children that are not :class:`Markup` are escaped, as is every attribute.

    An attribute that is None or False is left out, one that is True has no value. Underscores in
    attribute names stand for hyphens; one at the end is dropped (``class_``, ``for_``).
    """
    written = "".join(
        f" {name.rstrip('_').replace('_', '-')}" + ("" if value is True else f'="{_quote(value)}"')
        for name, value in attributes.items()
        if value is not None and value is not False
    )
    if _name in _VOID:
        return Markup(f"<{_name}{written}>")
    return Markup(f"<{_name}{written}>{join(*children)}</{_name}>")


def join(*children: str | Markup) -> Markup:
    """The children one after another, escaped unless they are markup."""
    return Markup(
        "".join(
            child if isinstance(child, Markup) else html.escape(printable_keeping(child))
            for child in children
        )
    )


def printable_keeping(value: str) -> str:
    """The text without unseen characters, its outer blanks kept as they separate elements."""
    inner = printable(value)
    head = " " if value[:1].isspace() and inner else ""
    tail = " " if value[-1:].isspace() and inner else ""
    return f"{head}{inner}{tail}"


def _quote(value: str | float) -> str:
    if isinstance(value, float):
        return f"{value:.6g}"
    return html.escape(printable(str(value)), quote=True)
