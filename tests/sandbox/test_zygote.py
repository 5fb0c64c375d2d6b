"""A zygote's bookkeeping, in a process of its own and without the seal."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

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
