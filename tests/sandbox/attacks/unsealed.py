"""The same programs without any sandbox: in a plain process, in a plain interpreter.

All that they may do to the machine is bounded by the programs themselves; see catalogue.py.
"""

from __future__ import annotations

import json
import os
import re
import resource
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

from peft_bench_sandbox import AssertTest, CallTest

from .catalogue import Attack
from .scene import Scene

_BARE_S = 1.0  # what is not over by then hangs
_MOST_BYTES = 1 << 16  # of a line of results
_SCORER = Path(__file__).with_name("one_process.py")


def as_plain_process(attack: Attack, scene: Scene, uid: int) -> str:
    """What an attack that reports by itself tells when this user runs it without any sandbox."""
    given = [scene.value(attack, need) for need in attack.needs]
    place = str(scene.value(attack, "place"))
    reader, writer = os.pipe()
    pid = os.fork()
    if pid == 0:
        told = "broken off"
        try:
            os.chdir(place)
            namespace: dict[str, Any] = {"__name__": "candidate"}
            exec(attack.source, namespace)  # imports what that user may not read
            if os.geteuid() == 0:
                os.setgroups([])
                os.setresgid(uid, uid, uid)
                os.setresuid(uid, uid, uid)
            told = str(namespace["attack"](*given))
        finally:
            os.write(writer, told.encode())
            os._exit(0)
    os.close(writer)
    with os.fdopen(reader) as pipe:
        told = pipe.read()
    os.waitpid(pid, 0)
    return told


_BY_EXIT_CODE = """
import json, sys
source, code = json.load(sys.stdin)
names = {'__name__': '__main__'}
exec(compile(source, '<program>', 'exec'), names)
exec(compile(code, '<test>', 'exec'), names)
"""


def by_exit_code(attack: Attack, folder: Path) -> int | None:
    """The exit code of a plain interpreter that runs program and test; None if it hangs."""
    assert isinstance(attack.test, AssertTest)
    told = [attack.source, attack.test.code]
    ended = _run("-c", told, _folder_of(attack, folder), _BY_EXIT_CODE)
    return None if ended is None else ended.returncode


def as_shared(attack: Attack) -> AssertTest:
    """The same test, to be judged in the program's own process."""
    test = attack.test
    assert test is not None
    if isinstance(test, AssertTest):
        return replace(test, judge="shared")
    if isinstance(test, CallTest):
        arguments = ", ".join(map(repr, test.args))
        code = f"assert {test.function}({arguments}) == {test.expected!r}"
    else:
        code = _SCRIPT.format(stdin=test.stdin, source=attack.source, stdout=test.stdout)
    return AssertTest(code, judge="shared")


_SCRIPT = """
import contextlib, io, sys
sys.stdin, printed = io.StringIO({stdin!r}), io.StringIO()
with contextlib.redirect_stdout(printed):
    exec({source!r}, {{"__name__": "__main__"}})
assert printed.getvalue().split() == {stdout!r}.split()
"""


def in_one_process(attack: Attack, folder: Path) -> str:
    """What a scorer tells that runs program and test in its own process.

    "passed", "failed: ...", or "lost: ..." if it gives no line of results, or none that can be
    used.
    """
    test, told = attack.test, [attack.source, "", "", [], None]
    if isinstance(test, AssertTest):
        told[1:3] = test.code, "answer"
    elif isinstance(test, CallTest):
        told[1:] = None, test.function, list(test.args), test.expected
    ended = _run(str(_SCORER), told, _folder_of(attack, folder))
    if ended is None:
        return "lost: it hangs"
    if ended.returncode != 0:
        return f"lost: exit {ended.returncode}"
    return _result(ended.stderr)


def _folder_of(attack: Attack, folder: Path) -> Path:
    at = folder / re.sub(r"\W+", "-", attack.name)[:80]
    at.mkdir()
    return at


def _run(
    script: str, told: list[Any], at: Path, *more: str
) -> subprocess.CompletedProcess[bytes] | None:
    """A plain interpreter's end, or None if it hangs."""
    try:
        return subprocess.run(
            [sys.executable, "-I", "-S", script, *more],
            input=json.dumps(told).encode(),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            timeout=_BARE_S,
            cwd=at,
            preexec_fn=_restrict,
            start_new_session=True,
        )
    except subprocess.TimeoutExpired:
        return None


def _result(line: bytes) -> str:
    if len(line) > _MOST_BYTES:
        return f"lost: a line of {len(line)} bytes"
    try:
        told: dict[str, str] = json.loads(line.decode(), parse_constant=_refuse)
    except ValueError as error:
        return f"lost: no line that can be read: {error}"
    return told["result"]


def _refuse(name: str) -> None:
    raise ValueError(f"{name} is not JSON")


def _restrict() -> None:
    for what, value in (
        (resource.RLIMIT_AS, 2 << 30),
        (resource.RLIMIT_FSIZE, 16 << 20),
        (resource.RLIMIT_CPU, 1),
        (resource.RLIMIT_CORE, 0),
    ):
        resource.setrlimit(what, (value, value))
