"""The kernel's own interface: system calls by name, on x86-64 and aarch64.

The C library offers no functions for much of what a seal needs, so everything goes through
`syscall(2)`. Imports are kept to a minimum: every page counts for the speed of a fork.
"""

from __future__ import annotations

import ctypes
import errno
import os

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

# NAME X86-64 AARCH64, a dash where the architecture has none.
_TABLE = """
read 0 63, write 1 64, readv 19 65, writev 20 66, pread64 17 67, pwrite64 18 68, preadv 295 69,
pwritev 296 70, preadv2 327 286, pwritev2 328 287, open 2 -, openat 257 56, close 3 57,
close_range 436 436, creat 85 -, stat 4 -, fstat 5 80, lstat 6 -, newfstatat 262 79,
statx 332 291, access 21 -, faccessat 269 48, faccessat2 439 439, lseek 8 62, readlink 89 -,
readlinkat 267 78, getdents 78 -, getdents64 217 61, getcwd 79 17, chdir 80 49, fchdir 81 50,
mkdir 83 -, mkdirat 258 34, rmdir 84 -, unlink 87 -, unlinkat 263 35, rename 82 -,
renameat 264 38, renameat2 316 276, link 86 -, linkat 265 37, symlink 88 -, symlinkat 266 36,
truncate 76 45, ftruncate 77 46, fallocate 285 47, fsync 74 82, fdatasync 75 83, flock 73 32,
fcntl 72 25, umask 95 166, dup 32 23, dup2 33 -, dup3 292 24, pipe 22 -, pipe2 293 59,
ioctl 16 29, sendfile 40 71, splice 275 76, copy_file_range 326 285, fadvise64 221 223,
statfs 137 43, fstatfs 138 44, getxattr 191 8, lgetxattr 192 9, fgetxattr 193 10,
listxattr 194 11, llistxattr 195 12, flistxattr 196 13, mmap 9 222, munmap 11 215,
mprotect 10 226, mremap 25 216, brk 12 214, madvise 28 233, msync 26 227, memfd_create 319 279,
futex 202 98, set_robust_list 273 99, get_robust_list 274 100, set_tid_address 218 96,
gettid 186 178, clone 56 220, rseq 334 293, sched_yield 24 124, exit 60 93, exit_group 231 94,
arch_prctl 158 -, sigaltstack 131 132, rt_sigaction 13 134, rt_sigprocmask 14 135,
rt_sigreturn 15 139, rt_sigpending 127 136, rt_sigtimedwait 128 137, rt_sigsuspend 130 133,
restart_syscall 219 128, pause 34 -, alarm 37 -, getitimer 36 102, setitimer 38 103,
timer_create 222 107, timer_settime 223 110, timer_gettime 224 108, timer_getoverrun 225 109,
timer_delete 226 111, timerfd_create 283 85, timerfd_settime 286 86, timerfd_gettime 287 87,
signalfd4 289 74, eventfd 284 -, eventfd2 290 19, epoll_create 213 -, epoll_create1 291 20,
epoll_ctl 233 21, epoll_wait 232 -, epoll_pwait 281 22, epoll_pwait2 441 441, poll 7 -,
ppoll 271 73, select 23 -, pselect6 270 72, nanosleep 35 101, clock_nanosleep 230 115,
clock_gettime 228 113, clock_getres 229 114, gettimeofday 96 169, time 201 -, times 100 153,
getcpu 309 168, getpid 39 172, getppid 110 173, getuid 102 174, geteuid 107 175, getgid 104 176,
getegid 108 177, getresuid 118 148, getresgid 120 150, getgroups 115 158, getpgrp 111 -,
getpgid 121 155, getsid 124 156, uname 63 160, sysinfo 99 179, getrusage 98 165,
getrlimit 97 163, setrlimit 160 164, prlimit64 302 261, getrandom 318 278,
sched_getaffinity 204 123, sched_get_priority_max 146 125, sched_get_priority_min 147 126,
wait4 61 260, waitid 247 95, fork 57 -, kill 62 129, tgkill 234 131, prctl 157 167,
seccomp 317 277, landlock_restrict_self 446 446, socketpair 53 199, sendto 44 206,
recvfrom 45 207, sendmsg 46 211, recvmsg 47 212, shutdown 48 210, getsockname 51 204,
getpeername 52 205, getsockopt 55 209, chmod 90 -, fchmod 91 52, fchmodat 268 53,
utimensat 280 88, utime 132 -, utimes 235 -, futimesat 261 -, socket 41 198, connect 42 203,
bind 49 200, listen 50 201, accept 43 202, accept4 288 242, setsockopt 54 208, sendmmsg 307 269,
recvmmsg 299 243, chown 92 -, fchown 93 55, lchown 94 -, fchownat 260 54, setxattr 188 5,
lsetxattr 189 6, fsetxattr 190 7, removexattr 197 14, lremovexattr 198 15, fremovexattr 199 16,
fchmodat2 452 452, execve 59 221, execveat 322 281, vfork 58 -, tkill 200 130,
rt_sigqueueinfo 129 138, rt_tgsigqueueinfo 297 240, pidfd_send_signal 424 424,
pidfd_open 434 434, pidfd_getfd 438 438, ptrace 101 117, process_vm_readv 310 270,
process_vm_writev 311 271, kcmp 312 272, setpriority 141 140, getpriority 140 141,
sched_setaffinity 203 122, sched_setscheduler 144 119, sched_setparam 142 118,
sched_setattr 314 274, ioprio_set 251 30, shmget 29 194, shmat 30 196, shmctl 31 195,
shmdt 67 197, msgget 68 186, msgsnd 69 189, msgrcv 70 188, msgctl 71 187, semget 64 190,
semop 65 193, semtimedop 220 192, semctl 66 191, mq_open 240 180, mq_unlink 241 181,
mq_timedsend 242 182, mq_timedreceive 243 183, mq_notify 244 184, mq_getsetattr 245 185,
io_uring_setup 425 425, io_uring_enter 426 426, io_uring_register 427 427, bpf 321 280,
userfaultfd 323 282, perf_event_open 298 241, add_key 248 217, request_key 249 218,
keyctl 250 219, unshare 272 97, setns 308 268, mount 165 40, umount2 166 39, clone3 435 435,
landlock_create_ruleset 444 444, landlock_add_rule 445 445, capset 126 91, pivot_root 155 41,
mount_setattr 442 442, open_tree 428 428, move_mount 429 429, fsopen 430 430, chroot 161 51,
inotify_init1 294 26, fanotify_init 300 262, personality 135 92, mlock 149 228,
memfd_secret 447 447, sethostname 170 161, settimeofday 164 170, adjtimex 159 171,
init_module 175 105, syslog 103 116, quotactl 179 60, mknod 133 -, mknodat 259 33, setsid 112 157,
name_to_handle_at 303 264, open_by_handle_at 304 265
"""

AUDIT_ARCH = {"x86_64": 0xC000003E, "aarch64": 0xC00000B7}
"""What seccomp calls each machine."""

NEWEST = 469
"""The newest system call number known here (Linux 6.17), the same on both machines."""


def table(machine: str) -> dict[str, int]:
    """System call numbers of a machine by name. Raises OSError (ENOSYS) for an unknown one."""
    if machine not in AUDIT_ARCH:
        raise OSError(errno.ENOSYS, f"no system call numbers for the machine {machine}")
    column = 1 if machine == "x86_64" else 2
    rows = [row.split() for row in _TABLE.replace("\n", " ").split(",")]
    return {row[0]: int(row[column]) for row in rows if row[column] != "-"}


MACHINE = os.uname().machine
NUMBERS: dict[str, int] = table(MACHINE) if MACHINE in AUDIT_ARCH else {}

_libc = ctypes.CDLL(None, use_errno=True)
raw: Callable[..., int] = _libc.syscall
_libc.syscall.restype = ctypes.c_long

PR_SET_PDEATHSIG = 1
PR_SET_DUMPABLE = 4
PR_SET_NO_NEW_PRIVS = 38
RLIMIT_CPU, RLIMIT_FSIZE, RLIMIT_CORE, RLIMIT_NPROC = 0, 1, 4, 6
RLIMIT_NOFILE, RLIMIT_MEMLOCK, RLIMIT_AS, RLIMIT_MSGQUEUE = 7, 8, 9, 12
NO_LIMIT = (1 << 64) - 1
SIGINT = 2
SIGKILL = 9

NOTHING = (ctypes.c_long(NUMBERS.get("sched_yield", -1)),)
"""What `raw` is given for a call that changes nothing."""

_CAPABILITY_VERSION_3 = 0x20080522


def call(name: str, *args: int | bytes | ctypes.Array[ctypes.c_char] | None) -> int:
    """Makes a system call and returns its result.

    Raises OSError with the call's name as its text, ENOSYS if this machine has no such call.
    """
    number = NUMBERS.get(name)
    if number is None:
        raise OSError(errno.ENOSYS, name)
    # A bare int would travel as a C int, with its upper half left undefined.
    words = [ctypes.c_long(arg) if isinstance(arg, int) else arg for arg in args]
    result = raw(ctypes.c_long(number), *words)
    if result < 0:
        raise OSError(ctypes.get_errno(), name)
    return result


def prctl(option: int, value: int) -> None:
    """prctl with one argument. Raises OSError."""
    call("prctl", option, value, 0, 0, 0)


def limit_call(what: int, pair: tuple[int, int]) -> tuple[object, ...]:
    """What `raw` is to be given to set a limit of this process: made before, for many children.

    The module `resource` would be another library for every child to map.
    """
    words = b"".join([value.to_bytes(8, "little") for value in pair])
    return ctypes.c_long(NUMBERS["prlimit64"]), ctypes.c_long(0), ctypes.c_long(what), words, None


def limit(what: int, pair: tuple[int, int] | None = None) -> tuple[int, int]:
    """A limit of this process, soft and hard, as it was before a pair was set. Raises OSError."""
    words = None if pair is None else b"".join([value.to_bytes(8, "little") for value in pair])
    was = ctypes.create_string_buffer(16)
    call("prlimit64", 0, what, words, was)
    return int.from_bytes(was.raw[:8], "little"), int.from_bytes(was.raw[8:], "little")


def drop_capabilities() -> None:
    """Empties this thread's effective, permitted, inheritable and ambient sets. Raises OSError."""
    header = _CAPABILITY_VERSION_3.to_bytes(4, "little") + bytes(4)
    call("capset", header, bytes(24))


def ignore_interrupt() -> None:
    """Leaves SIGINT to others (the module `signal` would cost an import of enum)."""
    _libc.signal(SIGINT, ctypes.c_void_p(1))


def why(error: OSError) -> str:
    """An error in plain words, e.g. `unshare: EPERM`."""
    name = errno.errorcode.get(error.errno or 0, str(error.errno))
    return f"{error.filename or error.strerror}: {name}"
