"""Files outside the working directory: read, written, changed, listed, looked at."""

from __future__ import annotations

from .catalogue import ATTEMPT, RAW, Attack, guarded

# A file that a mount namespace hides does not exist for the program.
_REFUSALS = "EPERM EACCES ENOSYS ENOENT EROFS EXDEV"

# `at` is a directory open to all, with secret.txt, tree/leaf and an empty file in it.
WRITES = {
    "write a new file": "open(f'{at}/new', 'w').write('boo')",
    "write over a file": "open(f'{at}/secret.txt', 'w').write('boo')",
    "append to a file": "open(f'{at}/secret.txt', 'a').write('boo')",
    "cut a file by truncate(2)": "os.truncate(f'{at}/secret.txt', 1)",
    "remove a file": "os.unlink(f'{at}/secret.txt')",
    "remove a tree": "__import__('shutil').rmtree(f'{at}/tree')",
    "make a directory": "os.mkdir(f'{at}/made')",
    "remove a directory": "os.rmdir(f'{at}/hollow')",
    "rename a file": "os.rename(f'{at}/secret.txt', f'{at}/renamed')",
    "move a file in": "open('own', 'w').close(); os.rename('own', f'{at}/moved')",
    "move a file out": "os.rename(f'{at}/secret.txt', 'taken')",
    "make a symbolic link": "os.symlink('/', f'{at}/link')",
    "make a hard link": "open('own', 'w').close(); os.link('own', f'{at}/hard')",
    "write through a symbolic link": (
        "os.symlink(f'{at}/secret.txt', 'way'); open('way', 'a').write('boo')"
    ),
    "write through a hard link": (
        "os.link(f'{at}/secret.txt', 'same'); open('same', 'a').write('boo')"
    ),
    "write by way of ..": "open('../' * 40 + at.lstrip('/') + '/new', 'w').write('boo')",
    "write relative to an open directory": (
        "d = os.open(at, os.O_PATH); os.close(os.open('new', os.O_CREAT | os.O_WRONLY, dir_fd=d))"
    ),
    "write by way of /proc/self/root": "open(f'/proc/self/root{at}/new', 'w').write('boo')",
    "write from another working directory": "os.chdir(at); open('new', 'w').write('boo')",
    "write a database": (
        "import sqlite3\n"
        "    try: sqlite3.connect(f'{at}/base').execute('create table t (a)').connection.close()\n"
        "    except sqlite3.OperationalError as error: raise PermissionError(1, 'no') from error"
    ),
    "copy bytes by sendfile": (
        "open('own', 'w').write('boo'); i = os.open('own', os.O_RDONLY)\n"
        "    o = os.open(f'{at}/new', os.O_CREAT | os.O_WRONLY); os.sendfile(o, i, 0, 3)"
    ),
}

# A sandbox may pretend: looking again settles it.
METADATA = {
    "chmod": "os.chmod(f'{at}/secret.txt', 0o604); os.stat(f'{at}/secret.txt')",
    "chmod of a directory": "os.chmod(f'{at}/tree', 0o705); os.stat(f'{at}/tree')",
    "utime": "os.utime(f'{at}/secret.txt', (1, 1)); os.stat(f'{at}/secret.txt')",
    "setxattr": "os.setxattr(f'{at}/secret.txt', 'user.boo', b'boo')",
    "removexattr": "os.removexattr(f'{at}/secret.txt', 'user.kept')",
}
METADATA_OF_OPENED = {
    "chmod by descriptor": "os.fchmod(os.open(f'{at}/secret.txt', os.O_RDONLY), 0o604)",
}

# Named by the C library's linkat, since os.link would not follow the link of /proc.
UNNAMED = """
    import ctypes
    libc = ctypes.CDLL(None, use_errno=True)
    fd = os.open(at, os.O_TMPFILE | os.O_WRONLY)
    if libc.linkat(-100, f'/proc/self/fd/{fd}'.encode(), -100, f'{at}/unnamed'.encode(), 0x400):
        raise OSError(ctypes.get_errno(), 'linkat')
"""
FIFO = {"make a fifo": "os.mkfifo(f'{at}/fifo')"}

# To the owner it has already: allowed to anybody who owns it, and it clears the set-id bits.
CHOWN = {"chown": "os.chown(f'{at}/setid', os.stat(f'{at}/setid').st_uid, -1)"}

READS = {
    "read a file": "open(f'{at}/secret.txt').read()",
    "read by way of ..": "open('../' * 40 + at.lstrip('/') + '/secret.txt').read()",
    "read through a symbolic link": "(os.symlink(at, 'way'), open('way/secret.txt').read())[1]",
    "read through a hard link": ("(os.link(f'{at}/secret.txt', 'same'), open('same').read())[1]"),
    "read a file moved in": ("(os.rename(f'{at}/secret.txt', 'taken'), open('taken').read())[1]"),
    "read relative to an open directory": (
        "os.read(os.open('secret.txt', os.O_RDONLY, dir_fd=os.open(at, os.O_PATH)), 99).decode()"
    ),
    "read by way of /proc/self/root": "open(f'/proc/self/root{at}/secret.txt').read()",
    "read by way of /proc/self/cwd": (
        "open('/proc/self/cwd/' + '../' * 40 + at.lstrip('/') + '/secret.txt').read()"
    ),
    "read a line by linecache": (
        "__import__('linecache').getline(f'{at}/secret.txt', 1).strip()"
        " or open(f'{at}/secret.txt').read()"
    ),
    "import a module": (
        "(sys.path.insert(0, at), __import__('secret_module').secret)[1] if os.listdir(at) else ''"
    ),
    "map a file": (
        "bytes(__import__('mmap').mmap(os.open(f'{at}/secret.txt', os.O_RDONLY), 0,"
        " access=1)).decode()"
    ),
}

WRITE_TERMINAL = "os.write(os.open(terminal, os.O_RDWR | os.O_NOCTTY), name.encode())"
TYPE_TERMINAL = """
    import fcntl, termios
    try: os.setsid()
    except PermissionError: pass
    opened = os.open(terminal, os.O_RDWR)
    for letter in name.encode() + b'\\n':
        fcntl.ioctl(opened, termios.TIOCSTI, bytes([letter]))
"""
# name: what the program looks at; a secret is not needed where all of it is none of its business.
LOOKS = {
    "read /etc/passwd": "open('/etc/passwd').read(1)",
    "list the root directory": "os.listdir('/')[0]",
    "list the temporary directory": "os.listdir('/tmp'), os.listdir(up)",
    "open what is in the home directory": "opened(home)",
    "read the repository": "open(repository).read(1)",
    "write to /dev/shm": "open('/dev/shm/' + name, 'x').close(), os.unlink('/dev/shm/' + name)",
    "list other programs' directories": (
        "listed(n for n in os.listdir('..') if n != os.path.basename(os.getcwd()))"
    ),
    "write next to the working directory": (
        "open('../' + name, 'x').close(), os.unlink('../' + name)"
    ),
}
LOOKS_AT_THE_PARENT = {
    "read the parent's environment": "open(f'/proc/{os.getppid()}/environ', 'rb').read(0)",
    "read the parent's memory": "open(f'/proc/{os.getppid()}/mem', 'rb', 0).read(0)",
}


_OPENED = """
def opened(paths):
    for path in paths:
        try: return os.close(os.open(path, os.O_RDONLY))
        except OSError as error: last = error
    raise last
def listed(names):
    last = FileNotFoundError(errno.ENOENT, 'there are none')
    for name in names:
        try: return os.listdir('../' + name)
        except OSError as error: last = error
    raise last
"""

LOOKS_AT_DESCRIPTORS = {
    "open the parent's descriptors": "os.listdir(f'/proc/{os.getppid()}/fd')[0]",
    "list the caller's descriptors": "os.listdir(f'/proc/{caller}/fd')[0]",
}
# Needs all the rights that the caller has, or those of root.
LOOKS_AT_OTHERS = {
    "read the caller's environment": "open(f'/proc/{caller}/environ', 'rb').read(1)[0]",
    "read the environment of process 1": "open('/proc/1/environ', 'rb').read(1)[0]",
}


def _program(act: str, arguments: str) -> str:
    return f"{ATTEMPT}{_OPENED}\nimport sys\ndef act(place, {arguments}):\n    settle(place)\n" + (
        f"    {act}\ndef attack(*given): return attempt(lambda: act(*given))\n"
    )


def _reader(expression: str) -> str:
    return f"""{ATTEMPT}
import sys
def attack(place, at):
    settle(place)
    try: return {expression}
    except OSError as error: return 'held: ' + errno.errorcode.get(error.errno, str(error))
"""


_LOOK_NEEDS = ("place", "name", "up", "home", "repository", "caller")

ATTACKS: tuple[Attack, ...] = (
    *guarded(
        {
            f"files: {name}": _program(act, "at")
            for name, act in {**WRITES, "write an unnamed file": UNNAMED.strip()}.items()
        },
        "files",
        needs=("place", "outside"),
        refusals=_REFUSALS,
        trace="outside",
    ),
    *guarded(
        {f"files: {name}": _program(act, "at") for name, act in FIFO.items()},
        *("files", "special files"),
        needs=("place", "outside"),
        refusals=_REFUSALS,
        trace="outside",
    ),
    *guarded(
        {f"metadata: {name}": _program(act, "at") for name, act in (METADATA | CHOWN).items()},
        "metadata",
        needs=("place", "outside"),
        refusals=_REFUSALS,
        trace="outside",
    ),
    *guarded(
        {f"metadata: {name}": _program(act, "at") for name, act in METADATA_OF_OPENED.items()},
        *("metadata", "files"),
        needs=("place", "outside"),
        refusals=_REFUSALS,
        trace="outside",
    ),
    *guarded(
        {f"files: {name}": _reader(expression) for name, expression in READS.items()},
        "files",
        needs=("place", "outside"),
        expected="secret",
        refusals=_REFUSALS,
    ),
    *guarded(
        {
            f"files: {name}": _program(f"return {look}", ", ".join(_LOOK_NEEDS[1:]))
            for name, look in LOOKS.items()
        },
        "files",
        needs=_LOOK_NEEDS,
        refusals=_REFUSALS + " ESRCH",
    ),
    *guarded(
        {
            f"files: {name}": _program(f"return {look}", ", ".join(_LOOK_NEEDS[1:]))
            for name, look in LOOKS_AT_THE_PARENT.items()
        },
        *("files", "processes"),
        needs=_LOOK_NEEDS,
        refusals=_REFUSALS + " ESRCH",
    ),
    *guarded(
        {
            f"files: {name}": _program(f"return {look}", "caller")
            for name, look in LOOKS_AT_DESCRIPTORS.items()
        },
        "files",
        needs=("place", "caller"),
        refusals=_REFUSALS + " ESRCH",
        privilege="a user namespace by itself keeps other processes out of reach",
    ),
    *guarded(
        {
            f"files: {name}": _program(f"return {look}", "caller")
            for name, look in LOOKS_AT_OTHERS.items()
        },
        *("files", "rights"),
        needs=("place", "caller"),
        refusals=_REFUSALS + " ESRCH",
        privilege="the kernel asks for the rights of whoever is looked at",
    ),
    *guarded(
        {"files: look at the size of a file": _program("os.stat(f'{at}/secret.txt')", "at")},
        "files",
        needs=("place", "outside"),
        refusals=_REFUSALS,
        layer="mount namespace",  # Landlock does not cover stat
    ),
    *guarded(
        {"files: write to the caller's terminal": _program(WRITE_TERMINAL, "name, terminal")},
        "files",
        needs=("place", "name", "terminal"),
        refusals=_REFUSALS,
        trace="terminal",
    ),
    *guarded(
        {"files: type into the caller's terminal": _program(TYPE_TERMINAL, "name, terminal")},
        *("files", "terminals"),
        needs=("place", "name", "terminal"),
        refusals=_REFUSALS,
        trace="terminal",
        privilege="typing into a terminal may be off (dev.tty.legacy_tiocsti)",
    ),
    *guarded(
        {
            "files: open by handle": RAW
            + """
def attack(at):
    handle = ctypes.create_string_buffer(bytes([128, 0, 0, 0]) + bytes(140))
    mount = ctypes.c_int()
    result = raw('name_to_handle_at', -100, f'{at}/secret.txt'.encode(), handle,
                 ctypes.byref(mount), 0)
    if result == 0:
        result = raw('open_by_handle_at', os.open(at, os.O_RDONLY), handle, 0)
    return tell(result)
"""
        },
        *("files", "kernel", "rights"),
        needs=("outside",),
        refusals=_REFUSALS + " EOPNOTSUPP",
        privilege="it takes the right to search every directory",
    ),
)
