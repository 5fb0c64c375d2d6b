"""Passes that were not earned: objects that lie and early ends.

Held because the assertions run in another process; the twin runs them in the program's own.
"""

from __future__ import annotations

from peft_bench_sandbox import AssertTest

from .catalogue import Attack, Twin

# Not one of these: how a forgery may end that was held.
HELD = ("wrong", "exception", "exited", "crashed")
IS_42 = "assert answer() == 42"
ALWAYS = "yes = lambda *_: True\n"

# name: program, test
OBJECTS = {
    "equal to everything": ("class E: __eq__ = yes\ndef answer(): return E()", IS_42),
    "equal from the right": (
        "class E: __eq__ = yes\ndef answer(): return E()",
        "assert 42 == answer()",
    ),
    "never unequal": (
        "class E: __ne__ = lambda *_: False\ndef answer(): return E()",
        "assert not answer() != 42",
    ),
    "comparison with a truth of its own": (
        "class T: __bool__ = yes\nclass E: __eq__ = lambda *_: T()\ndef answer(): return E()",
        IS_42,
    ),
    "mock.ANY": ("from unittest.mock import ANY\ndef answer(): return ANY", IS_42),
    "whole number": (
        "class E(int):\n    __eq__ = yes\n    __hash__ = int.__hash__\ndef answer(): return E(7)",
        IS_42,
    ),
    "float": (
        "class E(float):\n    __eq__ = yes\n    __sub__ = __rsub__ = lambda *_: 0.0\n"
        "def answer(): return E(7)",
        "assert answer() == 42.5 and abs(answer() - 42.5) < 1e-6",
    ),
    "text": (
        "class E(str):\n    __eq__ = yes\n    __hash__ = str.__hash__\ndef answer(): return E('x')",
        "assert answer() == 'right'",
    ),
    "bytes": (
        "class E(bytes): __eq__ = yes\ndef answer(): return E(b'x')",
        "assert answer() == b'r'",
    ),
    "list": (
        "class E(list): __eq__ = yes\ndef answer(): return E([7])",
        "assert answer() == [4, 2]",
    ),
    "tuple": (
        "class E(tuple): __eq__ = yes\ndef answer(): return E()",
        "assert answer() == (4, 2)",
    ),
    "set": ("class E(set): __eq__ = yes\ndef answer(): return E()", "assert answer() == {4, 2}"),
    "dictionary": (
        "class E(dict):\n    __eq__ = yes\n    __missing__ = lambda s, k: 42\n"
        "    get = lambda *_: 42\ndef answer(): return E()",
        "assert answer() == {'a': 42} and answer()['a'] == 42 and answer().get('a') == 42",
    ),
    "objects inside a list": (
        "class E: __eq__ = yes\ndef answer(): return [E(), E()]",
        "assert answer() == [4, 2]",
    ),
    "objects as keys": (
        "class E:\n    __eq__ = yes\n    __hash__ = lambda _: hash('a')\n"
        "def answer(): return {E(): 42}",
        "assert answer() == {'a': 42}",
    ),
    "length": (
        "class E(list): __len__ = lambda _: 42\ndef answer(): return E()",
        "assert len(answer()) == 42",
    ),
    "membership": (
        "class E: __contains__ = yes\ndef answer(): return E()",
        "assert 42 in answer()",
    ),
    "class told by a property": (
        "class E:\n    __eq__ = yes\n    __class__ = property(lambda _: int)\n"
        "def answer(): return E()",
        "assert isinstance(answer(), int) and answer() == 42",
    ),
    "metaclass": (
        "class M(type): __eq__ = yes\nclass E(metaclass=M): pass\ndef answer(): return E",
        IS_42,
    ),
    "attributes made up": (
        "class E:\n    def __getattr__(self, name): return lambda *_: True\n"
        "def answer(): return E()",
        "assert answer().is_right(42)",
    ),
    "descriptor": (
        "class D:\n    def __get__(self, *_): return E()\n"
        "class E:\n    value = D()\n    __eq__ = yes\ndef answer(): return E()",
        "assert answer().value == 42",
    ),
    "arithmetic": (
        "class E:\n    __sub__ = __abs__ = lambda s, *_: s\n    __lt__ = yes\n"
        "def answer(): return E()",
        "assert abs(answer() - 42) < 1e-6",
    ),
    "function in place of a value": (
        "class E: __eq__ = yes\ndef answer(): return E",
        "assert answer()() == 42",
    ),
    "truth of NotImplemented": ("def answer(): return NotImplemented", "assert answer()"),
    "entry point with a call of its own": (
        "class E:\n    __eq__ = yes\nclass A:\n    def __call__(self): return E()\nanswer = A()",
        IS_42,
    ),
    "iteration cut short": (
        "def answer(_): raise StopIteration",
        "assert all(map(answer, [1, 2, 3]))",
    ),
}

# Against a judge that goes by the exit code.
LEAVE = "import os, sys\n"
SLOW_42 = "import time\ntime.sleep(0.2)\nassert answer() == 42"
EXITS = {
    "os._exit(0) in the answer": ("def answer(): os._exit(0)", IS_42),
    "os._exit(0) at once": ("os._exit(0)", IS_42),
    "sys.exit(0) in the answer": ("def answer(): sys.exit(0)", IS_42),
    "sys.exit(0) at once": ("sys.exit(0)", IS_42),
    "atexit": ("import atexit\natexit.register(os._exit, 0)\ndef answer(): return 7", IS_42),
    "sys.excepthook": ("sys.excepthook = lambda *_: os._exit(0)\ndef answer(): return 7", IS_42),
    "sys.stderr": (
        "class S:\n    def write(self, *_): os._exit(0)\n    flush = write\n"
        "sys.stderr = S()\ndef answer(): return 7",
        IS_42,
    ),
    "finalizer": (
        "class D:\n    def __del__(self, leave=os._exit): leave(0)\nkept = D()\n"
        "def answer(): return 7",
        IS_42,
    ),
    "thread": (
        "import threading\nthreading.Timer(0.05, os._exit, [0]).start()\ndef answer(): return 7",
        SLOW_42,
    ),
    "alarm": (
        "import signal\nsignal.signal(signal.SIGALRM, lambda *_: os._exit(0))\n"
        "signal.setitimer(signal.ITIMER_REAL, 0.05)\ndef answer(): return 7",
        SLOW_42,
    ),
    "builtins.AssertionError": (
        "import builtins\nbuiltins.AssertionError = lambda *_: os._exit(0)\ndef answer(): return 7",
        "if answer() != 42: raise AssertionError('wrong')",
    ),
    "builtins.print": (
        "import builtins\nbuiltins.print = lambda *_: os._exit(0)\ndef answer(): return 7",
        "print('checking')\nassert answer() == 42",
    ),
    "raise SystemExit(0) from a subclass": (
        "class E(SystemExit, ValueError): pass\ndef answer(): raise E(0)",
        IS_42,
    ),
    "exec that never comes back": (
        "exec('import os; print(\"1 passed in 0.01s\", flush=True); os._exit(0)')",
        IS_42,
    ),
    "code object that returns from the module": (
        "def leave(): os._exit(0)\nexec(leave.__code__)\ndef answer(): return 7",
        IS_42,
    ),
}


def forgeries(
    group: str, table: dict[str, tuple[str, str]], twin: Twin, prelude: str
) -> tuple[Attack, ...]:
    """Attacks of (program, test), all with the same twin; the prelude comes first."""
    return tuple(
        Attack(
            name=f"forge, {group}: {name}",
            source=prelude + source,
            test=AssertTest(code, "answer" if "def answer" in source else None),
            held=HELD,
            twin=twin,
        )
        for name, (source, code) in table.items()
    )


ATTACKS = (
    *forgeries("object", OBJECTS, "shared", ALWAYS),
    *forgeries("leave", EXITS, "exit code", LEAVE),
)
