"""What the sandbox's tests share: running one program, and looking for what it left behind."""

from __future__ import annotations

import os
import time
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from peft_bench_sandbox import Limits, Program, Test, Verdict, WeakSandboxWarning, run_all

Run = Callable[..., Verdict]


@pytest.fixture(autouse=True)
def _accept_weak_level() -> Iterator[None]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", WeakSandboxWarning)
        yield


@pytest.fixture
def run() -> Run:
    """Run one program: `run(source, *tests, **limits)`."""

    def run_one(source: str, *tests: Test, **limits: Any) -> Verdict:
        program = Program("one", source, tests)
        [verdict] = run_all([program], limits=Limits(**limits), require="limits", workers=1)
        return verdict

    return run_one


@pytest.fixture
def temporary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of this test's own in which the sandbox makes its working directories."""
    folder = tmp_path / "temporary"
    folder.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(folder))
    return folder


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
