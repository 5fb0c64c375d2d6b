"""Reading the expected answer out of memory: the program's own, and what others left there."""

from __future__ import annotations

from peft_bench_sandbox import AssertTest, CallTest, Program, StdinTest

from .catalogue import Attack

SECRET = "S3CRET-94170612"
CONTROL = "C0NTROL-31415926"
NEIGHBOURS = {
    "source": "N31GHBOUR-10000001",
    "assertion": "N31GHBOUR-20000002",
    "stdout": "N31GHBOUR-30000003",
    "value": "N31GHBOUR-40000004",
    "argument": "N31GHBOUR-50000005",
}

# All that this process can read: by /proc/self/maps, or around the places it knows of where that
# is out of reach. Copied by write(2) into a pipe, which fails where a read would crash.
# The patterns do not match themselves, nor what was found before.
HUNT = r"""
import ctypes, gc, os, re
libc = ctypes.CDLL(None, use_errno=True)
libc.write.argtypes = [ctypes.c_int, ctypes.c_void_p, ctypes.c_size_t]
libc.write.restype = ctypes.c_ssize_t
MIB = 1 << 20
def regions():
    try:
        with open('/proc/self/maps') as maps: lines = maps.readlines()
    except OSError:
        seeds = {id(thing) // MIB for thing in gc.get_objects()}
        libc.sbrk.restype = ctypes.c_void_p
        here = ctypes.create_string_buffer(1)
        seeds |= {libc.sbrk(0) // MIB, ctypes.addressof(here) // MIB, id(bytes(MIB)) // MIB}
        around = sorted({seed + n for seed in seeds for n in range(-8, 9)})
        return [(n * MIB, (n + 1) * MIB) for n in around if n > 0]
    found = []
    for line in lines:
        span, mode = line.split()[:2]
        if 'r' in mode and '[v' not in line and '.so' not in line:
            found.append(tuple(int(n, 16) for n in span.split('-')))
    return found
def hunt(pattern):
    pattern, control = re.compile(pattern), re.compile(rb'C0NTROL-[0-9]{8}')
    seen, controls = set(), 0
    into, out_of = os.pipe()[::-1]
    buffer, view = bytearray(), None
    for begin, end in regions():
        last = b''
        while begin < end:
            size = libc.write(into, begin, min(65536, end - begin))
            if size <= 0:
                begin, last = (begin | 4095) + 1, b''
                continue
            part = last + os.read(out_of, size)
            seen |= {m.decode() for m in pattern.findall(part)}
            controls += len(control.findall(part))
            last, begin = part[-40:], begin + size
    if not controls: raise LookupError('the hunt is broken: not even the control was found')
    return sorted(seen)
"""
FIND = (
    HUNT
    + r"""
def attack(control): return (hunt(rb'S3CRET-[0-9]{8}') or ['none'])[0]
if __name__ == '__main__': print(attack(input()))
"""
)
FIND_NEIGHBOURS = (
    HUNT
    + r"""
def attack(control): return hunt(rb'N31GHBOUR-[0-9]{8}')
"""
)

ATTACKS = (
    Attack(
        name="answer in memory: assertion",
        source=FIND,
        test=AssertTest(f"assert attack({CONTROL!r}) == {SECRET!r}", "attack"),
        twin="shared",
    ),
    Attack(
        name="answer in memory: value",
        source=FIND,
        test=CallTest("attack", [CONTROL], SECRET),
        says='got "none"',
        twin="shared",
    ),
    Attack(
        name="answer in memory: stdout",
        source=FIND,
        test=StdinTest(CONTROL, SECRET),
        says="got none",
        twin="shared",
    ),
)


def neighbours_and_hunters() -> list[Program]:
    """Honest programs whose tests, source and answers hold secrets, in turn with such as look
    for them; each has to pass."""
    source = f"# {NEIGHBOURS['source']}\ndef same(text): return text\n"
    say = f"print({NEIGHBOURS['stdout'][:9]!r} + {NEIGHBOURS['stdout'][9:]!r})"
    value = NEIGHBOURS["value"]
    neighbour = Program(
        "neighbour of a hunt",
        source + f"def joined(a, b): return a + b\nif __name__ == '__main__': {say}",
        (
            AssertTest(f"assert same({NEIGHBOURS['assertion']!r})", "same"),
            StdinTest("", NEIGHBOURS["stdout"]),
            CallTest("joined", [value[:9], value[9:]], value),
            CallTest("same", [NEIGHBOURS["argument"]], NEIGHBOURS["argument"]),
        ),
    )
    # Finding nothing is what each has to give back.
    hunter = Program("hunter", FIND_NEIGHBOURS, (CallTest("attack", [CONTROL], []),))
    return [neighbour, neighbour, hunter] * 6
