"""tree-sitter-python's own numbers of the kinds of nodes and of fields."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING

from peft_bench.errors import PeftBenchError

if TYPE_CHECKING:
    from tree_sitter import Language

ERROR = 65535  # tree-sitter's own number of an error node, the same in every grammar


@dataclass(frozen=True, slots=True)
class Grammar:
    """The numbers of the kinds that have a meaning here."""

    language: Language
    names: dict[int, str]
    named: frozenset[int]
    leaves: dict[int, int]  # what a leaf adds to its parent's shape; 0 if it has no name
    comments: frozenset[int]  # and continued lines
    comment: int
    string: int
    strings: frozenset[int]  # what a docstring may be
    expression_statement: int
    block: int
    definitions: frozenset[int]  # function_definition, class_definition


@lru_cache(maxsize=1)
def grammar() -> Grammar:
    """The grammar, loaded when first asked for."""
    language = _language()
    kinds = range(language.node_kind_count)
    named = frozenset(kind for kind in kinds if language.node_kind_is_named(kind)) | {ERROR}
    kind = kind_number
    return Grammar(
        language=language,
        names={number: language.node_kind_for_id(number) or "" for number in kinds}
        | {ERROR: "ERROR"},
        named=named,
        leaves={kind: hash((kind,)) if kind in named else 0 for kind in (*kinds, ERROR)},
        comments=frozenset({kind("comment"), kind("line_continuation")}),
        comment=kind("comment"),
        string=kind("string"),
        strings=frozenset({kind("string"), kind("concatenated_string")}),
        expression_statement=kind("expression_statement"),
        block=kind("block"),
        definitions=frozenset({kind("function_definition"), kind("class_definition")}),
    )


@lru_cache(maxsize=1)
def _language() -> Language:
    import tree_sitter_python
    from tree_sitter import Language

    return Language(tree_sitter_python.language())


def kind_number(name: str, *, named: bool = True) -> int:
    """The grammar's number of a kind of node.

    Raises:
        PeftBenchError: if the grammar that is installed has no such kind.
    """
    return _known(_language().id_for_node_kind(name, named), f"node kind {name!r}")


def field_number(name: str) -> int:
    """The grammar's number of a field.

    Raises:
        PeftBenchError: if the grammar that is installed has no such field.
    """
    return _known(_language().field_id_for_name(name), f"field {name!r}")


def _known(number: int | None, what: str) -> int:
    if number is None:
        raise PeftBenchError(
            place="tree-sitter-python",
            problem=f"its grammar has no {what}",
            remedy="install the version that constraints.txt names",
        )
    return number
