"""What an attack is, and the few lines that many of its programs begin with.

An attack's test *passes if the attack succeeds*: its function returns "escaped" or a secret, its
wrong answer is taken for right. So no verdict on an attack may ever be `passed`, and its twin,
the same program with the guard left out, shows that the attack is not dead.

All of them stay within outer bounds: throw-away directories, the loopback interface, processes
that the test started, at most 20 processes that end by themselves, sizes little over a limit.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Literal

from peft_bench_sandbox import AssertTest, CallTest, StdinTest
from peft_bench_sandbox.types import Judge

Test = AssertTest | CallTest | StdinTest

# How the twin is made, and what it shows:
# "without": guards of the sandbox are left out, and the attack succeeds.
# "lifted": the limits named are lifted, all guards stand, and the attack succeeds.
# "trusting": checks of the package's own readers are left out; the judge is fooled, or lost.
# "shared": the test's code runs in the program's own process, and the forgery passes.
# "wider": the next judge lets it through, as it is meant to.
# "exit code": a plain interpreter runs program and test; exit code 0 counts as a pass, and it is.
# "one process": a scorer that runs program and test in its own process is lost: it ends, hangs, or
#   tells nothing that can be used.
# "status": nothing is there to get through, and a scorer in one process calls it a failure as well:
#   what counts is the status, and that the neighbours keep well.
Twin = Literal[
    "without", "lifted", "trusting", "shared", "wider", "exit code", "one process", "status"
]

# What the test process can see of an attack that got through (see scene.py).
Trace = Literal["outside", "victim", "heard", "process", "segment", "terminal"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Attack:
    """One attack. Without a `test` it is a call: `attack(*needs)` must return `expected`.

    needs: names of what the scene provides, handed over as arguments. expected: "escaped", or
    "secret" for the scene's secret of this attack. held: the statuses that are right while the
    guard stands; says: what the message must then match. without: what the twin leaves out: guards
    of the sandbox, checks of trusting.py, or limits.
    trace: what the test process must see in the twin, and must not see otherwise.
    privilege: why a twin may fail on some machines: the kernel itself refuses the attack to
    this user (tried in a plain process before it is believed), or another Python is not harmed.
    only: the machine (uname -m) whose code or numbers the program holds.
    layer: the sandbox's layer without which this attack is not held.
    wider: the judge of the twin "wider".
    copies: how many of the program run one after the other; one of them has to get through.
    """

    name: str
    source: str
    twin: Twin
    test: Test | None = None
    needs: tuple[str, ...] = ()
    expected: Literal["escaped", "secret"] = "escaped"
    held: tuple[str, ...] = ("wrong",)
    says: str = ""
    without: frozenset[str] = frozenset()
    trace: Trace | None = None
    privilege: str = ""
    only: str = ""
    layer: str = ""
    wider: Judge = "split"
    copies: int = 1


def guarded(
    sources: Mapping[str, str],
    *guards: str,
    prelude: str = "",
    needs: Iterable[str] = (),
    refusals: str = "EPERM EACCES ENOSYS",
    **rest: object,
) -> tuple[Attack, ...]:
    """Attacks by calls that a guard refuses, with one of these errors; told by the program."""
    says = rf"held: ({'|'.join(refusals.split())})\b"
    return tuple(
        Attack(
            name=name,
            source=prelude + source,
            twin="without",
            without=frozenset(guards),
            needs=tuple(needs),
            says=says,
            **rest,  # type: ignore[arg-type]
        )
        for name, source in sources.items()
    )


# `settle(place)` comes before anything is written under a relative name: where a left-out guard
# has left no fresh directory to work in, a throw-away one takes its place.
# `attempt(action)`: what became of it, as text.
ATTEMPT = """
import errno, os
def settle(place):
    try: fresh = os.getcwd() != '/' and os.listdir('.') == [] and os.access('.', os.W_OK)
    except OSError: fresh = False
    if not fresh: os.chdir(place)
    assert os.getcwd() != '/'
def attempt(action):
    try:
        action()
    except OSError as error:
        return 'held: ' + errno.errorcode.get(error.errno, str(error))
    return 'escaped'
"""

# `raw(name, ...)`: a system call by its number, past everything that Python or libc might check;
# `tell(result)`: what became of it. With `reached`, any error but a refusal counts as an escape:
# the kernel took the call up, and only its arguments were bad.
RAW = """
import ctypes, errno, os
libc = ctypes.CDLL(None, use_errno=True)
libc.syscall.restype = ctypes.c_long
NUMBERS = {
    'x86_64': dict(
        socket=41, connect=42, clone=56, fork=57, vfork=58, execve=59, kill=62, shmget=29,
        semget=64, msgget=68, ptrace=101, personality=135, setpriority=141, sched_setaffinity=203,
        sched_setscheduler=144, mount=165, chroot=161, pivot_root=155, tkill=200, tgkill=234,
        mq_open=240, add_key=248, keyctl=250, ioprio_set=251, unshare=272, perf_event_open=298,
        prlimit64=302, open_by_handle_at=304, setns=308, process_vm_readv=310,
        process_vm_writev=311, kcmp=312, seccomp=317, memfd_create=319, bpf=321, execveat=322,
        userfaultfd=323, rt_sigqueueinfo=129, init_module=175, kexec_load=246, swapon=167,
        reboot=169, sethostname=170, settimeofday=164, clock_settime=227, adjtimex=159,
        syslog=103, quotactl=179, acct=163, fanotify_init=300, inotify_init1=294,
        name_to_handle_at=303, landlock_create_ruleset=444, socketpair=53,
        mlock=149,
    ),
    'aarch64': dict(
        socket=198, connect=203, clone=220, execve=221, kill=129, shmget=194, semget=190,
        msgget=186, ptrace=117, personality=92, setpriority=140, sched_setaffinity=122,
        sched_setscheduler=119, mount=40, chroot=51, pivot_root=41, tkill=130, tgkill=131,
        mq_open=180, add_key=217, keyctl=219, ioprio_set=30, unshare=97, perf_event_open=241,
        prlimit64=261, open_by_handle_at=265, setns=268, process_vm_readv=270,
        process_vm_writev=271, kcmp=272, seccomp=277, memfd_create=279, bpf=280, execveat=281,
        userfaultfd=282, rt_sigqueueinfo=138, init_module=105, kexec_load=104, swapon=224,
        reboot=142, sethostname=161, settimeofday=170, clock_settime=112, adjtimex=171,
        syslog=116, quotactl=60, acct=89, fanotify_init=262, inotify_init1=26,
        name_to_handle_at=264, landlock_create_ruleset=444, socketpair=199,
        mlock=228,
    ),
}[os.uname().machine]
NUMBERS.update(
    io_uring_setup=425, pidfd_open=434, clone3=435, pidfd_getfd=438, pidfd_send_signal=424,
    process_madvise=440, open_tree=428, move_mount=429, fsopen=430, memfd_secret=447,
    mount_setattr=442,
)
def raw(name, *given):
    words = [ctypes.c_long(n) if isinstance(n, int) else n for n in given]
    ctypes.set_errno(0)
    result = libc.syscall(ctypes.c_long(NUMBERS[name]), *words)
    return result if result >= 0 else -ctypes.get_errno()
def tell(result, reached=False):
    error = errno.errorcode.get(-result, str(result))
    if result >= 0 or (reached and error not in ('EPERM', 'EACCES', 'ENOSYS')):
        return 'escaped'
    return 'held: ' + error
"""

# `REPORT` and `CHANNEL`: the descriptors of the report's file and of the socket, if there are such.
PLACES = """
import os, stat
def place_of(is_such):
    for fd in range(3, 32):
        try:
            if is_such(os.fstat(fd).st_mode): return fd
        except OSError: continue
    return 3
REPORT, CHANNEL = place_of(stat.S_ISREG), place_of(stat.S_ISSOCK)
"""

# `name_process(marker)`: the test process looks for this name among all processes.
MARK = """
import ctypes
def name_process(marker):
    ctypes.CDLL(None).prctl(15, marker.encode(), 0, 0, 0)
"""
