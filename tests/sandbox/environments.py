"""Runs a command in another environment: as another user, or where namespaces are refused.

Executed as a script, as root: `python environments.py NAME HOME COMMAND...` changes itself, step by
step, into what the environment is and executes the command. `ENVIRONMENTS` names them:

- "unprivileged user": uid and gid 65534 (65533 and so on in other workers of pytest-xdist: the
  threads of a user are counted together, wherever they run), no groups, no capabilities.
  Directories that others cannot enter and that hold what the tests need (a 0700 home with the
  interpreter in it, say) are covered by a file system in memory, in a mount namespace of this
  command's own, with just what is needed bound into it again.
- "no user namespaces": a seccomp filter refuses unshare, setns, mount, pivot_root and the like, and
  clone with any namespace, as Docker's does; root keeps the capabilities that Docker leaves it.
- "no user namespaces, unprivileged user": both.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import platform
import stat
import struct
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path

NOBODY = 65534 - int("0" + os.environ.get("PYTEST_XDIST_WORKER", "").removeprefix("gw"))
ENVIRONMENTS = (
    "unprivileged user",
    "no user namespaces",
    "no user namespaces, unprivileged user",
)

_CLONE_NEWNS, _MS_BIND, _MS_REC, _MS_PRIVATE = 0x20000, 0x1000, 0x4000, 0x40000
_PR_CAPBSET_DROP, _PR_SET_NO_NEW_PRIVS, _PR_CAP_AMBIENT = 24, 38, 47
_PR_SET_SECCOMP, _FILTER, _CLEAR_ALL = 22, 2, 4
# What Docker leaves to root: chown dac_override fowner fsetid kill setgid setuid setpcap
# net_bind_service net_raw sys_chroot mknod audit_write setfcap.
_DOCKERS = frozenset((0, 1, 3, 4, 5, 6, 7, 8, 10, 13, 18, 27, 29, 31))
_LAST_CAPABILITY = 40

_ARCH = {"x86_64": 0xC000003E, "aarch64": 0xC00000B7}
# unshare setns mount umount2 pivot_root open_tree move_mount fsopen fsconfig fsmount fspick
# mount_setattr
_NEW_MOUNT_API = (428, 429, 430, 431, 432, 433, 442)
_REFUSED = {
    "x86_64": (272, 308, 165, 166, 155, *_NEW_MOUNT_API),
    "aarch64": (97, 268, 40, 39, 41, *_NEW_MOUNT_API),
}
_CLONE = {"x86_64": 56, "aarch64": 220}
_CLONE3 = 435
_CLONE_NEW = 0x7E020000
_ALLOW, _EPERM, _ENOSYS = 0x7FFF0000, 0x00050001, 0x00050026

_libc = ctypes.CDLL(None, use_errno=True)


def why_not() -> str:
    """Why environments cannot be made here, or ""."""
    if os.geteuid() != 0:
        return (
            "only root can become another user and take namespaces away from a whole process tree"
        )
    if platform.machine() not in _ARCH:
        return f"no system call numbers are known here for {platform.machine()}"
    return ""


def command(name: str, home: Path, argv: Sequence[str]) -> list[str]:
    """What to execute for argv to run in an environment; home: a new directory of its own."""
    if "unprivileged" in name:
        os.chown(home, NOBODY, NOBODY)
    return [sys.executable, str(Path(__file__).resolve()), name, str(home), *argv]


def enter(name: str, home: str, needed: Iterable[str]) -> None:
    """Change this process into the environment. Raises OSError."""
    unprivileged = "unprivileged" in name
    if unprivileged:
        uncover(sorted(set(needed)))
    os.environ.update(HOME=home, TMPDIR=home)
    os.chdir(home)
    if "no user namespaces" in name:
        if not unprivileged:
            for capability in set(range(_LAST_CAPABILITY + 1)) - _DOCKERS:
                _libc.prctl(_PR_CAPBSET_DROP, capability, 0, 0, 0)
        refuse_namespaces()
    if unprivileged:
        _libc.prctl(_PR_CAP_AMBIENT, _CLEAR_ALL, 0, 0, 0)
        os.setgroups([])
        os.setresgid(NOBODY, NOBODY, NOBODY)
        os.setresuid(NOBODY, NOBODY, NOBODY)


def uncover(needed: Sequence[str]) -> None:
    """Let others reach the needed paths, in a mount namespace of this process' own."""
    real = sorted({str(Path(path).resolve()) for path in needed})
    outermost = [path for path in real if not any(path.startswith(f"{up}/") for up in real)]
    links = {path: os.readlink(path) for path in _links_to(needed)}  # noqa: PTH115
    closed = sorted({top for path in (*outermost, *links) if (top := _closed_above(path))})
    if not closed:
        return
    _check(_libc.unshare(_CLONE_NEWNS), "unshare")
    _check(_libc.mount(None, b"/", None, _MS_REC | _MS_PRIVATE, None), "make mounts private")
    kept = {path: os.open(path, os.O_PATH) for path in outermost if _closed_above(path)}
    for top in closed:
        _check(_libc.mount(b"none", top.encode(), b"tmpfs", 0, b"mode=755,size=1m"), top)
    for path, fd in kept.items():
        _make_place(path, is_folder=stat.S_ISDIR(os.fstat(fd).st_mode))
        source = f"/proc/self/fd/{fd}".encode()
        _check(_libc.mount(source, path.encode(), None, _MS_BIND | _MS_REC, None), path)
        os.close(fd)
    for path, target in links.items():
        with contextlib.suppress(FileExistsError):
            Path(path).parent.mkdir(parents=True, exist_ok=True)
            Path(path).symlink_to(target)


def _closed_above(path: str) -> str:
    """The outermost directory on the way to a path that others cannot enter, or ""."""
    for parent in reversed(Path(path).parents):
        if parent.is_dir() and not parent.stat().st_mode & stat.S_IXOTH:
            return str(parent)
    return ""


def _links_to(paths: Iterable[str]) -> set[str]:
    """The symbolic links that a path passes through, or is."""
    found = set()
    for path in paths:
        for step in (Path(path), *Path(path).parents):
            if step.is_symlink():
                found.add(str(step))
                target = step.parent / step.readlink()
                found |= _links_to([os.path.normpath(target)])
    return found


def _make_place(path: str, *, is_folder: bool) -> None:
    place = Path(path)
    place.parent.mkdir(parents=True, exist_ok=True)
    if is_folder:
        place.mkdir(exist_ok=True)
    else:
        place.touch()


def refuse_namespaces() -> None:
    """Attach the filter to this process and all that it starts. Raises OSError."""
    machine = platform.machine()
    load, equal, any_bit, give = 0x20, 0x15, 0x45, 0x06
    refused = _REFUSED[machine]
    checks = [(load, 0, 0, 4), (equal, 1, 0, _ARCH[machine]), (give, 0, 0, _ALLOW), (load, 0, 0, 0)]
    for number in refused:
        checks += [(equal, 0, 1, number), (give, 0, 0, _EPERM)]
    # As in Docker's: the C library then takes clone, whose flags a filter can see.
    checks += [(equal, 0, 1, _CLONE3), (give, 0, 0, _ENOSYS)]
    checks += [(equal, 0, 3, _CLONE[machine]), (load, 0, 0, 16), (any_bit, 0, 1, _CLONE_NEW)]
    checks += [(give, 0, 0, _EPERM), (give, 0, 0, _ALLOW)]
    code = b"".join(struct.pack("=HBBI", *check) for check in checks)
    text = ctypes.create_string_buffer(code, len(code))
    program = ctypes.create_string_buffer(
        struct.pack("=H6xQ", len(checks), ctypes.addressof(text)), 16
    )
    if _libc.prctl(_PR_SET_SECCOMP, _FILTER, program, 0, 0) != 0:
        _check(_libc.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0), "no_new_privs")
        _check(_libc.prctl(_PR_SET_SECCOMP, _FILTER, program, 0, 0), "seccomp")


def _check(result: int, what: str) -> None:
    if result != 0:
        raise OSError(ctypes.get_errno(), f"{what}: {os.strerror(ctypes.get_errno())}")


def needed_paths() -> list[str]:
    """What tests need to run: the interpreter, its packages, the sandbox and the tests."""
    import importlib.util

    found = [sys.prefix, sys.base_prefix, sys.exec_prefix, sys.executable, __file__]
    found += [path for path in sys.path if os.path.exists(path)]  # noqa: PTH110
    for name in ("peft_bench_sandbox", "pytest"):
        spec = importlib.util.find_spec(name)
        if spec is not None and spec.origin is not None:
            found.append(str(Path(spec.origin).parents[1]))
    found.append(str(_rootdir(Path(__file__).resolve().parent)))
    return found


def _rootdir(start: Path) -> Path:
    """Where pytest finds its settings, from here upwards; else the tests' own directory."""
    return next((up for up in start.parents if (up / "pyproject.toml").exists()), start)


if __name__ == "__main__":
    enter(sys.argv[1], sys.argv[2], needed_paths())
    os.execv(sys.argv[3], sys.argv[3:])
