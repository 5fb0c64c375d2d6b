"""Too much of everything: memory, time, output, files, threads, descriptors.

Sizes are a little over the limits that test_attacks.py sets, for the twins run without them.
"""

from __future__ import annotations

from peft_bench_sandbox import CallTest, StdinTest

from .catalogue import ATTEMPT, Attack, Twin, guarded

MIB = 2**20
# Limits of the run: see test_attacks.py.
CPU_S, WALL_S, MEMORY, OUTPUT, FILE = 0.3, 2.0, 512 * MIB, 64 * 1024, 4 * MIB

# Told by the program itself; and its guards: a file is bounded twice. Where there is no directory
# to work in, no file can be made at all (EACCES).
REFUSED = {
    "map memory": (
        "import mmap; kept = [mmap.mmap(-1, 1 << 28) for _ in range(4)]",
        "ENOMEM",
        "rlimits",
    ),
    "one big file": (
        f"open('big', 'wb').write(bytes({FILE} + 2**21))",
        "EFBIG EACCES",
        "rlimits files",
    ),
    "a file with a big hole": ("open('big', 'wb').truncate(1 << 40)", "EFBIG EACCES", "rlimits"),
    "a file allocated": (
        f"os.posix_fallocate(os.open('big', os.O_CREAT | os.O_WRONLY), 0, {FILE} + 2**21)",
        "EFBIG ENOSPC EACCES",
        "rlimits files",
    ),
    "descriptors": ("kept = [os.dup(0) for _ in range(900)]", "EMFILE", "rlimits"),
    "limits raised again": (
        "import resource as r\n"
        "    for what in (r.RLIMIT_AS, r.RLIMIT_CPU, r.RLIMIT_FSIZE):\n"
        "        try: r.setrlimit(what, (-1, -1))\n"
        "        except ValueError: raise PermissionError(1, 'lowered')",
        "EPERM",
        "rlimits",
    ),
}
# Held by the file system that a working directory is.
DISK = {
    "many files fill the disk": (
        f"[open(f'big{{n}}', 'wb').write(bytes({FILE} - 1)) for n in range(6)]"
    ),
    "5,000 files": (
        "n = os.open('.', os.O_RDONLY)\n"
        "    for i in range(5000): os.close(os.open(str(i), os.O_CREAT | os.O_WRONLY, dir_fd=n))"
    ),
}

# name: source, statuses; the twin, without the limits, gets to "escaped".
CAUGHT = {
    "memory at once": ("def attack(): return len(bytes(1 << 30)) and 'escaped'", ("memory",)),
    "memory again and again": (
        """
def attack():
    kept = []
    for size in (1 << 24, 1 << 12, 1 << 6):
        try:
            for _ in range(10**4 if size < 1 << 24 else 64): kept.append(bytes(size))
            return 'escaped'
        except MemoryError: continue
    raise MemoryError('full to the brim')
""",
        ("memory",),
    ),
    "stacks of threads": (
        """
import threading
def attack():
    threading.stack_size(1 << 27)
    end = threading.Event()
    for _ in range(8): threading.Thread(target=end.wait, daemon=True).start()
    end.set()
    return 'escaped'
""",
        ("exception",),
    ),
    "1,500 threads": (
        """
import os, threading
def attack():
    threading.stack_size(max(1 << 15, os.sysconf('SC_THREAD_STACK_MIN')))
    end = threading.Event()
    for _ in range(1500): threading.Thread(target=end.wait, daemon=True).start()
    return 'escaped'
""",
        ("exception", "memory", "timeout"),
    ),
    "threads that stay": (
        """
import os, threading, time
def attack():
    threading.stack_size(max(1 << 15, os.sysconf('SC_THREAD_STACK_MIN')))
    try:
        for _ in range(1500): threading.Thread(target=time.sleep, args=[9], daemon=True).start()
    finally: time.sleep(0.3)
    return 'escaped'
""",
        ("exception", "memory", "timeout"),
    ),
}
# name: source, statuses; more CPU time than there is, but not for ever: with the limit lifted each
# gets to its end. `busy()` says that it is not over yet.
_BUSY = f"import time\ndef busy(): return time.process_time() < {2 * CPU_S}\n"
BURNING = {
    "a loop": ("def attack():\n    while busy(): pass\n    return 'escaped'", ("cpu",)),
    "a loop that catches everything": (
        """
def attack():
    while busy():
        try:
            while busy(): pass
        except BaseException: pass
    return 'escaped'
""",
        ("cpu",),
    ),
    "a loop deaf to signals": (
        """
import signal
def attack():
    for n in range(1, 65):
        try: signal.signal(n, signal.SIG_IGN)
        except (OSError, ValueError): pass
    signal.pthread_sigmask(signal.SIG_BLOCK, range(1, 65))
    while busy(): pass
    return 'escaped'
""",
        ("cpu",),
    ),
    "two threads in a loop": (
        """
import threading
def burn():
    while busy(): pass
def attack():
    threading.Thread(target=burn, daemon=True).start()
    burn()
    return 'escaped'
""",
        ("cpu",),
    ),
    "a thread in C that never looks up": (
        "def attack(): return sum(range(6 * 10**7)) and 'escaped'",
        ("cpu",),
    ),
    "a storm of signals": (
        """
import signal
def attack():
    signal.signal(signal.SIGALRM, lambda *_: None)
    signal.setitimer(signal.ITIMER_REAL, 1e-4, 1e-4)
    while busy(): pass
    signal.setitimer(signal.ITIMER_REAL, 0)
    return 'escaped'
""",
        ("cpu", "timeout"),
    ),
}
# The same with time on the clock; `LONG` is longer than there is.
_LONG = f"LONG = {2 * WALL_S}\n"
WAITING = {
    "a sleep": "def attack():\n    import time\n    time.sleep(LONG)\n    return 'escaped'",
    "a sleep deaf to signals": """
import signal, time
def attack():
    signal.alarm(0)
    signal.setitimer(signal.ITIMER_REAL, 0)
    signal.pthread_sigmask(signal.SIG_BLOCK, range(1, 65))
    time.sleep(LONG)
    return 'escaped'
""",
    "a lock nobody opens": """
import threading
def attack():
    lock = threading.Lock()
    lock.acquire()
    return 'held' if lock.acquire(timeout=LONG) else 'escaped'
""",
    "a thread that is waited for": """
import threading, time
threading.Thread(target=time.sleep, args=[LONG]).start()
def attack():
    threading._shutdown()
    return 'escaped'
""",
}
# Scripts: too much printed, and then what is right.
_MUCH = f"MUCH = {2 * OUTPUT}\n"
FLOODS = {
    "print": "print(' ' * MUCH + 'right')",
    "print without end of line": (
        "import sys\nfor _ in range(MUCH): sys.stdout.write(' ')\nprint('right')"
    ),
    "descriptor 1": "import os\nos.write(1, b' ' * MUCH + b'right')",
    "standard error": "import sys\nsys.stderr.write('x' * MUCH)\nprint('right')",
    "both": "import os\nfor fd in (2, 1): os.write(fd, b' ' * (MUCH // 3 * 2))\nprint('right')",
    "a hole in stdout": "import os\nos.ftruncate(1, MUCH)\nos.lseek(1, 0, os.SEEK_END)",
    "a copy of descriptor 1": "import os\nos.dup2(1, 0)\nos.write(0, b' ' * MUCH + b'right')",
}
_HOLE = "\0" * 2 * OUTPUT
# name: source, statuses; a scorer in the same process crashes.
DEEP = {
    "deep recursion": (
        "import sys\nsys.setrecursionlimit(10**9)\ndef attack(): return attack()",
        ("memory", "crashed", "exception", "cpu"),
    ),
    "deep recursion through C": (
        """
import sys
sys.setrecursionlimit(10**9)
class Deep:
    def __repr__(self): return repr(self)
    __eq__ = lambda s, o: s == o
def attack(): return Deep() == Deep() or repr(Deep())
""",
        ("memory", "crashed", "exception", "cpu"),
    ),
    "deep destruction": (
        """
import itertools
def attack():
    x = iter(())
    for _ in range(10**6): x = itertools.islice(x, 1)
    del x
    return 'got away'
""",
        ("crashed", "memory", "cpu", "wrong"),
    ),
}


def _call(name: str, source: str, held: tuple[str, ...], twin: Twin, *without: str) -> Attack:
    return Attack(
        name=f"bomb: {name}",
        source=source,
        test=CallTest("attack", [], "escaped"),
        held=held,
        twin=twin,
        without=frozenset(without),
    )


def _program(act: str) -> str:
    return f"{ATTEMPT}\ndef act(place):\n    settle(place)\n    {act}\n" + (
        "def attack(place): return attempt(lambda: act(place))\n"
    )


ATTACKS = (
    *(
        attack
        for name, (act, refusals, guards) in REFUSED.items()
        for attack in guarded(
            {f"bomb: {name}": _program(act)},
            *guards.split(),
            needs=("place",),
            refusals=refusals,
        )
    ),
    *guarded(
        {f"bomb: {name}": _program(act) for name, act in DISK.items()},
        "files",
        needs=("place",),
        refusals="ENOSPC EDQUOT EFBIG",
        layer="mount namespace",
    ),
    *(_call(name, source, held, "without", "rlimits") for name, (source, held) in CAUGHT.items()),
    *(
        _call(name, _BUSY + source, held, "lifted", "cpu_s")
        for name, (source, held) in BURNING.items()
    ),
    *(
        _call(name, _LONG + source, ("timeout",), "lifted", "wall_s")
        for name, source in WAITING.items()
    ),
    *(_call(name, source, held, "one process") for name, (source, held) in DEEP.items()),
    *(
        Attack(
            name=f"flood: {name}",
            source=_MUCH + source,
            test=StdinTest("", _HOLE if "hole" in name else "right"),
            held=("output",),
            twin="lifted",
            without=frozenset({"output_bytes"}),
        )
        for name, source in FLOODS.items()
    ),
)
