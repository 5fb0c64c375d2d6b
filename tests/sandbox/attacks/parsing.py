"""Sources that are hard on whoever compiles them."""

from __future__ import annotations

from peft_bench_sandbox import CallTest

from .catalogue import Attack

HELD = ("exception", "memory", "crashed", "cpu", "timeout")
_END = "\ndef attack(): return 'escaped'\n"

SOURCES = {
    "open brackets": "(" * 100_000,
    "brackets": "x = " + "(" * 1000 + ")" * 1000,
    "lists in lists": "x = " + "[" * 100_000 + "]" * 100_000,
    "signs": "x = " + "-" * 500_000 + "1",
    "nots": "x = " + "not " * 200_000 + "1",
    "a sum of 100,000": "x = 1" + "+1" * 100_000,
    "a chain of attributes": "x = a" + ".b" * 100_000,
    "a chain of calls": "x = f" + "()" * 100_000,
    "a chain of lambdas": "x = " + "lambda: " * 100_000 + "1",
    "a chain of conditions": "x = " + "1 if 1 else " * 100_000 + "1",
    "a chain of elifs": "if 0: pass\n" + "elif 0: pass\n" * 50_000,
    "indented 200 deep": "".join(" " * n + "if 1:\n" for n in range(200)) + " " * 200 + "pass",
    "functions in functions": "".join(" " * n + "def f():\n" for n in range(99)) + " " * 99 + "1+",
    "an f-string in f-strings": "x = " + "f'{" * 500 + "}'" * 500,
    "a null byte": "x = 1\0",
    "half a character": "x = '\ud800'",
    "a name of half a character": "\ud800 = 1",
    "an encoding that is none": "# coding: none-such\nx = = 1",
    "an encoding that is no text": "# coding: utf-16\nx = = 1",
    "an integer of 100,000 digits": "x = " + "9" * 100_000,
    "an unfinished string of 5 MB": "x = '" + "x" * 5_000_000,
    "a name of 5 MB, undefined": "x" * 5_000_000,
    "a power of powers": "x = 9**9**9",
    "a text too long for a constant": "x = ('x' * 10**12, 2**10**9)",
    "nothing that Python knows": "\u2028\u2029\x00\x1a\x0c" * 1000,
    "a form feed bomb": "\x0c" * 100_000 + "if",
    "line continuations": "\\\n" * 200_000 + "x = = 1",
    "a comment of 5 MB, then a fault": "#" + "x" * 5_000_000 + "\nx = = 1",
    "returning from the module": "return",
    "yielding from the module": "yield 1",
    "awaiting in the module": "await x",
    "a future that is none": "from __future__ import braces",
    "a match of 2,000 cases": "match 1:\n" + " case 1 | 2: x\n" * 2000 + " case = 1",
}

# Of these a scorer that compiles them in its own process, and tells what went wrong, is lost.
_HARMFUL = frozenset(
    ("open brackets", "lists in lists", "signs", "nots", "a chain of lambdas",
     "a chain of conditions", "a chain of elifs",
     "an unfinished string of 5 MB", "half a character", "a name of half a character",
     "a name of 5 MB, undefined", "a power of powers", "a text too long for a constant")
)  # fmt: skip

ATTACKS = tuple(
    Attack(
        name=f"parse: {name}",
        source=source + ("" if name.startswith(("open", "an unfinished")) else _END),
        test=CallTest("attack", [], "the right answer"),
        held=HELD,
        twin="one process" if name in _HARMFUL else "status",
        privilege="compilers of other Pythons refuse more, and in fewer words",
    )
    for name, source in SOURCES.items()
)
