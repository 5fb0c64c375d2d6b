"""A root of our own: what a program may read, a few devices, and directories to work in."""

from __future__ import annotations

import os
import sys

from . import kernel

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

_NEWNS = 0x00020000
_RDONLY, _NOSUID, _NODEV, _NOEXEC = 1, 2, 4, 8  # the same for mount and for mount_setattr
_BIND, _REC, _PRIVATE, _DETACH = 0x1000, 0x4000, 0x40000, 2
_AT_FDCWD, _AT_RECURSIVE = -100, 0x8000
_OLD = "/.old"
_STAGES = ("/tmp", "/proc", "/mnt", "/run", "/var", "/usr")
_SLOT_BASES = ("/work", "/slots", "/peft-bench-slots")


def check_library() -> None:
    """Reads a module of the standard library and an extension. Raises OSError."""
    for module in ("os", "_ctypes"):
        path = getattr(sys.modules.get(module), "__file__", None)
        if path:
            os.close(os.open(path, os.O_RDONLY | os.O_CLOEXEC))


def build(plan: dict[str, Any], slots: int) -> list[str]:
    """Makes a root of nothing but what the plan names; returns the slots' directories.

    Raises OSError if any part cannot be had, which leaves this process unfit for use.
    """
    hidden = {os.path.realpath(path) for path in plan["hidden"]}
    links: dict[str, str] = {}
    shown = {_resolve(path, links) for path in plan["readable"]} - {""}
    kernel.call("unshare", _NEWNS)
    kernel.call("mount", None, b"/", None, _REC | _PRIVATE, None)
    stage = next(path for path in _STAGES if os.path.isdir(path))
    _tmpfs(stage, _NOSUID | _NODEV, "size=4m,mode=0755")
    os.chdir(stage)
    os.mkdir(_OLD[1:])
    kernel.call("pivot_root", b".", _OLD[1:].encode())
    os.chdir("/")
    _show(shown, hidden)
    for path, target in links.items():
        if not os.path.lexists(path):
            os.makedirs(os.path.dirname(path), exist_ok=True)
            os.symlink(target, path)
    for path in plan["devices"]:
        # Read-only keeps its mode and times; what is written to a device passes all the same.
        _bind(path, _RDONLY | _NOSUID | _NOEXEC)
    made = _make_slots(plan, slots, shown)
    kernel.call("umount2", _OLD.encode(), _DETACH)
    os.rmdir(_OLD)
    _set("/", _RDONLY | _NOSUID | _NODEV | _NOEXEC)
    check_library()
    return made


def _resolve(path: str, links: dict[str, str]) -> str:
    """The real path or "" if missing; every symbolic link on the way is noted in links."""
    real, rest, budget = "", path.split("/"), 40
    while rest:
        name = rest.pop(0)
        if name in ("", "."):
            continue
        if name == "..":
            real = os.path.dirname(real).rstrip("/")
            continue
        step = f"{real}/{name}"
        if not os.path.islink(step):
            real = step
            continue
        links[step] = target = os.readlink(step)
        budget -= 1
        if budget == 0:
            return ""
        rest = target.split("/") + rest
        real = "" if target.startswith("/") else real
    return real if os.path.exists(real) else ""


def _show(shown: set[str], hidden: set[str]) -> None:
    """Binds what is shown and covers what is hidden, the outer before the inner."""
    covers: list[str] = []
    kinds = dict.fromkeys(shown, True) | dict.fromkeys(hidden, False)
    for path in sorted(kinds):
        above = [kinds[other] for other in sorted(kinds) if path.startswith(other + "/")]
        visible = bool(above) and above[-1]
        if kinds[path] and not visible:
            _bind(path, _RDONLY | _NOSUID | _NODEV)
        elif not kinds[path] and visible and os.path.isdir(path):
            _tmpfs(path, _NOSUID | _NODEV | _NOEXEC, "size=64k,mode=0755")
            covers.append(path)
    for path in covers:
        _set(path, _RDONLY | _NOSUID | _NODEV | _NOEXEC)


def _bind(path: str, attributes: int) -> None:
    source = _OLD + path
    if os.path.isdir(source):
        os.makedirs(path, exist_ok=True)
    elif os.path.exists(source):
        os.makedirs(os.path.dirname(path), exist_ok=True)
        os.close(os.open(path, os.O_CREAT | os.O_WRONLY | os.O_CLOEXEC))
    else:
        return
    kernel.call("mount", source.encode(), path.encode(), None, _BIND | _REC, None)
    _set(path, attributes, _AT_RECURSIVE)


def _set(path: str, attributes: int, how: int = 0) -> None:
    words = attributes.to_bytes(8, "little") + bytes(24)
    kernel.call("mount_setattr", _AT_FDCWD, path.encode(), how, words, len(words))


def _tmpfs(path: str, flags: int, options: str) -> None:
    kernel.call("mount", b"tmpfs", path.encode(), b"tmpfs", flags, options.encode())


def _make_slots(plan: dict[str, Any], count: int, shown: set[str]) -> list[str]:
    """A file system of its own, bounded in bytes and files, for each slot."""
    base = next(path for path in _SLOT_BASES if path not in shown)
    owner = plan["uid"] if os.geteuid() == 0 and plan["uid"] is not None else os.geteuid()
    options = f"size={plan['slot_bytes']},nr_inodes={plan['slot_inodes']},mode=0700"
    slots = [f"{base}/{number}" for number in range(count)]
    for path in slots:
        os.makedirs(path)
        _tmpfs(path, _NOSUID | _NODEV | _NOEXEC, f"{options},uid={owner},gid={owner}")
    return slots


def empty(top: str) -> None:
    """Removes all that is in a directory nobody works in any more. Raises OSError."""
    os.chmod(top, 0o700)
    names = os.listdir(top)
    number = 0
    while names:
        path = f"{top}/{names.pop()}"
        if _is_file(path):
            os.unlink(path)
            continue
        # A tree can be deeper than any path or stack: its parts are moved to the top.
        for inner in os.listdir(path):
            below = f"{path}/{inner}"
            if _is_file(below):
                os.unlink(below)
                continue
            while os.path.lexists(f"{top}/{number}"):
                number += 1
            os.rename(below, f"{top}/{number}")
            names.append(str(number))
        os.rmdir(path)


def _is_file(path: str) -> bool:
    """Whether it can be unlinked; a directory is made accessible on the way."""
    if os.path.islink(path) or not os.path.isdir(path):
        return True
    os.chmod(path, 0o700)
    return False
