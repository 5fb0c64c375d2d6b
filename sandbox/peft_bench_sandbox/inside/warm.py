"""What a zygote does once so that no child has to: imports, first use, a plain script's look."""

import ctypes
import marshal
import os
import sys
from _sitebuiltins import Quitter
from _socket import socketpair

from . import candidate, kernel
from .children import Children

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

_TIMES = 12  # the interpreter looks at code that has run eight times
_held: "list[Any]" = []
# Of CPython's obmalloc.c; if they are others, no harm is done.
_POOL, _POOL_HEAD, _ALIGNED, _SMALLEST_LARGE = 1 << 14, 48, 16, 513
_LONG = 1_000_000  # no number that Python keeps
_LARGE = [1 << bits for bits in range(16, 10, -1)]
_MOST_HELD = 1 << 18  # bytes of one size
_ARENA_MAX = -8  # M_ARENA_MAX of malloc.h
_CALLS: "list[Any]" = [("work", ([1.0, 2.0],), {}), ("Thing", ("a",), {}), ("lost", None, None)]
# Compiles and runs a bit of everything: what is built at first use is built before the fork.
_EXERCISE = '''
from typing import Any, Dict, List, Optional, Tuple
import math

class Thing(object):
    """One."""
    size: int = 3

    def __init__(self, name: str, *rest: Any, **named: Any) -> None:
        self.name, self.rest = name, rest

    @property
    def long(self) -> bool:
        return len(self.name) > self.size

def work(numbers: List[float], table: Optional[Dict[str, Tuple[int, ...]]] = None) -> List[float]:
    seen, found = set(), {}
    for place, number in enumerate(numbers):
        if number in seen and not (place % 2 == 0 or place > 10):
            continue
        seen.add(number)
        found[place] = f"{number:.2f}" + str(place)
    try:
        [] [0]
    except (IndexError, KeyError) as error:
        found[-1] = repr(error)
    finally:
        total = sum(x * 2 for x in numbers)
    while total > 100:
        total //= 2
    return sorted([*seen, *map(float, filter(None, numbers))], key=lambda x: -x)[::-1]

def count(n):
    yield n if n <= 1 else (yield from count(n - 1))

assert work([1.0, 2.5]) and Thing("thing").long and list(count(3)) and math.pi > 3
'''
_SHORT = "import math\nclass Thing(list): pass\ndef work(numbers): return [*numbers, 1]\n"


def load(modules: "list[str]", paths: "list[str]") -> None:
    """Import what programs of the profile are likely to; those that fail are left to them."""
    sys.path.extend(paths)
    # One thread: a program's CPU time is counted, and threads do not survive a fork.
    os.environ.update(OPENBLAS_NUM_THREADS="1", OMP_NUM_THREADS="1", MKL_NUM_THREADS="1")
    register = os.register_at_fork
    # random would seed itself anew in every child: the same program shall give the same verdict.
    os.register_at_fork = lambda **_: None
    try:
        for name in modules:
            try:
                __import__(name)
            except ImportError:
                continue
    finally:
        os.register_at_fork = register


def prepare(plan: "dict[str, Any]") -> None:
    """Make the process look like a plain script's."""
    if "numpy" in sys.modules:
        sys.modules["numpy"].random.seed(0)
    if "environment" not in plan["without_own"]:
        os.environ.clear()
    sys.argv[:] = ["program.py"]
    sys.orig_argv[:] = []
    sys.path.remove(plan["package"])
    builtins = sys.modules["builtins"].__dict__
    for name in ("exit", "quit"):  # the site module, left out by -S, would add them
        builtins[name] = Quitter(name, "Ctrl-D (i.e. EOF)")
    kernel.limit(kernel.RLIMIT_CORE, (0, 0))
    _set_thread_stack()
    _share_heap()


def _set_thread_stack(size: int = 8 << 20) -> None:
    """Threads get 8 MiB, not the main thread's limit, or a few would fill the address space."""
    library = ctypes.CDLL(None)
    if not hasattr(library, "pthread_setattr_default_np"):
        return
    attributes = ctypes.create_string_buffer(256)
    library.pthread_attr_init(attributes)
    library.pthread_attr_setstacksize(attributes, ctypes.c_size_t(size))
    library.pthread_setattr_default_np(attributes)


def _share_heap() -> None:
    """Threads share one heap: the C library would map 64 MiB for each of up to 8 a processor.

    Those of uid 0, whom no limit on threads holds, have 8, as on one processor: then memory does.
    """
    library = ctypes.CDLL(None)
    if hasattr(library, "mallopt"):
        library.mallopt(_ARENA_MAX, 1 if os.getuid() else 8)


def exercise() -> None:
    """Use the compiler and the interpreter, until nothing is first use; seed chance the same."""
    code = compile(_EXERCISE, "<exercise>", "exec", dont_inherit=True)
    for _ in range(_TIMES):
        exec(code, {"__name__": "exercise"})
        try:
            exec(compile("assert False", "<exercise>", "exec", dont_inherit=True), {})
        except AssertionError:
            continue
    if "random" in sys.modules:
        sys.modules["random"].seed(0)


def rehearse(children: Children) -> None:
    """Do what a child does before and after its program.

    The interpreter rewrites code that it runs often; what it would write in every child, it
    writes here. A child's descriptors are free for it: nothing has been forked yet.
    """
    requests = [marshal.dumps(call) for call in _CALLS]
    frames = b"".join([len(request).to_bytes(4, "little") + request for request in requests])
    for time in range(_TIMES):
        source = _SHORT if time else _EXERCISE
        ours, theirs = socketpair()
        ours.send(frames)
        ours.shutdown(1)
        children.rehearse("serve", source, {}, theirs.fileno())
        ours.close()
        theirs.close()
        children.rehearse("call", source, {"function": "work", "args": [[1.0]]}, -1)
    null = os.open("/dev/null", os.O_RDWR)
    os.dup2(null, candidate.CHANNEL)
    os.close(null)
    sys.modules.pop("candidate", None)
    candidate.Reserve.make()


def fill_holes() -> None:
    """Take the memory that lies free between what is in use, for good.

    A child that writes to a page which it shares with this process has it copied. What it makes
    anew would fill the holes of a hundred such pages; without holes, it comes to lie together.
    """
    for size in range(_ALIGNED * 2, _SMALLEST_LARGE, _ALIGNED):
        _fill_pools(size)
    malloc = ctypes.CDLL(None).malloc
    malloc.restype = ctypes.c_size_t
    highest = 0
    for size in (*_LARGE, *range(1032, _ALIGNED, -_ALIGNED)):
        for _ in range(_MOST_HELD // size):
            place = malloc(ctypes.c_size_t(size))
            if place > highest:  # beyond all that was free
                highest = place
                break


def _fill_pools(size: int) -> None:
    """Python's own allocator has pools of blocks of one size; where one begins, none was free."""
    for number in range(_MOST_HELD // size):
        # A whole number is the smallest of these; bytes have a head of 33.
        block = bytes(size - 33) if size > _ALIGNED * 2 else _LONG + number
        if id(block) % _POOL == _POOL_HEAD:
            return
        _held.append(block)
