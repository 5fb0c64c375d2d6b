"""The whole seal, in throw-away interpreters: what is in force, and that each guard holds alone.

Every attack is also run with only its guard left out, so that none passes for another's reason.
"""

import errno
import importlib.util
import json
import os
import signal
import socket
import subprocess
import sys
import textwrap
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="the seal is Linux's")

from peft_bench_sandbox.inside import kernel  # noqa: E402
from peft_bench_sandbox.inside.seal import GUARDS  # noqa: E402

INSIDE = Path(kernel.__file__).parent
NAMESPACES = ("mount namespace", "pid namespace", "network namespace", "ipc namespace")
STDLIB = Path(os.__file__).parent
# Debian's Python has no folder for packages there; any other that nothing here needs will do.
HIDDEN = next(STDLIB / name for name in ("site-packages", "xmlrpc") if (STDLIB / name).is_dir())
AS_ROOT = pytest.mark.skipif(os.geteuid() != 0, reason="only root can stage this")

_PRELUDE = """
import sys
sys.path.append({package!r})
import ctypes, json, os, time
from inside.seal import enter
libc = ctypes.CDLL(None, use_errno=True)
NUMBERS = {numbers!r}
def call(name, *args):
    number = NUMBERS[name] if isinstance(name, str) else name
    if libc.syscall(ctypes.c_long(number), *map(ctypes.c_long, args)) < 0:
        raise OSError(ctypes.get_errno(), name)
def made(get, control, *args):
    "Makes something of System V and removes it: without its guard it would outlive the test."
    made = libc.syscall(ctypes.c_long(NUMBERS[get]), *map(ctypes.c_long, args))
    if made < 0:
        raise OSError(ctypes.get_errno(), get)
    call(control, made, 0, 0)
def inside(function, slot=0, more=()):
    "What function returns in a sealed child: its value, an errno, or how the child ended."
    reader, writer = os.pipe()
    if seal.slots:
        seal.prepare(slot)
    pid = os.fork()
    if pid == 0:
        try:
            if seal.slots:
                os.chdir(seal.slots[slot])
            seal.seal_child(slot if seal.slots else None)
            try:
                value = function(*more)
            except OSError as error:
                value = errors[error.errno]
            except BaseException as error:
                value = repr(error)
            os.write(writer, json.dumps(value).encode())
        finally:
            os._exit(99)
    os.close(writer)
    text = b""
    while (part := os.read(reader, 1 << 16)):
        text += part
    os.close(reader)
    status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    return json.loads(text) if text else status
from errno import errorcode as errors
before = {before}
started = time.perf_counter()
seal = enter({plan!r})
entered = time.perf_counter()
seal.finish()
finished = time.perf_counter()
"""


def plan(**changes: Any) -> dict[str, Any]:
    """What programs may see here, with few slots, to be quick."""
    prefix = Path(sys.base_prefix)
    readable = [prefix / "lib", prefix / "lib64", "/usr/lib", "/usr/lib64", "/lib", "/lib64"]
    common: dict[str, Any] = {
        "readable": [str(path) for path in readable],
        "hidden": [str(HIDDEN), str(STDLIB / "test")],
        "devices": ["/dev/null", "/dev/zero", "/dev/urandom"],
        **{"slots": 3, "slot_bytes": 1 << 20, "slot_inodes": 64, "uid": 65534, "without": []},
    }
    return common | changes


def script(body: str, before: str = "None", **changes: Any) -> str:
    """A script that enters the seal, finishes it and runs a body, whose print is the result."""
    head = _PRELUDE.format(
        package=str(INSIDE.parent), numbers=kernel.NUMBERS, before=before, plan=plan(**changes)
    )
    return head + textwrap.dedent(body)


def start(source: str, prepare: str = "") -> "subprocess.Popen[str]":
    """Starts a clean interpreter; prepare is Python that another runs first, to set the stage."""
    run = [sys.executable, "-s", "-P", "-S", "-c", source]
    if prepare:
        text = f"import os, sys, ctypes\n{textwrap.dedent(prepare)}"
        text += "\nos.execv(sys.argv[1], sys.argv[1:])"
        run = [sys.executable, "-s", "-P", "-S", "-c", text, *run]
    pipe = subprocess.PIPE
    return subprocess.Popen(run, stdout=pipe, stderr=pipe, stdin=subprocess.DEVNULL, text=True)


def sealed(body: str, *, prepare: str = "", before: str = "None", **changes: Any) -> Any:
    """The JSON that body prints within a finished seal."""
    with start(script(body, before, **changes), prepare) as process:
        try:
            out, err = process.communicate(timeout=20)
        finally:
            process.kill()
    assert process.returncode == 0, err
    return json.loads(out)


def need(layers: dict[str, str], *names: str) -> None:
    """Skips where the kernel does not give a layer that a test is about."""
    for name in names:
        if layers[name]:
            pytest.skip(f"{name}: {layers[name]}")


LAYERS = "print(json.dumps([seal.layers, seal.slots, seal.landlock_abi, os.getuid()]))"


@pytest.fixture(scope="module")
def here() -> dict[str, str]:
    """The layers that this machine gives."""
    layers: dict[str, str] = sealed(LAYERS)[0]
    return layers


# What is in force


def test_every_layer_is_reported(here: dict[str, str]) -> None:
    rest = ("no_new_privs", "seccomp", "landlock", "user namespace", "unprivileged")
    assert set(here) == {*rest, *NAMESPACES}


@AS_ROOT
def test_root_gets_every_layer() -> None:
    layers, slots, abi, uid = sealed(LAYERS)
    need(layers, "mount namespace", "landlock")
    assert layers == dict.fromkeys(layers, "")
    assert len(slots) == 3
    assert abi >= 1
    assert uid == 65534


UNPRIVILEGED = """
libc = ctypes.CDLL(None)
keep = {keep!r}
if not libc.unshare(0x20000):
    libc.mount(None, b"/", None, 0x44000, None)
    # The interpreter's place may be closed to others: fresh parents with the same names.
    assert libc.mount(b"tmpfs", b"/mnt", b"tmpfs", 0, None) == 0
    for number, path in enumerate(keep):
        os.mkdir(f"/mnt/{{number}}")
        assert libc.mount(path.encode(), f"/mnt/{{number}}".encode(), None, 0x5000, None) == 0
    assert libc.mount(b"tmpfs", b"/root", b"tmpfs", 0, b"mode=0755") == 0
    for number, path in enumerate(keep):
        if path.startswith("/root/"):
            os.makedirs(path, exist_ok=True)
            assert libc.mount(f"/mnt/{{number}}".encode(), path.encode(), None, 0x5000, None) == 0
    os.setgroups([])
    os.setresgid(1234, 1234, 1234)
    os.setresuid(1234, 1234, 1234)
"""


def unprivileged() -> str:
    """Python that becomes an ordinary user who can read the interpreter."""
    keep = {str(Path(sys.prefix)), str(Path(sys.base_prefix)), str(INSIDE.parent)}
    return UNPRIVILEGED.format(keep=sorted(keep))


@AS_ROOT
def test_an_ordinary_user_gets_the_same_seal() -> None:
    layers, slots, _, uid = sealed(LAYERS, prepare=unprivileged(), uid=None)
    need(layers, "mount namespace", "landlock")
    assert layers == dict.fromkeys(layers, "")
    assert len(slots) == 3
    assert uid == 1234


DENIED = """
sys.path.append({package!r})
from inside import filters, kernel
deny = "unshare mount setns pivot_root mount_setattr".split()
code = [(0x20, 0, 0, 0)]
for name in deny:
    code += [(0x15, 0, 1, kernel.NUMBERS[name]), (6, 0, 0, {answer})]
code += [(0x15, 0, 3, kernel.NUMBERS["clone"]), (0x20, 0, 0, 16), (0x45, 0, 1, 0x7E020000)]
code += [(6, 0, 0, {answer}), (6, 0, 0, 0x7FFF0000)]
{drop}
kernel.prctl(kernel.PR_SET_NO_NEW_PRIVS, 1)
filters.Program(code).attach()
"""


def denied(user: bool, error: int = errno.EPERM) -> str:
    """Python that refuses namespaces as Docker's filter does."""
    drop = unprivileged() if user else ""
    return DENIED.format(package=str(INSIDE.parent), answer=0x00050000 | error, drop=drop)


@AS_ROOT
@pytest.mark.parametrize("user", [False, True], ids=["root", "user"])
@pytest.mark.parametrize("error", [errno.EPERM, errno.ENOSYS])
def test_without_namespaces_the_rest_holds(user: bool, error: int, here: dict[str, str]) -> None:
    need(here, "landlock")
    body = """
        def look():
            open("/dev/null", "w").write("x")
            found = {}
            for path in ("/etc/passwd", %r, %r):
                try:
                    found[path] = bool(open(path).read())
                except OSError as error:
                    found[path] = errors[error.errno]
            return found
        def chmod():
            os.chmod(%r, 0o755)
        print(json.dumps([seal.layers, seal.slots, inside(look), inside(chmod)]))
    """
    hidden = next(path for path in HIDDEN.rglob("*") if path.is_file())
    source = body % (os.__file__, str(hidden), os.__file__)
    layers, slots, seen, chmod = sealed(source, prepare=denied(user, error))
    assert {name: layers[name] for name in NAMESPACES} == dict.fromkeys(
        NAMESPACES, f"unshare: {errno.errorcode[error]}"
    )
    assert layers["seccomp"] == layers["landlock"] == layers["no_new_privs"] == ""
    assert slots == []
    assert seen["/etc/passwd"] == seen[str(hidden)] == "EACCES"
    assert seen[os.__file__] is True
    assert chmod == "EPERM"


@AS_ROOT
def test_a_refused_mount_leaves_the_other_namespaces() -> None:
    """As on Ubuntu 24.04, where a user namespace is had and a mount in it is not."""
    deny = denied(False).replace('"unshare mount setns pivot_root mount_setattr"', '"mount"')
    layers, slots, _, _ = sealed(LAYERS, prepare=deny.replace("0x7E020000", "0"))
    assert layers["mount namespace"] == "mount: EPERM"
    assert slots == []
    assert [layers[name] for name in NAMESPACES[1:]] == ["", "", ""]


@AS_ROOT
def test_without_landlock_there_is_nowhere_to_work() -> None:
    deny = denied(False).replace("unshare mount setns pivot_root mount_setattr", LANDLOCK)
    layers, slots, abi, _ = sealed(LAYERS, prepare=deny.replace("0x7E020000", "0"))
    assert abi == 0
    assert slots == []
    assert layers["landlock"].startswith("landlock_create_ruleset: EPERM (so ")
    assert layers["seccomp"] == ""


LANDLOCK = "landlock_create_ruleset"


def test_an_unknown_guard_is_refused() -> None:
    with start(script("", without=["gravity"])) as process:
        assert "no guard 'gravity'" in process.communicate(timeout=20)[1]


# Each guard, in force and left out. An attack answers an errno's name, or what it achieved.

ATTACKS: list[tuple[str, str, list[str]]] = [
    ("network", "import socket; socket.socket()", []),
    ("network", "import socket; socket.socket().connect(before['address'])", []),
    ("network", "import socket; socket.socket(socket.AF_UNIX).connect(before['name'])", []),
    ("network", "import socket; socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)", []),
    ("files", "open(before['folder'] + '/new', 'w').write('x')", []),
    ("files", "open(before['folder'] + '/file').read()", []),
    ("files", "os.unlink(before['folder'] + '/file')", []),
    ("files", "os.listdir('/etc')", []),
    ("files", "os.listdir('/proc/self')", []),
    ("metadata", "f = before['folder'] + '/file'; os.chmod(f, 0o600); os.stat(f)", []),
    ("metadata", "f = before['folder'] + '/file'; os.utime(f, (1, 1)); os.stat(f)", []),
    ("metadata", "os.chown(before['folder'] + '/file', os.getuid(), os.getgid())", []),
    ("exec", "os.execv('/bin/sh', ['sh', '-c', 'exit 7'])", ["files"]),
    ("fork", "os.fork() or os._exit(7)", []),
    ("fork", "os.posix_spawn('/nonexistent', ['x'], {})", ["exec"]),
    ("signals", "os.kill(os.getppid(), 0)", []),
    ("signals", "os.kill(0, 0)", []),
    ("signals", "os.kill(-1, 0)", []),
    ("signals", "call('tgkill', os.getppid(), os.getppid(), 0)", []),
    ("signals", "call('tkill', os.getpid(), 0)", []),
    ("signals", "import fcntl; fcntl.fcntl(1, 8, os.getpid())", []),
    ("processes", "call('process_vm_readv', os.getppid(), *words, 1, *words, 1, 0)", []),
    ("processes", "call('ptrace', 0x4206, os.getppid(), 0, 0)", []),
    ("processes", "call('pidfd_open', os.getppid(), 0)", []),
    ("priority", "os.setpriority(os.PRIO_PROCESS, os.getppid(), 5)", []),
    ("priority", "os.sched_setaffinity(os.getppid(), os.sched_getaffinity(0))", []),
    ("priority", "import resource; resource.prlimit(os.getppid(), resource.RLIMIT_CPU)", []),
    ("priority", "call('ioprio_set', 1, 0, 0x4007)", []),
    ("ipc", "made('shmget', 'shmctl', 0, 4096, 0o1600)", []),
    ("ipc", "made('semget', 'semctl', 0, 1, 0o1600)", []),
    ("ipc", "call('mq_unlink', ctypes.addressof(ctypes.create_string_buffer(1)))", []),
    ("memory files", "os.memfd_create('x')", []),
    (
        "messages",
        "import socket; a, b = socket.socketpair(); socket.send_fds(a, [b'x'], [0])",
        [],
    ),
    ("locks", "import fcntl; fcntl.fcntl(os.open('/dev/null', 2), 37, bytes(32))", []),
    ("kernel", "call('unshare', 0x200)", []),
    ("kernel", "call('keyctl', 0, -3, 1)", []),
    ("kernel", "call('io_uring_setup', 0, 0)", []),
    ("kernel", "call('userfaultfd', 0xF1)", []),
    ("filters", "a = ctypes.c_uint32(0x7FFF0000); call('seccomp', 2, 0, ctypes.addressof(a))", []),
    ("special files", "os.mkfifo(before['folder'] + '/fifo')", ["files"]),
    ("terminals", "os.setsid()", []),
    ("rights", "call('sethostname', 0, -1)", ["kernel"]),
    ("slots", "open(seal.slots[1] + '/secret').read()", []),
    ("slots", "open(seal.slots[1] + '/new', 'w')", []),
    ("slots", "os.listdir(seal.slots[1])", []),
    ("slots", "os.unlink(seal.slots[1] + '/secret')", []),
]
REFUSED = {"EPERM", "EACCES", "ENOENT", "ESRCH"}
# Here success is another error, the kernel's own: of a call that the filter lets pass.
PASSED_ON = ("mq_unlink", "posix_spawn", "sethostname")
ATTACK = """
    target = ctypes.create_string_buffer(b"secret")
    vector = (ctypes.c_long * 2)(ctypes.addressof(target), 7)
    words = [ctypes.addressof(vector)]
    if seal.slots:
        open(seal.slots[1] + "/secret", "w").write("x")
    def attack():
        exec({attack!r})
        return "done"
    print(json.dumps(inside(attack)))
"""


@pytest.fixture
def outside() -> Iterator[dict[str, Any]]:
    """Things outside to attack: a folder anyone may write to, a listener of either kind."""
    with (
        socket.create_server(("127.0.0.1", 0)) as server,
        socket.socket(socket.AF_UNIX) as local,
    ):
        name = f"\0peft-bench-test-{os.getpid()}"
        local.bind(name)
        local.listen()
        folder = Path(f"/tmp/peft-bench-seal-{os.getpid()}")
        folder.mkdir()
        folder.chmod(0o777)
        (folder / "file").write_text("x")
        uid = 65534 if os.geteuid() == 0 and not str(STDLIB).startswith("/root") else os.geteuid()
        os.chown(folder / "file", uid, uid if uid else 0)
        try:
            yield {"address": server.getsockname(), "name": name, "folder": str(folder)}
        finally:
            for path in folder.iterdir():
                path.unlink()
            folder.rmdir()


def _attack(attack: str, outside: dict[str, Any], without: list[str]) -> Any:
    return sealed(ATTACK.format(attack=attack), before=repr(outside), without=without)


@pytest.mark.parametrize(("guard", "attack", "also"), ATTACKS, ids=[a[1] for a in ATTACKS])
def test_an_attack_fails_unless_its_guard_is_left_out(
    guard: str, attack: str, also: list[str], outside: dict[str, Any], here: dict[str, str]
) -> None:
    need(here, "mount namespace", "landlock")
    if guard == "rights" and os.geteuid() != 0:
        pytest.skip("only root has rights to be left")
    refused = _attack(attack, outside, also)
    freed = _attack(attack, outside, [*also, guard])
    if guard == "kernel" or any(name in attack for name in PASSED_ON):
        assert refused == "EPERM"
        assert freed in ("done", "EINVAL", "EFAULT", "ENOENT", "ENOKEY")
    else:
        assert refused in REFUSED
        assert freed in ("done", 7)


def test_every_guard_has_an_attack() -> None:
    # On one machine alone, and answered with a kill: see attacks/forks.py.
    elsewhere = {"other kinds of calls"}
    assert {attack[0] for attack in ATTACKS} == set(GUARDS) - elsewhere


# What a sealed child may and may not, beyond the guards


def child(body: str, **changes: Any) -> Any:
    """What a function of this body answers in a sealed child."""
    text = textwrap.indent(textwrap.dedent(body), "    ")
    return sealed(f"def run():\n{text}\nprint(json.dumps(inside(run)))", **changes)


LIBRARY = {
    "json": "import json; return json.loads('[1]')[0]",
    "asyncio": "import asyncio; return asyncio.run(asyncio.sleep(0.01, 1))",
    "threads": """
        import threading
        found = []
        threading.stack_size(64 << 20)
        thread = threading.Thread(target=lambda: found.append(1))
        thread.start(); thread.join(); return found[0]""",
    "pool": """
        from concurrent.futures import ThreadPoolExecutor
        return sum(ThreadPoolExecutor(4).map(int, "1000"))""",
    "socketpair": """
        import socket
        a, b = socket.socketpair()
        a.sendall(b"x"); return len(b.recv(2))""",
    "streams": """
        import asyncio, socket
        async def talk():
            ends = [await asyncio.open_connection(sock=end) for end in socket.socketpair()]
            ends[0][1].write(b"x" * 50_000)
            await ends[0][1].drain()
            return len(await ends[1][0].readexactly(50_000))
        return asyncio.run(talk()) // 50_000""",
    "sqlite3": "import sqlite3; return sqlite3.connect('db').execute('select 1').fetchone()[0]",
    "ssl": "import ssl; return int(ssl.OPENSSL_VERSION_NUMBER > 0)",
    "ctypes": "import ctypes; return ctypes.CDLL(None).abs(-1)",
    "decimal": "import decimal; return int(decimal.Decimal(2).sqrt())",
    "tempfile": """
        import tempfile
        with tempfile.TemporaryDirectory(dir=".") as name:
            open(name + "/x", "w").write("1")
            return int(open(name + "/x").read())""",
    "shutil": """
        import shutil
        os.makedirs("a/b"); open("a/b/c", "w").write("1")
        shutil.copytree("a", "d"); shutil.copy2("a/b/c", "e"); shutil.rmtree("a")
        return int(open("d/b/c").read())""",
    "devices": """
        open("/dev/null", "w").write("x")
        zero = open("/dev/zero", "rb").read(1)[0]
        return len(open("/dev/urandom", "rb").read(1)) + zero""",
    "itself": """
        import signal
        caught = []
        signal.signal(signal.SIGUSR1, lambda *_: caught.append(1))
        os.kill(os.getpid(), signal.SIGUSR1); signal.raise_signal(signal.SIGUSR1)
        return len(caught) - 1""",
    "subinterpreter modules": "import multiprocessing, subprocess, uuid, zoneinfo; return 1",
    "fchmod": """
        with open("x", "w") as file:
            os.fchmod(file.fileno(), 0o640); os.utime(file.fileno(), (5, 5))
        return int((os.stat("x").st_mode & 0o777, os.stat("x").st_mtime) == (0o640, 5))""",
}


@pytest.mark.parametrize("name", LIBRARY)
def test_the_standard_library_works(name: str, here: dict[str, str]) -> None:
    need(here, "mount namespace", "landlock")
    assert child(LIBRARY[name]) == 1


def test_numpy_works_if_it_is_here(here: dict[str, str]) -> None:
    need(here, "mount namespace", "landlock")
    spec = importlib.util.find_spec("numpy")
    if spec is None or spec.origin is None:
        pytest.skip("numpy is not installed beside the tests")
    packages = Path(spec.origin).parent.parent
    libs = packages / "numpy.libs"
    readable = [*plan()["readable"], f"{packages}/numpy", str(libs)]
    body = f"""
        sys.path.append({str(packages)!r})
        import numpy
        return int(numpy.linalg.inv(numpy.eye(300)).sum()) - 299
    """
    assert child(body, readable=readable, hidden=[str(packages)]) == 1


def test_a_hidden_directory_is_empty(here: dict[str, str]) -> None:
    need(here, "mount namespace")
    assert child(f"return os.listdir({str(HIDDEN)!r})") == []


@pytest.mark.parametrize(
    "body",
    [
        "open('x', 'wb').write(bytes(2 << 20))",
        "[open(str(i), 'w') for i in range(100)]",
    ],
    ids=["bytes", "files"],
)
def test_a_slot_is_bounded(body: str, here: dict[str, str]) -> None:
    need(here, "mount namespace", "landlock")
    assert child(body) == "ENOSPC"


def test_a_mode_set_by_path_reaches_no_sibling(here: dict[str, str]) -> None:
    need(here, "mount namespace", "landlock")
    body = """
        def attack():
            os.chmod(seal.slots[1], 0)
            os.utime(seal.slots[1], (1, 1))
        inside(attack)
        found = os.stat(seal.slots[1])
        print(json.dumps([found.st_mode & 0o777, found.st_mtime == 1]))
    """
    assert sealed(body) == [0o700, False]


def test_a_slot_is_emptied_whatever_is_in_it(here: dict[str, str]) -> None:
    need(here, "mount namespace", "landlock")
    body = """
        def litter():
            for _ in range(40):
                os.mkdir("d" * 250)
                os.chdir("d" * 250)
            os.symlink("/", "link")
            os.mkdir("shut", 0)
            open("0", "w").write("x")
            fd = os.open(seal.slots[0], os.O_RDONLY)
            os.fchmod(fd, 0)
            return 1
        littered = inside(litter)
        seal.clean(0)
        os.chdir("/")
        print(json.dumps([littered, os.listdir(seal.slots[0]), inside(lambda: os.listdir("."))]))
    """
    assert sealed(body) == [1, [], []]


CALLS = [
    ("ioctl", "call('ioctl', 1, 0x5412, 0)", "ENOTTY"),
    ("prctl", "call('prctl', 4, 1, 0, 0, 0)", "EPERM"),
    ("name", "call('prctl', 15, ctypes.addressof(ctypes.create_string_buffer(b'x')), 0)", None),
    ("seccomp", "call('seccomp', 1, 0, 0)", "EPERM"),
    ("clone3", "call('clone3', 0, 0)", "ENOSYS"),
    ("new number", "call(600)", "ENOSYS"),
    ("namespace", "call('clone', 0x10000000 | 17, 0, 0, 0, 0)", "EPERM"),
    ("pipe size", "import fcntl; fcntl.fcntl(os.pipe()[0], 1031, 1 << 20)", "EPERM"),
    ("mknod", "os.mknod('x')", "EPERM"),
    ("fifo", "os.mkfifo('x')", "EPERM"),
    ("setuid", "os.setuid(os.getuid())", "EPERM"),
    ("chroot", "os.chroot('.')", "EPERM"),
    ("own limits", "import resource; resource.setrlimit(resource.RLIMIT_CORE, (0, 0))", None),
    ("root", "open('/new', 'w')", "EROFS"),
    ("library", f"open({os.__file__!r}, 'a')", "EROFS"),
    ("terminal", "assert not os.isatty(1)", None),
]


@pytest.mark.parametrize(("attack", "answer"), [c[1:] for c in CALLS], ids=[c[0] for c in CALLS])
def test_arguments_decide(attack: str, answer: str | None, here: dict[str, str]) -> None:
    need(here, "mount namespace", "landlock")
    found = child(attack)
    assert found == answer or (answer == "EROFS" and found == "EACCES")


@pytest.mark.skipif(kernel.MACHINE != "x86_64", reason="x32 is x86-64's")
def test_x32_kills() -> None:
    assert child("call(0x40000000 + 39)") == -signal.SIGSYS


# The processes around


def test_the_stub_ends_as_the_inner_process_does(here: dict[str, str]) -> None:
    need(here, "pid namespace")
    for end, code in (("os._exit(5)", 5), ("os.kill(os.fork() or 1, 9); os._exit(6)", 6)):
        with start(script(end)) as process:
            process.communicate(timeout=20)
        assert process.returncode == code


def test_the_inner_process_dies_with_the_stub_and_its_children_with_it(
    here: dict[str, str],
) -> None:
    need(here, "pid namespace")
    body = """
        seal.prepare(0)
        if os.fork() == 0:
            seal.seal_child(0)
            time.sleep(60)
        print("ready", flush=True)
        time.sleep(60)
    """
    with start(script(body)) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        process.kill()
        # The pipe ends when the last of them is gone.
        since = time.monotonic()
        assert process.stdout.read() == ""
        assert time.monotonic() - since < 10


def test_the_pid_namespace_shows_nobody_else(here: dict[str, str]) -> None:
    need(here, "pid namespace")
    assert child("return os.getppid()") == 1


def test_open_descriptors_stay_open() -> None:
    reader, writer = os.pipe()
    os.set_inheritable(writer, True)
    run = [sys.executable, "-s", "-P", "-S", "-c", script(f"os.write({writer}, b'x')")]
    with subprocess.Popen(run, pass_fds=[writer]) as process:
        os.close(writer)
        with os.fdopen(reader, "rb") as pipe:
            assert pipe.read() == b"x"
    assert process.returncode == 0


def test_a_slot_that_was_not_prepared_is_refused(here: dict[str, str]) -> None:
    need(here, "landlock")
    body = """
        pid = os.fork()
        if pid == 0:
            try:
                seal.seal_child(1)
            except OSError as error:
                os._exit(error.errno)
            os._exit(0)
        print(json.dumps(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])))
    """
    assert sealed(body) == errno.EINVAL


def test_what_it_costs(capsys: pytest.CaptureFixture[str]) -> None:
    body = """
        def timed():
            start = time.perf_counter()
            seal.seal_child(0 if seal.slots else None)
            return time.perf_counter() - start
        def costs():
            if seal.slots:
                seal.prepare(0)
            reader, writer = os.pipe()
            if os.fork() == 0:
                os.write(writer, repr(timed()).encode())
                os._exit(0)
            os.wait()
            return float(os.read(reader, 99)) * 1e6
        middle = sorted(costs() for _ in range(41))[20]
        print(json.dumps([(entered - started) * 1e6, (finished - entered) * 1e6, middle]))
    """
    enter_us, finish_us, child_us = sealed(body, slots=256)
    with capsys.disabled():
        print(f"\nenter {enter_us:.0f} us, finish {finish_us:.0f} us, child {child_us:.0f} us")
