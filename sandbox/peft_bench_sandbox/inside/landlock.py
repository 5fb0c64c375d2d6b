"""Landlock: which files a process may open, and whom it may reach.

Landlock does not cover metadata (stat, chmod, utime, chdir): see filters.py for those.
"""

from __future__ import annotations

import os

from . import kernel

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Container, Iterable

EXECUTE, WRITE_FILE, READ_FILE, READ_DIR, REMOVE_DIR, REMOVE_FILE = (1 << i for i in range(6))
MAKE_DIR, MAKE_REG, MAKE_SYM, REFER, TRUNCATE = 1 << 7, 1 << 8, 1 << 12, 1 << 13, 1 << 14

READ = READ_FILE | READ_DIR
WORK = READ | WRITE_FILE | REMOVE_DIR | REMOVE_FILE | MAKE_DIR | MAKE_REG | MAKE_SYM | REFER
WORK |= TRUNCATE
_OF_A_FILE = EXECUTE | WRITE_FILE | READ_FILE | TRUNCATE

_FS_BITS = {1: 13, 2: 14, 3: 15, 4: 15}
"""How many file rights an ABI knows; 16 from the fifth on."""
_NET = 0b11  # TCP bind and connect, from ABI 4
_SCOPES = {"abstract": 0b01, "signal": 0b10}  # from ABI 6

PARTS = ("files", "network", "abstract", "signal")
"""What a domain can restrict; `execute` among the parts left out grants execution."""


def version() -> int:
    """The kernel's Landlock ABI. Raises OSError where there is none."""
    return kernel.call("landlock_create_ruleset", None, 0, 1)


def _handled(abi: int, left_out: Container[str]) -> tuple[int, int, int]:
    """(file, network, scope) bits that a domain restricts."""
    files = 0 if "files" in left_out else (1 << _FS_BITS.get(abi, 16)) - 1
    network = _NET if abi >= 4 and "network" not in left_out else 0
    scoped = sum(bit for name, bit in _SCOPES.items() if name not in left_out) if abi >= 6 else 0
    return files, network, scoped


def ruleset(abi: int, rules: Iterable[tuple[int, int]], left_out: Container[str] = ()) -> int:
    """A descriptor of a ruleset, or -1 if everything is left out.

    rules: (descriptor of a path, rights beneath it). left_out: PARTS not restricted at all.
    Raises OSError.
    """
    handled = _handled(abi, left_out)
    if not any(handled):
        return -1
    size = 24 if abi >= 6 else 16 if abi >= 4 else 8
    attributes = b"".join(word.to_bytes(8, "little") for word in handled)
    fd = kernel.call("landlock_create_ruleset", attributes[:size], size, 0)
    for path_fd, rights in rules:
        allowed = rights & handled[0]
        if allowed:
            rule = allowed.to_bytes(8, "little") + path_fd.to_bytes(4, "little")
            kernel.call("landlock_add_rule", fd, 1, rule, 0)
    return fd


def restrict(fd: int) -> None:
    """Puts this process into a new domain for good. Raises OSError."""
    kernel.call("landlock_restrict_self", fd, 0)


def opened(rules: Iterable[tuple[str, int]]) -> list[tuple[int, int]]:
    """Descriptors in place of paths; what is missing is left out, rights fit files."""
    found = []
    for path, rights in rules:
        try:
            fd = os.open(path, os.O_PATH | os.O_CLOEXEC)
        except OSError:
            continue
        found.append((fd, rights if os.path.isdir(path) else rights & _OF_A_FILE))
    return found


def readable(root: str, hidden: frozenset[str], rights: int = READ) -> list[tuple[str, int]]:
    """(path, rights) that make a tree readable except the hidden directories in it.

    A right holds for all that is beneath, so the way down to a hidden directory is given its
    siblings one by one. Their names can still be listed. hidden: real paths.
    """
    real = os.path.realpath(root)
    if real in hidden:
        return []
    if not any(place.startswith(real + "/") for place in hidden):
        return [(real, rights)]
    rules = [(real, READ_DIR)]
    for name in os.listdir(real):
        below = f"{real}/{name}"
        # A link leads to a place that has a rule of its own or none.
        if not os.path.islink(below):
            rules += readable(below, hidden, rights)
    return rules
