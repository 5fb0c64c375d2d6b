"""What the caller, the sandbox or an earlier program leaves lying about, and what stays behind."""

from __future__ import annotations

from peft_bench_sandbox import AssertTest, CallTest, Program

from .catalogue import ATTEMPT, MARK, PLACES, Attack, guarded

# The caller has `ATTACK_SECRET` in its environment, and an inheritable descriptor to `outside`.
INHERITED = {
    "the caller's environment": """
import ctypes, os
def attack(inherited):
    seen = [*os.environb]
    environment = ctypes.POINTER(ctypes.c_char_p).in_dll(ctypes.CDLL(None), 'environ')
    for n in range(999):
        if not environment or environment[n] is None: break
        seen.append(environment[n])
    found = any(b'ATTACK_SECRET' in text for text in seen)
    return 'escaped' if found else 'held: EPERM'
""",
    "the caller's descriptors": """
import os
def attack(inherited):
    for fd in range(1024):
        try: at = os.readlink(f'/proc/self/fd/{fd}')
        except OSError: at = ''
        try: names = os.listdir(fd)
        except OSError: names = []
        if at == inherited or 'secret.txt' in names: return 'escaped'
    return 'held: EBADF'
""",
}

DESCRIPTORS = """
def attack():
    found = []
    for fd in range(max(REPORT, CHANNEL) + 1, 4096):
        try: os.fstat(fd)
        except OSError: continue
        found.append(fd)
    return 'escaped' if found else 'held: EBADF'
"""

NEIGHBOURS_DIRECTORY = """
def act(place):
    settle(place)
    own = os.path.basename(os.getcwd())
    for n in range(256):
        if str(n) == own: continue
        try: os.close(os.open(f'../{n}/boo', os.O_CREAT | os.O_WRONLY))
        except FileNotFoundError: continue
        return
    raise FileNotFoundError(2, 'there are none')
def attack(place): return attempt(lambda: act(place))
"""

# Trees that are hard to remove: the next program in the same place must find it empty all the same.
# Each program looks for what one before it has left, and then does the same.
LITTER = {
    "deep": "for _ in range(1500): os.mkdir('d' * 50); os.chdir('d' * 50)",
    "many": "for n in range(2000): os.mkdir(str(n)); os.symlink('/', f'{n}/link')",
    "odd names": "for n in (b'\\xff\\xfe', b'-rf', b'a\\nb', b' ', b'*', b'x' * 255): os.mkdir(n)",
    "no rights": (
        "os.mkdir('a'); os.mkdir('a/b'); open('a/b/c', 'w').close(); fd = os.open('a', 0)\n"
        "    here = os.open('.', 0); os.chmod('a', 0); os.fchmod(fd, 0); os.fchmod(here, 0)"
    ),
    "links": "os.symlink('/', 'root'); os.symlink('nowhere', 'dangling'); os.link('root', 'same')",
    "full": "open('big', 'wb').write(bytes(1 << 22))",
}

_LITTER = """
import os
def attack():
    assert os.getcwd() != '/'
    try: found = os.listdir('.')
    except OSError: found = True
    if found: return 'escaped'
    {litter}
    return 'littered'
"""

ATTACKS: tuple[Attack, ...] = (
    *(
        attack
        for guard, name in (("environment", "environment"), ("descriptors", "descriptors"))
        for attack in guarded(
            {f"leftovers: the caller's {name}": INHERITED[f"the caller's {name}"]},
            guard,
            needs=("inherited",),
            refusals="EPERM EBADF",
        )
    ),
    *guarded(
        {"leftovers: the sandbox's own descriptors": DESCRIPTORS},
        "descriptors",
        prelude=PLACES,
        refusals="EBADF",
    ),
    *guarded(
        {"leftovers: write into a neighbour's directory": NEIGHBOURS_DIRECTORY},
        "slots",
        prelude=ATTEMPT,
        needs=("place",),
        refusals="EPERM EACCES ENOENT",
        layer="mount namespace",  # without it nobody has a directory
    ),
    *(
        Attack(
            name=f"leftovers: litter, {name}",
            source=_LITTER.format(litter=litter),
            test=CallTest("attack", [], "escaped"),
            says="littered",
            twin="without",
            without=frozenset({"cleaning"}),
            copies=8,
            layer="mount namespace",
        )
        for name, litter in LITTER.items()
    ),
)

# What one program may try to tell the next by the descriptors that both are given; one way each,
# since a file that is seen to be touched is no longer handed on.
WAYS = {
    "time": "os.utime(fd, (12345, 12345))",
    "mode": "os.fchmod(fd, 0o604)",
    "attributes": "os.setxattr(fd, 'user.boo', b'boo')",
    "flags": "fcntl.fcntl(fd, fcntl.F_SETFL, os.O_APPEND | os.O_NONBLOCK | os.O_ASYNC)",
    "seals": "fcntl.fcntl(fd, 1033, 0xE)",  # F_ADD_SEALS
    "a lock": "fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)",
    "a lock of a process": "fcntl.lockf(fd, fcntl.LOCK_SH | fcntl.LOCK_NB)",
    "a lock of an open file": "fcntl.fcntl(fd, 37, struct.pack('hhqqi4x', 0, 0, 42, 7, 0))",
    "a size": "os.ftruncate(fd, 12345)",
    "a place": "os.lseek(fd, 12345, os.SEEK_SET)",
}
TELL = """
import fcntl, os, struct
def attack():
    for fd in (0, 1, 2, 4):
        try: {way}
        except OSError: pass
    return []
"""
HEAR = """
import fcntl, os, stat, struct, time
def is_locked():
    fresh = os.open('/dev/null', os.O_RDWR)
    try: fcntl.flock(fresh, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError: return True
    finally: os.close(fresh)
    for fd in (0, 1, 2, 4):
        try: lock = fcntl.fcntl(fd, fcntl.F_GETLK, struct.pack('hhqqi4x', 1, 0, 0, 0, 0))
        except OSError: continue
        if struct.unpack('hhqqi4x', lock)[0] != fcntl.F_UNLCK: return True
    return False
def attack():
    heard = []
    for _ in range(40):  # one of a program that is still there goes away with it
        if not is_locked(): break
        time.sleep(0.01)
    else: heard.append('a lock')
    for fd in (0, 1, 2, 4):
        try: status = os.fstat(fd)
        except OSError: continue
        if fcntl.fcntl(fd, fcntl.F_GETFL) & (os.O_APPEND | os.O_NONBLOCK | os.O_ASYNC):
            heard.append('flags')
        if not stat.S_ISREG(status.st_mode): continue
        if status.st_mtime == 12345: heard.append('time')
        if status.st_mode & 0o777 == 0o604: heard.append('mode')
        if os.listxattr(fd): heard.append('attributes')
        try: seals = fcntl.fcntl(fd, 1034)  # F_GET_SEALS; 1 is a memory file's own
        except OSError: seals = 1
        if seals & 0xE: heard.append('seals')
        if status.st_size or os.lseek(fd, 0, os.SEEK_CUR): heard.append('size or place')
    return heard
"""


def tellers_and_hearers() -> list[Program]:
    """Programs that leave signs in turn with such as look for them; each has to pass."""
    programs = []
    for name, way in WAYS.items():
        test = CallTest("attack", [], [])
        teller = Program(f"tells by {name}", TELL.format(way=way), (test,))
        programs += [teller] * 8 + [Program(f"hears after {name}", HEAR, (test,))] * 16
    return programs


# Goes on after its verdict as long as it may. MARKER is its name among the processes.
LINGER = (
    MARK
    + """
import sys, threading, time
def wait(): time.sleep(3)
ours = sys._getframe().f_back.f_globals
read_frame = ours["read_frame"]
ours["read_frame"] = lambda *told: read_frame(*told) or wait()
threading.Thread(target=wait).start()
name_process({marker!r})
def answer(): return 7
"""
)


def lingering(marker: str) -> Program:
    """A program that is not over when its test is."""
    test = AssertTest("assert answer() == 42", "answer")
    return Program("lingering", LINGER.format(marker=marker), (test,))
