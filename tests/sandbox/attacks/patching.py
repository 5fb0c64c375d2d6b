"""Passes that were not earned: the test's surroundings patched, its answers read.

Held because the assertions run in another process; the twin runs them in the program's own.
"""

from __future__ import annotations

from .forging import ALWAYS, forgeries

PATCHES = {
    "builtins.all": (
        "import builtins\nbuiltins.all = yes\ndef answer(): return 7",
        "assert all(a == b for a, b in [(answer(), 42)])",
    ),
    "builtins.any": (
        "import builtins\nbuiltins.any = lambda _: False\ndef answer(): return 7",
        "assert not any(a != b for a, b in [(answer(), 42)])",
    ),
    "builtins.abs": (
        "import builtins\nbuiltins.abs = lambda _: 0\ndef answer(): return 7",
        "assert abs(answer() - 42) < 1e-6",
    ),
    "builtins.isinstance": (
        "import builtins\nbuiltins.isinstance = yes\ndef answer(): return 7",
        "assert isinstance(answer(), str)",
    ),
    "builtins.len": (
        "import builtins\nbuiltins.len = lambda _: 42\ndef answer(): return []",
        "assert len(answer()) == 42",
    ),
    "builtins.open": (
        "import builtins, io\nbuiltins.open = lambda *_: io.StringIO('7')\ndef answer(): return 7",
        "assert open('/dev/null').read() == str(answer())",
    ),
    "builtins.__import__": (
        "import builtins, types\nfake = types.SimpleNamespace(isclose=yes)\n"
        "builtins.__import__ = lambda *_, **__: fake\ndef answer(): return 7",
        "import math\nassert math.isclose(answer(), 42)",
    ),
    "__builtins__ of the namespace": (
        "import builtins\n__builtins__ = {**vars(builtins), 'abs': lambda _: 0}\n"
        "globals()['__builtins__'] = __builtins__\ndef answer(): return 7",
        "assert abs(answer() - 42) < 1e-6",
    ),
    "own abs": ("abs = lambda _: 0\ndef answer(): return 7", "assert abs(answer() - 42) < 1e-6"),
    "own math": (
        "class math: isclose = yes\ndef answer(): return 7",
        "import sys\nassert math.isclose(answer(), 42)",
    ),
    "sys.modules math": (
        "import sys, types\nsys.modules['math'] = types.SimpleNamespace(isclose=yes)\n"
        "def answer(): return 7",
        "import math\nassert math.isclose(answer(), 42)",
    ),
    "math.isclose": (
        "import math\nmath.isclose = yes\ndef answer(): return 7",
        "import math\nassert math.isclose(answer(), 42)",
    ),
    "json.dumps": (
        "import json\nclass E: __eq__ = yes\njson.dumps = lambda *_, **__: E()\n"
        "def answer(): return 7",
        "import json\nassert json.dumps(answer()) == '[42]'",
    ),
    "random.random": (
        "import random\nrandom.random = lambda: 7\ndef answer(): return 7",
        "import random\nrandom.seed(1)\nassert answer() == random.random()",
    ),
    "unittest": (
        "import unittest\nunittest.TestCase.assertEqual = yes\ndef answer(): return 7",
        "import unittest\nunittest.TestCase().assertEqual(answer(), 42)",
    ),
    "copy.deepcopy": (
        "import copy\nclass E: __eq__ = yes\ncopy.deepcopy = lambda *_: E()\n"
        "def answer(): return 7",
        "import copy\nassert copy.deepcopy([42]) == answer()",
    ),
    "sys.meta_path": (
        "import sys, types, importlib.machinery as m\n"
        "class F:\n"
        "    def find_spec(self, name, *_):\n"
        "        if name == 'fractions': return m.ModuleSpec(name, self)\n"
        "    def create_module(self, spec): return None\n"
        "    def exec_module(self, module): module.Fraction = lambda *_: 1\n"
        "sys.modules.pop('fractions', None)\nsys.meta_path.insert(0, F())\ndef answer(): return 7",
        "from fractions import Fraction\nassert Fraction(answer()) == Fraction(42)",
    ),
    "module written into the working directory": (
        "import sys, os\nassert os.getcwd() != '/'\n"
        "with open('fractions.py', 'w') as own: own.write('Fraction = lambda *_: 1')\n"
        "sys.modules.pop('fractions', None)\nsys.path.insert(0, os.getcwd())\n"
        "def answer(): return 7",
        "from fractions import Fraction\nassert Fraction(answer()) == Fraction(42)",
    ),
    "a whole number's own memory": (
        "import ctypes\nctypes.memmove(id(242) + 24, id(7) + 24, 4)\ndef answer(): return 7",
        "assert answer() == 242",
    ),
    "the test replaced by a thread": (
        "import threading, time\n"
        "def wait():\n"
        "    while 'check' not in globals(): time.sleep(0.001)\n"
        "    globals()['check'] = yes\n"
        "threading.Thread(target=wait, daemon=True).start()\ndef answer(): return 7",
        "import time\ndef check(f): assert f() == 42\ntime.sleep(0.2)\ncheck(answer)",
    ),
    "the test replaced by a signal handler": (
        "import signal\n"
        "def replace(number, frame):\n"
        "    if 'check' in frame.f_globals: frame.f_globals['check'] = yes\n"
        "signal.signal(signal.SIGALRM, replace)\nsignal.setitimer(signal.ITIMER_REAL, 0.05, 0.05)\n"
        "def answer(): return 7",
        "import time\ndef check(f): assert f() == 42\ntime.sleep(0.2)\ncheck(answer)",
    ),
    "the test replaced from the caller's frame": (
        "import sys\ndef answer():\n    sys._getframe(1).f_globals['same'] = yes\n    return 7",
        "def same(a, b): return a == b\nassert answer() == 7 and same(answer(), 42)",
    ),
    "the failing line jumped over by a trace": (
        "import sys\n"
        "def skip(frame, event, arg):\n"
        "    if event == 'line' and frame.f_code.co_name == 'check': frame.f_lineno = 4\n"
        "    return skip\n"
        "def answer():\n"
        "    sys._getframe(1).f_trace = skip\n    sys.settrace(skip)\n    return 7",
        "def check(f):\n    given = f()\n    assert given == 42\n    return\ncheck(answer)",
    ),
}

READS = {
    "constants of the caller": (
        "import sys\n"
        "def answer():\n"
        "    return max(n for n in sys._getframe(1).f_code.co_consts if type(n) is int)",
        "def check(f):\n    assert f() == 94170612\ncheck(answer)",
    ),
    "variables of the caller": (
        "import sys\n"
        "def answer():\n"
        "    frame = sys._getframe(1)\n    return {**frame.f_globals, **frame.f_locals}['wanted']",
        "for wanted in (94170612, 94170613):\n    assert answer() == wanted",
    ),
    "variables of any frame": (
        "import sys\n"
        "def answer():\n"
        "    for frame in sys._current_frames().values():\n"
        "        while frame:\n"
        "            if 'wanted' in frame.f_locals: return frame.f_locals['wanted']\n"
        "            frame = frame.f_back",
        "def check(f, wanted):\n    assert f() == wanted\ncheck(answer, 94170612)",
    ),
    "a traceback's frames": (
        "def answer():\n"
        "    try: raise ValueError\n"
        "    except ValueError as error: frame = error.__traceback__.tb_frame.f_back\n"
        "    return {**frame.f_globals, **frame.f_locals}['wanted']",
        "wanted = 94170612\nassert answer() == wanted",
    ),
    "gc": (
        "import gc, types\n"
        "def answer():\n"
        "    for thing in gc.get_objects():\n"
        "        if isinstance(thing, types.FunctionType) and thing.__name__ == 'check':\n"
        "            return max(n for n in thing.__code__.co_consts if type(n) is int)",
        "def check(f):\n    assert f() == 94170612\ncheck(answer)",
    ),
    "gc referrers of an argument": (
        "import gc\n"
        "def answer(given):\n"
        "    for thing in gc.get_referrers(given):\n"
        "        if type(thing) in (list, tuple) and len(thing) == 2: return thing[1]\n"
        "        if type(thing) is dict and 'wanted' in thing: return thing['wanted']",
        "cases = [([1], [94170612])]\n"
        "for given, wanted in cases:\n    assert answer(given) == wanted",
    ),
}

ATTACKS = (
    *forgeries("patch", PATCHES, "shared", ALWAYS),
    *forgeries("read", READS, "shared", ALWAYS),
)
