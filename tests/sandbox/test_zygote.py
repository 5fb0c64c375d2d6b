"""A zygote's bookkeeping, in a process of its own and without the seal."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="zygotes are Linux's")

from peft_bench_sandbox.inside import kernel  # noqa: E402

PACKAGE = Path(kernel.__file__).parent.parent
_REPORTED = """
import os, select, sys
sys.path.append(sys.argv[1])
from _socket import socketpair
from resource import RUSAGE_SELF, getrusage
from inside.children import Child, Children
from inside.link import Link
from inside.zygote import Zygote
judge, channel = socketpair()
caller, _ = socketpair()
zygote = Zygote.__new__(Zygote)
zygote.children = Children.__new__(Children)
zygote.children._null = null = os.open(os.devnull, os.O_RDWR)
zygote.link, zygote._epoll = Link(caller), select.epoll()
zygote._active = zygote._running = 1
child = Child(1, "serve", 0, -1, None)
child.files, child.channel = (null,) * 3, channel.detach()
zygote._channels = {child.channel: 1}
zygote._epoll.register(child.channel, 0)
sibling = os.dup(child.channel)
zygote._report(child, 0, getrusage(RUSAGE_SELF))
judge.close()
print(zygote._channels, zygote._epoll.poll(0))
"""


def test_a_channel_is_not_heard_of_once_its_child_is_gone() -> None:
    """Else its end would be told under a number that may be another child's by then.

    A sibling that was forked meanwhile has a copy, which keeps what epoll listens to.
    """
    command = [sys.executable, "-S", "-P", "-c", _REPORTED, str(PACKAGE)]
    done = subprocess.run(command, check=True, capture_output=True, text=True, timeout=60)
    assert done.stdout == "{} []\n"


_SHORT_OF_FILES = """
import os, select, sys
sys.path.append(sys.argv[1])
from _socket import socketpair
from resource import RLIMIT_NOFILE, getrlimit, setrlimit
from types import SimpleNamespace
from inside.children import Children
from inside.link import Link
from inside.zygote import Zygote
caller, ours = map(Link, socketpair())
seal = SimpleNamespace(slots=[], prepare=None)
children = Children(seal, {"without_own": [], "rlimits": []})
hard = getrlimit(RLIMIT_NOFILE)[1]
setrlimit(RLIMIT_NOFILE, (100, hard))
zygote = Zygote.__new__(Zygote)
zygote.children, zygote.link, zygote._epoll = children, ours, select.epoll()
zygote._channels, zygote._next_tick = {}, 0.0
zygote._active = zygote._running = zygote._more = 0
zygote._wall_s, zygote._refused = 1.0, False
kind, free = sys.argv[2], int(sys.argv[3])
zygote._queue = [("run", n, kind, 0, (os.open(os.devnull, 0),)) for n in range(40)]
taken = []
while len(taken) < 100:
    try: taken.append(os.open(os.devnull, 0))
    except OSError: break
for fd in taken[-free:]: os.close(fd)
pids = iter(range(1000, 2000))
def fork(child):
    os.close(child.job)
    pid = next(pids)
    children.alive[pid] = child
    return pid
children.fork = fork
zygote._start(40, 0.0)
started, waiting = len(children.alive), [message[1] for message in zygote._queue]
refused = zygote._refused
setrlimit(RLIMIT_NOFILE, (hard, hard))
told = []
while select.select([caller.fd], [], [], 0)[0]:
    told += [message[:2] for message in caller.receive()]
print(started, waiting[:1], len(waiting), refused, told, sep=", ")
"""


@pytest.mark.parametrize("kind", ["serve", "stdin", "call"])
def test_children_that_there_are_no_descriptors_for_wait(kind: str) -> None:
    started, first, waiting, refused, told = _short_of_files(kind, 30)
    assert 2 < started < 40
    assert (waiting, first, refused) == (40 - started, [started], True)
    assert [what for what, *_ in told] == ["started"] * (started if kind == "serve" else 0)


@pytest.mark.parametrize("kind", ["serve", "stdin", "call"])
def test_a_run_that_there_are_none_for_even_alone_is_given_up(kind: str) -> None:
    _, first, waiting, refused, told = _short_of_files(kind, 2)
    assert (waiting, first, refused, told) == (39, [1], False, [("error", 0)])


def _short_of_files(kind: str, free: int) -> list[Any]:
    command = [sys.executable, "-S", "-P", "-c", _SHORT_OF_FILES, str(PACKAGE), kind, str(free)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    return list(ast.literal_eval(f"[{done.stdout.strip()}]"))
