"""Going through a tree token by token and statement by statement.

What cannot be done at once becomes tasks on a stack, instead of calls, so no nesting is too deep.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Callable, Sequence
from functools import lru_cache
from operator import itemgetter

from peft_bench.metrics.codebleu.grammar import field_number, kind_number
from peft_bench.metrics.codebleu.links import Edge
from peft_bench.metrics.codebleu.tokens import Values
from peft_bench.metrics.codebleu.trees import FlatTree

_BUDGET = 300_000  # steps: a fraction of a second; the longest honest answers need some thousands

States = dict[str, list[int]]  # the tokens where each name got the value that it has
Task = tuple[Callable[..., None], tuple[object, ...]]


class NoFlowError(Exception):
    """The text has no data flow: it takes too long, or a part of a statement is not there."""


_KINDS = (
    "default_parameter",
    "assignment",
    "augmented_assignment",
    "for_in_clause",
    "if_statement",
    "elif_clause",
    "else_clause",
    "for_statement",
    "while_statement",
    "block",
    "identifier",
)
_FIELDS = ("name", "value", "left", "right")
# What is unpacked, part by part, when both sides are of these kinds.
_LISTS = ("pattern_list", "tuple_pattern", "list_pattern", "expression_list", "tuple", "list")


@lru_cache(maxsize=1)
def numbers() -> tuple[dict[str, int], dict[str, int], frozenset[int]]:
    """The grammar's numbers of kinds, of fields, and of the kinds that are unpacked."""
    kinds = {name: kind_number(name) for name in _KINDS}
    kinds |= {sign: kind_number(sign, named=False) for sign in (",", "else")}
    fields = {name: field_number(name) for name in _FIELDS}
    return kinds, fields, frozenset(map(kind_number, _LISTS))


class Pass:
    """One pass over a tree; ``states`` is what is known where the pass stands."""

    def __init__(
        self, tree: FlatTree, values: Values, statements: Sequence[int], as_published: bool
    ) -> None:
        self.tree = tree
        self.tokens = values
        self.as_published = as_published
        self.kind, self.fields, self.lists = numbers()
        self.edges: list[Edge] = []
        self.states: States = {}
        self.tasks: list[Task] = [(self.visit, (0,))]
        self.steps = 0
        self.statements = [*statements, len(tree.kinds)]

    def run(self) -> list[Edge]:
        """All edges, in the order of their tokens."""
        tasks = self.tasks
        while tasks:
            task, arguments = tasks.pop()
            task(*arguments)
        return sorted(self.edges, key=itemgetter(1))

    def later(self, tasks: Sequence[Task]) -> None:
        """Does the tasks next, in their order."""
        self.tasks += reversed(tasks)

    def spend(self, steps: int) -> None:
        self.steps += steps
        if self.steps > _BUDGET:
            raise NoFlowError

    def visit(self, node: int) -> None:
        self.go(node, self.tree.after[node])

    def go(self, start: int, end: int) -> None:
        """From one node to another: reads what is there, and does what the statements say."""
        after, tasks = self.tree.after, self.tasks
        while start < end:
            statement = self.statements[bisect_left(self.statements, start)]
            if statement >= end:
                self.read(start, end)
                return
            if start < statement:
                self.read(start, statement)
            start = after[statement]
            waiting = len(tasks)
            self.statement(statement)
            if len(tasks) > waiting:
                tasks.insert(waiting, (self.go, (start, end)))  # when they are done
                return

    def read_then(self, node: int, parts: Sequence[int], task: Task) -> None:
        """Reads some parts of a statement, then does a task."""
        after = self.tree.after
        if self.statements[bisect_right(self.statements, node)] < after[node]:
            self.later([*((self.visit, (part,)) for part in parts), task])
            return
        for part in parts:
            self.read(part, after[part])
        task[0](*task[1])

    def read(self, start: int, end: int) -> None:
        """Reads the tokens from one node to another."""
        nodes, codes, places = self.tokens
        first = bisect_left(nodes, start)
        last = bisect_left(nodes, end, first)
        if first == last:
            return
        self.spend(last - first)
        states, edges = self.states, self.edges
        identifier, kinds = self.kind["identifier"], self.tree.kinds
        for token in range(first, last):
            code, place = codes[token], places[token]
            known = states.get(code)
            if known is not None:
                edges.append((code, place, "comesFrom", (code,), known))
                continue
            if kinds[nodes[token]] == identifier:
                states[code] = [place]
            edges.append((code, place, "comesFrom", (), ()))

    def statement(self, node: int) -> None:
        """Does what a statement says, or says later what is to be done."""
        raise NotImplementedError

    def values(self, node: int) -> tuple[list[str], list[int]]:
        """The texts and places of the tokens under a node that have a value."""
        nodes, codes, places = self.tokens
        start = bisect_left(nodes, node)
        end = bisect_left(nodes, self.tree.after[node], start)
        self.spend(end - start)
        return codes[start:end], places[start:end]

    def field(self, node: int, name: str) -> int:
        """A field's node.

        Raises:
            NoFlowError: if the statement has no such part.
        """
        found = self.optional(node, name)
        if found is None:
            raise NoFlowError
        return found

    def optional(self, node: int, name: str) -> int | None:
        field, (fields, after) = self.fields[name], (self.tree.fields, self.tree.after)
        child, end = node + 1, after[node]
        while child < end:
            if fields[child] == field and child not in self.tree.left_out:
                return child
            child = after[child]
        return None

    def copied(self, states: States) -> States:
        self.spend(len(states))
        return dict(states)
