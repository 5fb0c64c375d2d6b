"""System call numbers against the kernel's headers, and how failures are told."""

import errno
import os
import re
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="speaks to a Linux kernel")

from peft_bench_sandbox.inside import kernel  # noqa: E402

_X86_64 = [
    Path("/usr/include/x86_64-linux-gnu/asm/unistd_64.h"),
    Path("/usr/include/asm/unistd_64.h"),
]
_GENERIC = [Path("/usr/include/asm-generic/unistd.h")]


def _header(places: list[Path]) -> dict[str, int]:
    found = next((place for place in places if place.exists()), None)
    if found is None:
        pytest.skip(f"none of the kernel's headers is here: {', '.join(map(str, places))}")
    pattern = re.compile(r"#define __NR(?:3264)?_(\w+)\s+(\d+)")
    numbers = {name: int(number) for name, number in pattern.findall(found.read_text())}
    return numbers | {"newfstatat": numbers.get("newfstatat", numbers.get("fstatat", -1))}


@pytest.mark.parametrize(("machine", "places"), [("x86_64", _X86_64), ("aarch64", _GENERIC)])
def test_numbers_agree_with_the_headers(machine: str, places: list[Path]) -> None:
    header = _header(places)
    newest = max(header.values())
    for name, number in kernel.table(machine).items():
        if number <= newest and name not in ("arch_prctl",):
            assert header.get(name) == number, name


@pytest.mark.parametrize(("machine", "places"), [("x86_64", _X86_64), ("aarch64", _GENERIC)])
def test_a_dash_is_a_call_that_the_machine_lacks(machine: str, places: list[Path]) -> None:
    header = _header(places)
    every = set(kernel.table("x86_64")) | set(kernel.table("aarch64"))
    newest = max(header.values())
    # renameat is 38 on aarch64, though the generic header hides it behind a condition.
    for name in every - set(kernel.table(machine)):
        assert name not in header or header[name] > newest, name


@pytest.mark.parametrize("machine", sorted(kernel.AUDIT_ARCH))
def test_no_number_is_used_twice(machine: str) -> None:
    numbers = kernel.table(machine)
    assert len(set(numbers.values())) == len(numbers)


def test_an_unknown_machine_is_an_error() -> None:
    with pytest.raises(OSError, match="machine pdp11") as caught:
        kernel.table("pdp11")
    assert caught.value.errno == errno.ENOSYS


def test_a_call_gives_its_result() -> None:
    assert kernel.call("getpid") == os.getpid()


def test_a_failed_call_raises_and_is_told_in_plain_words() -> None:
    with pytest.raises(OSError) as caught:
        kernel.call("close", 1 << 20)
    assert kernel.why(caught.value) == "close: EBADF"


def test_a_call_that_the_machine_lacks_is_absent() -> None:
    with pytest.raises(OSError) as caught:
        kernel.call("no such call")
    assert kernel.why(caught.value) == "no such call: ENOSYS"


def test_the_reason_names_the_file_if_there_is_one() -> None:
    with pytest.raises(OSError) as caught:
        os.close(os.open("/nonexistent", os.O_RDONLY))
    assert kernel.why(caught.value) == "/nonexistent: ENOENT"
