"""Hostile values and hostile frames: what a candidate may tell its judge and its caller.

Descriptor 3 is, for a split assert test, a socket to the judge (frames of a length and a text);
for the other kinds a memory file for a report. `CONTROLS` speak by hand and honestly, and pass: so
the frames here are of the right form, and what fails is the forgery in them.
"""

from __future__ import annotations

from random import Random

from peft_bench_sandbox import AssertTest, CallTest, Program, StdinTest

from .answers import SECRET
from .catalogue import PLACES, Attack, Test

HELD = ("wrong", "exception", "exited", "output", "memory", "crashed")
IS_42 = "assert answer() == 42"
MANY_TO_ASK = "assert all(answer('x' * 60_000) for _ in range(99))"
ALL_OF_IT = "assert all(map(answer, [1, 2, 3]))"
NONE_OF_IT = "assert [*map(answer, [1])] == []"

# name: expression for the answer, test
VALUES = {
    "nested 100,000 deep": ("deep(10**5)", IS_42),
    "within itself": ("loop", IS_42),
    "within itself by a key": ("knot", IS_42),
    "within itself, without bound": ("unbound(loop)", IS_42),
    "not a number": ("float('nan')", "assert answer() == answer()"),
    "infinite": ("float('inf')", "assert int(answer()) == 42"),
    "a whole number of a million bits": ("1 << 10**6", IS_42),
    "a whole number too long to print": ("1 << 10**6", "assert str(answer()) == '42', answer()"),
    "half a character": ("'\\ud800'", "assert answer() == 'right'"),
    "half a character as a key": ("{'\\udfff': 1}", "assert answer() == {'a': 1}"),
    "half a character in a message": ("1 / 0 if fail('\\ud800') else 0", IS_42),
    "50 MB of text": ("'x' * 50_000_000", IS_42),
    "5 MB of bytes": ("bytes(5_000_000)", IS_42),
    "many numbers": ("list(range(10**5))", IS_42),
    "a generator": ("(n for n in [42])", IS_42),
    "a function": ("len", IS_42),
    "a module": ("sys", IS_42),
    "a class": ("int", IS_42),
    "an open file": ("sys.stdout", IS_42),
    "an exception": ("ValueError(42)", IS_42),
    "a view of memory": ("memoryview(b'42')", IS_42),
    "a long range": ("range(10**12)", "assert sorted(answer()) == [4, 2]"),
    "a number that is too much for the test": ("10**10", "assert 'x' * answer() == 'xx'"),
    "a number that takes the test too long": ("10**10", "assert 3 ** answer() == 9"),
    "a text that takes the test too long": (
        "'a' * 60 + 'b'",
        "import re\nassert re.fullmatch('(a|aa)+', answer())",
    ),
    "keys that collide": (
        "{n * (2**61 - 1) for n in range(1, 10_000)} | {0}",
        "assert answer() == {4, 2}",
    ),
}
_SLOW_VALUES = ("too long", "collide", "too much", "range", "without bound", "50 MB")
_VALUE = """
import sys
def unbound(x):
    sys.setrecursionlimit(10**6)
    return x
def deep(n):
    x = []
    for _ in range(n): x = [x]
    return x
def fail(text): raise ValueError(text)
loop, knot = [], {{}}
loop.append(loop)
knot['a'] = (knot,)
def answer(): return {value}
"""

FRAMES = (
    PLACES
    + """
import json, os, socket, time
def frame(text):
    data = text if type(text) is bytes else text.encode()
    return len(data).to_bytes(4, 'little') + data
HELLO = frame('h{"answer": "c"}')
def link(): return socket.socket(fileno=os.dup(CHANNEL))
def say(*parts):
    data = memoryview(b''.join(parts))
    while data: data = data[os.write(CHANNEL, data):]
def raised(names, text): return frame('x' + json.dumps([names, text, None]))
def leave():
    try:
        link().shutdown(socket.SHUT_WR)  # the judge can still ask: what it reads then is here
        while os.read(CHANNEL, 1 << 16): pass
    except OSError: pass
    os._exit(0)
def answer(*_): return 7
"""
)
# name: what is sent, checks of the judge (trusting.py) without which it gets through; none: its
# status is all that there is to it.
SENT = {
    "garbage": ("say(b'garbage\\xff' * 99)", "frames"),
    "a frame without its end": ("say(HELLO, (99).to_bytes(4, 'little'), b'v')", "frames"),
    "half a length": ("say(HELLO, b'\\x01\\x00')", "frames"),
    "a huge length": ("say(HELLO, b'\\xff' * 4, b'v42')", "frames"),
    "a huge length at first": ("say(b'\\xff' * 4)", "frames"),
    "an empty frame": ("say(HELLO, frame(''))", "frames verdict"),
    "an answer in place of the names": ('say(frame(\'v{"answer": "c"}\'), frame("v42"))', "turns"),
    "answers ahead of time": ("say(HELLO, *[frame('v7')] * 99)", ""),
    "the names twice": ("say(HELLO, frame('h42'))", "turns"),
    "names that are a list": ("say(frame('h[]'))", "names verdict"),
    "names of no kind": ("say(frame('h{\"answer\": 5}'), frame('v7'))", "names verdict"),
    "a name as a module": ("say(frame('h{\"answer\": \"m:os\"}'), frame('v7'))", "verdict"),
    "a name as data": ("say(frame('h{\"answer\": \"d\"}'), frame('v7'))", "verdict"),
    "names of the test's own": (
        "names = 'answer __builtins__ __name__ check AssertionError'.split()\n"
        "say(frame('h' + json.dumps(dict.fromkeys(names, 'd'))), *[frame('v7')] * 9)",
        "verdict",
    ),
    "nothing after the names": ("say(HELLO)", "frames"),
    # More than the test's own process may have left over: its fork would find room for 30 MB.
    "an answer of 300 MB": (
        "say(HELLO, (300_000_003).to_bytes(4, 'little'), b'v\"')\n"
        "for _ in range(300): say(b'x' * 1_000_000)\nsay(b'\"')",
        "frames verdict",
    ),
    "brackets without end": ("say(HELLO, frame('v' + '[' * 30_000))", "plain verdict"),
    "brackets and their ends": (
        "say(HELLO, frame('v' + '[' * 30_000 + ']' * 30_000))",
        "plain verdict",
    ),
    "tags without end": (
        "say(HELLO, frame('v' + '{\"t\": [' * 5_000 + ']}' * 5_000))",
        "plain verdict",
    ),
    "one tag twice": ('say(HELLO, frame(\'v{"d": [[1, 2]], "d": 42}\'))', "plain verdict"),
    "two tags": ('say(HELLO, frame(\'v{"t": [], "s": []}\'))', ""),
    "an unknown tag": ('say(HELLO, frame(\'v{"__class__": "E"}\'))', "plain verdict"),
    "a list as a key": ("say(HELLO, frame('v{\"d\": [[[], 42]]}'))", "plain verdict"),
    "a range without steps": ("say(HELLO, frame('v{\"r\": [1, 2, 0]}'))", "plain verdict"),
    "a whole number that is text": ('say(HELLO, frame(\'v{"i": "forty-two"}\'))', "plain verdict"),
    "a number of 50,000 digits": ("say(HELLO, frame('v' + '9' * 50_000))", "plain verdict"),
    "not a number": ("say(HELLO, frame('vNaN'))", ""),
    "bytes that are no text": ("say(HELLO, frame(b'v\\xff\\xfe'))", "frames verdict"),
    "an answer without a value": ("say(HELLO, frame('v'))", "plain verdict"),
    "the outcome itself": (
        "say(HELLO, frame('passed'), frame('{\"status\": \"passed\"}'))",
        "turns plain verdict",
    ),
    "an unknown letter": ("say(HELLO, frame('z42'))", "turns"),
    "not plain, unreadable": ("say(HELLO, frame('n{'))", "plain verdict"),
    "exited, unreadable": ("say(HELLO, frame('e'))", "plain verdict"),
    "out of memory, unreadable": ("say(HELLO, frame('m\\x00'))", "plain verdict"),
    "an exception without a name": ("say(HELLO, raised([], 'boo'))", "plain verdict"),
    "an exception with 10,000 names": (
        "say(HELLO, raised(['E'] * 10**4, 'boo'))",
        "exceptions verdict",
    ),
    "an exception that is none": (
        "say(HELLO, raised(['object', 'print', 'int', 'Exception'], '0'))",
        "exceptions verdict",
    ),
    "SystemExit": ("say(HELLO, raised(['SystemExit'], '0'))", "exceptions verdict"),
    "GeneratorExit": ("say(HELLO, raised(['GeneratorExit'], ''))", "exceptions verdict"),
    "KeyboardInterrupt": ("say(HELLO, raised(['KeyboardInterrupt'], ''))", "exceptions verdict"),
    "the end of the judge's test": (
        "say(HELLO, raised(['Over', 'Exception'], ''))",
        "exceptions verdict",
    ),
    "descriptors": ("say(HELLO); socket.send_fds(link(), [frame('v7')], [0, 1, 2] * 9)", "frames"),
    "an urgent byte": ("say(HELLO); link().send(b'!', socket.MSG_OOB); say(frame('v7'))", ""),
    "a socket shut halfway": ("say(HELLO); link().shutdown(socket.SHUT_WR)", "frames"),
    "a closed descriptor": ("os.close(CHANNEL)", "frames"),
    "all descriptors closed": ("os.closerange(0, 256)", "frames"),
    "stdout over it": ("os.dup2(1, CHANNEL)", "frames"),
    "stdin over it": ("os.dup2(0, CHANNEL)", "frames"),
    "a pipe over it": ("r, w = os.pipe(); os.dup2(w, CHANNEL)", "frames"),
}
_STOP_ITERATION = "say(HELLO, raised(['StopIteration', 'Exception'], ''), *[frame('v7')] * 9)"
_BUILTIN = 'say(frame(\'h{"answer": "c", "abs": "c"}\'), frame(\'v7\'), frame(\'v0\'))\nleave()'
_FLOOD = "\ndef answer():\n    while True: say(frame('v7'))"
_DEAF = "say(HELLO, *[frame('v7')] * 99)\ntime.sleep(60)"

# The report of the other kinds. `put` writes it and leaves.
REPORTS = (
    PLACES
    + """
import json, sys
def put(data):
    while data: data = data[os.write(REPORT, data):]
    sys.stdout.flush()
    os._exit(0)
def report(**changed):
    told = {'outcome': OUTCOME, 'message': '', 'value': 7} | changed
    return json.dumps(told).encode()
def attack(): return 7
OUTCOME = 'completed' if __name__ == '__main__' else 'returned'
"""
)
# name: what is written, the check of the caller (trusting.py) without which it gets through.
WRITTEN = {
    "nothing": ("os._exit(0)", "report"),
    "garbage": ("put(b'garbage\\xff' * 99)", "report"),
    "a report of a pass": ("put(report(outcome='passed', status='passed', passed=1))", "report"),
    "a report of an unknown end": ("put(report(outcome='judged'))", "report"),
    "a report twice": ("put(report() * 2)", "report"),
    "a string of quotes without end": (
        "put(b'[' * 101 + b'\"' + b'\\\\\"' * 20_000)",
        "report",
    ),
    "half a report": ("put(report()[:-9])", "report"),
    "a list": ("put(b'[]')", "report"),
    "brackets without end": ("put(b'[' * 10**5)", "report"),
    "a value nested deep": ("put(report()[:-2] + b'[' * 10**5 + b']' * 10**5 + b'}')", "report"),
    "a number of 100,000 digits": ("put(report()[:-2] + b'9' * 10**5 + b'}')", "report"),
    "not a number": ("put(report(value=float('nan')))", ""),
    "a key twice": ('put(report()[:-1] + b\', "outcome": "passed", "value": 42}\')', "report"),
    "a message that is none": ("put(report(outcome='exception', message=42))", "report"),
    "a report far away in the file": ("os.lseek(REPORT, 1 << 45, os.SEEK_SET); put(b'')", "sizes"),
    "a report behind a hole": ("os.lseek(REPORT, 1 << 19, os.SEEK_SET); put(report())", "report"),
    "stdout far away": ("os.lseek(1, 1 << 45, os.SEEK_SET); put(report())", "sizes"),
    "stderr far away": ("os.lseek(2, 1 << 45, os.SEEK_SET); put(report())", "sizes"),
    "stdout a little away": ("os.lseek(1, 3 << 30, os.SEEK_SET); put(report())", "sizes"),
    "to the socket": ("os.write(CHANNEL, report()); os._exit(0)", ""),
    "a report in a frame": (
        "os.write(CHANNEL, len(report()).to_bytes(4, 'little') + report()); os._exit(0)",
        "",
    ),
    "everything cut off": ("[os.ftruncate(fd, 0) for fd in (1, 2, REPORT)]; os._exit(0)", "report"),
    "everything closed": ("os.closerange(0, 256); os._exit(0)", "report"),
    "the report over stdout": ("os.dup2(REPORT, 1); put(report())", ""),
    "stdout over the report": ("os.dup2(1, REPORT); put(report())", "report"),
}


_REPORTED_TESTS: dict[str, Test] = {
    "call": CallTest("attack", [], SECRET),
    "script": StdinTest("", SECRET),
}


def _frames(
    name: str, source: str, checks: str, code: str = IS_42, held: tuple[str, ...] = HELD
) -> Attack:
    return Attack(
        name=f"channel: {name}",
        source=FRAMES + source,
        test=AssertTest(code, "answer"),
        held=held,
        twin="trusting" if checks else "status",
        without=frozenset(checks.split()),
    )


# What fails is the program's doing, however early: a test that can make the harness fail stops
# whoever scores. name: source, test, checks, the statuses that are right, what it rests on
_FILES = "mount namespace"
_BLAMED: dict[str, tuple[str, AssertTest, str, tuple[str, ...], str]] = {
    "a function where the test gives data": (
        FRAMES + 'say(frame(\'h{"answer": "c", "given": "c"}\'), frame("v42"))\nleave()',
        AssertTest("assert answer(given) == 42", "answer"),
        "blame",
        ("wrong",),
        "",
    ),
    "another function of that name where the test makes data": (
        "from collections import deque\ndef answer(x): return 42",
        AssertTest("assert answer(deque([1])) == 42", "answer"),
        "blame",
        ("wrong",),
        "",
    ),
    "an open file in an argument, and an exception": (
        FRAMES
        + 'say(HELLO, frame(\'w[[[0, [{"F": ["a", "r", false]}]]], null]\'),\n'
        + "    raised(['ValueError', 'Exception'], ''))\nleave()",
        AssertTest(
            "x = [1]\ntry: answer(x)\nexcept ValueError: assert answer(x) == 42",
            "answer",
            "split-files",
        ),
        "blame",
        ("wrong",),
        _FILES,
    ),
    "a file before the names that takes the test too long": (
        "open('n', 'w').write('9' * 9)\ndef answer(): return 7",
        AssertTest(
            "for _ in range(int(open('n').read())): pass\n" + IS_42, "answer", "split-files"
        ),
        "",
        ("cpu",),
        _FILES,
    ),
    "another function of that name, which ends the judge": (
        FRAMES + 'say(frame(\'h{"answer": "c", "abort": "s:os"}\'), frame("v7"))\nleave()',
        AssertTest(f"abort()\n{IS_42}", "answer"),
        "",
        ("crashed",),
        "",
    ),
}
_BUILTINS = (
    "names = {'answer': 'c', '__builtins__': 'd'}\n"
    'own = {"d": [["len", {"T": "bool"}], ["str", {"T": "int"}]]}\n'
    "say(frame('h' + json.dumps(names)), frame('v' + json.dumps(own)), frame('v\"xx\"'))\nleave()"
)

ATTACKS = (
    *(
        Attack(
            name=f"channel: {name}",
            source=source,
            test=test,
            held=held,
            twin="trusting" if checks else "status",
            without=frozenset(checks.split()),
            layer=layer,
        )
        for name, (source, test, checks, held, layer) in _BLAMED.items()
    ),
    _frames("other built-ins", _BUILTINS, "names", "__builtins__\nassert len(answer()) == 1"),
    *(
        Attack(
            name=f"value: {name}",
            source=_VALUE.format(value=value),
            test=AssertTest(code, "answer"),
            held=(*HELD, "cpu", "timeout") if any(w in name for w in _SLOW_VALUES) else HELD,
            twin="one process",
        )
        for name, (value, code) in VALUES.items()
    ),
    *(_frames(name, f"{sent}\nleave()", checks) for name, (sent, checks) in SENT.items()),
    *(
        _frames(f"{name}, going on", sent, checks)
        for name, (sent, checks) in SENT.items()
        if name.startswith(("answers", "stdin", "stdout", "a pipe", "the names"))
    ),
    _frames("a flood of answers", _FLOOD, "", held=("timeout", "cpu", "wrong", "output")),
    _frames("no ear for the test", _DEAF, "wall", MANY_TO_ASK, ("timeout", "exited")),
    _frames("a name of Python's own", _BUILTIN, "names", "assert abs(answer() - 42) < 1e-6"),
    _frames("iteration cut short", _STOP_ITERATION, "exceptions", ALL_OF_IT),
    _frames("iteration cut short at the end", _STOP_ITERATION, "exceptions", NONE_OF_IT),
    *(
        Attack(
            name=f"report, {kind}: {name}",
            source=REPORTS + written,
            test=test,
            held=HELD,
            twin="trusting" if checks else "status",
            without=frozenset(checks.split()),
        )
        for kind, test in _REPORTED_TESTS.items()
        for name, (written, checks) in WRITTEN.items()
    ),
    Attack(
        name="report, script: that of a call",
        source=REPORTS + "put(report(outcome='returned', value=7))",
        test=StdinTest("", SECRET),
        held=HELD,
        twin="trusting",
        without=frozenset({"report"}),
    ),
)

# What random frames are put together from. None of it gives 42.
_PIECES = (
    *("{", "}", "[", "]", ":", ",", " ", "1", "-1", "1e999", "NaN", "null", "true", "9" * 5000),
    *('"t"', '"d"', '"i"', '"s"', '"f"', '"b"', '"c"', '"r"', '"x"', '"0x7"', '"\\ud800"'),
    *('"answer"', '"m:math"', '"StopIteration"', '"SystemExit"', '"Exception"', '"E"', "\0"),
)
_FUZZ_TESTS = (IS_42, "assert [*map(answer, [1])] == []", "assert 42 in answer()")


def fuzzed(count: int) -> list[Program]:
    """Programs that send random frames, the same at every call; none may pass."""
    random = Random(0)

    def frame() -> bytes:
        if random.random() < 0.2:
            return random.randbytes(random.randrange(30))
        pieces = random.choices(_PIECES, k=random.randrange(12))
        return (random.choice("hvnxem") + "".join(pieces)).encode()

    def program(number: int) -> Program:
        frames = ", ".join(f"frame({frame()!r})" for _ in range(random.randrange(1, 5)))
        first = random.choice(("HELLO", "HELLO", "b''"))
        test = AssertTest(_FUZZ_TESTS[number % len(_FUZZ_TESTS)], "answer")
        return Program(f"fuzz {number}", f"{FRAMES}say({first}, {frames})\nos._exit(0)", (test,))

    return [program(number) for number in range(count)]


_BY_HAND = "say(HELLO, frame('v42'))\ntime.sleep(1)"
_REPORTED = "print('right')\nput(report(value=42))"
CONTROLS = (
    Program("frames by hand", FRAMES + _BY_HAND, (AssertTest(IS_42, "answer"),)),
    Program("report by hand: call", REPORTS + _REPORTED, (CallTest("attack", [], 42),)),
    Program("report by hand: script", REPORTS + _REPORTED, (StdinTest("", "right"),)),
)
