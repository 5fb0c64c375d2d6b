"""Too much of everything: memory, time, output, files, threads, descriptors.

Sizes are a little over the limits that test_attacks.py sets, for the twins run without them.
"""

from __future__ import annotations

from peft_bench_sandbox import CallTest, StdinTest

from .catalogue import ATTEMPT, Attack, Twin, guarded

MIB = 2**20
# Limits of the run: see test_attacks.py.
CPU_S, WALL_S, MEMORY, OUTPUT, FILE = 0.3, 2.0, 512 * MIB, 64 * 1024, 4 * MIB

# Told by the program itself; the guard is the process' limits. Where there is no directory to work
# in, no file can be made at all (EACCES).
REFUSED = {
    "map memory": (
        "import mmap; kept = [mmap.mmap(-1, 1 << 28) for _ in range(4)]",
        "ENOMEM",
    ),
    "one big file": (f"open('big', 'wb').write(bytes({FILE} + 2**21))", "EFBIG EACCES"),
    "a file with a big hole": ("open('big', 'wb').truncate(1 << 40)", "EFBIG EACCES"),
    "a file allocated": (
        f"os.posix_fallocate(os.open('big', os.O_CREAT | os.O_WRONLY), 0, {FILE} + 2**21)",
        "EFBIG ENOSPC EACCES",
    ),
    "descriptors": ("kept = [os.dup(0) for _ in range(900)]", "EMFILE"),
    "limits raised again": (
        "import resource as r\n"
        "    for what in (r.RLIMIT_AS, r.RLIMIT_CPU, r.RLIMIT_FSIZE):\n"
        "        try: r.setrlimit(what, (-1, -1))\n"
        "        except ValueError: raise PermissionError(1, 'lowered')",
        "EPERM",
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
import threading
def attack():
    threading.stack_size(1 << 15)
    end = threading.Event()
    for _ in range(1500): threading.Thread(target=end.wait, daemon=True).start()
    return 'escaped'
""",
        ("exception", "memory", "timeout"),
    ),
    "threads that stay": (
        """
import threading, time
def attack():
    threading.stack_size(1 << 15)
    try:
        for _ in range(1500): threading.Thread(target=time.sleep, args=[9], daemon=True).start()
    finally: time.sleep(0.3)
    return 'escaped'
""",
        ("exception", "memory", "timeout"),
    ),
}
# name: source, statuses; the twin is the same in a plain interpreter, which it crashes or hangs.
LIVE = {
    "an endless loop": ("def attack():\n    while True: pass", ("cpu",)),
    "a loop that catches everything": (
        """
def attack():
    while True:
        try:
            while True: pass
        except BaseException: pass
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
    while True: pass
""",
        ("cpu",),
    ),
    "two threads in a loop": (
        """
import threading
def burn():
    while True: pass
def attack():
    threading.Thread(target=burn, daemon=True).start()
    burn()
""",
        ("cpu",),
    ),
    "a thread in C that never looks up": (
        "def attack():\n    import re\n    return re.match('(a|aa)+$', 'a' * 60 + 'b')",
        ("cpu",),
    ),
    "a storm of signals": (
        """
import signal
def attack():
    signal.signal(signal.SIGALRM, lambda *_: None)
    signal.setitimer(signal.ITIMER_REAL, 1e-6, 1e-6)
    while True: pass
""",
        ("cpu", "timeout"),
    ),
    "a sleep": ("def attack():\n    import time\n    time.sleep(30)", ("timeout",)),
    "a sleep deaf to signals": (
        """
import signal, time
def attack():
    signal.alarm(0)
    signal.setitimer(signal.ITIMER_REAL, 0)
    signal.pthread_sigmask(signal.SIG_BLOCK, range(1, 65))
    time.sleep(30)
""",
        ("timeout",),
    ),
    "a lock nobody opens": (
        "import threading\ndef attack():\n    lock = threading.Lock()\n    lock.acquire()\n"
        "    lock.acquire()",
        ("timeout",),
    ),
    "a thread that is not waited for": (
        "import threading, time\nthreading.Thread(target=time.sleep, args=[30]).start()\n"
        "def attack():\n    threading._shutdown()",
        ("timeout",),
    ),
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
    for _ in range(10**6): x = itertools.chain(x, ())
    del x
    return 'got away'
""",
        ("crashed", "memory", "cpu", "wrong"),
    ),
}
# Scripts: too much printed.
FLOODS = {
    "print": "while True: print('x' * 1000)",
    "print without end of line": "import sys\nwhile True: sys.stdout.write('x' * 999)",
    "descriptor 1": "import os\nwhile True: os.write(1, bytes(9999))",
    "standard error": "import sys\nwhile True: sys.stderr.write('x' * 999)",
    "both": "import os\nwhile True: os.write(1, bytes(9999)), os.write(2, bytes(9999))",
    "a hole in stdout": "import os\nos.ftruncate(1, 1 << 19)\nos.lseek(1, 0, 2)",
    "a copy of descriptor 1": "import os\nos.dup2(1, 0)\nwhile True: os.write(0, bytes(9999))",
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
        for name, (act, refusals) in REFUSED.items()
        for attack in guarded(
            {f"bomb: {name}": _program(act)},
            *("rlimits", "files"),
            needs=("place",),
            refusals=refusals,
        )
    ),
    *guarded(
        {f"bomb: {name}": _program(act) for name, act in DISK.items()},
        "rlimits",
        "files",
        "slots",
        needs=("place",),
        refusals="ENOSPC EDQUOT EFBIG",
        layer="mount namespace",
    ),
    *(_call(name, source, held, "without", "rlimits") for name, (source, held) in CAUGHT.items()),
    *(_call(name, source, held, "bare") for name, (source, held) in LIVE.items()),
    *(
        Attack(
            name=f"flood: {name}",
            source=source,
            test=StdinTest("", "right"),
            held=("output", "exception"),
            twin="bare",
        )
        for name, source in FLOODS.items()
    ),
)
