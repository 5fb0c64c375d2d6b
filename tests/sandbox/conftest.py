"""What the sandbox's tests share: running one program, and looking for what it left behind."""

from __future__ import annotations

import importlib.util
import os
import sys
import time
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from peft_bench_sandbox import (
    Level,
    Limits,
    Program,
    Test,
    Verdict,
    WeakSandboxWarning,
    best_level,
    probe,
)
from peft_bench_sandbox.engine import Engine
from peft_bench_sandbox.probe import told_lacking
from peft_bench_sandbox.worker import Setting

Run = Callable[..., Verdict]

ATTACKS = "sandbox_attacks"
"""The folder attacks as a package: it is on no path, for pytest imports tests by importlib."""


def _make_importable(folder: Path) -> None:
    spec = importlib.util.spec_from_file_location(
        ATTACKS, folder / "__init__.py", submodule_search_locations=[str(folder)]
    )
    assert spec is not None and spec.loader is not None
    sys.modules[ATTACKS] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(sys.modules[ATTACKS])


if ATTACKS not in sys.modules:
    _make_importable(Path(__file__).with_name("attacks"))


@pytest.fixture(autouse=True)
def _accept_weak_level() -> Iterator[None]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", WeakSandboxWarning)
        yield


@pytest.fixture(scope="session")
def sealed() -> None:
    """Skips where the machine gives less than the level "strong"."""
    if best_level() is not Level.STRONG:
        pytest.skip(f"there is no level strong here: {told_lacking()}")


@pytest.fixture(scope="session")
def works() -> None:
    """Skips where programs have no directory to work in."""
    layers = {layer.name: layer.detail for layer in probe().layers}
    if {layers["mount namespace"], layers["landlock"]} != {"in force"}:
        pytest.skip("there is no directory to work in without a mount namespace and Landlock")


@pytest.fixture(scope="session")
def engines() -> Iterator[Callable[[Limits], Engine]]:
    """Sealed processes that stay up from test to test; one set for each set of limits."""
    made: dict[Limits, Engine] = {}

    def engine_of(limits: Limits) -> Engine:
        if limits not in made:
            if len(made) >= 4:
                made.pop(next(iter(made))).close()
            made[limits] = Engine(Setting(limits), 1, strong=False)
        return made[limits]

    yield engine_of
    for engine in made.values():
        engine.close()


@pytest.fixture
def run(engines: Callable[[Limits], Engine]) -> Run:
    """Run one program: `run(source, *tests, **limits)`."""

    def run_one(source: str, *tests: Test, **limits: Any) -> Verdict:
        [verdict] = engines(Limits(**limits)).run([Program("one", source, tests)])
        return verdict

    return run_one


@pytest.fixture
def is_gone() -> Callable[[int], bool]:
    """Whether a process ends within seconds; a zombie has ended."""

    def check(pid: int) -> bool:
        deadline = time.monotonic() + 10
        while time.monotonic() < deadline:
            try:
                stat = Path(f"/proc/{pid}/stat").read_text()
            except (FileNotFoundError, ProcessLookupError):
                return True
            if stat.rpartition(")")[2].split()[0] in "ZX":
                return True
            time.sleep(0.02)
        return False

    return check


@pytest.fixture
def open_files() -> Callable[[], int]:
    """How many descriptors this process has open."""
    return lambda: len(os.listdir("/proc/self/fd"))  # noqa: PTH208 - names only
