"""Parts of the kernel that no honest program needs, by their raw numbers; and what outlives."""

from __future__ import annotations

from .catalogue import ATTEMPT, RAW, Attack, guarded

# Where a call for real would need root, or would harm, its arguments are such that the kernel turns
# them down: any other answer than a refusal shows that the call is "reached".
REAL = {
    "io_uring": "raw('io_uring_setup', 1, ctypes.create_string_buffer(120))",
    "userfaultfd": "raw('userfaultfd', 1)",
    "add a key": "raw('add_key', b'user', b'boo', b'boo', 3, -2)",
    "ask for a keyring": "raw('keyctl', 0, -2, 1)",
    "unshare": "raw('unshare', 0x200)",
    "inotify": "raw('inotify_init1', 0)",
    "personality": "raw('personality', 0x40000)",
    "lock memory": "raw('mlock', ctypes.create_string_buffer(9), 9)",
    "make a secret memory file": "raw('memfd_secret', 0)",
}
REACHED = {
    "mount": "raw('mount', 8, 8, 8, 0, 8)",
    "unmount": "libc.umount2(b'', 0) and -ctypes.get_errno()",
    "join a namespace": "raw('setns', -1, 0)",
    "make a namespace": "raw('unshare', 0x10000000 | 0x1)",
    "bpf": "raw('bpf', 0, ctypes.create_string_buffer(8192), 8192)",
    "perf events": "raw('perf_event_open', 8, 0, -1, -1, 1 << 62)",
    "chroot": "raw('chroot', b'/nowhere')",
    "open a tree": "raw('open_tree', -1, b'nowhere', 0)",
    "change a mount": "raw('mount_setattr', -1, b'nowhere', 1 << 30, 8, 32)",
    "set the time": "raw('settimeofday', 8, 8)",
    "adjust the clock": "raw('adjtimex', 8)",
    "quotas": "raw('quotactl', 1 << 30, 8, 0, 0)",
}
# The same, where the kernel asks for root before it looks at arguments.
PRIVILEGED = {
    "pivot_root": "raw('pivot_root', 8, 8)",
    "open a file system": "raw('fsopen', 8, 1 << 30)",
    "set the host's name": "raw('sethostname', b'boo', -1)",
    "load a module": "raw('init_module', 8, 0, 8)",
    "read the kernel's log": "raw('syslog', 99, 0, 0)",
    "watch the file system": "raw('fanotify_init', 1 << 30, 0)",
}
FILTER = "raw('seccomp', 2, 0, ctypes.byref(ctypes.c_uint32(0x7fff0000)))"
_ROOT = "only root gets beyond the kernel's own refusal"
_OFF = "the kernel may be built or set up without it"

IPC = {
    "make a shared memory segment": "raw('shmget', key, 4096, 0o1600)",
    "make a semaphore": "raw('semget', key, 1, 0o1600)",
    "make a message queue": "raw('msgget', key, 0o1600)",
}
QUEUE = """
def attack(name):
    made = raw('mq_open', name.encode(), 0o102, 0o600, None)
    libc.mq_unlink(b'/' + name.encode())  # it is there even where opening it is refused afterwards
    return tell(made)
"""
MAKE_FILE = "def attack(): return tell(raw('memfd_create', b'boo', 0))"
FILL_FILE = """
def attack():
    fd = raw('memfd_create', b'boo', 0)
    if fd < 0: return tell(fd)
    try:
        for _ in range(20): os.write(fd, bytes(1 << 20))
    except OSError as error: return tell(-error.errno)
    return 'escaped'
"""
X32 = """
def attack():
    ctypes.set_errno(0)
    got = libc.syscall(ctypes.c_long(0x40000000 | 39))
    return 'escaped' if got == os.getpid() else tell(-ctypes.get_errno())
"""


def _told(call: str, reached: bool) -> str:
    return f"def attack(): return tell({call}, reached={reached})\n"


ATTACKS: tuple[Attack, ...] = (
    *guarded(
        {f"kernel: {name}": _told(call, False) for name, call in REAL.items()},
        "kernel",
        prelude=RAW,
        privilege=_OFF,
    ),
    *guarded(
        {f"kernel: {name}": _told(call, True) for name, call in REACHED.items()},
        "kernel",
        prelude=RAW,
        privilege=_OFF,
    ),
    *guarded(
        {f"kernel: {name}": _told(call, True) for name, call in PRIVILEGED.items()},
        *("kernel", "rights"),
        prelude=RAW,
        privilege=_ROOT,
    ),
    *guarded(
        {"kernel: install a filter": _told(FILTER, False)},
        "filters",
        prelude=RAW,
        privilege=_OFF,
    ),
    *guarded(
        {f"ipc: {name}": f"def attack(key): return tell({call})" for name, call in IPC.items()},
        "ipc",
        prelude=RAW,
        needs=("key",),
        trace="segment",
    ),
    *guarded(
        {"ipc: make a named message queue": QUEUE},
        *("ipc", "rlimits", "files"),
        prelude=RAW,
        needs=("name",),
    ),
    *guarded(
        {"memory files: make a memory file": MAKE_FILE},
        "memory files",
        prelude=RAW,
    ),
    *guarded(
        {
            "messages: descriptors under way": """
import socket
def act():
    # Counted for all processes of a user, beyond a bound of which none of them can send any more.
    near, far = socket.socketpair()
    socket.send_fds(near, [b'x'], [0] * 200)
def attack(): return attempt(act)
""",
            "messages: descriptors that hold each other": """
import socket
def act():
    near, far = socket.socketpair()
    for end in (near, far): socket.send_fds(end, [b'x'], [near.fileno(), far.fileno()])
def attack(): return attempt(act)
""",
        },
        "messages",
        prelude=ATTEMPT,
    ),
    *guarded(
        {"memory files: fill a memory file": FILL_FILE},
        *("memory files", "rlimits"),
        prelude=RAW,
    ),
    *guarded(
        {"kernel: calls of the x32 kind": X32},
        "other kinds of calls",
        prelude=RAW,
        only="x86_64",
        held=("wrong", "crashed"),
        privilege="most kernels are built without x32",
    ),
    *guarded(
        {
            "kernel: a semaphore of multiprocessing": """
def attack():
    import multiprocessing
    return attempt(lambda: multiprocessing.get_context('fork').Value('i', 1))
"""
        },
        "files",
        prelude=ATTEMPT,
        refusals="EPERM EACCES ENOSYS ENOENT",
    ),
)
