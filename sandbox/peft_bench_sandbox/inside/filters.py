"""Two seccomp filters in classic BPF: what the zygote may call, and what a program may not.

The zygote's is a list of what is allowed, searched in halves; a program's is a short list of
what is refused on top, since it is attached once for every program.
"""

from __future__ import annotations

import ctypes
import errno

from . import kernel

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

    Instruction = tuple[int, int, int, int]  # code, jump if true, jump if false, operand
    Code = list[Instruction]

_LOAD, _JUMP, _EQUAL, _AT_LEAST, _ANY_BIT, _AND, _RETURN = 0x20, 0x05, 0x15, 0x35, 0x45, 0x54, 0x06
_NUMBER, _ARCH, _ARGUMENTS = 0, 4, 16  # offsets in struct seccomp_data
_X32 = 0x40000000

ALLOW = 0x7FFF0000
KILL = 0x80000000
DENY = 0x00050000 | errno.EPERM
ABSENT = 0x00050000 | errno.ENOSYS
NOT_A_TERMINAL = 0x00050000 | errno.ENOTTY
PRETEND = 0x00050000  # the call is left out and told to have succeeded

ALLOWED = """
    read write readv writev pread64 pwrite64 preadv pwritev preadv2 pwritev2 open openat close
    close_range creat stat fstat lstat newfstatat statx access faccessat faccessat2 lseek readlink
    readlinkat getdents getdents64 getcwd chdir fchdir mkdir mkdirat rmdir unlink unlinkat rename
    renameat renameat2 link linkat symlink symlinkat truncate ftruncate fallocate fsync fdatasync
    flock umask dup dup2 dup3 pipe pipe2 sendfile splice copy_file_range fadvise64 statfs fstatfs
    getxattr lgetxattr fgetxattr listxattr llistxattr flistxattr
    mmap munmap mprotect mremap brk madvise msync memfd_create
    futex set_robust_list get_robust_list set_tid_address gettid rseq sched_yield exit exit_group
    arch_prctl sigaltstack rt_sigaction rt_sigprocmask rt_sigreturn rt_sigpending rt_sigtimedwait
    rt_sigsuspend restart_syscall pause alarm getitimer setitimer timer_create timer_settime
    timer_gettime timer_getoverrun timer_delete timerfd_create timerfd_settime timerfd_gettime
    signalfd4 eventfd eventfd2 epoll_create epoll_create1 epoll_ctl epoll_wait epoll_pwait
    epoll_pwait2 poll ppoll select pselect6 nanosleep clock_nanosleep clock_gettime clock_getres
    gettimeofday time times getcpu
    getpid getppid getuid geteuid getgid getegid getresuid getresgid getgroups getpgrp getpgid
    getsid uname sysinfo getrusage getrlimit setrlimit getrandom sched_getaffinity
    sched_get_priority_max sched_get_priority_min wait4 waitid fork kill tgkill prctl seccomp
    landlock_create_ruleset landlock_add_rule landlock_restrict_self
    sendto recvfrom sendmsg recvmsg shutdown getsockname getpeername getsockopt
"""
METADATA = "chmod fchmod fchmodat utimensat utime utimes futimesat"
"""Changes of modes and times: of use where a program has a directory of its own."""
OTHER_KINDS = ("32-bit", "x32")
"""What can be freed besides calls: those that a machine knows for programs of another kind."""
_ABSENT = ("clone3", "fchmodat2")  # the C library then falls back on clone and fchmodat

_CLONE_NEW = 0x7E020000  # every CLONE_NEW* bit that clone(2) takes
_CLONE_THREAD = 0x00010000
_IOCTL = (0x5401, 0x5413, 0x541B, 0x5421, 0x5450, 0x5451)
"""TCGETS TIOCGWINSZ FIONREAD FIONBIO FIONCLEX FIOCLEX"""
_FCNTL = (0, 1, 2, 3, 4, 5, 6, 7, 1030, 1032, 1034)
"""Duplicates, flags and locks. Not F_SETOWN and F_SETSIG, which send any signal to anyone, not
F_SETPIPE_SZ and F_SETLEASE, and not F_OFD_SETLK: a lock of an open file and not of a process stays
on what the next program is given."""
_AF_UNIX, _SOCK_STREAM, _SOCK_FLAGS = 1, 1, 0x80800
_PR_NAMES = (15, 16)  # PR_SET_NAME, PR_GET_NAME


def _argument(index: int, high: bool = False) -> Instruction:
    return (_LOAD, 0, 0, _ARGUMENTS + 8 * index + (4 if high else 0))


def _return(action: int) -> Code:
    return [(_RETURN, 0, 0, action)]


def _one_of(index: int, values: tuple[int, ...], otherwise: int) -> Code:
    """Allows the call if the lower half of an argument is among values."""
    last = len(values)
    tests = [(_EQUAL, last - place, 0, value) for place, value in enumerate(values)]
    return [_argument(index), *tests, *_return(otherwise), *_return(ALLOW)]


def _rules() -> dict[str, Code]:
    """What decides by a call's arguments, by the call's name."""
    return {
        "clone": [_argument(0), (_ANY_BIT, 0, 1, _CLONE_NEW), *_return(DENY), *_return(ALLOW)],
        "ioctl": _one_of(1, _IOCTL, NOT_A_TERMINAL),
        "fcntl": _one_of(1, _FCNTL, DENY),
        "prlimit64": _one_of(0, (0,), DENY),
        "socketpair": [
            *[_argument(0), (_EQUAL, 0, 3, _AF_UNIX)],
            *[_argument(1), (_AND, 0, 0, ~_SOCK_FLAGS & 0xFFFFFFFF), (_EQUAL, 1, 0, _SOCK_STREAM)],
            *[*_return(DENY), *_return(ALLOW)],
        ],
    }


def _pretend_by_path() -> Code:
    """utimensat through a descriptor alone: a path could lead into a sibling's directory."""
    return [
        *[_argument(1), (_EQUAL, 0, 2, 0), _argument(1, high=True), (_EQUAL, 1, 0, 0)],
        *[*_return(PRETEND), *_return(ALLOW)],
    ]


def _leaves(
    machine: str, metadata: bool, freed: frozenset[str], shut: frozenset[str]
) -> list[tuple[int, Code]]:
    """(first number, code) of each run of numbers that are treated alike, in order."""
    numbers = kernel.table(machine)
    by_name: dict[str, Code] = {name: _return(ALLOW) for name in ALLOWED.split()}
    by_name |= _rules()
    if metadata:
        by_name |= {name: _return(PRETEND) for name in METADATA.split()}
        by_name |= {name: _return(ALLOW) for name in ("chmod", "fchmod", "fchmodat")}
        by_name["utimensat"] = _pretend_by_path()
    by_name |= {name: _return(DENY) for name in shut}
    by_name |= {name: _return(ALLOW) for name in freed}
    by_name |= {name: _return(ABSENT) for name in _ABSENT if name not in freed}
    codes = {numbers[name]: code for name, code in by_name.items() if name in numbers}
    leaves: list[tuple[int, Code]] = []
    for number in range(kernel.NEWEST + 1):
        code = codes.get(number) or _return(DENY)
        if not leaves or leaves[-1][1] != code:
            leaves.append((number, code))
    leaves.append((kernel.NEWEST + 1, _return(ABSENT)))
    leaves.append((_X32, _return(ALLOW if "x32" in freed else KILL)))
    return leaves


def _search(leaves: list[tuple[int, Code]]) -> Code:
    """Halving the leaves, each of which ends in a return."""
    if len(leaves) == 1:
        return leaves[0][1]
    middle = len(leaves) // 2
    low, high = _search(leaves[:middle]), _search(leaves[middle:])
    first = leaves[middle][0]
    if len(low) <= 255:
        return [(_AT_LEAST, len(low), 0, first), *low, *high]
    return [(_AT_LEAST, 0, 1, first), (_JUMP, 0, 0, len(low)), *low, *high]


def zygote_filter(
    machine: str,
    metadata: bool,
    freed: Iterable[str] = (),
    shut: Iterable[str] = (),
) -> Code:
    """What the zygote and every program may call; all else is refused.

    metadata: modes and times may be changed. freed: calls allowed whatever their arguments, and
    OTHER_KINDS, which then count by their numbers. shut: calls refused beyond the rule.
    Raises OSError (ENOSYS) for an unknown machine.
    """
    free = frozenset(freed)
    leaves = _leaves(machine, metadata, free, frozenset(shut))
    arch = (_EQUAL, 1, 0, kernel.AUDIT_ARCH[machine])
    own_kind: Code = [] if "32-bit" in free else [(_LOAD, 0, 0, _ARCH), arch, *_return(KILL)]
    return [*own_kind, (_LOAD, 0, 0, _NUMBER), *_search(leaves)]


def child_filter(machine: str, pid: int, metadata: bool, freed: Iterable[str] = ()) -> Code:
    """What a program may not do beyond the zygote's filter: no process, no signal but to itself.

    Nor a message with descriptors: what is under way in sockets is counted for a user, who is the
    zygote's as well, and it can be more than one may have before any other of his is refused.
    Changing a mode by path is left out and told to have succeeded, since the path could lead into
    a sibling's directory; through a descriptor it works. Without metadata the other filter refuses
    all of it (and must not be contradicted: of two errors the later filter's counts), as it does
    foreign architectures. freed: calls that are not refused here.
    """
    numbers = kernel.table(machine)
    deny, pretend = _return(DENY), _return(PRETEND)
    thread = [_argument(0), (_ANY_BIT, 1, 0, _CLONE_THREAD), *deny, *_return(ALLOW)]
    itself = [_argument(0), (_EQUAL, 1, 0, pid), *deny, *_return(ALLOW)]
    groups: list[tuple[str, Code]] = [
        ("clone", thread),
        ("kill tgkill", itself),
        ("prctl", _one_of(0, _PR_NAMES, DENY)),
        ("fork seccomp memfd_create sendmsg", deny),
        ("chmod fchmodat" if metadata else "", pretend),
    ]
    tests: list[tuple[int, int]] = []  # (number, where its code begins in the tail)
    tail = _return(ALLOW)
    for names, code in groups:
        wanted = [numbers[n] for n in names.split() if n in numbers and n not in set(freed)]
        if wanted:
            tests += [(number, len(tail)) for number in wanted]
            tail += code
    last = len(tests) - 1
    jumps = [(_EQUAL, last - i + at, 0, number) for i, (number, at) in enumerate(tests)]
    return [(_LOAD, 0, 0, _NUMBER), *jumps, *tail]


def pid_at(code: Code, pid: int) -> int | None:
    """Where a child filter compares with the process id, in bytes; None if it does not."""
    places = [i for i, one in enumerate(code) if one[0] == _EQUAL and one[3] == pid]
    return places[0] * 8 + 4 if places else None


def assemble(code: Code) -> bytearray:
    """struct sock_filter[], as both machines (little-endian) lay it out."""
    out = bytearray()
    for op, true, false, operand in code:
        out += op.to_bytes(2, "little") + bytes((true, false)) + operand.to_bytes(4, "little")
    return out


class Program:
    """Assembled instructions and the struct sock_fprog that tells the kernel where they are."""

    def __init__(self, code: Code) -> None:
        self.data = assemble(code)
        self._held = (ctypes.c_char * len(self.data)).from_buffer(self.data)
        pointer = ctypes.addressof(self._held)
        head = len(code).to_bytes(2, "little") + bytes(6) + pointer.to_bytes(8, "little")
        self.fprog = ctypes.create_string_buffer(head, len(head))

    def attach(self) -> None:
        """Puts the filter on this thread and what it makes from now on. Raises OSError."""
        kernel.call("seccomp", 1, 0, self.fprog)
