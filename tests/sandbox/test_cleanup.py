"""Nothing is left over: no file, no process, no descriptor; not even after Ctrl-C."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import peft_bench_sandbox
import pytest
from peft_bench_sandbox import AssertTest, Limits, Program, StdinTest, Verdict, run_all
from peft_bench_sandbox.pool import run_ordered
from peft_bench_sandbox.workdir import PREFIX, make, sweep
from peft_bench_sandbox.worker import Setting

Run = Callable[..., Verdict]
IsGone = Callable[[int], bool]
PASS = AssertTest("pass")
FINE = Program("fine", "pass", (PASS,))
SLEEPER = Program("sleeper", "import time; time.sleep(300)", (PASS,))


@pytest.fixture
def temporary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of this test's own for all that is temporary."""
    folder = tmp_path / "temporary"
    folder.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(folder))
    return folder


def children(pid: int | str = "self") -> set[int]:
    lists = [path.read_text() for path in Path(f"/proc/{pid}/task").glob("*/children")]
    return {int(child) for text in lists for child in text.split()}


def descendants(pid: int) -> set[int]:
    try:
        below = children(pid)
    except OSError:  # it has just ended
        return set()
    return below.union(*map(descendants, below))


LITTER = {
    "files": "open('a', 'w').close(); os.mkdir('b'); open('b/c', 'w').close()",
    "links": "os.symlink('/', 'root'); os.symlink('nowhere', 'dangling')",
    "no rights": "os.mkdir('a'); open('a/b', 'w').close(); os.chmod('a', 0); os.chmod('.', 0)",
    "temporary": "import tempfile; tempfile.mkdtemp(); tempfile.NamedTemporaryFile(delete=False)",
    "deep": "\nfor _ in range(3000): os.mkdir('d' * 50); os.chdir('d' * 50)",
    "crash": "open('a', 'w').close(); os.abort()",
    "time-out": "open('a', 'w').close()\nwhile True: __import__('time').sleep(9)",
    "full": "open('a', 'wb').write(bytes(2 ** 30))",
    "thread": "import threading, time\nthreading.Thread(target=time.sleep, args=(300,)).start()",
    "daemon": "import threading, time\n"
    "threading.Thread(target=time.sleep, args=(300,), daemon=True).start()",
}


@pytest.mark.parametrize("name", LITTER)
def test_nothing_is_left_for_the_next_program(run: Run, name: str) -> None:
    for _ in range(2):  # a directory to work in is used again
        run(f"import os\n{LITTER[name]}", PASS, wall_s=1)
    source = "import os, threading\nprint(os.listdir(), threading.active_count())\nopen('a', 'x')"
    verdict = run(source, StdinTest("", "[] 1"), wall_s=1)
    assert verdict.status == "passed", verdict.message


@pytest.mark.parametrize("workers", [1, 3])
def test_nothing_is_left_of_a_run(
    temporary: Path, open_files: Callable[[], int], workers: int
) -> None:
    files, before = open_files(), children()
    sources = ["pass", "1/0", "import os; os.abort()", "while True: print('x' * 9999)"]
    sources += [f"import os\n{LITTER[name]}" for name in ("files", "no rights", "crash", "thread")]
    others = AssertTest("pass", judge="shared"), AssertTest("pass", judge="split-files")
    programs = [
        Program("p", source, (test,))
        for source in sources
        for test in (PASS, StdinTest("", ""), *others)
    ]
    run_all(programs, require="limits", workers=workers, limits=Limits(wall_s=1))
    assert children() == before
    assert open_files() == files
    assert list(temporary.iterdir()) == []


def test_a_generator_closed_early_leaves_nothing(
    temporary: Path, open_files: Callable[[], int], is_gone: IsGone
) -> None:
    files, before = open_files(), children()
    programs = [FINE, *[SLEEPER] * 50]
    with closing(run_ordered(programs, Setting(Limits()), workers=2, strong=False)) as verdicts:
        assert next(verdicts).status == "passed"
        ours = set().union(*map(descendants, children() - before)) | (children() - before)
        assert len(ours) >= 4  # two zygotes, the judges', and at least one program
    assert all(is_gone(pid) for pid in ours)
    assert children() == before
    assert open_files() == files
    assert list(temporary.iterdir()) == []


def test_an_exception_in_the_caller_stops_the_rest(
    monkeypatch: pytest.MonkeyPatch, temporary: Path, open_files: Callable[[], int]
) -> None:
    def break_down(self: object, verdict: Verdict) -> Verdict:
        raise RuntimeError("caller's own")

    monkeypatch.setattr("peft_bench_sandbox.pool.Progress.count", break_down)
    files, before = open_files(), children()
    began = time.monotonic()
    with pytest.raises(RuntimeError, match="caller's own"):
        programs = [FINE, *[SLEEPER] * 50]
        run_all(programs, require="limits", limits=Limits(wall_s=200), workers=2)
    assert time.monotonic() - began < 100
    assert children() == before
    assert open_files() == files
    assert list(temporary.iterdir()) == []


def test_an_exception_in_the_source_of_programs_leaves_nothing(
    temporary: Path, open_files: Callable[[], int]
) -> None:
    def programs() -> Iterator[Program]:
        yield FINE
        raise LookupError("caller's own")

    files, before = open_files(), children()
    with pytest.raises(LookupError, match="caller's own"):
        list(run_ordered(programs(), Setting(Limits()), workers=2, strong=False))
    assert children() == before
    assert open_files() == files
    assert list(temporary.iterdir()) == []


CALLER = """
import signal, sys, warnings
from peft_bench_sandbox import AssertTest, Limits, Program, run_all
warnings.simplefilter("ignore")
# A shell's background job ignores SIGINT, and would hand that on.
signal.signal(signal.SIGINT, signal.default_int_handler)
sleeps = Program("p", "import time; time.sleep(300)", (AssertTest("pass"),))
asked = Program("p", "def f(): import time; time.sleep(300)", (AssertTest("f()"),))
try:
    run_all([sleeps, asked] * 9, limits=Limits(wall_s=300), require="limits", workers=3)
except KeyboardInterrupt:
    print("interrupted", flush=True)
    raise
"""


@pytest.fixture
def caller(temporary: Path) -> Iterator[subprocess.Popen[str]]:
    """A caller with three workers, once programs run in each."""
    package = Path(peft_bench_sandbox.__file__).parents[1]
    process = subprocess.Popen(
        [sys.executable, "-c", CALLER],
        env={**os.environ, "PYTHONPATH": str(package), "TMPDIR": str(temporary)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        deadline = time.monotonic() + 30
        while process.poll() is None and time.monotonic() < deadline:
            # Once more processes than a zygote takes for itself and for judges are there.
            if len(children(process.pid)) >= 4 and len(descendants(process.pid)) >= 24:
                break
            time.sleep(0.02)
        yield process
    finally:
        process.kill()
        process.communicate()


def test_ctrl_c_ends_every_process_and_is_raised_again(
    caller: subprocess.Popen[str], temporary: Path, is_gone: IsGone
) -> None:
    pids = descendants(caller.pid)
    assert len(pids) >= 24
    caller.send_signal(signal.SIGINT)
    out, errors = caller.communicate(timeout=60)
    assert out == "interrupted\n" and "KeyboardInterrupt" in errors
    assert caller.returncode == -signal.SIGINT
    assert all(is_gone(pid) for pid in pids)
    assert list(temporary.iterdir()) == []


def test_all_processes_of_a_killed_caller_end_by_themselves(
    caller: subprocess.Popen[str], temporary: Path, is_gone: IsGone
) -> None:
    pids = descendants(caller.pid)
    assert len(pids) >= 24
    caller.kill()
    caller.communicate(timeout=60)
    assert all(is_gone(pid) for pid in pids)
    left = list(temporary.iterdir())
    assert left  # one for each zygote, which the next start sees to
    for folder in left:
        os.utime(folder, (0, 0))
    assert run_all([FINE], require="limits")[0].status == "passed"
    assert list(temporary.iterdir()) == []


def test_only_what_is_abandoned_is_swept(temporary: Path, open_files: Callable[[], int]) -> None:
    files = open_files()
    (used, lock), (young, other) = make(), make()
    os.close(other)
    stranger, link = temporary / "other", temporary / f"{PREFIX}link"
    stranger.mkdir()
    link.symlink_to(stranger)
    old = temporary / f"{PREFIX}old"
    (old / "inner").mkdir(parents=True)
    for folder in (used, old, stranger):
        os.utime(folder, (0, 0))
    sweep()
    assert not old.exists()
    assert {used, young, stranger, link} == set(temporary.iterdir())
    os.close(lock)
    sweep()
    assert not used.exists()
    assert open_files() == files
