"""What runs in a candidate's process: the program, and its answers.

Forked from a zygote for one test of one program, sealed before the program's first instruction
(see zygote.py). Everything here runs among hostile code and decides nothing that counts: what it
sends is read as the hostile text it may be.

Kinds of run: "serve" answers a judge's calls over a socket; "stdin" runs a script; "call" calls
one function; "shared" runs an assert test in the program's own namespace. All but the first leave
a report, one JSON object. Two more kinds, for several tests at once, are in batch.py.
"""

import atexit
import gc
import json
import marshal
import os
import sys
from _json import encode_basestring_ascii as quote
from _weakref import ref
from types import CodeType, FunctionType, ModuleType

from .frames import read_frame, write_frame
from .plain import NotPlain, as_json, decode, encode

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

# The descriptors beyond the standard three: the job, and then the judge, come by a socket; the
# report of a run without a judge goes to a file.
CHANNEL = 3
REPORT = 4
_STANDARD = sys.stdlib_module_names - {"builtins", "__main__"}
_CALLABLE, _DATA = '"c"', '"d"'
# As they are, whatever a metaclass says.
_name_of: "Callable[[type], str]" = type.__dict__["__name__"].__get__
_mro_of: "Callable[[type], tuple[type, ...]]" = type.__dict__["__mro__"].__get__
_args_of = BaseException.__dict__["args"].__get__
# Names by which a script makes what may have something to print when Python lets go of it: files
# of its own, finalizers, text that is run. To let go costs a tenth of a millisecond, and of many
# objects more; most scripts name nothing of this.
_LAST_WORDS = frozenset(("open", "fdopen", "io", "_io", "detach", "__del__", "weakref", "exec"))
_STREAMS = {"/dev/stdin": 0, "/dev/fd/0": 0, "/dev/stdout": 1, "/dev/fd/1": 1, "/dev/stderr": 2}
# outcome, message, returned value as JSON (only for "returned")
Report = tuple[str, str, str]


class Reserve:
    """Given up when memory runs out, so that there is room to say so; never touched before."""

    held = b""

    @classmethod
    def make(cls) -> None:
        """Zeros of so many bytes are mapped, and not there before they are used."""
        cls.held = bytes(1 << 20)


class Bounds:
    """What an answer may take; the same for all programs of a zygote, set before it forks."""

    message_bytes = 4096
    output_bytes = 1 << 20


def run(kind: str, source: str, extra: "dict[str, Any]") -> None:
    """Run the program and answer; the caller of this ends the process.

    source and extra are one test of one program as the caller sends it; nothing in them is a
    reference output of a split test.
    """
    if kind == "serve":
        serve(source)
        return
    try:
        outcome, message, value = _KINDS[kind](source, extra)
    except BaseException as error:
        outcome, message, value = describe_end(error)
    report = f'{{"outcome": "{outcome}", "message": {quote(message)}, "value": {value}}}'
    data = report.encode("ascii")
    while data:
        data = data[os.write(REPORT, data) :]


def describe_end(error: BaseException) -> Report:
    """How a run ended that did not come to its end."""
    Reserve.held = b""
    kind = type(error)  # isinstance would ask the exception itself
    if issubclass(kind, SystemExit):
        return "exited", cut(f"{describe(error)} before the test had ended"), "null"
    outcome = "memory" if issubclass(kind, MemoryError) else "exception"
    return outcome, cut(describe(error)), "null"


def serve(source: str) -> None:
    """Run the program, tell its names, answer calls until the judge has enough.

    Frames to the judge: a letter, then text. h: names and kinds; v: a value; n: no plain data;
    x, e, m: raised, exited, out of memory.
    """
    try:
        code = compile(source, "<program>", "exec", dont_inherit=True)
        namespace = run_program(code, "candidate")
        answer = f"h{{{kinds_of(namespace)}}}"
    except BaseException as error:
        answer = raised(error)
    write_frame(CHANNEL, answer.encode("ascii"))
    while request := read_frame(CHANNEL):
        try:
            # The judge is trusted: its requests are read as they come.
            name, arguments, keywords = marshal.loads(request)
            value = namespace[name]
            if keywords is None and arguments is not None:
                arguments, keywords = decode(arguments)
            if arguments is not None:
                value = value(*arguments, **keywords)
            try:
                answer = "v" + encode(value)
            except NotPlain as error:
                answer = "n" + quote(cut(f"{name} gave {_name_of(type(value))}: {error}"))
        except BaseException as error:
            answer = raised(error)
        write_frame(CHANNEL, answer.encode("ascii"))


def kinds_of(namespace: "dict[str, Any]") -> str:
    """Of every global of the program, as JSON: m:NAME for a module, s:NAME for what it took from
    that module of the standard library, c for what else is callable, d for data."""
    kinds = []
    for name, value in namespace.items():
        if type(value) is ModuleType:
            kinds.append(f"{quote(name)}: {quote('m:' + value.__name__)}")
        elif name[:2] == "__":
            continue
        elif not callable(value):
            kinds.append(f"{quote(name)}: {_DATA}")
        elif (source := getattr(value, "__module__", None)) in _STANDARD:
            kinds.append(f"{quote(name)}: {quote('s:' + source)}")
        else:
            kinds.append(f"{quote(name)}: {_CALLABLE}")
    return ", ".join(kinds)


def raised(error: BaseException) -> str:
    outcome, message, _ = describe_end(error)
    if outcome == "exception":
        line = [_name_of(kind) for kind in _mro_of(type(error))][:20]
        text = text_of(error)
        return "x" + json.dumps([line, cut(text), _arguments_of(error, text)])
    return outcome[0] + quote(message)


def _arguments_of(error: BaseException, text: str) -> "str | None":
    """What the exception was made with, where that is plain, short, and more than its text."""
    try:
        arguments = _args_of(error)
        told = encode(arguments) if arguments != (text,) else None
    except BaseException:
        return None
    return told if told is not None and len(told) <= Bounds.message_bytes else None


def run_shared(source: str, extra: "dict[str, Any]") -> Report:
    """Run the program, then the test's code in the program's namespace."""
    namespace = run_program(compiled(source), "candidate")
    entry_point, code = extra["entry_point"], extra["code"]
    if entry_point is not None:
        require_name(namespace, entry_point)
    try:
        exec(compile(code, "<test>", "exec", dont_inherit=True), namespace)
    except AssertionError as error:
        return "wrong", cut(describe_assertion(error, code)), "null"
    return "completed", "", "null"


def run_stdin(source: "str | CodeType", extra: "dict[str, Any]") -> Report:
    """Run the program as a script to its very end; its output is judged elsewhere."""
    if type(source) is str and "/dev/" in source:
        name_streams()
    code = compiled(source)
    try:
        run_program(code, "__main__")
    except SystemExit as error:
        if error.code not in (None, 0):
            error.__traceback__ = error.__context__ = None  # they hold what the program has made
            finish_script(code)  # what it has printed may still count
            raise
    finish_script(code)
    return "completed", "", "null"


def run_call(source: "str | CodeType", extra: "dict[str, Any]") -> Report:
    """Run the program, call its function, give back what it returned as JSON."""
    namespace = run_program(compiled(source), "candidate")
    owner, _, name = extra["function"].rpartition(".")
    require_name(namespace, owner or name)
    function = getattr(namespace[owner](), name) if owner else namespace[name]
    value = function(*extra["args"])
    digits = sys.get_int_max_str_digits()
    try:
        sys.set_int_max_str_digits(0)  # what has been returned may be long
        text = as_json(value)
    except (TypeError, ValueError, RecursionError) as error:
        message = f"returned {_name_of(type(value))}, not plain data: {describe(error)}"
        return "wrong", cut(message), "null"
    finally:
        sys.set_int_max_str_digits(digits)
    if len(text) > Bounds.output_bytes:
        return "output", f"returned a value of {len(text)} bytes", "null"
    return "returned", "", text


_KINDS: "dict[str, Callable[[str, dict[str, Any]], Report]]" = {
    "shared": run_shared,
    "stdin": run_stdin,
    "call": run_call,
}


def require_name(namespace: "dict[str, Any]", name: str) -> None:
    """Raises: NameError: the program did not define the name."""
    if name not in namespace:
        raise NameError(f"the program defines no {name!r}")


def compiled(source: "str | CodeType") -> CodeType:
    """The program's code, whatever form it comes in."""
    if type(source) is CodeType:
        return source
    return compile(source, "<program>", "exec", dont_inherit=True)


def run_program(code: CodeType, name: str) -> "dict[str, Any]":
    """Execute the program as a module of this name; return its namespace."""
    module = ModuleType(name)
    sys.modules[name] = module  # dataclasses, pickle and the like look it up
    namespace = module.__dict__
    namespace["__builtins__"] = sys.modules["builtins"]
    if name == "__main__":
        namespace["__file__"] = f"{os.getcwd()}/program.py"
    exec(code, namespace)
    return namespace


def name_streams() -> None:
    """Let `open` take the names of the standard streams: there is no /proc that they lead to."""
    builtins = sys.modules["builtins"].__dict__
    plain = builtins["open"]

    def open(file: "Any", *given: "Any", **named: "Any") -> "Any":
        fd = _STREAMS.get(file) if type(file) is str else None
        return plain(file if fd is None else os.dup(fd), *given, **named)

    builtins["open"] = open


def finish_script(code: CodeType) -> None:
    """Do what the interpreter does after a script's last line, in its order.

    Threads are waited for, exit handlers run, files that were left open written: programs print
    their answers there.
    """
    if "threading" in sys.modules:
        import threading

        threading._shutdown()  # type: ignore[attr-defined]
    atexit._run_exitfuncs()
    _flush()
    if _has_last_words(code):
        try:
            _let_go()
        except Exception:  # a program that has broken more than its end, or memory is full
            return
        _flush()


def _has_last_words(code: CodeType) -> bool:
    codes = [code]
    for each in codes:
        if not _LAST_WORDS.isdisjoint(each.co_names):
            return True
        codes += [one for one in each.co_consts if type(one) is CodeType]
    return False


def _let_go() -> None:
    """Let go of all that the script has made, as the interpreter does at its end."""
    if gc.isenabled():
        gc.collect()  # puts what holds before what is held: a file's text before its descriptor
    sys.stdin, sys.stdout, sys.stderr = sys.__stdin__, sys.__stdout__, sys.__stderr__
    module = sys.modules.pop("__main__", None)
    if type(module) is not ModuleType:
        return
    # Goes with the module's names, and leads to them where something else has kept them.
    module.__dict__["__last__"] = last = FunctionType(_let_go.__code__, module.__dict__)
    lives = ref(last)
    del module, last
    gc.collect()
    if (kept := lives()) is not None:
        names = kept.__globals__
        for name in [name for name in names if name != "__builtins__"]:
            names[name] = None


def _flush() -> None:
    """Write what is in the streams."""
    for stream in (sys.stdout, sys.__stdout__):
        try:
            if stream is not None:
                stream.flush()
        except Exception:
            # A stream the program closed or replaced; what did come out is what counts.
            continue


def text_of(error: BaseException) -> str:
    """The exception's own text, whatever its methods do."""
    try:
        return str.__str__(str(error))
    except BaseException:
        return "an exception whose text cannot be made"


def describe(error: BaseException) -> str:
    """Say "Type: text", whatever the exception's own methods do."""
    try:
        text, name = text_of(error), _name_of(type(error))
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


def cut(message: str) -> str:
    """Bound the length in characters; the caller bounds it again, in bytes."""
    return message[: Bounds.message_bytes]
