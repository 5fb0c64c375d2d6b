"""What the sandbox holds back here and now, tried out rather than assumed."""

from __future__ import annotations

import functools
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from .launch import Children
from .pool import missing
from .score import Result, run_test
from .types import MIB, AssertTest, Level, Limits, Status


@dataclass(frozen=True, slots=True)
class Layer:
    """One thing the sandbox holds back: whether it does, what was seen, what would help."""

    name: str
    ok: bool
    detail: str
    remedy: str


@dataclass(frozen=True, slots=True)
class Probe:
    """The level to be had here, and the layers it rests on or lacks."""

    level: Level
    layers: tuple[Layer, ...]


@dataclass(frozen=True, slots=True)
class _Trial:
    name: str
    attack: str
    limits: Limits
    held: Callable[[Result], bool]
    remedy: str


_WRITE = """
try:
    with open("big", "wb", buffering=0) as file:
        file.write(bytes(4096))
        file.write(bytes(4096))
except OSError as error:
    import errno
    assert error.errno != errno.EFBIG, "held"
"""

_TRIALS = (
    _Trial(
        "cpu",
        "while True: pass",
        Limits(cpu_s=1.0, wall_s=20.0),
        lambda result: result.status is Status.CPU,
        "let setrlimit(RLIMIT_CPU) through the container's filter",
    ),
    _Trial(
        "memory",
        f"block = bytes({512 * MIB})",
        Limits(memory_bytes=256 * MIB),
        lambda result: result.status is Status.MEMORY,
        "let setrlimit(RLIMIT_AS) through the container's filter",
    ),
    _Trial(
        "file size",
        _WRITE,
        Limits(file_bytes=4096),
        lambda result: result.status is Status.WRONG and "held" in result.message,
        "let setrlimit(RLIMIT_FSIZE) through the container's filter",
    ),
    _Trial(
        "output",
        "while True: print('x' * 1000)",
        Limits(output_bytes=10_000),
        lambda result: result.status is Status.OUTPUT,
        "report this with the output of the doctor",
    ),
)

_NOT_SEALED = Layer(
    name="isolation",
    ok=False,
    detail="files, network and other processes are open to the programs in this release",
    remedy="run inside a container or a machine that has nothing to lose",
)


def probe() -> Probe:
    """Attack the sandbox in throw-away children and tell what held. Takes about a second.

    Never raises: what goes wrong is a layer that is not ok.
    """
    if lacking := missing():
        layers = tuple(Layer("platform", False, text, text) for text in lacking)
        return Probe(Level.NONE, layers)
    with ThreadPoolExecutor(len(_TRIALS)) as executor:
        tried = tuple(executor.map(_try, _TRIALS))
    level = Level.LIMITS if all(layer.ok for layer in tried) else Level.NONE
    return Probe(level, (*tried, _NOT_SEALED))


@functools.cache
def best_level() -> Level:
    """The strongest level to be had here; probed once a process. Never raises."""
    return probe().level


def _try(trial: _Trial) -> Layer:
    try:
        result = run_test("", AssertTest(trial.attack), trial.limits, Children())
    except Exception as error:  # a probe reports, it does not fail
        return Layer(trial.name, False, f"{type(error).__name__}: {error}", trial.remedy)
    held = trial.held(result)
    detail = f"{'held' if held else 'not held'}: {result.status.value} {result.message:.200}"
    return Layer(trial.name, held, detail, "" if held else trial.remedy)
