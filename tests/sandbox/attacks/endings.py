"""How a program may end, and what it may raise: each is a verdict, none is a broken sandbox."""

from __future__ import annotations

from peft_bench_sandbox import AssertTest, CallTest

from .catalogue import Attack

IS_42 = AssertTest("assert answer() == 42", "answer")
EXCEPTION = ("exception",)
ODD = ("exception", "exited")  # what cannot be described may end the process that tries

# In the answer to a test.
RAISED = {
    "SystemExit": ("raise SystemExit('boo')", ("exited",)),
    "SystemExit(0)": ("raise SystemExit(0)", ("exited",)),
    "KeyboardInterrupt": ("raise KeyboardInterrupt", EXCEPTION),
    "GeneratorExit": ("raise GeneratorExit", EXCEPTION),
    "StopIteration": ("raise StopIteration(42)", EXCEPTION),
    "AssertionError": ("raise AssertionError", ("exception", "wrong")),
    "MemoryError": ("raise MemoryError('boo')", ("memory",)),
    "a class": ("raise Odd", EXCEPTION),
    "of a base of its own": ("raise Bottom('boo')", EXCEPTION),
    "a group": ("raise ExceptionGroup('boo', [ValueError(n) for n in range(999)])", EXCEPTION),
    "a group of groups": (
        "e = ValueError()\n    for _ in range(10**4): e = ExceptionGroup('boo', [e])\n    raise e",
        ("exception", "crashed"),
    ),
    "a cause without end": (
        "a, b = ValueError(), ValueError()\n    a.__cause__, b.__cause__ = b, a\n    raise a",
        EXCEPTION,
    ),
    "a chain of causes": (
        "e = ValueError()\n    for _ in range(10**5):\n"
        "        f = ValueError(); f.__cause__ = e; e = f\n    raise e",
        ("exception", "crashed"),
    ),
    "with a message of 50 MB": ("raise ValueError('x' * 50_000_000)", ("exception", "cpu")),
    "with a message of many lines": ("raise ValueError('\\n\\0\\x1b[2J\\r' * 999)", EXCEPTION),
    "whose text raises": ("raise Odd('__str__', lambda _: 1 / 0)", EXCEPTION),
    "whose text leaves": ("raise Odd('__str__', lambda _: os._exit(0))", ("exited", "exception")),
    "whose text exits": ("raise Odd('__str__', lambda _: sys.exit(0))", EXCEPTION),
    "whose text is none": ("raise Odd('__str__', lambda _: 42)", EXCEPTION),
    "whose text is a str of its own": ("raise Odd('__str__', lambda _: Text('x'))", EXCEPTION),
    "whose class is told otherwise": (
        "raise Odd('__class__', property(lambda _: SystemExit))",
        ODD,
    ),
    "whose class has an odd name": ("raise type('\\ud800' * 9999, (ValueError,), {})", EXCEPTION),
    "whose class has no name": ("raise Nameless('boo')", ODD),
    "whose attributes raise": ("raise Odd('__getattribute__', lambda *_: 1 / 0)", ODD),
    "whose arguments are odd": ("e = ValueError(); e.args = (Text(), e); raise e", EXCEPTION),
}
# A scorer in the same process gets over these; a judge elsewhere that makes the exception anew by
# its name does not get over the first.
_OF_NO_NAME = frozenset(
    ("a class", "a group", "a group of groups", "whose text is a str of its own",
     "whose class is told otherwise", "whose class has an odd name")
)  # fmt: skip
_HARMLESS = _OF_NO_NAME | {
    *("StopIteration", "AssertionError", "MemoryError", "a cause without end"),
    *("with a message of many lines", "whose arguments are odd"),
}
_RAISER = """
import os, sys
class Text(str):
    __getitem__ = __len__ = __str__ = __format__ = lambda *_: 1 / 0
class Odd(ValueError):
    def __new__(cls, name='__repr__', value=None):
        return Exception.__new__(type('Odder', (ValueError,), {{name: value}} if value else {{}}))
class Bottom(BaseException): pass
class NoName(type):
    __name__ = property(lambda _: 1 / 0)
class Nameless(ValueError, metaclass=NoName): pass
def answer():
    {act}
"""

# Anywhere.
ENDS = {
    "kill itself": ("os.kill(os.getpid(), 9)", ("crashed",)),
    "stop itself": ("os.kill(os.getpid(), 19)", ("timeout",)),
    "abort": ("os.abort()", ("crashed",)),
    "read address 0": ("import ctypes; ctypes.string_at(0)", ("crashed",)),
    "run machine code that is none": (
        "import ctypes, mmap; m = mmap.mmap(-1, 4096, prot=7); m.write(b'\\x0f\\x0b' * 9)\n"
        "ctypes.CFUNCTYPE(None)(ctypes.addressof(ctypes.c_char.from_buffer(m)))()",
        ("crashed", "exited"),
    ),
    "exit code 3": ("os._exit(3)", ("exited",)),
    "unmap its own memory": (
        "import ctypes; ctypes.CDLL(None).munmap(ctypes.c_void_p(id(0) & ~4095), 1 << 20)",
        ("crashed",),
    ),
    "send itself every signal": (
        "for n in [n for n in range(1, 65) if n not in (17, 18, 19, 20, 21, 22, 23, 28, 32, 33)]:\n"
        "    os.kill(os.getpid(), n)",
        ("crashed", "exception"),
    ),
}


def _ending(name: str, source: str, held: tuple[str, ...]) -> Attack:
    return Attack(
        name=f"end: {name}",
        source="import os\n" + source + "\ndef attack(): return 'escaped'\n",
        test=CallTest("attack", [], SECRET_END),
        held=held,
        twin="one process",
    )


SECRET_END = "the right answer"


def _raised(name: str, act: str, held: tuple[str, ...]) -> Attack:
    by_name = name in _OF_NO_NAME
    return Attack(
        name=f"raise: {name}",
        source=_RAISER.format(act=act),
        test=IS_42,
        held=held,
        twin="trusting" if by_name else "status" if name in _HARMLESS else "one process",
        without=frozenset(("exceptions", "verdict") if by_name else ()),
    )


ATTACKS = (
    *(_raised(name, act, held) for name, (act, held) in RAISED.items()),
    *(
        Attack(
            name=f"raise in a call: {name}",
            source=_RAISER.format(act=act),
            test=CallTest("answer", [], 42),
            held=held,
            twin="status" if name in _HARMLESS else "one process",
        )
        for name, (act, held) in RAISED.items()
    ),
    *(_ending(name, source, held) for name, (source, held) in ENDS.items()),
)
