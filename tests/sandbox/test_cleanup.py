"""Nothing is left over: no directory, no process, no descriptor; not even after Ctrl-C."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import peft_bench_sandbox
import pytest
from peft_bench_sandbox import AssertTest, Limits, Program, Verdict, run_all
from peft_bench_sandbox.workdir import remove

Run = Callable[..., Verdict]
IsGone = Callable[[int], bool]
PASS = AssertTest("pass")

LITTER = {
    "files": "open('a', 'w').close(); os.mkdir('b'); open('b/c', 'w').close()",
    "links": "os.symlink('/', 'root'); os.symlink('nowhere', 'dangling'); os.mkfifo('fifo')",
    "no rights": "os.mkdir('a'); open('a/b', 'w').close(); os.chmod('a', 0); os.chmod('.', 0)",
    "temporary": "import tempfile; tempfile.mkdtemp(); tempfile.NamedTemporaryFile(delete=False)",
    "deep": "\nfor _ in range(3000): os.mkdir('d' * 50); os.chdir('d' * 50)",
    "crash": "open('a', 'w').close(); os.abort()",
    "time-out": "open('a', 'w').close()\nwhile True: __import__('time').sleep(9)",
}


@pytest.mark.parametrize("name", LITTER)
def test_no_directory_is_left(run: Run, temporary: Path, name: str) -> None:
    run(f"import os\n{LITTER[name]}", PASS, wall_s=1)
    assert list(temporary.iterdir()) == []


def test_links_are_removed_not_followed(tmp_path: Path) -> None:
    kept = tmp_path / "kept"
    kept.mkdir()
    (kept / "file").touch()
    root = tmp_path / "root"
    (root / "sub").mkdir(parents=True)
    (root / "sub" / "link").symlink_to(kept, target_is_directory=True)
    (root / ".removed-0").mkdir()
    remove(root)
    assert not root.exists() and (kept / "file").exists()


@pytest.mark.parametrize("test", [PASS, AssertTest("time.sleep(60)")], ids=["ends", "hangs"])
def test_a_process_left_in_the_background_is_killed(
    run: Run, tmp_path: Path, is_gone: IsGone, test: AssertTest
) -> None:
    told = tmp_path / "pid"
    source = f"""
import os, time
if os.fork() == 0:
    for fd in range(256):
        try: os.close(fd)
        except OSError: pass
    if os.fork() == 0:  # its parent ends at once: a daemon, though in the same group
        with open({str(told)!r} + '.new', 'w') as file: file.write(str(os.getpid()))
        os.rename({str(told)!r} + '.new', {str(told)!r})
        time.sleep(300)
    os._exit(0)
while not os.path.exists({str(told)!r}): time.sleep(0.01)
"""
    verdict = run(source, test, wall_s=2 if test is not PASS else 15)
    assert verdict.status == ("passed" if test is PASS else "timeout")
    assert is_gone(int(told.read_text()))


def test_a_process_that_keeps_the_pipes_open_does_not_hold_the_verdict(run: Run) -> None:
    source = "import os, time\nif os.fork() == 0: time.sleep(300)"
    began = time.monotonic()
    assert run(source, PASS, wall_s=60).status == "passed"
    assert time.monotonic() - began < 30


def test_no_descriptor_and_no_child_is_left(run: Run, open_files: Callable[[], int]) -> None:
    run("pass", PASS)
    before = open_files()
    sources = ["pass", "1/0", "import os; os.abort()", "while True: print('x' * 9999)"]
    programs = [Program("p", source, (PASS,)) for source in sources * 3]
    run_all(programs, require="limits")
    assert open_files() == before
    mine = Path(f"/proc/self/task/{os.getpid()}/children").read_text().split()
    assert mine == []


CALLER = """
import os, signal, sys, warnings
from peft_bench_sandbox import AssertTest, Limits, Program, run_all
warnings.simplefilter("ignore")
# A shell's background job ignores SIGINT, and would hand that on.
signal.signal(signal.SIGINT, signal.default_int_handler)
source = '''
import os, time
open(os.path.join(%r, str(os.getpid())), "w").close()
time.sleep(300)
'''
programs = [Program(str(n), source % sys.argv[1], (AssertTest("pass"),)) for n in range(9)]
try:
    limits = Limits(wall_s=float(sys.argv[2]))
    run_all(programs, limits=limits, require="limits", workers=3)
except KeyboardInterrupt:
    print("interrupted", flush=True)
    raise
"""


def start_caller(told: Path, temporary: Path, wall_s: float) -> subprocess.Popen[str]:
    """Start a caller with three workers; return once a program runs in each."""
    told.mkdir()
    package = Path(peft_bench_sandbox.__file__).parents[1]
    caller = subprocess.Popen(
        [sys.executable, "-c", CALLER, str(told), str(wall_s)],
        env={**os.environ, "PYTHONPATH": str(package), "TMPDIR": str(temporary)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    deadline = time.monotonic() + 30
    while len(list(told.iterdir())) < 3 and time.monotonic() < deadline:
        time.sleep(0.01)
    return caller


def pids_in(told: Path) -> list[int]:
    return [int(path.name) for path in told.iterdir()]


def test_ctrl_c_kills_every_child_and_is_raised_again(
    tmp_path: Path, temporary: Path, is_gone: IsGone
) -> None:
    told = tmp_path / "pids"
    caller = start_caller(told, temporary, wall_s=300)
    try:
        pids = pids_in(told)
        caller.send_signal(signal.SIGINT)
        out, errors = caller.communicate(timeout=30)
    finally:
        caller.kill()
        caller.wait()
    assert len(pids) == 3, errors
    assert out == "interrupted\n" and "KeyboardInterrupt" in errors
    assert all(is_gone(pid) for pid in pids)
    assert len(pids_in(told)) == 3, "a program was started after Ctrl-C"
    assert list(temporary.iterdir()) == []


def test_children_of_a_killed_caller_end_by_themselves(
    tmp_path: Path, temporary: Path, is_gone: IsGone
) -> None:
    told = tmp_path / "pids"
    caller = start_caller(told, temporary, wall_s=2)
    pids = pids_in(told)
    caller.kill()
    caller.communicate(timeout=30)
    assert len(pids) == 3
    assert all(is_gone(pid) for pid in pids)


def test_without_pidfd_children_are_watched_all_the_same(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(pid: int, flags: int = 0) -> int:
        raise PermissionError("filtered")

    monkeypatch.setattr("os.pidfd_open", refuse)
    assert run("pass", PASS).status == "passed"
    assert run("import os; os._exit(4)", PASS).status == "exited"
    assert run("import time; time.sleep(60)", PASS, wall_s=0.3).status == "timeout"


def test_an_exception_in_the_caller_stops_the_rest(
    monkeypatch: pytest.MonkeyPatch, temporary: Path
) -> None:
    def break_down(self: object, verdict: Verdict) -> Verdict:
        raise RuntimeError("caller's own")

    monkeypatch.setattr("peft_bench_sandbox.pool.Progress.count", break_down)
    programs = [Program("p", "pass", (PASS,))]
    programs += [Program("p", "import time; time.sleep(60)", (PASS,))] * 50
    began = time.monotonic()
    with pytest.raises(RuntimeError, match="caller's own"):
        run_all(programs, require="limits", limits=Limits(wall_s=60), workers=2)
    assert time.monotonic() - began < 30
    assert list(temporary.iterdir()) == []
