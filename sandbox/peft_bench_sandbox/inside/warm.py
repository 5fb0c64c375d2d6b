"""What a zygote does once so that no child has to: imports, first use, a plain script's look."""

import marshal
import os
import resource
import sys
from _sitebuiltins import Quitter
from _socket import socketpair
from contextlib import suppress

from . import candidate

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

_TIMES = 20
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
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    _set_thread_stack()


def _set_thread_stack(size: int = 8 << 20) -> None:
    """Threads get 8 MiB, not the main thread's limit, or a few would fill the address space."""
    import ctypes

    library = ctypes.CDLL(None)
    if not hasattr(library, "pthread_setattr_default_np"):
        return
    attributes = ctypes.create_string_buffer(256)
    library.pthread_attr_init(attributes)
    library.pthread_attr_setstacksize(attributes, ctypes.c_size_t(size))
    library.pthread_setattr_default_np(attributes)


def exercise() -> None:
    """Use the compiler, the interpreter and a candidate's own code, until nothing is first use.

    The interpreter rewrites code that it runs often; what it would write in every child, it
    writes here. Descriptors 3 and 4 are free for it: nothing has been forked yet.
    """
    code = compile(_EXERCISE, "<exercise>", "exec", dont_inherit=True)
    for _ in range(_TIMES):
        exec(code, {"__name__": "exercise"})
        with suppress(AssertionError):
            exec(compile("assert False", "<exercise>", "exec", dont_inherit=True), {})
        ours, theirs = socketpair()
        os.dup2(theirs.fileno(), candidate.CHANNEL)
        theirs.close()
        calls: list[Any] = [
            ("work", ([1.0, 2.0],), {}),
            ("Thing", ("a",), {}),
            ("lost", None, None),
        ]
        for call in calls:
            request = marshal.dumps(call)
            ours.send(len(request).to_bytes(4, "little") + request)
        ours.shutdown(1)
        candidate.run("serve", _EXERCISE, {})
        ours.close()
        null = os.open("/dev/null", os.O_RDWR)
        os.dup2(null, candidate.CHANNEL)
        os.dup2(null, candidate.REPORT)
        os.close(null)
        candidate.run("call", _EXERCISE, {"function": "work", "args": [[1.0]]})
    sys.modules.pop("candidate", None)
    if "random" in sys.modules:
        sys.modules["random"].seed(0)
