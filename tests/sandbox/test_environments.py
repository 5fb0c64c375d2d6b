"""The attacks again where the sandbox has less to build on; "as found" is their plain run."""

from __future__ import annotations

import importlib.util
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import peft_bench_sandbox
import pytest

_HERE = Path(__file__).parent


def _load(name: str) -> ModuleType:
    """A module beside this one; tests are on no path."""
    spec = importlib.util.spec_from_file_location(f"sandbox_{name}", _HERE / f"{name}.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


environments = _load("environments")

_CHECK = """
import ctypes, errno, os, sys
libc = ctypes.CDLL(None, use_errno=True)
status = open('/proc/self/status').read()
print('uid', os.getuid(), os.geteuid(), os.getgroups())
print('capabilities', int(status.split('CapEff:')[1].split()[0], 16))
if os.fork() == 0:
    print('namespaces', libc.unshare(0x10000000) == 0, flush=True)
    os._exit(0)
os.wait()
import peft_bench_sandbox, pytest
print('level', peft_bench_sandbox.best_level())
"""


@pytest.fixture
def home() -> Iterator[Path]:
    """A directory that every user can get to, given to the one who runs the command."""
    path = Path(tempfile.mkdtemp(prefix="environment-", dir=_open_to_all()))
    yield path
    shutil.rmtree(path, ignore_errors=True)


def _open_to_all() -> str:
    return next(p for p in ("/tmp", "/var/tmp", tempfile.gettempdir()) if Path(p).is_dir())


def run(name: str, home: Path, *argv: str) -> subprocess.CompletedProcess[str]:
    package = Path(peft_bench_sandbox.__file__).parents[1]
    paths = [] if package.name.endswith("-packages") else [str(package)]
    return subprocess.run(
        environments.command(name, home, [sys.executable, *argv]),
        env={**os.environ, "PYTHONPATH": os.pathsep.join(paths), "PYTHONDONTWRITEBYTECODE": "1"},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=300,
    )


@pytest.fixture(autouse=True)
def _only_root() -> None:
    if reason := environments.why_not():
        pytest.skip(reason)


each_environment = pytest.mark.parametrize("name", environments.ENVIRONMENTS)


@each_environment
def test_the_environment_is_what_it_says(name: str, home: Path) -> None:
    ended = run(name, home, "-c", _CHECK)
    told = dict(line.split(" ", 1) for line in ended.stdout.splitlines())
    unprivileged = "unprivileged" in name
    nobody = f"{environments.NOBODY} {environments.NOBODY} []"
    assert told["uid"].startswith(nobody if unprivileged else "0 0 "), ended.stdout
    assert (told["capabilities"] == "0") == unprivileged
    assert told["namespaces"] == str("no user namespaces" not in name)
    assert told["level"] == "strong", ended.stdout


@each_environment
def test_every_attack_is_held(name: str, home: Path) -> None:
    # What compilers and exceptions do is the same everywhere; so are the twins, but for the user
    # who runs them.
    left_out = "parse: or raise: or call: or test_with_its_limit_lifted"
    if "no user namespaces" in name:
        left_out += " or test_without_its_guard or test_each_of_its_guards"
    chosen = f"not ({left_out})"
    ended = run(
        *(name, home, "-m", "pytest", "-q", "--tb=line", "-p", "no:cacheprovider", "-k", chosen),
        *("--import-mode=importlib", "--rootdir", str(home), str(_HERE / "test_attacks.py")),
    )
    passed = re.search(r"(\d+) passed", ended.stdout)
    assert ended.returncode == 0, ended.stdout[-20_000:]
    assert passed is not None and int(passed[1]) > 350, ended.stdout
