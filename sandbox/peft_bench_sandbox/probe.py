"""What the sandbox holds back here and now, tried out rather than assumed."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import dataclass

from .engine import Engine
from .types import MIB, CallTest, Level, Limits, Program, Status, Verdict
from .worker import Setting, missing, unsealed


@dataclass(frozen=True, slots=True)
class Layer:
    """One thing the sandbox holds back: whether it does, what was seen, what would help."""

    name: str
    ok: bool
    detail: str
    remedy: str


@dataclass(frozen=True, slots=True)
class Probe:
    """The level to be had here, and the layers it rests on or lacks.

    A layer that is not ok lowers the level; one whose place another takes is ok, and its detail
    says that it is not to be had.
    """

    level: Level
    layers: tuple[Layer, ...]


@dataclass(frozen=True, slots=True)
class _Trial:
    """An attack in a throw-away child. level: what it takes to be held for that level."""

    name: str
    level: Level
    source: str
    held: Callable[[Verdict], bool]
    remedy: str


# The first trial uses up its CPU time; the others take some five milliseconds.
_LIMITS = Limits(
    cpu_s=0.2, wall_s=10.0, memory_bytes=256 * MIB, output_bytes=10_000, file_bytes=MIB
)
# On a machine so slow that another ran out of time, which shows nothing.
_PATIENT = dataclasses.replace(_LIMITS, cpu_s=10.0, wall_s=60.0)

# Each defines f(), which gives "open" if the attack went through.
_FILES = """
def f():
    seen = []
    for path in ("/etc/passwd", "/etc/hostname", "/proc/self/environ", "/proc/1/environ"):
        try:
            with open(path, "rb") as file: seen.append(file.read(1))
        except OSError:
            pass
    return "open" if seen else "held"
"""
_WRITE = """
import os
def f():
    for folder in ("/", "/tmp", "/var/tmp", "/dev/shm", "/home", "/root"):
        try:
            os.close(os.open(os.path.join(folder, "probe"), os.O_CREAT | os.O_WRONLY))
            return "open"
        except OSError:
            pass
    return "held"
"""
_NETWORK = """
import socket
def f():
    try:
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM).close()
    except OSError:
        return "held"
    return "open"
"""
_EXEC = """
import glob, os, sys
def f():
    # The dynamic loader is a program that can be read wherever Python runs.
    for program in (sys.executable, "/bin/sh", *glob.glob("/lib*/ld-*.so*")):
        try: os.execv(program, [program, "--version"])
        except PermissionError: pass
        except FileNotFoundError: pass
    return "held"
"""
_FORK = """
import os
def f():
    try: pid = os.fork()
    except OSError: return "held"
    if pid == 0: os._exit(0)
    return "open"
"""
_SIGNALS = """
import os
def f():
    try: os.kill(os.getppid() or 1, 0)
    except OSError: return "held"
    return "open"
"""
_TRIALS = (
    _Trial("cpu", Level.LIMITS, "def f():\n    while True: pass",
           lambda verdict: verdict.status is Status.CPU,
           "let setrlimit(RLIMIT_CPU) through the container's filter"),
    _Trial("memory", Level.LIMITS, f"def f(): return len(bytes({512 * MIB}))",
           lambda verdict: verdict.status is Status.MEMORY,
           "let setrlimit(RLIMIT_AS) through the container's filter"),
    _Trial("output", Level.LIMITS, "def f():\n    while True: print('x' * 1000, flush=True)",
           lambda verdict: verdict.status is Status.OUTPUT,
           "let setrlimit(RLIMIT_FSIZE) through the container's filter"),
    _Trial("files read", Level.STRONG, _FILES, lambda verdict: verdict.status is Status.PASSED,
           "use a kernel with Landlock (5.13 or later), or allow user namespaces"),
    _Trial("files written", Level.STRONG, _WRITE, lambda verdict: verdict.status is Status.PASSED,
           "use a kernel with Landlock (5.13 or later), or allow user namespaces"),
    _Trial("network", Level.STRONG, _NETWORK, lambda verdict: verdict.status is Status.PASSED,
           "let seccomp filters through the container's filter"),
    _Trial("exec", Level.STRONG, _EXEC, lambda verdict: verdict.status is Status.PASSED,
           "let seccomp filters through the container's filter"),
    _Trial("fork", Level.STRONG, _FORK, lambda verdict: verdict.status is Status.PASSED,
           "let seccomp filters through the container's filter"),
    _Trial("signals", Level.STRONG, _SIGNALS, lambda verdict: verdict.status is Status.PASSED,
           "let seccomp filters through the container's filter"),
)  # fmt: skip


def probe() -> Probe:
    """Attack the sandbox in throw-away children and tell what held. Takes a third of a second.

    Never raises: what goes wrong is a layer that is not ok.
    """
    if lacking := missing():
        layers = tuple(Layer("platform", False, text, text) for text in lacking)
        return Probe(Level.NONE, layers)
    try:
        tried, seal = _try_all()
    except Exception as error:  # a probe reports, it does not fail
        text = f"{type(error).__name__}: {error}"
        return Probe(Level.NONE, (Layer("platform", False, text, "report this"),))
    level = Level.STRONG
    for trial, layer in zip(_TRIALS, tried, strict=True):
        if not layer.ok:
            level = min(level, Level.NONE if trial.level is Level.LIMITS else Level.LIMITS)
    if unsealed(seal):
        level = min(level, Level.LIMITS)
    return Probe(level, (*tried, *_sealing(seal)))


@functools.cache
def _probed() -> Probe:
    return probe()


def best_level() -> Level:
    """The strongest level to be had here; probed once a process. Never raises."""
    return _probed().level


def told_lacking() -> str:
    """What keeps this machine from the next level, with the remedies, as one line."""
    found = _probed()
    told = [
        f"{layer.name} ({layer.detail}): {layer.remedy}" for layer in found.layers if not layer.ok
    ]
    return "; ".join(told)


def _try_all() -> tuple[list[Layer], dict[str, str]]:
    seal, verdicts = _try(_TRIALS, _LIMITS)
    slow = [
        trial
        for trial, verdict in zip(_TRIALS, verdicts.values(), strict=True)
        if verdict.status in (Status.CPU, Status.TIMEOUT) and not trial.held(verdict)
    ]
    if slow:
        verdicts |= _try(slow, _PATIENT)[1]
    return [_layer(trial, verdicts[trial.name]) for trial in _TRIALS], seal


def _try(trials: Sequence[_Trial], limits: Limits) -> tuple[dict[str, str], dict[str, Verdict]]:
    """The layers of the seal, and the verdict on each trial."""
    programs = [Program(trial.name, trial.source, (CallTest("f", [], "held"),)) for trial in trials]
    with closing(Engine(Setting(limits), 1, strong=False)) as engine:
        return engine.layers(), {verdict.id: verdict for verdict in engine.run(programs)}


def _layer(trial: _Trial, verdict: Verdict) -> Layer:
    held = trial.held(verdict)
    detail = f"{'held' if held else 'not held'}: {verdict.status.value} {verdict.message:.200}"
    return Layer(trial.name, held, detail.strip(), "" if held else trial.remedy)


def _sealing(seal: dict[str, str]) -> list[Layer]:
    """What the seal is made of; a missing piece is told where no other stands in for it."""
    lacking = unsealed(seal)
    return [
        Layer(
            name,
            not reason or not any(name in text for text in lacking),
            "in force" if not reason else f"not to be had: {reason}",
            next((text for text in lacking if name in text), ""),
        )
        for name, reason in seal.items()
    ]
