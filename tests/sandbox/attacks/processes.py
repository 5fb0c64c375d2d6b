"""Other processes: signalled, looked into, slowed down."""

from __future__ import annotations

from .catalogue import ATTEMPT, RAW, guarded

# A process of the test's own; killing it is seen from outside.
VICTIM_SIGNALS = {
    "kill": "os.kill(victim, 9)",
    "stop": "os.kill(victim, 19)",
    "kill a group": "os.killpg(victim, 9)",
    "kill by descriptor": "__import__('signal').pidfd_send_signal(os.pidfd_open(victim), 9)",
}
RAW_VICTIM_SIGNALS = {
    "tkill": "raw('tkill', victim, 9)",
    "tgkill": "raw('tgkill', victim, victim, 9)",
    "rt_sigqueueinfo": (
        "raw('rt_sigqueueinfo', victim, 9, (ctypes.c_int * 32)(9, 0, -1, 0, os.getpid(), 0))"
    ),
    "pidfd_send_signal by number": (
        "raw('pidfd_send_signal', max(raw('pidfd_open', victim, 0), -1), 9, None, 0)"
    ),
}
# What would harm more than the test's own processes is only asked for, with signal 0, or with one
# that does nothing to who did not ask for it (SIGURG, SIGCONT).
MORE_SIGNALS = {
    "signal the parent": "os.kill(os.getppid() or 1, 23)",
    "signal its group": "os.kill(0, 18)",
    "signal everybody": "os.kill(-1, 0)",
    "signal its neighbours": (
        "near = [n for d in range(1, 9) for n in (os.getpid() - d, os.getpid() + d) if n > 0]\n"
        "    if not any(alive(n) for n in near): os.kill(os.getppid() or 1, 0)"
    ),
}
_ALIVE = """
def alive(pid):
    try: os.kill(pid, 0)
    except OSError: return False
    return True
"""

PRIORITIES = {
    "slow another down": "os.setpriority(os.PRIO_PROCESS, victim, 19)",
    "slow a group down": "os.setpriority(os.PRIO_PGRP, victim, 19)",
    "bind another to a CPU": "os.sched_setaffinity(victim, [min(os.sched_getaffinity(victim))])",
    "change another's scheduling": (
        "os.sched_setscheduler(victim, os.SCHED_BATCH, os.sched_param(0))"
    ),
    "lower another's limits": "import resource; resource.prlimit(victim, 7, (9, 9))",
}
PARENT_PRIORITIES = {
    "slow the parent down": "os.setpriority(os.PRIO_PROCESS, os.getppid(), 1)",
    "bind the parent to a CPU": ("os.sched_setaffinity(os.getppid(), os.sched_getaffinity(0))"),
    "read the parent's limits": "import resource; resource.prlimit(os.getppid(), 7)",
}

_MEMORY = """
def attack(victim):
    local = ctypes.create_string_buffer(8)
    iov = (ctypes.c_void_p * 2)(ctypes.addressof(local), 8)
    return tell(raw({name!r}, {whose}, iov, 1, iov, 1, 0), reached=True)
"""
LOOKS = {
    "trace another": """
def attack(victim):
    result = raw('ptrace', 0x4206, victim, 0, 0)
    if result == 0: raw('ptrace', 17, victim, 0, 0)
    return tell(result)
""",
    "trace the parent": "def attack(_): return tell(raw('ptrace', 0x4206, os.getppid(), 0, 0))\n",
    "be traced": "def attack(_): return tell(raw('ptrace', 0, 0, 0, 0))\n",
    "read another's memory": _MEMORY.format(name="process_vm_readv", whose="victim"),
    "read the parent's memory": _MEMORY.format(name="process_vm_readv", whose="os.getppid()"),
    "write another's memory": _MEMORY.format(name="process_vm_writev", whose="victim"),
    "open another process": "def attack(victim): return tell(raw('pidfd_open', victim, 0))\n",
    "open the parent": "def attack(_): return tell(raw('pidfd_open', os.getppid(), 0))\n",
    "take a descriptor of the parent": """
def attack(_):
    for pid in (os.getppid(), os.getpid()):
        pidfd = raw('pidfd_open', pid, 0)
        if pidfd < 0: return tell(pidfd)
        for fd in range(64):
            if raw('pidfd_getfd', pidfd, fd, 0) >= 0: return 'escaped'
    return 'held: EPERM'
""",
    "compare descriptors with the parent": (
        "def attack(_): return tell(raw('kcmp', os.getpid(), os.getppid(), 0, 0, 0))\n"
    ),
}

_OTHER = "EPERM EACCES ENOSYS ESRCH EBADF"


def _python(act: str, arguments: str = "") -> str:
    return f"import sys\ndef act({arguments}):\n    {act}\n" + (
        f"def attack({arguments}): return attempt(lambda: act({arguments}))\n"
    )


ATTACKS = (
    *guarded(
        {f"signals: {name}": _python(act, "victim") for name, act in VICTIM_SIGNALS.items()},
        "signals",
        prelude=ATTEMPT,
        needs=("victim",),
        refusals=_OTHER,
        trace="victim",
    ),
    *guarded(
        {
            f"signals: {name}": f"def attack(victim): return tell({call})\n"
            for name, call in RAW_VICTIM_SIGNALS.items()
        },
        "signals",
        prelude=RAW,
        needs=("victim",),
        refusals=_OTHER,
        trace="victim",
    ),
    *guarded(
        {f"signals: {name}": _ALIVE + _python(act) for name, act in MORE_SIGNALS.items()},
        "signals",
        prelude=ATTEMPT,
        refusals=_OTHER,
    ),
    *guarded(
        {f"priority: {name}": _python(act, "victim") for name, act in PRIORITIES.items()},
        "priority",
        prelude=ATTEMPT,
        needs=("victim",),
        refusals=_OTHER,
        trace="victim",
    ),
    *guarded(
        {f"priority: {name}": _python(act) for name, act in PARENT_PRIORITIES.items()},
        "priority",
        prelude=ATTEMPT,
        refusals=_OTHER,
    ),
    *guarded(
        {f"processes: {name}": source for name, source in LOOKS.items()},
        "processes",
        prelude=RAW,
        needs=("victim",),
        refusals=_OTHER,
        privilege="a user namespace by itself keeps other processes out of reach",
    ),
)
