"""What is executed: the problems of HumanEval, MBPP, ODEX and APPS as programs and their tests.

Each function takes a document: a row in its hub's schema, whose own field ``prompt`` is named
``source_prompt``; lists may be given as JSON texts. How a row is to be read (imports, helpers,
wrapped outputs) is settled here and nowhere else.
"""

from __future__ import annotations

import ast
import builtins
import dataclasses
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any, Literal

from peft_bench_sandbox import AssertTest, CallTest, Program, StdinTest, Test
from peft_bench_sandbox.types import Isolate, Judge

from peft_bench.executed.extraction import complete, extract, headed, preamble
from peft_bench.fences import Code
from peft_bench.jsonl import parse_json

Document = Mapping[str, Any]

# What LeetCode's solutions take for granted, as their site imports it for them.
LEETCODE_IMPORTS = (
    "import bisect, collections, functools, heapq, itertools, math, re, string\n"
    "from collections import *\n"
    "from typing import *\n"
)


@dataclass(frozen=True, slots=True)
class Problem:
    """How an answer becomes a program, and what the program has to pass.

    Attributes:
        id: the document's.
        solutions: reference programs, whole; the first that passes stands for the problem.
        assemble: a program's source from the code of an answer.
        tests: the tests of a source (in some rows of APPS they depend on how it is written).
        entry_point: the function that is asked for, where there is one.
        isolate: ``program``: tests that cannot tell share a process (see the sandbox's README).
    """

    id: str
    solutions: tuple[str, ...]
    assemble: Callable[[Code], str]
    tests: Callable[[str], tuple[Test, ...]]
    entry_point: str | None = None
    isolate: Isolate = "test"

    def code(self, answer: str) -> Code:
        """The code of an answer."""
        return extract(answer, self.entry_point)

    def program(self, source: str, *, judge: Judge = "split") -> Program:
        """A source with its tests; ``judge``: of its assert tests, as the gold check settled it."""
        tests = self.tests(source)
        if judge != "split":
            tests = tuple(
                dataclasses.replace(test, judge=judge) if isinstance(test, AssertTest) else test
                for test in tests
            )
        return Program(self.id, source, tests, self.isolate)


def humaneval(doc: Document) -> Problem:
    """A row of HumanEval (arXiv 2107.03374): the prompt is completed.

    Helpers that the prompt defines and the test uses (problems 32, 38 and 50) stand before the
    test's code, too: there the candidate cannot define them anew.
    """
    prompt, entry = str(doc["source_prompt"]), str(doc["entry_point"])
    code = f"{doc['test']}\ncheck({entry})\n"
    helpers = preamble(prompt, entry)
    if _free_names(code) & _defined_names(helpers):
        code = f"{helpers}\n{code}"
    test = AssertTest(code, entry)
    return Problem(
        id=str(doc["id"]),
        solutions=(prompt + str(doc["cmd"]),),
        assemble=lambda code: complete(prompt, code, entry),
        tests=lambda source: (test,),
        entry_point=entry,
    )


def mbpp(doc: Document, *, setup: bool = True) -> Problem:
    """A row of MBPP (arXiv 2108.07732): a whole program, against ``test_list``.

    ``setup``: the row's set-up code stands before the tests.
    """
    asserts = listed(doc["test_list"])
    first = [str(doc["test_setup_code"])] if setup else []
    entry = _called_function(str(doc["code"]), asserts)
    test = AssertTest("\n".join([*first, *asserts]) + "\n", entry)
    return Problem(
        id=str(doc["id"]),
        solutions=(str(doc["code"]),),
        assemble=lambda code: code.text,
        tests=lambda source: (test,),
        entry_point=entry,
    )


def odex(doc: Document) -> Problem:
    """A row of ODEX (arXiv 2212.10481): the function that :func:`odex_prompt` begins.

    The set's programs rely on the imports of their tests, which elsewhere run in one namespace
    with them; so those imports stand before the program. The data's tabs are four blanks in what
    a model is shown and continues.
    """
    entry = str(doc["entry_point"])
    imports = _imports(str(doc["test_start"]))
    prompt, suffix = odex_prompt(doc), str(doc["suffix"]).expandtabs(4)
    asserts = "".join(listed(doc["test"]))
    test = AssertTest(f"{doc['test_start']}{asserts}\ncheck({entry})\n", entry)
    whole = f"{doc['source_prompt']}{doc['cmd']}{doc['suffix']}"
    return Problem(
        id=str(doc["id"]),
        solutions=(headed(imports, whole),),
        assemble=lambda code: headed(imports, complete(prompt, code, entry, suffix=suffix)),
        tests=lambda source: (test,),
        entry_point=entry,
    )


def odex_prompt(doc: Document) -> str:
    """What a model goes on from: :func:`odex_head`, and where its answer begins.

    That is behind ``return`` where the row asks for one expression, else on a new line. No blank
    ends the prompt: what follows brings its own, as tokens have it.
    """
    begun = str(doc["source_prompt"]).partition("\n")[2].strip()
    return odex_head(doc) + (f"    {begun}" if begun else "")


def odex_head(doc: Document) -> str:
    """The function's head, and the intent as its docstring (as in ODEX' own prompts)."""
    head = str(doc["source_prompt"]).partition("\n")[0]
    # Quotes and backslashes of an intent must not end the docstring or escape in it.
    intent = str(doc["intent"]).strip().replace("\\", "\\\\").replace('"""', r"\"\"\"")
    closing = " " if intent.endswith('"') else ""
    return f'{head}\n    """{intent}{closing}"""\n'


def apps(doc: Document, *, legacy: bool = False, tried: int = 5) -> Problem:
    """A row of APPS (arXiv 2105.09938): a script on standard input, or calls of a function.

    A row with ``fn_name`` is calls, and its data a list of arguments an input. Where its starter
    code is a class (LeetCode), string arguments carry the quotes of their JSON text, and outputs
    were made from strings with those quotes: they are given as they are. Elsewhere (Codewars)
    each output is wrapped in a list of one, which is taken off if all are.

    Args:
        doc: the row.
        legacy: outputs are compared as the published scorer does.
        tried: how many of the row's solutions count as references.
    """
    told = parse_json(str(doc["input_output"]))
    solutions = tuple(listed(doc["solutions"])[:tried]) if doc.get("solutions") else ()
    name, starter = told.get("fn_name"), str(doc.get("starter_code") or "")
    pairs = list(zip(told["inputs"], told["outputs"], strict=True))
    comparison: Literal["default", "legacy"] = "legacy" if legacy else "default"
    if name is None:
        tests: tuple[Test, ...] = tuple(
            StdinTest(_text(given), _text(wanted), comparison) for given, wanted in pairs
        )
        return Problem(
            id=str(doc["id"]),
            solutions=solutions,
            assemble=lambda code: code.text,
            tests=lambda source: tests,
            isolate="program",
        )
    if "class Solution" not in starter:
        pairs = _unwrapped(pairs)

    @cache
    def calls(function: str) -> tuple[Test, ...]:
        return tuple(CallTest(function, given, wanted, comparison) for given, wanted in pairs)

    def tests_of(source: str) -> tuple[Test, ...]:
        return calls(f"Solution.{name}" if "class Solution" in source else str(name))

    def assemble(code: Code) -> str:
        return headed(LEETCODE_IMPORTS if "class Solution" in starter else "", code.text)

    return Problem(
        id=str(doc["id"]),
        solutions=tuple(assemble(Code(solution)) for solution in solutions),
        assemble=assemble,
        tests=tests_of,
        isolate="program",
    )


def listed(value: Any) -> list[str]:
    """A list, or the JSON text of one."""
    return [str(item) for item in (parse_json(value) if isinstance(value, str) else value)]


def _text(value: Any) -> str:
    """A test's input or output; some rows give it as a list of lines."""
    return "\n".join(map(str, value)) if isinstance(value, list) else str(value)


def _unwrapped(pairs: Sequence[tuple[Any, Any]]) -> list[tuple[Any, Any]]:
    wrapped = all(isinstance(wanted, list) and len(wanted) == 1 for _, wanted in pairs)
    return [(given, wanted[0]) for given, wanted in pairs] if wrapped else list(pairs)


def _called_function(reference: str, asserts: Sequence[str]) -> str | None:
    """The function of the reference that the test calls."""
    called = _free_names("\n".join(asserts), builtin=True)
    names = [name for name in _bound(_parsed(reference).body) if name in called]
    return names[-1] if names else None


def _imports(test_start: str) -> str:
    tree = _parsed(f"{test_start} pass")
    lines = [node for node in tree.body if isinstance(node, ast.Import | ast.ImportFrom)]
    return "".join(f"{ast.unparse(node)}\n" for node in lines)


def foreign_names(code: str, source: str, entry_point: str | None) -> list[str]:
    """Names besides the entry point that a test uses and a program defines."""
    return sorted((_free_names(code) & _defined_names(source)) - {entry_point})


def _defined_names(source: str) -> set[str]:
    return set(_bound(_parsed(source).body))


def _free_names(code: str, *, builtin: bool = False) -> set[str]:
    """Names a test reads and does not bind at its top: an approximation that suits these sets."""
    tree = _parsed(code)
    loaded = {
        node.id
        for node in ast.walk(tree)
        if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Load)
    }
    arguments = {node.arg for node in ast.walk(tree) if isinstance(node, ast.arg)}
    return loaded - arguments - set(_bound(tree.body)) - (set() if builtin else set(dir(builtins)))


def _parsed(source: str) -> ast.Module:
    """A row's own code; nothing where it does not parse."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of the rows' own escape sequences
            return ast.parse(source)
    except SyntaxError:
        return ast.Module(body=[], type_ignores=[])


def _bound(body: Sequence[ast.stmt]) -> Iterator[str]:
    for node in body:
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            yield node.name
        elif isinstance(node, ast.Import | ast.ImportFrom):
            yield from ((alias.asname or alias.name).split(".")[0] for alias in node.names)
        elif isinstance(node, ast.Assign):
            yield from (target.id for target in node.targets if isinstance(target, ast.Name))
