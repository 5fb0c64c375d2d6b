"""What a profile lets a program import and read."""

from __future__ import annotations

import importlib.util
import os
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import pytest
from peft_bench_sandbox import AssertTest, CallTest, Limits, Program, StdinTest, Verdict, run_all
from peft_bench_sandbox.engine import Engine
from peft_bench_sandbox.profiles import PROFILES, paths_of
from peft_bench_sandbox.worker import Setting

Run = Callable[..., Verdict]
PASS = AssertTest("pass")
HAS_NUMPY = importlib.util.find_spec("numpy") is not None
needs_numpy = pytest.mark.skipif(not HAS_NUMPY, reason="numpy is not installed here")


@pytest.fixture(scope="module")
def scientific() -> Iterator[Run]:
    """Run one program in the profile "scientific"."""
    with closing(Engine(Setting(Limits(), "scientific"), 1, strong=False)) as engine:

        def run_one(source: str, *tests: AssertTest | CallTest | StdinTest) -> Verdict:
            [verdict] = engine.run([Program("one", source, tests)])
            return verdict

        yield run_one


@pytest.mark.parametrize("name", PROFILES)
def test_all_paths_are_absolute_and_there(name: str) -> None:
    paths = paths_of(PROFILES[name])
    assert paths.readable
    for path in (*paths.readable, *paths.hidden, *paths.added):
        assert Path(path).is_absolute() and Path(path).exists(), path
    assert len({*paths.readable}) == len(paths.readable)


@pytest.mark.parametrize("name", PROFILES)
def test_the_standard_library_is_readable_and_installed_packages_are_hidden(name: str) -> None:
    paths = paths_of(PROFILES[name])
    library = Path(os.__file__).parent
    assert any(library.is_relative_to(path) for path in paths.readable)
    own = library / "site-packages"
    assert not own.is_dir() or str(own) in paths.hidden


def test_the_standard_library_alone_adds_no_path() -> None:
    paths = paths_of(PROFILES["stdlib"])
    assert paths.added == ()
    assert not any(Path(path).name == "site-packages" for path in paths.readable)


@needs_numpy
def test_a_package_is_shown_without_its_neighbours() -> None:
    paths = paths_of(PROFILES["scientific"])
    spec = importlib.util.find_spec("numpy")
    assert spec is not None and spec.origin is not None
    folder = Path(spec.origin).parent
    assert str(folder) in paths.readable and str(folder.parent) in paths.added
    assert str(folder.parent) not in paths.readable


@pytest.mark.parametrize("package", ["numpy", "pytest", "peft_bench_sandbox"])
def test_the_standard_library_is_all_there_is(run: Run, package: str) -> None:
    # Whether it is installed here (numpy, pytest) or not.
    verdict = run(f"import {package}", PASS)
    assert verdict.status == "exception" and f"No module named '{package}'" in verdict.message


READ = """
import os, sys
def seen(paths):
    found = []
    for path in paths:
        try:
            found += os.listdir(path)
        except NotADirectoryError:
            found.append(path)
        except OSError:
            pass
    return found
def imported(paths, name):
    sys.path += paths
    try:
        __import__(name)
    except ImportError:
        return False
    return True
"""


def test_installed_packages_cannot_be_read_or_imported_by_their_path(
    sealed: None, run: Run
) -> None:
    import _pytest

    there = Path(_pytest.__file__)
    hidden = [*paths_of(PROFILES["stdlib"]).hidden, str(there.parents[1])]
    tests = [
        CallTest("seen", [[*hidden, str(there), str(there.parent)]], []),
        CallTest("imported", [hidden, "_pytest"], False),
        CallTest("imported", [[], "wave"], True),
    ]
    verdict = run(READ, *tests)
    assert verdict.status == "passed", verdict.message


@needs_numpy
def test_numpy_can_be_imported_where_the_profile_has_it(scientific: Run) -> None:
    source = "import numpy as np\ndef f(x): return int(np.array(x).sum()), float(np.mean(x))"
    verdict = scientific(source, AssertTest("assert f([1, 2, 3]) == (6, 2.0)"))
    assert verdict.status == "passed", verdict.message


@needs_numpy
def test_a_test_may_use_the_programs_numpy_under_its_usual_name(scientific: Run) -> None:
    source = "import numpy as np\ndef f(x): return [float(v) for v in np.sqrt(x)]"
    code = "assert np.allclose(f([1, 4]), np.array([1, 2]))"
    assert scientific(source, AssertTest(code)).status == "passed"
    assert scientific(source.replace("np", "xy"), AssertTest(code)).status == "exception"


@needs_numpy
def test_an_array_for_an_argument_needs_a_shared_judge(scientific: Run) -> None:
    source = "import numpy as np\ndef f(x): return int(x.sum())"
    code = "assert f(np.array([1, 2])) == 3"
    verdict = scientific(source, AssertTest(code))
    assert verdict.status == "harness_error" and "judge='shared'" in verdict.message
    verdict = scientific(source, AssertTest(code, judge="shared"))
    assert verdict.status == "passed", verdict.message


@needs_numpy
def test_numpys_random_numbers_are_the_same_each_time(scientific: Run) -> None:
    source = "import numpy as np\ndef f(): return np.random.rand(2).tolist()"
    code = "assert False, repr([f(), np.random.rand(), np.random.permutation(50)[:5].tolist()])"
    assert len({scientific(source, AssertTest(code)).message for _ in range(3)}) == 1


def test_neighbours_of_a_profiles_packages_cannot_be_imported(scientific: Run) -> None:
    for package in ("pytest", "torch", "peft_bench_sandbox"):
        verdict = scientific(f"import {package}", PASS)
        assert verdict.status == "exception"
        assert f"No module named '{package}'" in verdict.message


@needs_numpy
def test_the_neighbours_cannot_be_read_either(sealed: None, scientific: Run) -> None:
    import _pytest

    there = Path(_pytest.__file__)
    verdict = scientific(READ, CallTest("seen", [[str(there), str(there.parent)]], []))
    assert verdict.status == "passed", verdict.message


def test_a_profile_is_asked_for_by_name() -> None:
    program = Program("p", "import numpy", (PASS,))
    [verdict] = run_all([program], require="limits", profile="scientific", workers=1)
    assert verdict.status == ("passed" if HAS_NUMPY else "exception")
    [verdict] = run_all([program], require="limits", profile="stdlib", workers=1)
    assert verdict.status == "exception"
