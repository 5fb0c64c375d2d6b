"""The caller's end of a zygote: started, spoken to, ended."""

from __future__ import annotations

import contextlib
import os
import platform
import signal
import socket
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from .inside.link import Closed, Link
from .profiles import PROFILES, paths_of
from .types import MIB, Limits, SandboxUnavailable
from .workdir import make, remove

SHELL = "/bin/sh"
START_S = 60.0  # an interpreter that has not begun by then is the machine's fault
_PACKAGE = str(Path(__file__).parent)
# The stack's limit shapes the address space at exec, so it has to be there before Python is;
# a function between fork and exec would copy the caller's page tables, which a shell does not. The
# hard limit stays: programs raise their own before they recurse, and memory_bytes bounds that.
_SCRIPT = 'ulimit -S -s "$1" && shift && exec "$@"'
_MAIN = "import sys; sys.path.append(sys.argv[2]); from inside.zygote import main; main()"
_OWN_GUARDS = {"rlimits", "descriptors", "environment", "kill at end", "cleaning"}
_SLOTS = 256
_INODES = 4096
_PROCESSES = 1024  # of a zygote's children and all their threads
_FILES = 256
MACHINES = ("x86_64", "aarch64")
_NEEDED = {
    "no_new_privs": "use a kernel of 3.5 or later",
    "seccomp": "use a kernel with CONFIG_SECCOMP_FILTER, and let seccomp through the container",
}
# A user that nobody is, another for every caller's process, if we are root.
_FIRST_UID = 0x70000000


@dataclass(frozen=True, slots=True)
class Setting:
    """What all processes of a run have in common. without: guards left out, in tests alone."""

    limits: Limits
    profile: str = "stdlib"
    without: Collection[str] = frozenset()


class Zygote:
    """A zygote's process and the socket to it. candidates: else it is one of judges.

    Raises:
        SandboxUnavailable: the process could not be started.
    """

    def __init__(self, setting: Setting, *, candidates: bool = True) -> None:
        with contextlib.ExitStack() as undo:
            try:
                ours, theirs = (undo.enter_context(end) for end in socket.socketpair())
                self._words: IO[bytes] = tempfile.TemporaryFile()  # noqa: SIM115 - see close()
                undo.callback(self._words.close)
                # Where programs run if there is neither a root of their own nor anything that
                # forbids them to write: not in the caller's folder, and not in "/".
                self._folder, self._lock = make()
                undo.callback(os.close, self._lock)
                undo.callback(remove, self._folder)
                self.process = subprocess.Popen(
                    _command(setting.limits, theirs.fileno()),
                    stdin=subprocess.DEVNULL,
                    stdout=subprocess.DEVNULL,
                    stderr=self._words,
                    env=_environment(setting),
                    cwd=self._folder,
                    start_new_session=True,
                    pass_fds=(theirs.fileno(), *_inherited(setting)),
                )
            except OSError as error:
                raise SandboxUnavailable(f"the sandbox's process did not start: {error}") from error
            undo.pop_all()
            theirs.close()
        self.link = Link(socket.socket(fileno=ours.detach()), gathers=True)
        self.layers: dict[str, str] | None = None
        self.since = time.monotonic()
        with contextlib.suppress(Closed):  # told at the first receive
            self.link.send(("plan", _plan(setting, candidates)))
            self.link.flush()

    def check_start(self, now: float) -> None:
        """Raises: SandboxUnavailable: the process has not begun in all this time."""
        if self.layers is None and now - self.since > START_S:
            raise SandboxUnavailable(
                f"a process of the sandbox was not ready within {START_S:g} s; "
                "see whether this machine is overloaded"
            )

    def last_words(self) -> str:
        """The end of what the process wrote on standard error."""
        self._words.seek(0)
        lines = self._words.read().decode("utf-8", "replace").strip().splitlines()
        return lines[-1] if lines else "no message"

    def close(self) -> None:
        """End the process and all that it started, and reap it."""
        self.link.close()
        try:
            # Alone it ends its children first; killed, they end with it.
            self.process.wait(timeout=5)
        except subprocess.TimeoutExpired:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait()
        self._words.close()
        os.close(self._lock)
        try:
            remove(self._folder)
        except OSError as error:
            # The verdicts stand: what is left over costs space, not truth.
            warnings.warn(
                f"could not remove {self._folder}: {error}; remove it by hand", stacklevel=2
            )


def missing() -> list[str]:
    """What this machine lacks for running anything at all, each with its remedy."""
    if not sys.platform.startswith("linux"):
        return [f"the system is {sys.platform}; use Linux (a container or WSL 2 will do)"]
    lacking = []
    if platform.machine() not in MACHINES:
        lacking.append(f"the machine is {platform.machine()}; use {' or '.join(MACHINES)}")
    if not sys.executable:
        lacking.append("Python does not know its own path; start it by its full path")
    if not os.access(SHELL, os.X_OK):
        lacking.append(f"there is no {SHELL}; install a POSIX shell")
    if not hasattr(os, "memfd_create"):
        lacking.append("this Python has no os.memfd_create; use one built on Linux 3.17 or later")
    return lacking


def unsealed(layers: Mapping[str, str]) -> list[str]:
    """What a zygote's layers lack for the level "strong", each with its remedy; see README.md."""
    lacking = []
    for name, remedy in _NEEDED.items():
        if reason := layers.get(name, "absent"):
            lacking.append(f"{name} ({reason}): {remedy}")
    if (reason := layers.get("landlock", "absent")) and layers.get("mount namespace", "absent"):
        lacking.append(
            f"landlock ({reason}) and mount namespace: use a kernel of 5.13 or later with "
            "landlock among its security modules (lsm=landlock,...), or allow user namespaces"
        )
    return lacking


def _rlimits_of(limits: Limits) -> list[tuple[int, int]]:
    """What setrlimit is to be given in a child: kind and value."""
    import resource  # not there on every system this package can be imported on

    return [
        (resource.RLIMIT_AS, limits.memory_bytes),
        # Of one file; what is printed goes to files too.
        (resource.RLIMIT_FSIZE, max(limits.file_bytes, limits.output_bytes + MIB)),
        (resource.RLIMIT_NOFILE, _FILES),
        (resource.RLIMIT_NPROC, _PROCESSES),
        (resource.RLIMIT_MEMLOCK, 0),
        (resource.RLIMIT_MSGQUEUE, 0),
        # Of a candidate alone. The zygote looks at fractions; this is for one that has no time to.
        (resource.RLIMIT_CPU, int(limits.cpu_s) + 2),
    ]


def _plan(setting: Setting, candidates: bool) -> dict[str, Any]:
    profile = PROFILES[setting.profile]
    paths = paths_of(profile)
    return {
        "package": _PACKAGE,
        "preload": list(profile.preload),
        "paths": list(paths.added),
        "readable": list(paths.readable),
        "hidden": list(paths.hidden),
        "devices": ["/dev/null", "/dev/zero", "/dev/urandom"],
        "candidates": candidates,
        "slots": _SLOTS,  # few judges use theirs, but all see the same root
        "slot_bytes": setting.limits.file_bytes,
        "slot_inodes": _INODES,
        "uid": _FIRST_UID + os.getpid() % 1_000_000 if os.geteuid() == 0 else None,
        # The first are the seal's, the others the zygote's own.
        "without": sorted(set(setting.without) - _OWN_GUARDS),
        "without_own": sorted(set(setting.without) & _OWN_GUARDS),
        "limits": {
            "cpu_s": setting.limits.cpu_s,
            "wall_s": setting.limits.wall_s,
            "output_bytes": setting.limits.output_bytes,
            "message_bytes": setting.limits.message_bytes,
        },
        "rlimits": _rlimits_of(setting.limits),
    }


def _environment(setting: Setting) -> dict[str, str]:
    callers = os.environ if "environment" in setting.without else {}
    return {**callers, "PYTHONHASHSEED": "0", "LD_BIND_NOW": "1"}


def _inherited(setting: Setting) -> list[int]:
    """What a process would inherit of the caller's descriptors, were it not for the guard."""
    found = []
    for fd in range(3, 1024) if "descriptors" in setting.without else ():
        with contextlib.suppress(OSError):
            found += [fd] if os.get_inheritable(fd) else []
    return found


def _command(limits: Limits, control_fd: int) -> list[str]:
    import resource

    stack_bytes = limits.stack_bytes
    _, ceiling = resource.getrlimit(resource.RLIMIT_STACK)
    if ceiling != resource.RLIM_INFINITY:
        stack_bytes = min(stack_bytes, ceiling)
    # What we import compiles like what the caller does: once, where that may be kept.
    compiling = ["-B"] if sys.dont_write_bytecode else []
    python = [sys.executable, "-s", "-P", "-S", *compiling, "-X", "utf8", "-c", _MAIN]
    return [
        *(SHELL, "-c", _SCRIPT, "sh", str(stack_bytes // 1024)),
        *python,
        *(str(control_fd), _PACKAGE),
    ]
