"""Every status, by a real program."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import pytest
from peft_bench_sandbox import AssertTest, CallTest, Limits, Program, StdinTest, Verdict, run_all

Run = Callable[..., Verdict]
PASS = AssertTest("pass")


@pytest.mark.parametrize(
    ("source", "test"),
    [
        ("def f(x): return x + 1", AssertTest("assert f(1) == 2")),
        ("def f(x): return x + 1", AssertTest("def check(c): assert c(1) == 2\ncheck(f)", "f")),
        ("print(int(input()) * 2)", StdinTest("21\n", "42\n")),
        ("import sys\nprint(sys.stdin.read().upper(), end='')", StdinTest("é\n", "É\n")),
        ("def f(a, b): return (a, [b])", CallTest("f", [1, 2], [1, [2]])),
        ("class S:\n    def f(self, x): return {x: None}", CallTest("S.f", ["k"], {"k": None})),
        ("from collections import Counter as f", CallTest("f", ["aab"], {"a": 2, "b": 1})),
        ("def f(): return 2 ** 1000", CallTest("f", [], 2**1000)),
        ("def f(): return '\\ud800 \\n'", CallTest("f", [], "\ud800 \n")),
    ],
)
def test_passed(run: Run, source: str, test: Any) -> None:
    verdict = run(source, test)
    assert (verdict.status, verdict.passed, verdict.total) == ("passed", 1, 1), verdict.message
    assert verdict.message == ""
    assert 0 < verdict.cpu_s < 5 and verdict.wall_s > 0
    assert verdict.peak_bytes > 2**20


@pytest.mark.parametrize(
    ("source", "test", "said"),
    [
        ("f = abs", AssertTest("x = 1\nassert f(-1) == 2"), "test line 2: assert f(-1) == 2"),
        ("f = abs", AssertTest("assert f(-1) == 2", judge="shared"), "test line 1"),
        ("f = abs", AssertTest("assert f(-1) == 2, 'see'"), "AssertionError: see"),
        ("print(1)", StdinTest("", "2"), "token 1: expected 2, got 1"),
        ("f = abs", CallTest("f", [-1], 2), "expected 2, got 1"),
    ],
)
def test_wrong(run: Run, source: str, test: Any, said: str) -> None:
    verdict = run(source, test)
    assert verdict.status == "wrong" and said in verdict.message


@pytest.mark.parametrize(
    ("source", "test", "said"),
    [
        ("1 / 0", PASS, "ZeroDivisionError: division by zero"),
        ("assert False, 'own'", PASS, "AssertionError: own"),  # not the test's assertion
        ("def (", PASS, "SyntaxError: "),
        ("x = '\0'", PASS, "null bytes"),
        ("pass", AssertTest("f()"), "NameError: "),
        ("pass", AssertTest("pass", "f"), "NameError: the program defines no 'f'"),
        ("def f(): f()", AssertTest("f()"), "RecursionError: "),
        ("raise KeyboardInterrupt", PASS, "KeyboardInterrupt"),
        ("raise GeneratorExit('x')", PASS, "GeneratorExit: x"),
        ("input()", PASS, "EOFError: "),
        ("input(); input()", StdinTest("1\n", ""), "EOFError: "),
        ("pass", CallTest("f", [], 1), "NameError: the program defines no 'f'"),
        ("pass", CallTest("S.f", [], 1), "NameError: the program defines no 'S'"),
        ("class S: pass", CallTest("S.f", [], 1), "AttributeError: "),
        ("def f(): raise KeyError('k')", CallTest("f", [], 1), "KeyError: 'k'"),
        ("raise type('Odd', (Exception,), {'__str__': lambda s: 1 / 0})", PASS, "cannot be made"),
    ],
)
def test_exception(run: Run, source: str, test: Any, said: str) -> None:
    verdict = run(source, test)
    assert verdict.status == "exception" and said in verdict.message


def test_timeout(run: Run) -> None:
    verdict = run("import time; time.sleep(60)", PASS, wall_s=0.3)
    assert verdict.status == "timeout" and "0.3 s" in verdict.message
    assert 0.3 <= verdict.wall_s < 30


@pytest.mark.parametrize(
    "prelude",
    ["", "import signal; signal.signal(signal.SIGXCPU, signal.SIG_IGN)\n"],
    ids=["plain", "signal ignored"],
)
def test_cpu(run: Run, prelude: str) -> None:
    verdict = run(prelude + "while True: pass", PASS, cpu_s=1, wall_s=30)
    assert verdict.status == "cpu" and "of CPU time" in verdict.message
    assert 0.9 < verdict.cpu_s < 4


def test_part_of_a_cpu_second_counts(run: Run) -> None:
    source = "import time\nwhile time.process_time() < 0.6: pass"
    assert run(source, PASS, cpu_s=0.5).status == "cpu"
    assert run(source, PASS, cpu_s=0.9).status == "passed"


def test_memory(run: Run) -> None:
    source = "hold = []\nwhile True: hold.append(bytes(10**6))"
    assert run(source, PASS, memory_bytes=2**28).status == "memory"


def test_output(run: Run) -> None:
    verdict = run("import sys\nwhile True: sys.stderr.write('x' * 999)", PASS, output_bytes=5000)
    assert verdict.status == "output" and "5000 bytes" in verdict.message


@pytest.mark.parametrize("name", ["SIGSEGV", "SIGKILL", "SIGALRM", "SIGRTMIN"])
def test_crashed(run: Run, name: str) -> None:
    source = f"import os, signal; os.kill(os.getpid(), signal.{name}); signal.pause()"
    verdict = run(source, PASS)
    assert verdict.status == "crashed" and f"killed by {name}" in verdict.message


@pytest.mark.parametrize("test", [PASS, CallTest("f", [], 1), StdinTest("", "")], ids=repr)
@pytest.mark.parametrize("leave", ["sys.exit(3)", "os._exit(0)", "os._exit(3)"])
def test_exited(run: Run, leave: str, test: Any) -> None:
    verdict = run(f"import os, sys\ndef f(): return 1\n{leave}", test)
    assert (verdict.status, verdict.passed) == ("exited", 0)


@pytest.mark.parametrize("leave", ["sys.exit()", "sys.exit(0)", "exit()", "quit(0)"])
def test_leaving_with_code_0_is_no_pass_inside_a_test(run: Run, leave: str) -> None:
    source = f"import sys\ndef f(): {leave}"
    assert run(source, AssertTest("f()\nassert False")).status == "exited"
    assert run(source, CallTest("f", [], None)).status == "exited"
    assert run(f"import sys\n{leave}", PASS).status == "exited"


@pytest.mark.parametrize("leave", ["sys.exit()", "sys.exit(0)", "exit()", "quit()"])
def test_leaving_with_code_0_is_how_a_script_ends(run: Run, leave: str) -> None:
    source = f"import sys\nprint(1)\n{leave}\nprint(2)"
    assert run(source, StdinTest("", "1")).status == "passed"
    assert run(source, StdinTest("", "1 2")).status == "wrong"


@pytest.mark.parametrize(
    "source",
    [
        "import threading\nthreading.Thread(target=lambda: (time.sleep(0.1), print(1))).start()",
        "import atexit\natexit.register(print, 1)",
        "from concurrent.futures import ThreadPoolExecutor as P\nP(1).submit(print, 1)",
        "import io, sys, atexit\nout = sys.stdout\nsys.stdout = io.StringIO()\n"
        "atexit.register(lambda: out.write(sys.stdout.getvalue()))\nprint(1)",
        "import os\nos.write(1, b'1')\nimport sys\nsys.stdout.close()",
        "if __name__ == '__main__': print(1)",
        "open('/dev/stdout', 'w').write(str(int(open('/dev/stdin').read() or 1)))",
        "import os\nos.chdir(os.path.dirname(__file__))\nprint(__file__.count('program.py'))",
    ],
    ids=["thread", "atexit", "executor", "buffer", "closed", "main", "named", "file"],
)
def test_a_script_runs_to_its_very_end(run: Run, source: str) -> None:
    verdict = run("import time\n" + source, StdinTest("", "1"))
    assert verdict.status == "passed", verdict.message


# What Python prints at its very end, of what a script has left: each said by plain Python, too.
LEFT = {
    "a file": "out = open(1, 'w')\nprint('a', file=out)",
    "a descriptor": "import os\nout = os.fdopen(1, 'w')\n"
    "def tell(x): print(x, file=out)\ntell('a')",
    "bytes": "import io\nout = io.BufferedWriter(io.FileIO(1, 'w'))\nout.write(b'a')",
    "inside": "class Out:\n    out = [open(1, 'w')]\nOut.out[0].write('a')",
    "detached": "import io, sys\nout = io.TextIOWrapper(sys.stdout.detach())\nout.write('a')",
    "both": "out = open(1, 'w')\nout.write('b')\nprint('a', end=' ')",
    "a frame": "import sys\ndef end():\n    out = open(1, 'w')\n    out.write('a')\n"
    "    try: 1 / 0\n    except ArithmeticError: sys.exit()\nend()",
    "a buffer": "import io, os\nclass Out(io.IOBase):\n    said = b''\n"
    "    def flush(self): os.write(1, self.said)\nout = Out()\nout.said = b'a'",
    "a finalizer": "class Last:\n    def __del__(self): print('b', told)\ntold = 'c'\n"
    "last = Last()\nprint('a')",
    "finalizers": "class Last:\n    def __init__(self, name): self.name = name\n"
    "    def __del__(self): print(self.name)\na = Last('a')\nb = Last('b')\nb.itself = b\n"
    "c = [Last('c'), Last('d')]",
    "what typing keeps": "import typing\nclass Last:\n    def __del__(self): print('a')\n"
    "def of(x: typing.Optional[Last]): pass\nLast.of = of\nlast = Last()",
    "a replaced stream": "import io, sys\nclass Last:\n    def __del__(self): print('b')\n"
    "last = Last()\nprint('a')\nsys.stdout = io.StringIO()",
}


@pytest.mark.parametrize("name", LEFT)
def test_what_a_script_has_left_open_is_written_at_its_end(run: Run, name: str) -> None:
    command = [sys.executable, "-c", LEFT[name]]
    plain = subprocess.run(command, capture_output=True, text=True, check=False)
    assert "a" in plain.stdout
    verdict = run(LEFT[name], StdinTest("", plain.stdout))
    assert verdict.status == "passed", verdict.message


def test_what_a_script_leaves_open_by_sys_exit_counts_by_legacy_rules(run: Run) -> None:
    source = (
        "import sys\ndef end():\n    out = open(1, 'w')\n    out.write('a')\n    sys.exit(3)\nend()"
    )
    assert run(source, StdinTest("", "a", comparison="legacy")).status == "passed"
    assert run(source, StdinTest("", "a")).status == "exited"


def test_a_main_block_does_not_run_before_assertions(run: Run) -> None:
    source = "x = 1\nif __name__ == '__main__': x = 2"
    assert run(source, AssertTest("assert x == 1")).status == "passed"


def test_dataclasses_and_pickle_find_the_program(run: Run) -> None:
    source = (
        "from __future__ import annotations\nfrom dataclasses import dataclass\nimport pickle\n"
        "@dataclass\nclass P:\n    x: int\n"
        "def f(): return pickle.loads(pickle.dumps(P(3))).x"
    )
    assert run(source, CallTest("f", [], 3)).status == "passed"


def test_the_future_of_this_package_is_not_the_programs(run: Run) -> None:
    source = "def f(x: int): pass\ndef kind(): return f.__annotations__['x'] is int"
    assert run(source, AssertTest("assert kind()")).status == "passed"
    test = AssertTest("assert f.__annotations__['x'] is int", judge="shared")
    assert run(source, test).status == "passed"


def test_all_tests_run_and_the_first_failure_names_the_program(run: Run) -> None:
    verdict = run(
        "def f(x): return 10 // x",
        AssertTest("assert f(5) == 2"),
        AssertTest("assert f(0) == 1"),
        AssertTest("assert f(1) == 3"),
        AssertTest("assert f(10) == 1"),
    )
    assert (verdict.status, verdict.passed, verdict.total) == ("exception", 2, 4)
    assert verdict.message.startswith("test 2 of 4: ZeroDivisionError")
    assert verdict.judge == "split"


def test_no_state_passes_from_test_to_test(run: Run) -> None:
    source = "import os\nseen = list(os.listdir('.'))\nopen('mark', 'w').close()\nrun = []"
    clean = AssertTest("run.append(1)\nassert (seen, run) == ([], [1])")
    assert run(source, clean, clean).passed == 2


def test_limits_are_per_test(run: Run) -> None:
    source = "import time\nwhile time.process_time() < 0.4: pass"
    verdict = run(source, PASS, PASS, PASS, cpu_s=0.9)
    assert verdict.passed == 3 and verdict.cpu_s > 1.1


def test_peak_memory_is_the_childs_not_the_callers() -> None:
    held = bytearray(os.urandom(1)) * (200 * 2**20)  # resident here while the child starts
    programs = [Program("s", "pass", (PASS,)), Program("l", "x = b'x' * (300 << 20)", (PASS,))]
    small, large = run_all(programs, limits=Limits(), require="limits", workers=1)
    assert len(held) == 200 * 2**20
    assert small.peak_bytes < 100 * 2**20
    assert 300 * 2**20 < large.peak_bytes < 450 * 2**20
