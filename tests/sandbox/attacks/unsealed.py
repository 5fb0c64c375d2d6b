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
from pathlib import Path
from typing import Any

from peft_bench_sandbox import AssertTest, CallTest

from .catalogue import Attack
from .scene import Scene

_BARE_S = 1.0  # what is not over by then hangs


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


_BARE = """
import json, sys
source, code, function = json.load(sys.stdin)
sys.set_int_max_str_digits(4300)
names = {'__name__': 'candidate' if function else '__main__'}
exec(compile(source, '<program>', 'exec'), names)
exec(compile(code, '<test>', 'exec'), names)
if function and 'answer' not in code: names[function]()
"""


def bare(attack: Attack, folder: Path) -> str:
    """How a plain interpreter ends on program and test: "exit N", or "hangs"."""
    function = attack.test.function if isinstance(attack.test, CallTest) else "answer"
    code = attack.test.code if isinstance(attack.test, AssertTest) else ""
    if not isinstance(attack.test, CallTest | AssertTest):
        function = ""
    at = folder / re.sub(r"\W+", "-", attack.name)[:80]
    at.mkdir()

    def restrict() -> None:
        for what, value in (
            (resource.RLIMIT_AS, 2 << 30),
            (resource.RLIMIT_FSIZE, 16 << 20),
            (resource.RLIMIT_CPU, 5),
            (resource.RLIMIT_CORE, 0),
        ):
            resource.setrlimit(what, (value, value))

    try:
        ended = subprocess.run(
            [sys.executable, "-I", "-S", "-c", _BARE],
            input=json.dumps([attack.source, code, function]).encode(),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            timeout=_BARE_S,
            cwd=at,
            preexec_fn=restrict,
            start_new_session=True,
        )
    except subprocess.TimeoutExpired:
        return "hangs"
    return f"exit {ended.returncode}"
