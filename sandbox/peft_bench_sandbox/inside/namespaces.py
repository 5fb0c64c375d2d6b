"""Namespaces for mounts, processes, network and System V objects.

Whether a kernel grants them shows only when they are used (Ubuntu 24.04 lets user namespaces be
created and then denies mount), so a throw-away child tries everything first.
"""

from __future__ import annotations

import errno
import os

from . import kernel, roots

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

_NEWNS, _NEWUSER = 0x00020000, 0x10000000
FLAGS = {
    "mount namespace": _NEWNS,
    "pid namespace": 0x20000000,
    "network namespace": 0x40000000,
    "ipc namespace": 0x08000000,
}


class Way:
    """One way to the namespaces: as root or in a user namespace, uid given up before or after."""

    def __init__(self, user: bool, drop_first: bool) -> None:
        self.user = user
        self.drop_first = drop_first

    def enter(self, flags: int, uid: int | None) -> None:
        """Unshares all but the mount namespace, which the inner process makes. Raises OSError."""
        if self.drop_first:
            give_up_root(uid)
        if not self.user:
            kernel.call("unshare", flags & ~_NEWNS)
            return
        own_uid, own_gid = os.geteuid(), os.getegid()
        kernel.call("unshare", flags & ~_NEWNS | _NEWUSER)
        kernel.prctl(kernel.PR_SET_DUMPABLE, 1)  # or /proc/self/uid_map is not ours
        for name, text in (
            ("setgroups", "deny"),
            ("gid_map", f"{own_gid} {own_gid} 1"),
            ("uid_map", f"{own_uid} {own_uid} 1"),
        ):
            with open(f"/proc/self/{name}", "w") as file:
                file.write(text)


def ways(uid: int | None) -> list[Way]:
    """The ways worth trying, best first."""
    if os.geteuid() != 0:
        return [Way(user=True, drop_first=False)]
    dropping = [Way(user=True, drop_first=True)] if uid is not None else []
    return [Way(user=False, drop_first=False), *dropping, Way(user=True, drop_first=False)]


def trial(attempt: Callable[[], None]) -> str:
    """Runs attempt in a throw-away child: "" if it returned, else why it did not."""
    reader, writer = os.pipe()
    pid = os.fork()
    if pid == 0:
        text = "the attempt broke off"
        try:
            attempt()
            text = "ok"
        except OSError as error:
            text = kernel.why(error)
        finally:
            os.write(writer, text.encode())
            os._exit(0)
    os.close(writer)
    with os.fdopen(reader, "rb") as pipe:
        text = pipe.read().decode() or "the attempt was killed"
    os.waitpid(pid, 0)
    return "" if text == "ok" else text


def give_up_root(uid: int | None) -> None:
    """Becomes uid for good, if root now and if the library can still be read. Raises OSError."""
    if os.geteuid() != 0:
        return
    if uid is None:
        raise OSError(errno.EPERM, "asked to remain uid 0")
    group = os.getegid()
    try:
        os.setegid(uid)
        os.seteuid(uid)
        roots.check_library()
    finally:
        os.seteuid(0)
        os.setegid(group)
    os.setgroups([])
    os.setresgid(uid, uid, uid)
    os.setresuid(uid, uid, uid)
    kernel.prctl(kernel.PR_SET_DUMPABLE, 1)


def choose(plan: dict[str, Any], wanted: set[str]) -> tuple[Way | None, dict[str, str]]:
    """The best way here, and for each wanted layer "" or why it cannot be had."""
    options = ways(plan["uid"])
    reasons: dict[str, str] = dict.fromkeys(wanted, "no way was tried")
    for way in options:
        refused = trial(_rehearsal(way, plan, wanted))
        if not refused:
            return way, dict.fromkeys(wanted, "")
    best: Way | None = None
    for way in options:
        found = {layer: trial(_rehearsal(way, plan, {layer})) for layer in FLAGS if layer in wanted}
        if best is None or _worth(found) > _worth(reasons):
            best, reasons = way, found
    got = {layer for layer, reason in reasons.items() if not reason}
    if best is None or not got or (refused := trial(_rehearsal(best, plan, got))):
        return None, reasons | dict.fromkeys(got, f"with the others: {refused}")
    return best, reasons


def _worth(reasons: dict[str, str]) -> tuple[bool, int]:
    got = [layer for layer, reason in reasons.items() if not reason]
    return "mount namespace" in got, len(got)


def mask(layers: set[str]) -> int:
    """The CLONE_NEW* flags of layers."""
    return sum(FLAGS[layer] for layer in layers)


def _rehearsal(way: Way, plan: dict[str, Any], layers: set[str]) -> Callable[[], None]:
    def attempt() -> None:
        way.enter(mask(layers), plan["uid"])
        if "pid namespace" in layers:
            inner = os.fork()
            if inner:
                # The inner one reports over the same pipe.
                os.waitpid(inner, 0)
                os._exit(0)
        if "mount namespace" in layers:
            roots.build(plan, min(plan["slots"], 1))

    return attempt


def leave_stub() -> int:
    """Forks; returns in the child a descriptor that reads as ended once the parent is gone."""
    reader, writer = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.close(writer)
        return reader
    kernel.ignore_interrupt()
    os.closerange(0, writer)
    os.closerange(writer + 1, os.sysconf("SC_OPEN_MAX"))
    status = os.waitpid(pid, 0)[1]
    if os.WIFSIGNALED(status):
        os._exit(128 + os.WTERMSIG(status))
    os._exit(os.WEXITSTATUS(status))


def die_with(stub: int) -> None:
    """Dies from now on with the stub, and at once if it is gone already."""
    kernel.prctl(kernel.PR_SET_PDEATHSIG, kernel.SIGKILL)
    os.set_blocking(stub, False)
    try:
        os.read(stub, 1)
        os._exit(1)
    except BlockingIOError:
        os.close(stub)
