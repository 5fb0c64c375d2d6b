"""The kernel-level seal: most of it put on a zygote once, a thin layer on each of its children.

`enter` isolates the process, `Seal.finish` takes what it may do, `Seal.seal_child` separates the
children from the zygote and from each other. `layers` says what is in force, or why not.
"""

from __future__ import annotations

import ctypes
import errno
import os

from . import filters, kernel, landlock, namespaces, roots

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

_METADATA = """chmod fchmod fchmodat fchmodat2 utimensat utime utimes futimesat chown fchown lchown
    fchownat setxattr lsetxattr fsetxattr removexattr lremovexattr fremovexattr"""
_SYSTEM_V = """shmget shmat shmctl shmdt msgget msgsnd msgrcv msgctl semget semop semtimedop semctl
    mq_open mq_unlink mq_timedsend mq_timedreceive mq_notify mq_getsetattr"""
_KERNEL = """io_uring_setup io_uring_enter io_uring_register bpf userfaultfd perf_event_open
    add_key request_key keyctl unshare setns mount umount2 mount_setattr pivot_root chroot open_tree
    fsopen inotify_init1 fanotify_init personality mlock memfd_secret sethostname settimeofday
    adjtimex init_module syslog quotactl name_to_handle_at open_by_handle_at"""

GUARDS: dict[str, tuple[str, str, str, str]] = {
    # what may be left out in a test: (calls freed for all, calls freed in a child, layer, parts
    # of Landlock), each without the guard
    "network": (
        "socket connect bind listen accept accept4 setsockopt sendmmsg recvmmsg socketpair",
        *("", "network namespace", "network abstract"),
    ),
    "files": ("", "", "mount namespace", "files"),
    "metadata": (_METADATA, "chmod fchmodat", "mount namespace", ""),
    "exec": ("execve execveat", "", "", "execute"),
    "fork": ("vfork clone3", "fork clone", "", ""),
    "signals": (
        "tkill rt_sigqueueinfo rt_tgsigqueueinfo pidfd_open pidfd_send_signal fcntl",
        *("kill tgkill", "pid namespace", "signal"),
    ),
    # Landlock keeps its domains from tracing what is outside, whatever else it restricts.
    "processes": (
        "ptrace process_vm_readv process_vm_writev pidfd_open pidfd_getfd pidfd_send_signal kcmp",
        *("", "pid namespace", " ".join(landlock.PARTS)),
    ),
    "priority": (
        "getpriority setpriority sched_setaffinity sched_setscheduler sched_setparam sched_setattr"
        " ioprio_set prlimit64",
        *("", "pid namespace", ""),
    ),
    "ipc": (_SYSTEM_V, "", "ipc namespace", ""),
    "memory files": ("", "memfd_create", "", ""),
    "messages": ("", "sendmsg", "", ""),
    "locks": ("fcntl", "", "", ""),
    "kernel": (_KERNEL, "", "", ""),
    "filters": ("", "seccomp", "", ""),
    "special files": ("mknod mknodat", "", "", ""),
    "terminals": ("ioctl setsid", "", "", ""),
    "other kinds of calls": ("32-bit x32", "", "", ""),  # no names of calls: see filters.py
    "rights": ("", "", "unprivileged", ""),
    "slots": ("", "", "", "slots"),
}
_UNKNOWN_PID = 0x7FFFFFFF  # stands for the child's own until that is known


class _Left:
    """What the guards named leave out. Raises ValueError for an unknown guard."""

    def __init__(self, without: list[str]) -> None:
        if unknown := sorted(set(without) - set(GUARDS)):
            raise ValueError(f"without: no guard {unknown[0]!r}; there are {', '.join(GUARDS)}")
        rows = [GUARDS[name] for name in without]
        self.calls = {call for row in rows for call in row[0].split()}
        self.child_calls = {call for row in rows for call in row[1].split()}
        self.layers = {row[2] for row in rows if row[2]}
        self.parts = {part for row in rows for part in row[3].split()}
        self.dumpable = "processes" in without


def enter(plan: dict[str, Any]) -> Seal:
    """Puts this process into namespaces and a root of its own, as far as the kernel lets it.

    May fork: the caller's process then waits for the inner one, in which this returns, and ends
    as that does. Raises ValueError for an unknown guard in `without`, and OSError if a step fails
    that went well when it was tried.
    """
    left = _Left(plan["without"])
    layers = dict.fromkeys(left.layers, "left out")
    abi, layers["landlock"] = _landlock_abi()
    if abi and left.parts.issuperset(landlock.PARTS):
        layers["landlock"] = "left out"
    bounded = plan["slot_bytes"] > 0 and plan["slot_inodes"] > 0
    plan = plan | {"slots": plan["slots"] if bounded and abi else 0}
    way, reasons = namespaces.choose(plan, set(namespaces.FLAGS) - left.layers)
    layers |= reasons
    got = {layer for layer, reason in reasons.items() if not reason}
    layers["user namespace"] = "" if way else "; ".join(sorted(set(reasons.values())))
    stub = -1
    if way:
        way.enter(namespaces.mask(got), plan["uid"])
        stub = namespaces.leave_stub() if "pid namespace" in got else -1
    slots = roots.build(plan, plan["slots"]) if "mount namespace" in got else []
    if not abi and plan["slot_bytes"]:
        layers["landlock"] += " (so there is no directory to work in: siblings could see it)"
    if "unprivileged" not in left.layers:
        try:
            namespaces.give_up_root(plan["uid"])
            layers["unprivileged"] = ""
        except OSError as error:
            layers["unprivileged"] = kernel.why(error)
    if stub >= 0:
        namespaces.die_with(stub)
    return Seal(plan, left, layers, slots, abi)


def _landlock_abi() -> tuple[int, str]:
    try:
        return landlock.version(), ""
    except OSError as error:
        return 0, kernel.why(error)


class Seal:
    """What seals this process and its children.

    layers: name to "" if in force (seccomp and the like from `finish` on), else why not.
    slots: private working directories. landlock_abi: 0 if there is none.
    """

    def __init__(
        self, plan: dict[str, Any], left: _Left, layers: dict[str, str], slots: list[str], abi: int
    ) -> None:
        self.layers = layers
        self.slots = slots
        self.landlock_abi = abi
        self._plan = plan
        self._left = left
        self._own_root = not layers["mount namespace"]
        self._die_alone = bool(layers["pid namespace"])
        self._parent = os.getpid()
        self._bare = -1  # for a child without a slot
        self._rulesets = [-1] * len(slots)
        self._common: list[tuple[int, int]] = []
        self._base = ""
        self._program: filters.Program | None = None
        self._restrict = ctypes.c_long(kernel.NUMBERS.get("landlock_restrict_self", -1))
        self._seccomp = ctypes.c_long(kernel.NUMBERS.get("seccomp", -1))

    def finish(self) -> None:
        """Takes from this process what neither it nor its children need; `layers` says the rest."""
        self._try("no_new_privs", lambda: kernel.prctl(kernel.PR_SET_NO_NEW_PRIVS, 1))
        if self.landlock_abi:
            self._try("landlock", self._rule)
        if "unprivileged" not in self._left.layers:
            self._try("unprivileged", kernel.drop_capabilities)
        kernel.prctl(kernel.PR_SET_DUMPABLE, int(self._left.dumpable))
        self._try("seccomp", self._filter)
        if not self.layers["seccomp"]:
            self.layers["seccomp"] = namespaces.trial(lambda: self.seal_child(None))

    def seal_child(self, slot: int | None) -> None:
        """Seals a forked child for good, with a slot to write to or none.

        Needs the descriptors that `finish` opened: close the others afterwards. Raises OSError.
        """
        if self._die_alone:
            kernel.prctl(kernel.PR_SET_PDEATHSIG, kernel.SIGKILL)
            if os.getppid() != self._parent:
                os._exit(1)
        ruleset = self._bare if slot is None else self._rulesets[slot]
        if ruleset < 0 and self._bare >= 0:
            raise OSError(errno.EINVAL, "a slot that was not prepared")
        if ruleset >= 0 and kernel.raw(self._restrict, ruleset, 0) != 0:
            raise OSError(ctypes.get_errno(), "landlock_restrict_self")
        if self._program is not None:
            self._pid[0] = os.getpid()
            if kernel.raw(self._seccomp, 1, 0, self._program.fprog) != 0:
                raise OSError(ctypes.get_errno(), "seccomp")

    def idle(self, step: Callable[[], None]) -> None:
        """Do a step within which `seal_child` asks the kernel for nothing, whatever it says."""
        kept = self._restrict, self._seccomp, self._die_alone
        [harmless] = kernel.NOTHING
        self._restrict, self._seccomp, self._die_alone = harmless, harmless, False
        try:
            step()
        finally:
            self._restrict, self._seccomp, self._die_alone = kept

    def clean(self, slot: int) -> None:
        """Empties a slot whose child is gone, whatever tree it left. Raises OSError."""
        roots.empty(self.slots[slot])

    def _try(self, layer: str, step: Any) -> None:
        try:
            step()
            self.layers.setdefault(layer, "")
        except OSError as error:
            self.layers[layer] = kernel.why(error)

    def _rule(self) -> None:
        """Builds the children's rulesets; without a root of our own restricts this process."""
        parts = self._left.parts
        reading = landlock.READ | (landlock.EXECUTE if "execute" in parts else 0)
        writing = landlock.READ | landlock.WRITE_FILE
        if not self._own_root:
            hidden = frozenset(os.path.realpath(path) for path in self._plan["hidden"])
            rules = [(path, writing) for path in self._plan["devices"]]
            for root in self._plan["readable"]:
                rules += landlock.readable(root, hidden, reading)
            ruleset = landlock.ruleset(self.landlock_abi, landlock.opened(rules), parts)
            if ruleset >= 0:
                landlock.restrict(ruleset)
            return
        base = os.path.dirname(self.slots[0]) if self.slots else ""
        tops = [f"/{name}" for name in os.listdir("/") if f"/{name}" != base]
        rules = [(top, writing if top == "/dev" else reading) for top in tops]
        common = landlock.opened((top, right) for top, right in rules if not os.path.islink(top))
        self._common = common
        self._base = base if "slots" in parts else ""
        self._bare = landlock.ruleset(self.landlock_abi, common, parts)
        self._rulesets = [-1] * len(self.slots)

    def prepare(self, slot: int) -> None:
        """Builds the ruleset of a slot that is to be used for the first time, before the fork.

        Few are ever used, and a descriptor for each of them would be for every child to close.
        Raises OSError.
        """
        if self._bare >= 0 and self._rulesets[slot] < 0:
            own = landlock.opened([(self._base or self.slots[slot], landlock.WORK)])
            try:
                self._rulesets[slot] = landlock.ruleset(
                    self.landlock_abi, self._common + own, self._left.parts
                )
            finally:
                os.close(own[0][0])

    def _filter(self) -> None:
        """Attaches the zygote's filter and prepares the children's."""
        # Before ABI 3 Landlock lets a file be cut short by its path.
        shut = {"truncate"} if self.landlock_abi < 3 else set()
        freed = self._left.child_calls
        code = filters.child_filter(kernel.MACHINE, _UNKNOWN_PID, self._own_root, freed)
        program = filters.Program(code)
        place = filters.pid_at(code, _UNKNOWN_PID)
        # Without a place nothing compares with the pid, and what is patched is nothing.
        data, at = (program.data, place) if place is not None else (bytearray(4), 0)
        self._pid = memoryview(data)[at : at + 4].cast("I")
        own = filters.zygote_filter(kernel.MACHINE, self._own_root, self._left.calls, shut)
        filters.Program(own).attach()
        self._program = program
