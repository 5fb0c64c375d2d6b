"""What the judges between split and shared let over, and what they do not.

Two kinds: what the split judge holds and a wider one lets through, as it is meant to (so that it
stays off where it is not needed); and what the wider ones hold, where a test in the program's own
process is fooled.
"""

from __future__ import annotations

from random import Random

from peft_bench_sandbox import AssertTest, Program
from peft_bench_sandbox.types import Judge

from .catalogue import Attack
from .channel import FRAMES

HELD = ("wrong", "exception", "exited")
ALWAYS = "yes = lambda *_: True\n"
_WANT = "open('want', 'w').write('right')\n"
_SAME = "assert open('out').read() == open('want').read() == 'right'"


def _by_hand(changes: str) -> str:
    return f"{FRAMES}say(HELLO, frame('w{changes}'), frame('v7'))\nleave()"


# name: program, test, the judge that lets it through
MEANT: dict[str, tuple[str, str, Judge]] = {
    "an argument emptied": (
        "def answer(x):\n    x.clear()\n    return []",
        "x = [3, 1, 2]\nassert answer(x) == sorted(x)",
        "split-arguments",
    ),
    "an argument inside another": (
        "def answer(x):\n    x[0]['want'] = 7\n    return 7",
        "x = [{'want': 42}]\nassert answer(x) == x[0]['want']",
        "split-arguments",
    ),
    "an argument told by hand": (
        _by_hand("[[[0, [7]]], null]"),
        "x = [42]\nassert answer(x) == x[0]",
        "split-arguments",
    ),
    "a file told by hand": (
        _by_hand('[[], {"t": [{"d": [["want", "7"]]}, []]}]'),
        "assert answer() == int(open('want').read())",
        "split-files",
    ),
    "the file that the test reads": (
        "def answer():\n    open('want', 'w').write('7')\n    return 7",
        "assert answer() == int(open('want').read())",
        "split-files",
    ),
    "the file that the test has written": (
        "def answer(): return int(open('want').read())",
        "open('want', 'w').write('42')\nassert answer() == 42",
        "split-files",
    ),
    "what a mock returns": (
        "import os\ndef answer(): return os.getlogin()",
        "import os\nfrom unittest.mock import Mock\n"
        "os.getlogin = Mock(return_value='me')\nassert answer() == os.getlogin()",
        "split-mocks",
    ),
}

# name: program, test
ARGUMENTS = {
    "an object equal to everything in an argument": (
        "class E: __eq__ = yes\ndef answer(x): x[:] = [E()]",
        "x = [1]\nanswer(x)\nassert x == [42]",
    ),
    "a number equal to everything in an argument": (
        "class E(int):\n    __eq__ = yes\n    __hash__ = int.__hash__\n"
        "def answer(x): x['a'] = E(7)",
        "x = {}\nanswer(x)\nassert x == {'a': 42}",
    ),
    "an argument in a list that lies": (
        "class E(list): __eq__ = yes\ndef answer(x): return E([x])",
        "x = []\nassert answer(x) == [[42]]",
    ),
    "the test's own objects by the garbage collector": (
        "import gc\ndef answer(x):\n    for held in gc.get_referrers(x):\n"
        "        if type(held) is dict and 'want' in held: x.append(held['want'])",
        "want = 'right'\nx = []\nanswer(x)\nassert x == ['right']",
    ),
    "the test's own objects by its frame": (
        "import sys\ndef answer(x): x.append(sys._getframe(1).f_globals['want'])",
        "want = 'right'\nx = []\nanswer(x)\nassert x == ['right']",
    ),
    "an object that was not given": (
        "import gc\ndef answer(x):\n    for held in gc.get_objects():\n"
        "        if type(held) is list and held and held[0] == 'mark': held[:] = ['right']",
        "kept = ['mark']\nanswer([])\nassert kept == ['right']",
    ),
}

FILES = {
    "a link to the output in the reference's place": (
        "import os\ndef answer():\n    open('out', 'w').close()\n    os.symlink('out', 'want')",
        f"answer()\n{_WANT}{_SAME}",
    ),
    "a hard link to the output in the reference's place": (
        "import os\ndef answer():\n    open('out', 'w').close()\n    os.link('out', 'want')",
        f"answer()\n{_WANT}{_SAME}",
    ),
    "a link to a link": (
        "import os\nos.mkdir('d')\nos.symlink('d', 'e')\nos.symlink('e/out', 'want')\n"
        "def answer(): os.symlink('d/out', 'out'); open('d/out', 'w').close()",
        f"answer()\n{_WANT}{_SAME}",
    ),
    "a copy of the reference as it comes": (
        "import threading, time\ndef copy():\n    for _ in range(200):\n        time.sleep(0.005)\n"
        "        try: text = open('want').read()\n        except OSError: continue\n"
        "        if text: return open('out', 'w').write(text)\n"
        "def answer():\n    open('out', 'w').close()\n    threading.Thread(target=copy).start()",
        f"import time\nanswer()\n{_WANT}time.sleep(0.5)\n{_SAME}",
    ),
    "a module in the working directory": (
        "import sys\nsys.path.insert(0, '')\n"
        "def answer(): open('filecmp.py', 'w').write('cmp = lambda *_: True')",
        f"answer()\n{_WANT}import filecmp\nassert filecmp.cmp('out', 'want')",
    ),
    "a package in the working directory": (
        "import os, sys\nsys.path.insert(0, os.getcwd())\ndef answer():\n    os.mkdir('csv')\n"
        "    open('csv/__init__.py', 'w').write('reader = lambda _: [[42]]')",
        "answer()\nimport csv\nassert [*csv.reader('7')] == [[42]]",
    ),
    "a function that says what is there": (
        "import os\nos.path.exists = yes\ndef answer(): pass",
        "import os\nanswer()\nassert os.path.exists('out')",
    ),
    "another open": (
        "import builtins, io\nbuiltins.open = lambda *_: io.StringIO('right')\ndef answer(): pass",
        "answer()\nassert open('out').read() == 'right'",
    ),
    "an object in place of an open file": (
        "class E: __eq__ = name = mode = yes\ndef answer(): return E()",
        "f = answer()\nassert f == open('f', 'w')",
    ),
    "the test's own directory left": (
        "import os\nos.mkdir('d')\nopen('d/out', 'w').write('right')\ndef answer(): os.chdir('d')",
        "answer()\nassert open('out').read() == 'right'",
    ),
}

# Told by hand. name: the changes of files
PATHS = {
    "up": '[{"d": [["../boo", "7"]]}, []]',
    "up from below": '[{"d": [["a", null], ["a/../../boo", "7"]]}, []]',
    "a directory, up": '[{"d": [["../boo", null]]}, []]',
}
_LOOK = "import os\nanswer()\nassert os.path.exists('../boo')"


def _attacks(
    group: str, judge: Judge, table: dict[str, tuple[str, str]], layer: str = ""
) -> tuple[Attack, ...]:
    return tuple(
        Attack(
            name=f"widened, {group}: {name}",
            source=ALWAYS + source,
            test=AssertTest(code, "answer", judge),
            held=HELD,
            twin="shared",
            layer=layer,
        )
        for name, (source, code) in table.items()
    )


ATTACKS = (
    *(
        Attack(
            name=f"widened, meant: {name}",
            source=source,
            test=AssertTest(code, "answer"),
            held=HELD,
            twin="wider",
            wider=judge,
            layer="mount namespace" if judge == "split-files" else "",
        )
        for name, (source, code, judge) in MEANT.items()
    ),
    *_attacks("arguments", "split-arguments", ARGUMENTS),
    *_attacks("files", "split-files", FILES, "mount namespace"),
    *(
        Attack(
            name=f"widened, paths: {name}",
            source=_by_hand(f'[[], {{"t": {changes}}}]'),
            test=AssertTest(_LOOK, "answer", "split-files"),
            held=HELD,
            twin="trusting",
            without=frozenset({"paths"}),
            layer="mount namespace",
        )
        for name, changes in PATHS.items()
    ),
)

_PIECES = (
    *("{", "}", "[", "]", ":", ",", " ", "0", "-1", "1e999", "null", "true", '"x"', '"@"', '"t"'),
    *('"d"', '"b"', '"F"', '"../x"', '"/x"', '"a"', '"a/b"', '""', '"00"', "[0, [42]]"),
    *("[1, [[1, 2]]]", "[[0, [1]]]"),
    *('{"@": 0}', '{"@": 9}', '{"t": [{"d": [["a", "x"]]}, []]}', '{"t": [{"d": []}, ["a"]]}'),
)
# Nothing that a program may change is `kept`.
_FUZZ_TEST = "x, y, kept = [1], {1: 2}, []\nz = [kept]\nanswer(x, y)\nassert kept or z != [[]]"


def fuzzed(count: int) -> list[Program]:
    """Programs that tell random changes, the same at every call; none may pass."""
    random = Random(1)

    def frame() -> bytes:
        pieces = "".join(random.choices(_PIECES, k=random.randrange(14)))
        files = random.choice(("null", '{"t": [{"d": [["a", "x"]]}, []]}', pieces))
        changed = random.choice(("[]", "[[0, [7]]]", f"[[0, {pieces}]]", f"[{pieces}]"))
        return f"w[{changed}, {files}]".encode()

    def program(number: int) -> Program:
        frames = ", ".join(f"frame({frame()!r})" for _ in range(random.randrange(1, 3)))
        judge: Judge = random.choice(("split-arguments", "split-files"))
        source = f"{FRAMES}say(HELLO, {frames}, frame('v7'))\nleave()"
        return Program(f"fuzz {number}", source, (AssertTest(_FUZZ_TEST, "answer", judge),))

    return [program(number) for number in range(count)]
