"""Mild mutants of HumanEval's canonical solutions: the same ones for the same seed.

Three of each problem are one small slip in the code (an operator, a constant, a statement), two
are a behaviour that graders treat in their own ways (leaving early, flooding, forged equality).
Nothing here touches a file, a process or the network: a peer runs them without a guard.
"""

from __future__ import annotations

import ast
import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

SLIPS_EACH, BEHAVIOURS_EACH = 3, 2

_FLIPPED: dict[type[ast.cmpop], type[ast.cmpop]] = {
    ast.Lt: ast.LtE,
    ast.LtE: ast.Lt,
    ast.Gt: ast.GtE,
    ast.GtE: ast.Gt,
    ast.Eq: ast.NotEq,
    ast.NotEq: ast.Eq,
    ast.In: ast.NotIn,
    ast.NotIn: ast.In,
    ast.Is: ast.IsNot,
    ast.IsNot: ast.Is,
}

# Put before the first statement of the entry point.
_BEHAVIOURS = {
    "endless loop": "while True:\n    pass",
    "sys.exit": "import sys\nsys.exit(0)",
    "os._exit": "import os\nos._exit(0)",
    "flood": "for _ in range(3000):\n    print('x' * 1000)",
}
_EQUAL = """
class Equal:
    def __eq__(self, other): return True
    def __ne__(self, other): return False
    def __lt__(self, other): return True
    def __sub__(self, other): return self
    def __abs__(self): return self
    def __hash__(self): return 0
def {name}(*args, **kwargs):
    return Equal()
"""
BEHAVIOURS = (*_BEHAVIOURS, "equal to all")

# A slip: its name, and a function that makes it in place.
Slip = tuple[str, Callable[[], None]]


@dataclass(frozen=True, slots=True)
class Mutant:
    """A whole program in place of a prompt and its completion."""

    task_id: str
    kind: str
    source: str


def mutants(rows: list[dict[str, Any]], seed: int) -> list[Mutant]:
    """About five of each row; fewer where the code offers fewer places."""
    made = []
    for number, row in enumerate(rows):
        source, chance = row["prompt"] + row["completion"], random.Random(f"{seed}:{row['id']}")
        places = range(len(list(_slips(ast.parse(source)))))
        for place in sorted(chance.sample(places, min(SLIPS_EACH, len(places)))):
            made.append(_slipped(row["id"], source, place))
        for turn in range(BEHAVIOURS_EACH):
            kind = BEHAVIOURS[(number * BEHAVIOURS_EACH + turn) % len(BEHAVIOURS)]
            made.append(Mutant(row["id"], kind, _behaving(source, row["entry_point"], kind)))
    return made


def slipped(source: str, chance: random.Random) -> str | None:
    """A script with one slip anywhere in it; None where there is no place for one, or no parse."""
    try:
        tree = ast.parse(source)
    except SyntaxError:
        return None
    places = [slip for node in ast.walk(tree) for slip in _slips_at(node)]
    if not places:
        return None
    chance.choice(places)[1]()
    return ast.unparse(ast.fix_missing_locations(tree))


def _slipped(task_id: str, source: str, place: int) -> Mutant:
    tree = ast.parse(source)
    kind, make = list(_slips(tree))[place]
    make()
    return Mutant(task_id, kind, ast.unparse(ast.fix_missing_locations(tree)))


def _behaving(source: str, entry_point: str, kind: str) -> str:
    if kind not in _BEHAVIOURS:
        return source + _EQUAL.format(name=entry_point)
    tree = ast.parse(source)
    for node in tree.body:
        if isinstance(node, ast.FunctionDef) and node.name == entry_point:
            node.body[:0] = ast.parse(_BEHAVIOURS[kind]).body
    return ast.unparse(tree)


def _slips(tree: ast.Module) -> Iterator[Slip]:
    """Every place for a slip inside the functions, in the order of the walk."""
    for function in tree.body:
        if isinstance(function, ast.FunctionDef):
            for node in ast.walk(ast.Module(body=function.body, type_ignores=[])):
                yield from _slips_at(node)


def _slips_at(node: ast.AST) -> Iterator[Slip]:
    if isinstance(node, ast.Compare) and type(node.ops[0]) in _FLIPPED:
        yield "comparison", lambda: _flip(node)
    elif isinstance(node, ast.Constant) and type(number := node.value) is int:
        yield "off by one", lambda: setattr(node, "value", number + 1)
    elif isinstance(node, ast.BinOp):
        yield "operands", lambda: _swap(node)
    elif isinstance(node, ast.Return) and node.value is not None:
        yield "return None", lambda: setattr(node, "value", ast.Constant(None))
    for name in ("body", "orelse"):
        body = getattr(node, name, None)
        if not isinstance(body, list):  # a lambda's is an expression
            continue
        for place, statement in enumerate(body):
            if isinstance(statement, ast.Assign | ast.AugAssign | ast.If | ast.For) or (
                isinstance(statement, ast.Expr) and isinstance(statement.value, ast.Call)
            ):
                yield "statement removed", _remover(body, place)


def _remover(body: list[ast.stmt], place: int) -> Callable[[], None]:
    return lambda: body.__setitem__(place, ast.Pass())


def _flip(node: ast.Compare) -> None:
    node.ops[0] = _FLIPPED[type(node.ops[0])]()


def _swap(node: ast.BinOp) -> None:
    node.left, node.right = node.right, node.left
