"""What the attacks aim at, all of it the test's own, and what can be seen of their success.

Files and processes belong to the user that the programs run as, so that it is never that user's
lack of rights which holds an attack. Each attack has its own of everything.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import pty
import secrets
import select
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from .catalogue import Attack

_SEEN_WITHIN_S = 2.0  # what was sent over a loopback socket is there sooner
_SLEEP = next(path for path in ("/bin/sleep", "/usr/bin/sleep") if os.path.exists(path))  # noqa: PTH110
_libc = ctypes.CDLL(None)


class Scene:
    """The surroundings of one run of attacks; to be closed. uid: whom the programs run as."""

    def __init__(self, uid: int) -> None:
        self._uid = uid
        self._stack = contextlib.ExitStack()
        os.environ["ATTACK_SECRET"] = "S3CRET"
        self._stack.callback(os.environ.pop, "ATTACK_SECRET", None)
        self.folder = Path(tempfile.mkdtemp(prefix="attacks-"))
        self.folder.chmod(0o755)
        self._stack.callback(shutil.rmtree, self.folder, ignore_errors=True)
        self._values: dict[tuple[str, str], object] = {}
        self._before: dict[str, object] = {}
        self._victims: dict[str, tuple[subprocess.Popen[bytes], object]] = {}
        self._listeners = Listeners(self._stack, self.folder)

    def __enter__(self) -> Scene:
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def value(self, attack: Attack, need: str) -> object:
        """What an attack needs by this name; made at the first call."""
        key = (attack.name, need)
        if key not in self._values:
            makers: dict[str, Callable[[Attack], object]] = {
                "name": lambda _: f"attack-{secrets.token_hex(8)}",
                "secret": lambda _: f"S3CRET-{secrets.token_hex(8)}",
                "marker": lambda _: f"mark-{secrets.token_hex(4)}",
                "key": self._ipc_key,
                "outside": self._outside,
                "place": self._place,
                "victim": self._victim,
                "inherited": self._inherited,
                "terminal": self._terminal,
                "up": lambda _: str(self.folder),
                "home": lambda _: _at_home(),
                "repository": lambda _: __file__,
                "caller": lambda _: os.getpid(),
            }
            listener = self._listeners.addresses.get(need)
            self._values[key] = makers[need](attack) if listener is None else listener
        return self._values[key]

    def traces(self, attack: Attack) -> bool:
        """Whether the test process sees that the attack got through."""
        found: dict[str, Callable[[Attack], bool]] = {
            "outside": self._is_changed,
            "victim": self._is_changed_victim,
            "heard": self._is_heard,
            "process": self._is_alive,
            "segment": self._has_segment,
            "terminal": self._is_written,
        }
        assert attack.trace is not None
        return found[attack.trace](attack)

    # Files

    def _outside(self, attack: Attack) -> str:
        at = Path(tempfile.mkdtemp(dir=self.folder))
        secret = str(self.value(attack, "secret"))
        (at / "secret.txt").write_text(secret)
        (at / "secret_module.py").write_text(f"secret = {secret!r}\n")
        (at / "tree").mkdir()
        (at / "tree" / "leaf").touch()
        (at / "hollow").mkdir()
        (at / "setid").touch()
        with contextlib.suppress(OSError):  # not every file system has them
            os.setxattr(at / "secret.txt", "user.kept", b"kept")
        for path in (*at.rglob("*"), at):
            if os.geteuid() == 0:
                os.chown(path, self._uid, self._uid)
            path.chmod(0o777 if path.is_dir() else 0o4666 if path.name == "setid" else 0o666)
        self._before[attack.name] = _looks(at)
        return str(at)

    def _inherited(self, attack: Attack) -> str:
        """A directory that this process has open for whoever it starts."""
        at = self._outside(attack)
        fd = os.open(at, os.O_RDONLY)
        os.set_inheritable(fd, True)
        self._stack.callback(os.close, fd)
        return at

    def _place(self, attack: Attack) -> str:
        place = Path(tempfile.mkdtemp(dir=tempfile.mkdtemp(dir=self.folder)))
        beside = place.parent / "0"
        beside.mkdir()
        for path in (place, beside, place.parent):
            if os.geteuid() == 0:
                os.chown(path, self._uid, self._uid)
            path.chmod(0o755)
        return str(place)

    def _is_changed(self, attack: Attack) -> bool:
        return _looks(Path(str(self.value(attack, "outside")))) != self._before[attack.name]

    def _terminal(self, attack: Attack) -> str:
        ours, theirs = pty.openpty()
        self._stack.callback(os.close, ours)
        self._stack.callback(os.close, theirs)
        path = os.ttyname(theirs)
        if os.geteuid() == 0:
            os.chown(path, self._uid, -1)
        os.chmod(path, 0o666)  # noqa: PTH101
        self._before[attack.name] = ours
        return path

    def _is_written(self, attack: Attack) -> bool:
        ours = self._before[attack.name]
        assert isinstance(ours, int)
        ready, _, _ = select.select([ours], [], [], 0.05)
        return bool(ready) and str(self.value(attack, "name")).encode() in os.read(ours, 4096)

    # Processes

    def _victim(self, attack: Attack) -> int:
        uid = self._uid if os.geteuid() == 0 else None
        victim = subprocess.Popen(
            [_SLEEP, "300"],
            cwd="/",
            start_new_session=True,
            preexec_fn=_bind_capabilities,
            user=uid,
            group=uid,
        )
        self._stack.callback(victim.wait)
        self._stack.callback(victim.kill)
        self._victims[attack.name] = victim, _state(victim)
        return int(victim.pid)

    def _is_changed_victim(self, attack: Attack) -> bool:
        victim, before = self._victims[attack.name]
        return _state(victim) != before

    def _is_alive(self, attack: Attack) -> bool:
        """Whether a process has the attack's mark for a name; ends it."""
        mark = str(self.value(attack, "marker"))
        pids = [pid for pid, name in process_names() if name == mark]
        for pid in pids:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        return bool(pids)

    # Sockets and System V

    def _is_heard(self, attack: Attack) -> bool:
        name = str(self.value(attack, "name")).encode()
        return self._listeners.has_heard(name)

    def _ipc_key(self, attack: Attack) -> int:
        key = 0x50000000 | secrets.randbits(24)
        self._stack.callback(_remove_segments, key)
        return key

    def _has_segment(self, attack: Attack) -> bool:
        return _remove_segments(int(str(self.value(attack, "key"))))


class Listeners:
    """Sockets of every kind, and what came through them."""

    def __init__(self, stack: contextlib.ExitStack, folder: Path) -> None:
        self._heard = b""
        self.addresses: dict[str, object] = {}
        self._sockets: list[socket.socket] = []
        self._stack = stack
        path = str(folder / "listener")
        abstract = f"peft-bench-attacks-{secrets.token_hex(8)}"
        self.addresses["tcp"] = self._listen(socket.AF_INET, ("127.0.0.1", 0))
        with contextlib.suppress(OSError):
            self.addresses["tcp6"] = self._listen(socket.AF_INET6, ("::1", 0))
        self.addresses.setdefault("tcp6", 9)
        self._listen(socket.AF_UNIX, path)
        os.chmod(path, 0o777)  # noqa: PTH101
        self._listen(socket.AF_UNIX, f"\0{abstract}")
        self.addresses |= {"unix": path, "abstract": abstract}
        udp = stack.enter_context(socket.socket(socket.AF_INET, socket.SOCK_DGRAM))
        udp.bind(("127.0.0.1", 0))
        self.addresses["udp"] = udp.getsockname()[1]
        self._sockets.append(udp)

    def _listen(self, family: int, address: object) -> object:
        listener = self._stack.enter_context(socket.socket(family))
        listener.bind(address)  # type: ignore[arg-type]
        listener.listen(64)
        self._sockets.append(listener)
        return listener.getsockname()[1] if family != socket.AF_UNIX else None

    def has_heard(self, text: bytes) -> bool:
        deadline = time.monotonic() + 0.02
        while text not in self._heard and time.monotonic() < deadline:
            for each in select.select(self._sockets, [], [], 0)[0]:
                if each.type == socket.SOCK_DGRAM:
                    self._heard += each.recv(4096)
                    continue
                peer, _ = each.accept()
                with peer:
                    peer.settimeout(_SEEN_WITHIN_S)
                    with contextlib.suppress(OSError):
                        self._heard += peer.recv(4096)
        return text in self._heard


def _bind_capabilities() -> None:
    """So that root's victim has no more rights than the programs do."""
    for capability in range(64):
        _libc.prctl(24, capability, 0, 0, 0)  # PR_CAPBSET_DROP


def _at_home() -> list[str]:
    """What lies in the home directory, but for the way to the interpreter; it is never empty."""
    own = (sys.prefix, sys.base_prefix, sys.exec_prefix)
    places = [str(path) for path in sorted(Path.home().iterdir())][:20]
    places = [path for path in places if not any(f"{p}/".startswith(f"{path}/") for p in own)]
    return places or [__file__]


def process_names() -> Iterator[tuple[int, str]]:
    """Number and name of every process, of those in inner namespaces too."""
    for entry in Path("/proc").iterdir():
        with contextlib.suppress(OSError, ValueError):
            yield int(entry.name), (entry / "comm").read_text().strip()


def _looks(at: Path) -> object:
    """All that may have changed about a directory: contents, modes, times, owners, attributes."""
    found = []
    for path in sorted((*at.rglob("*"), at)):
        status = path.lstat()
        text = path.read_bytes() if path.is_file() and not path.is_symlink() else b""
        with contextlib.suppress(OSError):
            found.append((str(path), sorted(os.listxattr(path, follow_symlinks=False))))
        found.append((str(path), text, status.st_mode, status.st_mtime_ns, status.st_nlink))  # type: ignore[arg-type]
    return found


def _state(victim: subprocess.Popen[bytes]) -> object:
    """All that may have changed about a process, None if it has ended."""
    pid = victim.pid
    if victim.poll() is not None:
        return None
    state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    return (
        state == "T",
        os.getpriority(os.PRIO_PROCESS, pid),
        os.sched_getaffinity(pid),
        os.sched_getscheduler(pid),
        Path(f"/proc/{pid}/limits").read_text(),
    )


def _remove_segments(key: int) -> bool:
    """Whether there was a System V object of this key; it is gone afterwards."""
    shared, semaphore = _libc.shmget(key, 0, 0), _libc.semget(key, 0, 0)
    queue = _libc.msgget(key, 0)
    if shared >= 0:
        _libc.shmctl(shared, 0, None)
    if semaphore >= 0:
        _libc.semctl(semaphore, 0, 0)
    if queue >= 0:
        _libc.msgctl(queue, 0, None)
    return any(at >= 0 for at in (shared, semaphore, queue))
