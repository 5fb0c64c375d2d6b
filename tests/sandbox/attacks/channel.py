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
    "a thousand names": ("globals().update({f'n{n}': n for n in range(1000)})", IS_42),
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
    data = b''.join(parts)
    while data: data = data[os.write(CHANNEL, data):]
def answer(*_): return 7
"""
)
# name: what is sent; `leave` says how the program then ends.
SENT = {
    "garbage": "say(b'garbage\\xff' * 99)",
    "a frame without its end": "say(HELLO, (99).to_bytes(4, 'little'), b'v')",
    "half a length": "say(HELLO, b'\\x01\\x00')",
    "a huge length": "say(HELLO, b'\\xff' * 4, b'v42')",
    "a huge length at first": "say(b'\\xff' * 4)",
    "an empty frame": "say(HELLO, frame(''))",
    "an answer before the names": "say(frame('v42'))",
    "answers ahead of time": "say(HELLO, *[frame('v7')] * 99)",
    "the names twice": "say(HELLO, HELLO)",
    "names that are a list": "say(frame('h[]'))",
    "names of no kind": "say(frame('h{\"answer\": 5}'), frame('v7'))",
    "a name as a module": "say(frame('h{\"answer\": \"m:os\"}'), frame('v7'))",
    "a name as data": "say(frame('h{\"answer\": \"d\"}'), frame('v7'))",
    "names of the test's own": (
        "say(frame(json.dumps({n: 'd' for n in "
        "('answer', '__builtins__', '__name__', 'check', 'AssertionError')})), frame('v7'))"
    ),
    "nothing after the names": "say(HELLO)",
    "an answer of 8 MB": "say(HELLO, frame('v\"' + 'x' * 8_000_000 + '\"'))",
    "brackets without end": "say(HELLO, frame('v' + '[' * 10**5))",
    "brackets and their ends": "say(HELLO, frame('v' + '[' * 10**5 + ']' * 10**5))",
    "tags without end": "say(HELLO, frame('v' + '{\"t\": [' * 10**4 + ']}' * 10**4))",
    "one tag twice": 'say(HELLO, frame(\'v{"d": [[1, 2]], "d": 42}\'))',
    "two tags": 'say(HELLO, frame(\'v{"t": [], "s": []}\'))',
    "an unknown tag": 'say(HELLO, frame(\'v{"__class__": "E"}\'))',
    "a list as a key": "say(HELLO, frame('v{\"d\": [[[], 42]]}'))",
    "a range without steps": "say(HELLO, frame('v{\"r\": [1, 2, 0]}'))",
    "a whole number that is text": 'say(HELLO, frame(\'v{"i": "forty-two"}\'))',
    "a number of 100,000 digits": "say(HELLO, frame('v' + '9' * 10**5))",
    "not a number": "say(HELLO, frame('vNaN'))",
    "bytes that are no text": "say(HELLO, frame(b'v\\xff\\xfe'))",
    "an answer without a value": "say(HELLO, frame('v'))",
    "the outcome itself": "say(HELLO, frame('passed'), frame('{\"status\": \"passed\"}'))",
    "an unknown letter": "say(HELLO, frame('z42'))",
    "not plain, unreadable": "say(HELLO, frame('n{'))",
    "exited, unreadable": "say(HELLO, frame('e'))",
    "out of memory, unreadable": "say(HELLO, frame('m\\x00'))",
    "an exception without a name": "say(HELLO, frame('x[[], \"boo\"]'))",
    "an exception with 10,000 names": (
        "say(HELLO, frame('x' + json.dumps([['E'] * 10**4, 'boo'])))"
    ),
    "an exception that is none": 'say(HELLO, frame(\'x[["object", "print", "int"], "0"]\'))',
    "SystemExit": 'say(HELLO, frame(\'x[["SystemExit"], "0"]\'))',
    "GeneratorExit": 'say(HELLO, frame(\'x[["GeneratorExit"], ""]\'))',
    "KeyboardInterrupt": 'say(HELLO, frame(\'x[["KeyboardInterrupt"], ""]\'))',
    "the end of the judge's test": 'say(HELLO, frame(\'x[["Over"], ""]\'))',
    "descriptors": ("say(HELLO); socket.send_fds(link(), [frame('v7')], [0, 1, 2] * 9)"),
    "an urgent byte": ("say(HELLO); link().send(b'!', socket.MSG_OOB); say(frame('v7'))"),
    "a shut socket": "say(HELLO); link().shutdown(socket.SHUT_RDWR)",
    "a closed descriptor": "os.close(CHANNEL)",
    "all descriptors closed": "os.closerange(0, 256)",
    "stdout over it": "os.dup2(1, CHANNEL)",
    "stdin over it": "os.dup2(0, CHANNEL)",
    "a pipe over it": "r, w = os.pipe(); os.dup2(w, CHANNEL)",
}
_STOP_ITERATION = "say(HELLO, frame('x[[\"StopIteration\"], \"\"]'), *[frame('v7')] * 9)"
_FLOOD = "\ndef answer():\n    while True: say(frame('v7'))"
_DEAF = "say(HELLO)\ntime.sleep(60)"

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
WRITTEN = {
    "nothing": "os._exit(0)",
    "garbage": "put(b'garbage\\xff' * 99)",
    "a report of a pass": "put(report(outcome='passed', status='passed', passed=1))",
    "another kind's report": "put(report(outcome='completed'))",
    "a report of an unknown end": "put(report(outcome='judged'))",
    "a report twice": "put(report() * 2)",
    "half a report": "put(report()[:-9])",
    "a list": "put(b'[]')",
    "brackets without end": "put(b'[' * 10**5)",
    "a value nested deep": "put(report()[:-2] + b'[' * 10**5 + b']' * 10**5 + b'}')",
    "a number of 100,000 digits": "put(report()[:-2] + b'9' * 10**5 + b'}')",
    "not a number": "put(report(value=float('nan')))",
    "a key twice": 'put(report()[:-1] + b\', "outcome": "passed", "value": 42}\')',
    "a message that is none": "put(report(message=42))",
    "a report far away in the file": "os.lseek(REPORT, 1 << 45, os.SEEK_SET); put(b'')",
    "a report behind a hole": "os.lseek(REPORT, 1 << 19, os.SEEK_SET); put(report())",
    "stdout far away": "os.lseek(1, 1 << 45, os.SEEK_SET); put(report())",
    "stderr far away": "os.lseek(2, 1 << 45, os.SEEK_SET); put(report())",
    "stdout a little away": "os.lseek(1, 3 << 30, os.SEEK_SET); put(report())",
    "to the socket": "os.write(CHANNEL, report()); os._exit(0)",
    "a report in a frame": (
        "os.write(CHANNEL, len(report()).to_bytes(4, 'little') + report()); os._exit(0)"
    ),
    "everything cut off": "[os.ftruncate(fd, 0) for fd in (1, 2, REPORT)]; os._exit(0)",
    "everything closed": "os.closerange(0, 256); os._exit(0)",
    "the report over stdout": "os.dup2(REPORT, 1); put(report())",
    "stdout over the report": "os.dup2(1, REPORT); put(report())",
}


_REPORTED_TESTS: dict[str, Test] = {
    "call": CallTest("attack", [], SECRET),
    "script": StdinTest("", SECRET),
}


def _frames(name: str, source: str, code: str = IS_42, *held: str) -> Attack:
    return Attack(
        name=f"channel: {name}",
        source=FRAMES + source,
        test=AssertTest(code, "answer"),
        held=held or HELD,
        twin="none",
    )


ATTACKS = (
    *(
        Attack(
            name=f"value: {name}",
            source=_VALUE.format(value=value),
            test=AssertTest(code, "answer"),
            held=(*HELD, "cpu", "timeout") if any(w in name for w in _SLOW_VALUES) else HELD,
            twin="none",
        )
        for name, (value, code) in VALUES.items()
    ),
    *(_frames(name, f"{sent}\nos._exit(0)") for name, sent in SENT.items()),
    *(
        _frames(f"{name}, going on", sent)
        for name, sent in SENT.items()
        if name.startswith(("answers", "stdin", "stdout", "a pipe", "the names"))
    ),
    _frames("a flood of answers", _FLOOD, IS_42, "timeout", "cpu", "wrong", "output"),
    _frames(
        "no ear for the test", _DEAF, "assert answer('x' * 900_000) == 42", "timeout", "output"
    ),
    _frames("iteration cut short", _STOP_ITERATION, "assert all(map(answer, [1, 2, 3]))"),
    _frames("iteration cut short at the end", _STOP_ITERATION, "assert [*map(answer, [1])] == []"),
    *(
        Attack(
            name=f"report, {kind}: {name}",
            source=REPORTS + written,
            test=test,
            held=HELD,
            twin="none",
        )
        for kind, test in _REPORTED_TESTS.items()
        for name, written in WRITTEN.items()
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
