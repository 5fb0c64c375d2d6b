"""Where values come from: the data flow of a Python text, as CodeBLEU compares it.

The extraction is that of GraphCodeBERT (Guo et al., arXiv 2009.08366), which CodeBLEU takes over
(Ren et al., arXiv 2009.10297, section 3.3): each name or value that is read is linked with the
places where it got its value; an assignment links each name on its left with all on its right;
the bodies of loops are gone through twice, since a value may come from the round before. Names
are then numbered in the order in which they appear.

The work grows as two to the power of nested loops, so it has a budget: a text beyond it has no
data flow here.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Sequence
from functools import lru_cache

from peft_bench.metrics.codebleu.grammar import grammar
from peft_bench.metrics.codebleu.links import Edge, Flow, linked, numbered, union
from peft_bench.metrics.codebleu.passes import NoFlowError, Pass, States, Task, numbers
from peft_bench.metrics.codebleu.tokens import Tokens, Values, values_of
from peft_bench.metrics.codebleu.trees import FlatTree


def data_flow(tree: FlatTree, tokens: Tokens, *, as_published: bool) -> list[Flow]:
    """The links of the data flow, its names numbered by first appearance.

    Args:
        tree: of the text.
        tokens: of the tree, found with the same ``as_published``.
        as_published: as CodeXGLUE's script does it, with what is wrong there: a variable called
            ``identifier`` is lost; columns in bytes are taken for columns in characters;
            ``a.b = x + y`` links a with x and b with y, and ``a.b = "c"`` ends in an error that
            empties the data flow; the body of a loop that has an ``else``
            is left out; tokens that the parser put in count as values.

    Returns:
        An empty list where there is none, or where it would take too long.
    """
    values = values_of(tree, tokens, as_published=as_published)
    statements = _statements(tree, values)
    if not statements and len(set(values.codes)) == len(values.codes):
        return []  # no name gets a value, and none is read twice
    try:
        edges = _Extraction(tree, values, statements, as_published).run()
    except NoFlowError:
        return []
    return list(numbered(linked(edges, as_published)))


def _statements(tree: FlatTree, values: Values) -> list[int]:
    """The nodes that are not just read token by token, in order; none in strings."""
    visits, kinds, after = _visits(), tree.kinds, tree.after
    if visits.keys().isdisjoint(kinds):
        return []
    found = [n for n, kind in enumerate(kinds) if kind in visits and after[n] > n + 1]
    clause = numbers()[0]["for_in_clause"]
    if clause in kinds:
        found = sorted({*found, *_parents({n for n in found if kinds[n] == clause}, after)})
    if tree.left_out:
        found = [node for node in found if node not in tree.left_out]
    if grammar().string in kinds:
        before = [(node, bisect_left(values.nodes, node)) for node in found]
        found = [node for node, n in before if not n or after[values.nodes[n - 1]] <= node]
    return found


def _parents(nodes: set[int], after: Sequence[int]) -> set[int]:
    ancestors: list[int] = []
    found = set()
    for node, end in enumerate(after):
        while ancestors and after[ancestors[-1]] <= node:
            ancestors.pop()
        if node in nodes:
            found.add(ancestors[-1])
        if end > node + 1:
            ancestors.append(node)
    return found


class _Extraction(Pass):
    """The pass that finds the edges."""

    def statement(self, node: int) -> None:
        self.spend(1)
        kind = self.tree.kinds[node]
        _visits().get(kind, _Extraction.comprehension)(self, node)

    def comprehension(self, node: int) -> None:
        """Its clauses come first: they bind names that stand before them."""
        children = self.tree.children(node)
        self.spend(len(children))
        clause = self.kind["for_in_clause"]
        children.sort(key=lambda child: self.tree.kinds[child] != clause)
        self.later([(self.visit, (child,)) for child in children])

    def default_parameter(self, node: int) -> None:
        names, value = self.field(node, "name"), self.optional(node, "value")
        if value is None:
            for name, place in zip(*self.values(names), strict=True):
                self.edges.append((name, place, "comesFrom", (), ()))
                self.states[name] = [place]
            return
        self.read_then(node, [value], (self.bind_default, (names, value)))

    def bind_default(self, names: int, value: int) -> None:
        sources, places = self.values(value)
        for name, place in zip(*self.values(names), strict=True):
            self.spend(len(sources))
            for source, origin in zip(sources, places, strict=True):
                self.edges.append((name, place, "comesFrom", (source,), (origin,)))
            self.states[name] = [place]

    def assignment(self, node: int) -> None:
        if self.tree.kinds[node] == self.kind["for_in_clause"]:
            pairs = [(self.field(node, "left"), self.tree.children(node)[-1])]
        elif (right := self.optional(node, "right")) is None:
            return  # a declaration
        else:
            pairs = self.pairs(self.field(node, "left"), right)
        self.read_then(node, [right for _, right in pairs], (self.bind, (pairs,)))

    def pairs(self, left: int, right: int) -> list[tuple[int, int]]:
        """Which part of a left side takes which part of the right side."""
        kinds, after = self.tree.kinds, self.tree.after
        if after[left] == left + 1 or after[right] == right + 1:
            return [(left, right)]
        both = {kinds[left], kinds[right]}
        if self.as_published or both <= self.lists:
            comma = self.kind[","]
            lefts, rights = (
                [child for child in self.tree.children(side) if kinds[child] != comma]
                for side in (left, right)
            )
            if lefts and len(lefts) == len(rights):
                if grammar().string in both:
                    raise NoFlowError  # the script looks for tokens in a string and gives up
                return list(zip(lefts, rights, strict=True))
        return [(left, right)]

    def bind(self, pairs: Sequence[tuple[int, int]]) -> None:
        for left, right in pairs:
            sources, places = self.values(right)
            for name, place in zip(*self.values(left), strict=True):
                self.spend(len(sources))
                self.edges.append((name, place, "computedFrom", sources, places))
                self.states[name] = [place]

    def if_statement(self, node: int) -> None:
        before = self.copied(self.states)
        ends: list[States] = []
        self.states = self.copied(before)
        has_else = False
        tasks: list[Task] = []
        for child in self.tree.children(node):
            kind = self.tree.kinds[child]
            has_else = has_else or kind in (self.kind["else_clause"], self.kind["else"])
            if kind in (self.kind["elif_clause"], self.kind["else_clause"]):
                tasks.append((self.branch, (child, before, ends)))
            else:
                tasks.append((self.visit, (child,)))
        tasks.append((self.join, (before, ends, has_else)))
        self.later(tasks)

    def branch(self, node: int, before: States, ends: list[States]) -> None:
        here, self.states = self.states, self.copied(before)
        self.later([(self.visit, (node,)), (self.leave_branch, (here, ends))])

    def leave_branch(self, here: States, ends: list[States]) -> None:
        ends.append(self.states)
        self.states = here

    def join(self, before: States, ends: list[States], has_else: bool) -> None:
        """After an ``if``, a name has the values of all branches."""
        ends = [*ends, self.states] + ([] if has_else else [before])
        joined: dict[str, set[int]] = {}
        for states in ends:
            for name, positions in states.items():
                self.spend(len(positions))
                joined.setdefault(name, set()).update(positions)
        self.states = {name: sorted(positions) for name, positions in joined.items()}

    def for_statement(self, node: int) -> None:
        pairs = self.pairs(self.field(node, "left"), self.field(node, "right"))
        bodies = self.bodies(node)
        once: list[Task] = [(self.visit, (right,)) for _, right in pairs]
        once += [(self.bind, (pairs,)), *((self.visit, (body,)) for body in bodies)]
        self.later([*once, *once, (self.leave_loop, (len(self.edges),))])

    def bodies(self, node: int) -> list[int]:
        children = self.tree.children(node)
        block, other = self.kind["block"], self.kind["else_clause"]
        if self.as_published:
            return [child for child in children[-1:] if self.tree.kinds[child] == block]
        return [child for child in children if self.tree.kinds[child] in (block, other)]

    def while_statement(self, node: int) -> None:
        once: list[Task] = [(self.visit, (child,)) for child in self.tree.children(node)]
        self.later([*once, *once, (self.leave_loop, (len(self.edges),))])

    def leave_loop(self, start: int) -> None:
        """What both rounds found becomes one edge."""
        rounds = self.edges[start:]
        self.spend(len(rounds))
        merged: dict[tuple[str, int, str], Edge] = {}
        for edge in rounds:
            key = edge[:3]
            known = merged.get(key)
            if known is not None:
                self.spend(len(edge[3]))
                edge = union(known, edge, self.as_published)
            merged[key] = edge
        self.edges[start:] = merged.values()


@lru_cache(maxsize=1)
def _visits() -> dict[int, Callable[[_Extraction, int], None]]:
    """What is done at the statements and clauses that bind names or run twice."""
    kind, _, _ = numbers()
    return {
        kind["default_parameter"]: _Extraction.default_parameter,
        kind["assignment"]: _Extraction.assignment,
        kind["augmented_assignment"]: _Extraction.assignment,
        kind["for_in_clause"]: _Extraction.assignment,
        kind["if_statement"]: _Extraction.if_statement,
        kind["for_statement"]: _Extraction.for_statement,
        kind["while_statement"]: _Extraction.while_statement,
    }
