"""The child's side: runs one test of one program, then ends. Executed as a script.

`python -I -S runner.py JOB_FD RESULT_FD`. The job is a marshalled dictionary (it comes from
the caller, who is trusted, under the same interpreter). Results go to RESULT_FD as two lines
of JSON, each with the job's token: "ready" before the candidate's first instruction, "end"
after its last. No reference output of a split test is in the job.

Whatever runs after the candidate runs among its leftovers: a candidate that breaks this file
only keeps it from reporting, and a run without a report has not passed.

Few imports, all cheap: each costs every test. `json` alone would double a run's CPU time.
"""

import marshal
import os
import resource
import sys
from _json import encode_basestring_ascii as quote
from _signal import alarm  # type: ignore[import-not-found]  # signal itself loads enum
from _sitebuiltins import Quitter
from types import ModuleType

TYPE_CHECKING = False  # as in typing, which is too slow to import here
if TYPE_CHECKING:
    from typing import Any

# The caller ends what runs too long; this much later, where the caller was killed itself.
ORPHAN_S = 2
# Given up when memory runs out, so that there is room to say so.
_RESERVE = bytearray(1 << 20)

# outcome, message, returned value as JSON (only for "returned")
Report = tuple[str, str, str]


class Job:
    """What the caller wants run; `limits` by the names of `Limits`, all whole numbers."""

    def __init__(
        self,
        *,
        token: str,
        kind: str,
        source: str,
        limits: dict[str, int],
        code: str = "",
        entry_point: str | None = None,
        function: str = "",
        args: tuple[object, ...] = (),
    ) -> None:
        self.token = token
        self.kind = kind
        self.source = source
        self.limits = limits
        self.code = code
        self.entry_point = entry_point
        self.function = function
        self.args = args


def main() -> None:
    """Read the job, set the limits, run the candidate, report."""
    job_fd, result_fd = int(sys.argv[1]), int(sys.argv[2])
    with open(job_fd, "rb") as source:
        job = Job(**marshal.load(source))
    # A process the candidate starts must not hold the channel open.
    os.set_inheritable(result_fd, False)
    prepare(job)
    restrict(job.limits)
    baseline = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    head = f'{{"token": {quote(job.token)}, "event": '
    peak = resident_peak_bytes()
    send(result_fd, f'{head}"ready", "peak_bytes": {peak}, "baseline": {baseline}}}\n')
    own = os.getpid()
    outcome, message, value = attempt(job)
    if os.getpid() != own:  # the program forked, and this is not the process to speak for it
        os._exit(1)
    send(
        result_fd,
        f'{head}"end", "outcome": "{outcome}", "message": {quote(message)}, '
        f'"value": {value}, "peak_bytes": {resident_peak_bytes()}}}\n',
    )
    os._exit(0)


def prepare(job: Job) -> None:
    """Make the process look like a plain script's: names, environment, `exit`."""
    here = os.getcwd()  # noqa: PTH109 - pathlib is slow to import
    os.environ.clear()
    # Temporary files of the program go where they will be removed.
    os.environ.update(HOME=here, TMPDIR=here)
    sys.argv[:] = ["program.py"]
    builtins = sys.modules["builtins"].__dict__
    for name in ("exit", "quit"):  # the site module, left out by -S, would add them
        builtins[name] = Quitter(name, "Ctrl-D (i.e. EOF)")
    if job.kind == "call":
        import json  # noqa: F401 - loaded before the limits and the clock


def restrict(limits: dict[str, int]) -> None:
    """Lower this process' limits for good; the stack's was set before the interpreter began."""
    alarm(limits["wall_s"] + ORPHAN_S)
    lower(resource.RLIMIT_CORE, 0)
    lower(resource.RLIMIT_FSIZE, limits["file_bytes"])
    lower(resource.RLIMIT_AS, limits["memory_bytes"])
    # The soft limit ends the process by SIGXCPU; one that ignores it is killed a second later.
    lower(resource.RLIMIT_CPU, limits["cpu_s"], slack=1)


def lower(kind: int, value: int, slack: int = 0) -> None:
    """Set a limit, or keep the inherited one where that is lower."""
    _, ceiling = resource.getrlimit(kind)
    hard = value + slack
    if ceiling != resource.RLIM_INFINITY:
        hard = min(hard, ceiling)
    resource.setrlimit(kind, (min(value, hard), hard))


def attempt(job: Job) -> Report:
    """Run the program and its test; say how it ended."""
    try:
        return KINDS[job.kind](job)
    except SystemExit as error:
        return "exited", cut(f"{describe(error)} before the test had ended", job), "null"
    except MemoryError as error:
        _RESERVE.clear()
        return "memory", cut(describe(error), job), "null"
    except BaseException as error:
        return "exception", cut(describe(error), job), "null"


def run_asserts(job: Job) -> Report:
    """Run the program, then the test's code in the program's namespace."""
    namespace = run_program(job, "candidate")
    if job.entry_point is not None:
        require_name(namespace, job.entry_point)
    try:
        exec(compile(job.code, "<test>", "exec", dont_inherit=True), namespace)
    except AssertionError as error:
        return "wrong", cut(describe_assertion(error, job.code), job), "null"
    return "completed", "", "null"


def run_stdin(job: Job) -> Report:
    """Run the program as a script to its very end; its output is judged elsewhere."""
    try:
        run_program(job, "__main__")
    except SystemExit as error:
        if error.code not in (None, 0):
            raise
    finish_script()
    return "completed", "", "null"


def run_call(job: Job) -> Report:
    """Run the program, call its function, give back what it returned as JSON."""
    namespace = run_program(job, "candidate")
    owner, _, name = job.function.rpartition(".")
    require_name(namespace, owner or name)
    function = getattr(namespace[owner](), name) if owner else namespace[name]
    value = function(*job.args)
    import json

    try:
        text = json.dumps(value)
    except (TypeError, ValueError, RecursionError) as error:
        message = f"returned {type(value).__name__}, not plain data: {describe(error)}"
        return "wrong", cut(message, job), "null"
    if len(text) > job.limits["output_bytes"]:
        return "output", f"returned a value of {len(text)} bytes", "null"
    return "returned", "", text


KINDS = {"asserts": run_asserts, "stdin": run_stdin, "call": run_call}


def require_name(namespace: "dict[str, Any]", name: str) -> None:
    """Raises: NameError: the program did not define the name."""
    if name not in namespace:
        raise NameError(f"the program defines no {name!r}")


def run_program(job: Job, name: str) -> "dict[str, Any]":
    """Execute the program as a module of this name; return its namespace."""
    module = ModuleType(name)
    sys.modules[name] = module  # dataclasses, pickle and the like look it up
    module.__dict__["__builtins__"] = sys.modules["builtins"]
    code = compile(job.source, "<program>", "exec", dont_inherit=True)
    exec(code, module.__dict__)
    return module.__dict__


def finish_script() -> None:
    """Do what the interpreter does after a script's last line, in its order.

    Threads are waited for and exit handlers run: programs print their answers there.
    """
    if "threading" in sys.modules:
        import threading

        threading._shutdown()  # type: ignore[attr-defined]
    import atexit

    atexit._run_exitfuncs()
    for stream in (sys.stdout, sys.__stdout__):
        try:
            if stream is not None:
                stream.flush()
        except Exception:
            # A stream the program closed or replaced; what did come out is what counts.
            continue


def describe(error: BaseException) -> str:
    """Say "Type: text", whatever the exception's own methods do."""
    try:
        text = str(error)
        name = type(error).__name__
        return f"{name}: {text}" if text else f"{name}"
    except BaseException:
        return "an exception whose text cannot be made"


def describe_assertion(error: BaseException, code: str) -> str:
    """Add the test's line that failed: most assertions have no text of their own."""
    line = 0
    trace = error.__traceback__
    while trace is not None:
        if trace.tb_frame.f_code.co_filename == "<test>":
            line = trace.tb_lineno
        trace = trace.tb_next
    lines = code.splitlines()
    shown = lines[line - 1].strip() if 0 < line <= len(lines) else "an assertion"
    return f"{describe(error)} (test line {line}: {shown})"


def cut(message: str, job: Job) -> str:
    """Bound the length in characters; the caller bounds it again, in bytes."""
    return message[: job.limits["message_bytes"]]


def resident_peak_bytes() -> int:
    """The most memory this process had resident since its start; 0 where /proc does not tell."""
    try:
        with open("/proc/self/status", "rb", buffering=0) as status:  # noqa: PTH123
            text = status.read(4096)
    except OSError:
        return 0
    _, found, rest = text.partition(b"VmHWM:")
    return int(rest.split(None, 1)[0]) * 1024 if found else 0


def send(fd: int, line: str) -> None:
    """Write all of a line; the pipe may take it in parts."""
    data = line.encode("ascii")
    while data:
        data = data[os.write(fd, data) :]


if __name__ == "__main__":
    main()
