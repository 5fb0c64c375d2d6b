"""New processes and new programs: made by Python, by number, by machine code; and too many."""

from __future__ import annotations

from .catalogue import ATTEMPT, MARK, PLACES, RAW, guarded

_CHILD = """
def ended(pid):
    if pid == 0: os._exit(0)
    os.waitpid(pid, 0)
"""
FORKS = {
    "fork": "ended(os.fork())",
    "multiprocessing": (
        "import multiprocessing as m; p = m.get_context('fork').Process(target=int)\n"
        "    p.start(); p.join()"
    ),
}
FORKS_WITH_EXEC = {
    "spawn": "ended(os.posix_spawn('/proc/self/exe', ['python', '-I', '-S', '-c', ''], {}))",
    "subprocess": "__import__('subprocess').run([sys.executable, '-ISc', ''], check=True)",
    "shell": "if os.system(':'): raise PermissionError(1, 'no shell')",
}
RAW_FORKS = {
    "clone by number": "raw('clone', 17, 0, 0, 0, 0)",
    "clone as a sibling": "raw('clone', 0x8000 | 17, 0, 0, 0, 0)",
}
CLONE3 = """
def attack():
    pid = raw('clone3', (ctypes.c_uint64 * 8)(0, 0, 0, 0, 17, 0, 0, 0), 64)
    if pid == 0: os._exit(0)
    if pid > 0: os.waitpid(pid, 0)
    return tell(pid)
"""
FORKPTY = """
def act():
    pid, _ = os.forkpty()
    if pid == 0: os._exit(0)
    os.waitpid(pid, 0)
def attack(): return attempt(act)
"""
_RAW_FORK = """
def attack():
    pid = {call}
    if pid == 0: os._exit(0)
    if pid > 0:
        try: os.waitpid(pid, 0x40000000)
        except ChildProcessError: pass
    return tell(pid)
"""

# A child that shares the parent's stack, or all of its memory, must not run Python: machine code
# that ends the child at once. vfork(); and clone(flags, stack).
_MACHINE_CODE = """
import mmap
def machine_code(text, *types):
    page = mmap.mmap(-1, 4096, prot=7)
    page.write(bytes.fromhex(text))
    kept.append(page)
    at = ctypes.addressof(ctypes.c_char.from_buffer(page))
    return ctypes.CFUNCTYPE(ctypes.c_long, *types)(at)
kept = []
def result(value): return tell(value)
"""
VFORK = "b83a000000 0f05 4885c0 7509 b83c000000 31ff 0f05 c3"
CLONE = "31d2 4d31d2 4531c0 b838000000 0f05 4885c0 7509 b83c000000 31ff 0f05 c3"
MACHINE_FORKS = {
    "vfork": f"def attack(): return result(machine_code('{VFORK}')())",
    "clone with all memory shared": f"""
def attack():
    stack = ctypes.create_string_buffer(65536)
    clone = machine_code('{CLONE}', ctypes.c_long, ctypes.c_long)
    return result(clone(0x100 | 0x800 | 17, (ctypes.addressof(stack) + 65000) & ~15))
""",
}
# On the 32-bit side the numbers are others: 20 is getpid, which here would be writev.
INT80 = "53 b814000000 cd80 5b 4898 c3"
OTHER_ABIS = {
    "32-bit calls": f"""
def attack():
    got = machine_code('{INT80}')()
    return 'escaped' if got == os.getpid() else result(got)
""",
}

BOMBS = {
    "fork bomb": """
import time
def attack():
    pids = []
    try:
        for _ in range(20):
            pid = os.fork()
            if pid == 0:
                time.sleep(0.5)
                os._exit(0)
            pids.append(pid)
    except OSError as error: return 'held: ' + errno.errorcode[error.errno]
    finally:
        for pid in pids: os.waitpid(pid, 0)
    return 'escaped'
""",
    "daemon": """
import time
def attack(marker):
    def act():
        if os.fork() == 0:
            try: os.setsid()
            except OSError: pass
            if os.fork() == 0:
                name_process(marker)
                for fd in range(256):
                    try: os.close(fd)
                    except OSError: pass
                time.sleep(5)
            os._exit(0)
        os.wait()
        time.sleep(0.1)
    return attempt(act)
""",
}

# What runs in its place writes the report of the escape.
EXECS = {
    "execv": "os.execv(sys.executable, ['python', '-I', '-S', '-c', PYTHON])",
    "execv of a shell": "os.execv('/bin/sh', ['sh', '-c', SHELL])",
    "execv of its own image": ("os.execv('/proc/self/exe', ['python', '-I', '-S', '-c', PYTHON])"),
    "exec by descriptor": "os.execve(os.open('/bin/sh', os.O_RDONLY), ['sh', '-c', SHELL], {})",
    "exec of a script of its own": """
        settle(place)
        own = os.open('own', os.O_CREAT | os.O_WRONLY, 0o700)
        os.write(own, b'#!/bin/sh\\n' + SHELL.encode())
        os.close(own)
        os.execv('./own', ['own'])""",
}
_EXEC = (
    PLACES
    + """
import sys
SAID = '{{"outcome": "returned", "message": "", "value": "escaped"}}'
SHELL = f"echo '{{SAID}}' >&{{REPORT}}"
PYTHON = f'import os; os.write({{REPORT}}, {{SAID.encode()!r}})'
def attack(place):
    os.set_inheritable(REPORT, True)
    try:
        {act}
    except OSError as error: return 'held: ' + errno.errorcode[error.errno]
"""
)

_FORK = "EPERM EACCES ENOSYS EAGAIN"


def _python(act: str) -> str:
    return f"import sys\ndef act():\n    {act}\ndef attack(): return attempt(act)\n"


ATTACKS = (
    *guarded(
        {f"fork: {name}": _CHILD + _python(act) for name, act in FORKS.items()},
        "fork",
        prelude=ATTEMPT,
        refusals=_FORK,
    ),
    *guarded(
        {f"fork: {name}": _CHILD + _python(act) for name, act in FORKS_WITH_EXEC.items()},
        *("fork", "exec", "files"),
        prelude=ATTEMPT,
        refusals=_FORK,
    ),
    *guarded(
        {"fork: clone3": CLONE3},
        "fork",
        prelude=RAW,
        refusals=_FORK,
        privilege="a container's filter may refuse it",
    ),
    *guarded(
        {"fork: fork with a terminal": FORKPTY},
        *("fork", "files", "terminals"),
        prelude=ATTEMPT,
        refusals=_FORK + " ENOENT",
        privilege="there may be no terminals to have",
    ),
    *guarded(
        {f"fork: {name}": _RAW_FORK.format(call=call) for name, call in RAW_FORKS.items()},
        "fork",
        prelude=RAW,
        refusals=_FORK,
    ),
    *guarded(
        {"fork: fork by number": _RAW_FORK.format(call="raw('fork')")},
        "fork",
        prelude=RAW,
        only="x86_64",
        refusals=_FORK,
    ),
    *guarded(
        {f"fork: {name}": source for name, source in MACHINE_FORKS.items()},
        "fork",
        prelude=RAW + _MACHINE_CODE,
        only="x86_64",
        held=("wrong", "crashed"),
    ),
    *guarded({"fork: fork bomb": BOMBS["fork bomb"]}, "fork", prelude=ATTEMPT, refusals=_FORK),
    *guarded(
        {"fork: daemon": BOMBS["daemon"]},
        *("fork", "processes"),
        prelude=ATTEMPT + MARK,
        needs=("marker",),
        refusals=_FORK,
        trace="process",
    ),
    *guarded(
        {f"exec: {name}": _EXEC.format(act=act) for name, act in EXECS.items()},
        "exec",
        "files",
        prelude=ATTEMPT,
        needs=("place",),
        refusals="EPERM EACCES ENOSYS ENOENT",
    ),
    *guarded(
        {f"kernel: {name}": source for name, source in OTHER_ABIS.items()},
        "other kinds of calls",
        prelude=RAW + _MACHINE_CODE,
        only="x86_64",
        held=("wrong", "crashed"),
        privilege="the kernel may be built or set up without 32-bit calls",
    ),
)
