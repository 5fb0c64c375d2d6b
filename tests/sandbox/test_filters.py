"""Both filters, for both machines, over every system call number, by an interpreter of our own."""

import errno
import sys

import pytest

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="seccomp is Linux's")

from peft_bench_sandbox.inside import filters, kernel  # noqa: E402
from peft_bench_sandbox.inside.seal import GUARDS  # noqa: E402

MACHINES = sorted(kernel.AUDIT_ARCH)
PID = 4242
X32 = 0x40000000
_HIGH = 0xDEAD << 32


def run(code: list[tuple[int, int, int, int]], arch: int, number: int, *args: int) -> int:
    """What a classic BPF program answers; raises if it reads, jumps or ends out of bounds."""
    data = number.to_bytes(4, "little") + arch.to_bytes(4, "little") + bytes(8)
    data += b"".join(arg.to_bytes(8, "little") for arg in (*args, *[0] * (6 - len(args))))
    at = value = 0
    for _ in range(len(code)):
        op, true, false, operand = code[at]
        at += 1
        if op == 0x20:
            assert operand % 4 == 0 and operand + 4 <= 64
            value = int.from_bytes(data[operand : operand + 4], "little")
        elif op == 0x54:
            value &= operand
        elif op == 0x05:
            at += operand
        elif op == 0x06:
            return operand
        else:
            tests = {0x15: value == operand, 0x35: value >= operand, 0x45: bool(value & operand)}
            at += true if tests[op] else false
    raise AssertionError("the program does not return")


class Machine:
    """The two filters of a machine, asked by name."""

    def __init__(self, machine: str, metadata: bool = True, without: tuple[str, ...] = ()) -> None:
        self.arch = kernel.AUDIT_ARCH[machine]
        self.numbers = kernel.table(machine)
        freed = [call for name in without for call in GUARDS[name][0].split()]
        child = [call for name in without for call in GUARDS[name][1].split()]
        self.zygote_code = filters.zygote_filter(machine, metadata, freed)
        self.child_code = filters.child_filter(machine, PID, metadata, child)

    def zygote(self, name: str, *args: int) -> int:
        return run(self.zygote_code, self.arch, self.numbers[name], *args)

    def child(self, name: str, *args: int) -> int:
        """What a child gets: the stricter answer, and of two errors the later filter's."""
        own = run(self.child_code, self.arch, self.numbers[name], *args)
        above = self.zygote(name, *args)
        return above if own == filters.ALLOW or above == filters.KILL else own


@pytest.fixture(params=MACHINES)
def machine(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def both(machine: str) -> Machine:
    return Machine(machine)


def test_every_number_is_answered_as_listed(machine: str, both: Machine) -> None:
    names = {number: name for name, number in both.numbers.items()}
    for number in range(kernel.NEWEST + 1):
        answer = run(both.zygote_code, both.arch, number)
        name = names.get(number, "")
        if name in filters.ALLOWED.split():
            assert answer == filters.ALLOW, name
        elif name in ("clone3", "fchmodat2"):
            assert answer == filters.ABSENT, name
        elif name not in ("clone", "ioctl", "fcntl", "prlimit64", "socketpair", *_metadata()):
            assert answer == filters.DENY, (number, name)


def _metadata() -> list[str]:
    return filters.METADATA.split()


@pytest.mark.parametrize("number", [kernel.NEWEST + 1, 999, 5000, X32 - 1])
def test_what_is_newer_than_we_know_is_absent(both: Machine, number: int) -> None:
    assert run(both.zygote_code, both.arch, number) == filters.ABSENT


@pytest.mark.parametrize("number", [X32, X32 + 1, X32 + 520, 0x7FFFFFFF, 0xFFFFFFFF])
def test_the_x32_numbers_kill(both: Machine, number: int) -> None:
    assert run(both.zygote_code, both.arch, number) == filters.KILL


def test_a_foreign_architecture_kills_whatever_the_number(both: Machine) -> None:
    others = {0x40000003, 0x40000028, *kernel.AUDIT_ARCH.values(), 0} - {both.arch}
    for arch in others:
        assert {run(both.zygote_code, arch, n) for n in range(600)} == {filters.KILL}


def test_ioctl_knows_six_requests(both: Machine) -> None:
    allowed = {n for n in range(0x5400, 0x5500) if both.child("ioctl", 1, n) == filters.ALLOW}
    assert allowed == {0x5401, 0x5413, 0x541B, 0x5421, 0x5450, 0x5451}
    assert both.child("ioctl", 1, 0x5412) == 0x00050000 | errno.ENOTTY
    # The kernel takes the lower half of the request, so what is above it must not matter.
    assert both.child("ioctl", 1, _HIGH | 0x5412) == 0x00050000 | errno.ENOTTY
    assert both.child("ioctl", 1, _HIGH | 0x5401) == filters.ALLOW


def test_fcntl_sends_no_signals_and_leaves_no_locks(both: Machine) -> None:
    # SETOWN SETSIG SETOWN_EX SETLEASE NOTIFY PIPE_SZ, OFD_GETLK OFD_SETLK OFD_SETLKW
    for command in (8, 10, 15, 1024, 1026, 1031, 36, 37, 38):
        assert both.child("fcntl", 0, command) == filters.DENY
    for command in (0, 1, 2, 3, 4, 5, 6, 7, 1030):
        assert both.child("fcntl", 0, command) == filters.ALLOW


def test_prlimit_is_for_oneself(both: Machine) -> None:
    assert both.child("prlimit64", 0) == filters.ALLOW
    for pid in (1, PID, 0xFFFFFFFF):
        assert both.child("prlimit64", pid) == filters.DENY


def test_socketpair_is_a_unix_stream(both: Machine) -> None:
    for flags in (0, 0x800, 0x80000, 0x80800):
        assert both.child("socketpair", 1, 1 | flags) == filters.ALLOW
    for family, kind in ((1, 2), (1, 5), (2, 1), (16, 1), (0, 1), (1, 0), (1, 0x101)):
        assert both.child("socketpair", family, kind) == filters.DENY


def test_clone_makes_threads_only_and_no_namespace(both: Machine) -> None:
    thread = 0x3D0F00
    assert both.child("clone", thread) == filters.ALLOW
    assert both.child("clone", 17) == filters.DENY
    assert both.child("clone", 0x4111) == filters.DENY  # vfork
    assert both.zygote("clone", 17) == filters.ALLOW
    for bit in (17, 25, 26, 27, 28, 29, 30):
        assert both.zygote("clone", 17 | 1 << bit) == filters.DENY
        assert both.child("clone", thread | 1 << bit) == filters.DENY


@pytest.mark.parametrize("name", ["kill", "tgkill"])
def test_a_child_signals_itself_alone(both: Machine, name: str) -> None:
    assert both.child(name, PID) == filters.ALLOW
    for pid in (0, 1, PID - 1, PID + 1, 0xFFFFFFFF, 0xFFFFFFFFFFFFFFFF):
        assert both.child(name, pid) == filters.DENY
        assert both.zygote(name, pid) == filters.ALLOW


def test_a_child_only_names_itself_with_prctl(both: Machine) -> None:
    allowed = {option for option in range(100) if both.child("prctl", option) == filters.ALLOW}
    assert allowed == {15, 16}


def test_a_child_makes_neither_process_nor_filter_nor_memory_file_nor_message(
    both: Machine,
) -> None:
    for name in ("fork", "seccomp", "memfd_create", "sendmsg"):
        if name in both.numbers:
            assert both.child(name) == filters.DENY
            assert both.zygote(name) == filters.ALLOW


def test_modes_change_by_descriptor_and_by_path_only_in_show(both: Machine) -> None:
    assert both.child("fchmod") == filters.ALLOW
    assert both.child("fchmodat") == filters.PRETEND
    assert both.zygote("fchmodat") == filters.ALLOW
    assert both.child("utimensat", 3, 0) == filters.ALLOW
    assert both.child("utimensat", 3, 1) == filters.PRETEND
    assert both.child("utimensat", 3, 1 << 32) == filters.PRETEND


def test_without_a_root_of_our_own_no_metadata_changes(machine: str) -> None:
    bare = Machine(machine, metadata=False)
    for name in _metadata():
        if name in bare.numbers:
            assert bare.zygote(name) == bare.child(name) == filters.DENY


def test_what_is_shut_is_refused(machine: str) -> None:
    code = filters.zygote_filter(machine, True, shut={"truncate"})
    arch, number = kernel.AUDIT_ARCH[machine], kernel.table(machine)["truncate"]
    assert run(code, arch, number) == filters.DENY


@pytest.mark.parametrize("guard", sorted(GUARDS))
def test_a_guard_left_out_frees_its_own_calls_alone(machine: str, guard: str) -> None:
    whole, open_ = Machine(machine), Machine(machine, without=(guard,))
    freed = set(GUARDS[guard][0].split()) | set(GUARDS[guard][1].split())
    for name in whole.numbers:
        if name not in freed:
            assert open_.child(name) == whole.child(name), name
    for name in freed & set(whole.numbers):
        assert open_.child(name, 0) == filters.ALLOW, name


def test_the_guards_name_calls_that_exist() -> None:
    for freed, child, _, _ in GUARDS.values():
        for name in (*freed.split(), *child.split()):
            assert name in kernel.table("x86_64") or name in filters.OTHER_KINDS, name


def test_a_child_filter_is_short(machine: str) -> None:
    assert len(filters.child_filter(machine, PID, True)) <= 27


def test_the_pid_is_found_and_patched(machine: str) -> None:
    code = filters.child_filter(machine, PID, True)
    place = filters.pid_at(code, PID)
    assert place is not None
    data = filters.assemble(code)
    data[place : place + 4] = (77).to_bytes(4, "little")
    assert data == filters.assemble(filters.child_filter(machine, 77, True))


def test_without_the_guard_of_signals_there_is_no_pid_to_patch(machine: str) -> None:
    assert filters.pid_at(filters.child_filter(machine, PID, True, {"kill", "tgkill"}), PID) is None


def test_instructions_are_laid_out_as_the_kernel_reads_them() -> None:
    assert filters.assemble([(0x15, 1, 2, 0x01020304)]) == bytes([0x15, 0, 1, 2, 4, 3, 2, 1])


def test_jumps_fit_their_fields(machine: str) -> None:
    for code in (filters.zygote_filter(machine, True), filters.child_filter(machine, PID, True)):
        assert all(true <= 255 and false <= 255 for _, true, false, _ in code)
        assert len(code) <= 4096
