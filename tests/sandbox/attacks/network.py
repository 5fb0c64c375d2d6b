"""Reaching out: every family of sockets, all on this machine, to listeners of the test's own."""

from __future__ import annotations

from .catalogue import ATTEMPT, RAW, Attack, guarded

PYTHON = {
    "connect over TCP": """
import socket
def attack(name, port):
    def act():
        with socket.create_connection(('127.0.0.1', port), timeout=2) as peer:
            peer.sendall(name.encode())
    return attempt(act)
""",
    "connect over TCP, version 6": """
import socket
def attack(name, port):
    def act():
        with socket.create_connection(('::1', port), timeout=2) as peer:
            peer.sendall(name.encode())
    return attempt(act)
""",
    "send over UDP": """
import socket
def attack(name, port):
    def act():
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as peer:
            peer.sendto(name.encode(), ('127.0.0.1', port))
    return attempt(act)
""",
    "connect to an abstract Unix socket": """
import socket
def attack(name, at):
    def act():
        with socket.socket(socket.AF_UNIX) as peer:
            peer.connect('\\0' + at)
            peer.sendall(name.encode())
    return attempt(act)
""",
    "connect to a Unix socket by its path": """
import socket
def attack(name, at):
    def act():
        with socket.socket(socket.AF_UNIX) as peer:
            peer.connect(at)
            peer.sendall(name.encode())
    return attempt(act)
""",
    "fetch a page": """
import urllib.error, urllib.request
def attack(name, port):
    try:
        urllib.request.urlopen(f'http://127.0.0.1:{port}/{name}', timeout=0.2)
    except urllib.error.URLError as error:
        return 'held: ' + errno.errorcode.get(getattr(error.reason, 'errno', 0), str(error))
    except OSError: pass
    return 'escaped'
""",
}
_NEEDS = {
    "connect over TCP": "tcp",
    "connect over TCP, version 6": "tcp6",
    "send over UDP": "udp",
    "connect to an abstract Unix socket": "abstract",
    "connect to a Unix socket by its path": "unix",
    "fetch a page": "tcp",
}

RAW_CONNECT = """
import struct
def attack(name, port):
    fd = raw('socket', 2, 1, 0)
    if fd < 0: return tell(fd)
    address = struct.pack('=HH4s8x', 2, 0, bytes([127, 0, 0, 1]))
    address = address[:2] + port.to_bytes(2, 'big') + address[4:]
    result = raw('connect', fd, ctypes.c_char_p(address), 16)
    if result == 0: os.write(fd, name.encode())
    return tell(result)
"""

# Nothing to hear on the other side: that there is such a socket at all is the escape.
_MADE = """
def attack():
    family, kind, protocol = {numbers}
    return tell(raw('socket', family, kind, protocol))
"""
FAMILIES = {
    "make a routing socket": (16, 3, 0),
    "make a datagram socket over Unix": (1, 2, 0),
}

RARE_FAMILIES = {
    "make a socket for the kernel's crypto": (38, 5, 0),
    "make a socket to the hypervisor": (40, 1, 0),
}

LISTEN = {
    "listen": """
import socket
def attack():
    def act():
        with socket.socket() as here:
            here.bind(('127.0.0.1', 0))
            here.listen(1)
    return attempt(act)
""",
    "listen at an abstract address": """
import socket
def attack():
    def act():
        with socket.socket(socket.AF_UNIX) as here:
            here.bind('\\0peft-bench-attack-' + str(os.getpid()))
            here.listen(1)
    return attempt(act)
""",
}

# What a network namespace, a filter or a missing address family may answer.
_REFUSALS = "EPERM EACCES ENOSYS ECONNREFUSED ENETUNREACH EADDRNOTAVAIL EAFNOSUPPORT ENOENT"


def _heard(name: str, source: str, prelude: str, need: str) -> tuple[Attack, ...]:
    return guarded(
        {name: source},
        *(("network", "files") if need == "unix" else ("network",)),
        prelude=prelude,
        needs=("name", need),
        refusals=_REFUSALS,
        trace="heard",
        privilege="there may be no IPv6" if need == "tcp6" else "",
    )


ATTACKS = (
    *(
        attack
        for name, source in PYTHON.items()
        for attack in _heard(name, source, ATTEMPT, _NEEDS[name])
    ),
    *_heard("connect over TCP by raw calls", RAW_CONNECT, RAW, "tcp"),
    *guarded(
        {name: _MADE.format(numbers=numbers) for name, numbers in FAMILIES.items()},
        "network",
        prelude=RAW,
        refusals=_REFUSALS,
    ),
    *guarded(
        {name: _MADE.format(numbers=numbers) for name, numbers in RARE_FAMILIES.items()},
        "network",
        prelude=RAW,
        refusals=_REFUSALS,
        privilege="the kernel may be built without this family",
    ),
    *guarded(LISTEN, "network", prelude=ATTEMPT, refusals=_REFUSALS),
)
