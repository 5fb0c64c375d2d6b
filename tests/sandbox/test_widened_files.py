"""Files of the working directory, with a judge that sees what the program makes of them."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from typing import Any

import pytest
from peft_bench_sandbox import AssertTest, Program, Verdict
from peft_bench_sandbox.pool import run_programs

Run = Callable[..., Verdict]

FRAMES: str = importlib.import_module("sandbox_attacks.channel").FRAMES
ARGUMENTS, FILES = "split-arguments", "split-files"


def said(run: Run, source: str, code: str, judge: Any, **limits: Any) -> str:
    verdict = run(source, AssertTest(code, judge=judge), **limits)
    return f"{verdict.status} {verdict.message}".strip()


# name: program, test
SHARED = {
    "read": (
        "def f(p): return open(p).read()",
        "with open('a', 'w') as a: a.write('é\\n')\nassert f('a') == 'é\\n'",
    ),
    "written": ("def f(): open('b', 'w').write('x')", "f()\nassert open('b').read() == 'x'"),
    "written before the test": ("open('b', 'w').write('x')", "assert open('b').read() == 'x'"),
    "written to": (
        "def f(): open('a', 'a').write('b')",
        "open('a', 'w').write('a')\nf()\nassert open('a').read() == 'ab'",
    ),
    "of bytes": (
        "def f(): return open('a', 'rb').read()[::-1], open('b', 'wb').write(b'\\xfe')",
        "open('a', 'wb').write(bytes(range(256)))\n"
        "assert f()[0][0] == 255 and open('b', 'rb').read() == b'\\xfe'",
    ),
    "removed": (
        "import os\ndef f(): os.remove('a')",
        "import os\nopen('a', 'w').close()\nf()\nassert os.listdir() == []",
    ),
    "removed by the test": (
        "import os\ndef f(): return os.listdir()",
        "import os\nopen('a', 'w').close()\nassert f() == ['a']\nos.remove('a')\nassert f() == []",
    ),
    "renamed": (
        "import os\ndef f(): os.rename('a', 'd/b')",
        "import os\nos.mkdir('d')\nopen('a', 'w').write('x')\nf()\n"
        "assert os.listdir() == ['d'] and open('d/b').read() == 'x'",
    ),
    "in directories": (
        "import os\ndef f(): os.makedirs('a/b'); open('a/b/c', 'w').write('x')",
        "import os\nf()\nassert [*os.walk('.')][2] == ('./a/b', [], ['c'])",
    ),
    "directories for files": (
        "import os, shutil\n"
        "def f(): shutil.rmtree('a'); open('a', 'w'); os.remove('b'); os.mkdir('b')",
        "import os\nos.makedirs('a/x/y')\nopen('a/z', 'w').close()\nopen('b', 'w').close()\nf()\n"
        "assert os.path.isfile('a') and os.path.isdir('b')",
    ),
    "of any name": (
        "def f(): open('\\udcff\\n é', 'w').write('x')",
        "import os\nf()\nassert os.listdir(b'.') == [b'\\xff\\n \\xc3\\xa9']",
    ),
    "before an exception": (
        "def f(): open('a', 'w').write('x'); 1 / 0",
        "try: f()\nexcept ZeroDivisionError: assert open('a').read() == 'x'\nelse: assert 0",
    ),
    "with an argument": (
        "def f(x): x += open(x[0])",
        "open('a', 'w').write('b')\nx = ['a']\nf(x)\nassert x == ['a', 'b']",
    ),
}


@pytest.mark.parametrize("name", SHARED)
def test_files_of_either_are_there_for_the_other(works: None, run: Run, name: str) -> None:
    source, code = SHARED[name]
    assert said(run, source, code, FILES) == "passed"
    assert not said(run, source, code, ARGUMENTS).startswith("passed")


# name: program, test
OPEN = {
    "to write": (
        "def f(a): a.write('b')",
        "with open('t', 'w') as t:\n    t.write('a')\n    f(t)\n    t.write('c')\n"
        "assert open('t').read() == 'abc'",
    ),
    "to append": (
        "def f(a): print('b', file=a)",
        "open('t', 'w').write('a')\nt = open('t', 'a')\nf(t)\nt.close()\n"
        "assert open('t').read() == 'ab\\n'",
    ),
    "to read": (
        "def f(a): return [*a]",
        "open('t', 'w').write('1\\n2')\nassert f(open('t')) == ['1\\n', '2']",
    ),
    "to read on": (
        "def f(a): return a.readline()",
        "open('t', 'w').write('1\\né\\n3')\nt = open('t')\nassert t.readline() == '1\\n'\n"
        "assert f(t) == 'é\\n' and t.read() == '3'",
    ),
    "to read bytes": (
        "def f(a): return a.read(2)",
        "open('t', 'w').write('1234')\nt = open('t', 'rb')\n"
        "assert (f(t), t.read()) == (b'12', b'34')",
    ),
    "to close": ("def f(a): a.close()", "t = open('t', 'w')\nf(t)\nassert t.closed"),
    "to be looked at": (
        "def f(a): return a.name, a.mode, a.closed",
        "t = open('t', 'w')\nt.close()\nassert f(t) == ('t', 'w', True)",
    ),
    "and come back": (
        "def f(): return open('t', 'w')",
        "t = f()\nassert (t.name, t.mode, t.closed) == ('t', 'w', False) and not open('t').read()",
    ),
}


@pytest.mark.parametrize("name", OPEN)
def test_files_go_over_open(works: None, run: Run, name: str) -> None:
    source, code = OPEN[name]
    assert said(run, source, code, FILES) == "passed"
    assert not said(run, source, code, ARGUMENTS).startswith("passed")


def test_an_open_file_of_elsewhere_does_not_go_over(works: None, run: Run) -> None:
    for code in ("import os\nf(open(os.__file__))", "import sys\nf(sys.stdout)"):
        told = said(run, "def f(a): return a.name", code, FILES)
        assert told.startswith("harness_error f is given what is no plain data"), code


def test_files_are_bounded_like_answers(works: None, run: Run) -> None:
    source = "def f(n): open('a', 'w').write('x' * n)"
    code = "f({})\nassert len(open('a').read()) == {}"
    assert said(run, source, code.format(900, 900), FILES, output_bytes=2000) == "passed"
    told = said(run, source, code.format(3000, 3000), FILES, output_bytes=2000)
    assert told.startswith("output f left over ")


@pytest.mark.parametrize("without", [(), ("cleaning",)], ids=["held", "twin"])
def test_each_test_begins_with_an_empty_directory(works: None, without: tuple[str, ...]) -> None:
    code = "import os\nf()\nassert os.listdir() == [], 'old'\nos.makedirs('a/b')\nopen('a/c', 'w')"
    program = Program("p", "def f(): 0", (AssertTest(code, judge=FILES),))
    # As many judges wait at once as candidates run: 16 and more.
    verdicts = run_programs([program] * 60, without=without)
    old = [verdict for verdict in verdicts if verdict.status != "passed"]
    assert bool(old) == bool(without), old
    assert all(": old" in verdict.message for verdict in old)


def test_a_judge_has_a_directory_that_nobody_else_sees(works: None, run: Run) -> None:
    source = (
        "import os, threading, time\nseen = set()\n"
        "def look():\n    for _ in range(20):\n        time.sleep(0.02)\n"
        "        seen.update(n for n in range(256) if os.path.exists(f'../{n}/late'))\n"
        "threading.Thread(target=look).start()\ndef f(): return seen"
    )
    code = "import time\nopen('late', 'w').close()\ntime.sleep(0.8)\nassert f() == set()"
    assert said(run, source, code, FILES) == "passed"
    # What is in the program's own directory, it does see so.
    own = "open('late', 'w').close()\n" + source
    assert said(run, own, code.replace("== set()", "!= set()"), FILES) == "passed"


# Hostile files. What cannot be told is not there, and it is the program that waits, not the judge.

HOSTILE = {
    "a fifo": ("os.mkfifo('out')", "exception PermissionError"),
    "a device": ("os.mknod('out', 0o20666, os.makedev(1, 5))", "exception PermissionError"),
    "a link to a device": ("os.symlink('/dev/zero', 'out')", "exception in the test: FileNotFound"),
    "a link out of it": ("os.symlink(os.__file__, 'out')", "exception in the test: FileNotFound"),
    "a link to itself": ("os.symlink('out', 'out')", "exception in the test: FileNotFound"),
    "a directory": ("os.mkdir('out')", "exception in the test: IsADirectory"),
    "a socket": (
        "__import__('socket').socket(1).bind('out')",
        "exception PermissionError",
    ),
    "a hole": ("open('out', 'wb').truncate(1 << 22)", "output f left over 1048576 bytes"),
    "a large file": ("open('out', 'wb').write(b'x' * (1 << 22))", "output f left over"),
    "holes": (
        "[open(str(n), 'wb').truncate(1 << 19) for n in range(999)]",
        "output f left over",
    ),
    "bytes that take more room as text": (
        "open('out', 'wb').write(bytes(1 << 19))",
        "output the program answered with a message of",
    ),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_files_are_the_programs_own_failure(works: None, run: Run, name: str) -> None:
    act, held = HOSTILE[name]
    source = f"import os\ndef f(): {act}"
    told = said(run, source, "f()\nopen('out').read()", FILES, wall_s=5)
    assert told.startswith(held), told


@pytest.mark.parametrize("name", ["a link to a device", "a hole", "a large file", "holes"])
def test_which_the_test_takes_for_files_in_one_process(works: None, run: Run, name: str) -> None:
    act, _ = HOSTILE[name]
    source = f"import os\ndef f(): {act}\ndef g(): 0"
    code = f"f()\nassert open('0' if {name!r} == 'holes' else 'out', 'rb').read(1 << 18)"
    assert said(run, source, code, "shared", wall_s=5) == "passed"


def test_files_that_change_while_they_are_read_keep_only_the_program_busy(
    works: None, run: Run
) -> None:
    source = (
        "import os, threading\ndef flip():\n    while True:\n"
        "        for act in (lambda: open('out', 'w').write('x' * 999), lambda: os.unlink('out'),\n"
        "                    lambda: os.symlink('/dev/zero', 'out'), lambda: os.unlink('out'),\n"
        "                    lambda: os.mkdir('out'), lambda: os.rmdir('out')):\n"
        "            try: act()\n            except OSError: pass\n"
        "threading.Thread(target=flip, daemon=True).start()\ndef f(): return 1"
    )
    code = "import os\nfor _ in range(50): f()\nassert not os.path.islink('out')\nassert 0, 'end'"
    told = said(run, source, code, FILES, cpu_s=5)
    assert told.startswith("wrong AssertionError: end"), told


def test_very_many_files_are_too_much_for_the_directory_alone(works: None, run: Run) -> None:
    source = FRAMES + (
        "names = ', '.join(f'[\"{n}\", \"\"]' for n in range(9000))\n"
        "say(HELLO, frame('w[[], {\"t\": [{\"d\": [' + names + ']}, []]}]'), frame('v7'))\nleave()"
    )
    told = said(run, source, "answer()", FILES)
    assert told.startswith("wrong the program left what is no plain data: [Errno 28]"), told
    assert said(run, source.replace("9000", "3000"), "answer()", FILES) == "passed"


def test_changes_before_the_names_that_take_the_judge_too_long_are_the_programs(
    works: None, run: Run
) -> None:
    source = FRAMES + (
        "same = ', '.join(f'[{n * (2**61 - 1)}, 0]' for n in range(1, 30_000))  # hashes\n"
        "say(frame('w[[], {\"d\": [' + same + ']}]'), HELLO, frame('v7'))\nleave()"
    )
    assert said(run, source, "answer()", FILES, cpu_s=0.5).startswith("cpu the judge ended")
    # A test that takes too long before any call is at fault itself.
    told = said(run, FRAMES + "say(HELLO)\nleave()", "while 1: 0\nanswer()", FILES, cpu_s=0.5)
    assert told.startswith("harness_error the test itself")


@pytest.mark.parametrize(
    "code",
    [
        "import pickle",
        "import sys\nsys.path.append('.')",
        "from importlib import util",
        "import shelve",
    ],
)
def test_a_test_that_may_run_what_is_in_files_needs_a_shared_judge(
    works: None, run: Run, code: str
) -> None:
    assert said(run, "def f(): 0", code, FILES).startswith("harness_error the test may run what")
    assert said(run, "def f(): 0", code, ARGUMENTS) == "passed"


def test_without_a_directory_there_is_no_such_judge(run: Run) -> None:
    for judge in (ARGUMENTS, FILES):
        told = said(run, "def f(): return 1", "assert f() == 1", judge, file_bytes=0)
        assert (
            told == "passed" if judge == ARGUMENTS else told.startswith("harness_error a judge h")
        )
