"""Many programs: order, levels, profiles, warnings, progress."""

from __future__ import annotations

import io
import subprocess
import sys
import time
import warnings
from collections.abc import Iterator
from pathlib import Path

import peft_bench_sandbox
import pytest
from peft_bench_sandbox import (
    AssertTest,
    Level,
    Limits,
    Program,
    SandboxUnavailable,
    StdinTest,
    Verdict,
    WeakSandboxWarning,
    run_all,
)
from peft_bench_sandbox import pool as pool_module
from peft_bench_sandbox.worker import Setting

PASS = AssertTest("pass")
FINE = Program("fine", "pass", (PASS,))


def test_no_programs_no_verdicts() -> None:
    assert run_all([], require="limits") == []


def test_verdicts_come_in_order_whatever_ends_first() -> None:
    programs = [
        Program(
            str(n),
            f"import time; time.sleep({0.3 if n % 5 == 0 else 0}); print({n})",
            (StdinTest("", str(n)),),
        )
        for n in range(15)
    ]
    verdicts = run_all(programs, require="limits", workers=4)
    assert [verdict.id for verdict in verdicts] == [program.id for program in programs]
    assert {verdict.status for verdict in verdicts} == {"passed"}


def test_an_id_may_come_twice() -> None:
    programs = [Program("same", source, (PASS,)) for source in ("pass", "1/0", "pass")]
    verdicts = run_all(programs, require="limits")
    assert [verdict.status for verdict in verdicts] == ["passed", "exception", "passed"]
    assert {verdict.id for verdict in verdicts} == {"same"}


def test_programs_run_side_by_side() -> None:
    programs = [Program("p", "import time; time.sleep(1)", (PASS,))] * 12
    began = time.monotonic()
    verdicts = run_all(programs, require="limits", workers=2)
    took = time.monotonic() - began
    assert {verdict.status for verdict in verdicts} == {"passed"}
    assert sum(verdict.wall_s for verdict in verdicts) > 1.2 * took


@pytest.fixture
def weak(monkeypatch: pytest.MonkeyPatch) -> None:
    """As on a machine that gives the level "limits" alone."""
    monkeypatch.setattr(pool_module, "best_level", lambda: Level.LIMITS)
    monkeypatch.setattr(pool_module, "told_lacking", lambda: "landlock (absent): use another")


def test_strong_is_the_default_and_is_to_be_had_without_a_warning(sealed: None) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert run_all([FINE])[0].status == "passed"


@pytest.mark.usefixtures("weak")
def test_strong_is_refused_with_a_remedy_where_the_machine_gives_less() -> None:
    said = r"only 'limits': landlock \(absent\): use another\. .*require='limits'.*README\.md"
    with pytest.raises(SandboxUnavailable, match=said):
        run_all([FINE])


def test_a_seal_that_does_not_hold_in_the_end_is_refused_too(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # Probed once a process: what is found at a zygote's start counts.
    monkeypatch.setattr(pool_module, "best_level", lambda: Level.STRONG)
    monkeypatch.setattr("peft_bench_sandbox.engine.unsealed", lambda layers: ["seccomp: gone"])
    with pytest.raises(SandboxUnavailable, match="could not be sealed: seccomp: gone"):
        run_all([FINE])


@pytest.mark.usefixtures("weak")
@pytest.mark.parametrize("level", ["none", "limits"])
def test_a_weaker_requirement_is_met(level: str) -> None:
    assert run_all([FINE], require=level)[0].status == "passed"


def test_an_unknown_level_or_profile_is_refused_even_without_programs() -> None:
    with pytest.raises(ValueError, match="medium"):
        run_all([], require="medium")
    with pytest.raises(ValueError, match="profile is 'numpy'; give one of stdlib"):
        run_all([], require="limits", profile="numpy")
    with pytest.raises(ValueError, match="workers is 0; give 1 or more"):
        run_all([], require="limits", workers=0)


def test_what_is_no_program_is_refused_by_its_place() -> None:
    with pytest.raises(TypeError, match=r"programs\[1\] is str; give a Program"):
        run_all([FINE, "pass"], require="limits")  # type: ignore[list-item]


@pytest.mark.usefixtures("weak")
def test_the_weak_level_warns_once_a_process(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pool_module, "_warned", False)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        run_all([], require="limits")
        run_all([], require="limits")
    assert [entry.category for entry in caught] == [WeakSandboxWarning]
    assert caught[0].filename == __file__
    assert "landlock (absent): use another" in str(caught[0].message)
    assert "README.md" in str(caught[0].message)


def test_another_system_is_refused_clearly(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.platform", "darwin")
    with pytest.raises(SandboxUnavailable, match="the system is darwin; use Linux"):
        run_all([FINE], require="none")


def test_another_machine_is_refused_clearly(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("platform.machine", lambda: "vax")
    with pytest.raises(SandboxUnavailable, match="the machine is vax; use x86_64 or aarch64"):
        run_all([FINE], require="none")


def test_a_missing_shell_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("peft_bench_sandbox.worker.SHELL", "/nowhere/sh")
    with pytest.raises(SandboxUnavailable, match="there is no /nowhere/sh; install"):
        run_all([FINE], require="limits")


def test_a_python_that_does_not_know_its_path_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.executable", "")
    with pytest.raises(SandboxUnavailable, match="does not know its own path; start it by"):
        run_all([FINE], require="limits")


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_verdicts_are_told_as_they_come() -> None:
    told: list[Verdict] = []

    def stop(verdict: Verdict) -> None:
        told.append(verdict)
        if len(told) == 2:
            raise KeyboardInterrupt

    programs = [Program(str(number), "", (PASS,)) for number in range(4)]
    done = run_all(programs, require="limits", on_verdict=told.append)
    assert told == done
    told.clear()
    with pytest.raises(KeyboardInterrupt):
        run_all(programs, require="limits", on_verdict=stop)
    assert [one.id for one in told] == ["0", "1"]


def test_progress_is_a_line_on_a_terminal_only(monkeypatch: pytest.MonkeyPatch) -> None:
    shown = {}
    for name, stream in {"terminal": Terminal(), "file": io.StringIO()}.items():
        monkeypatch.setattr("sys.stderr", stream)
        run_all([FINE, Program("bad", "1/0", (PASS,))], require="limits", progress=True)
        shown[name] = stream.getvalue()
    assert shown["file"] == ""
    assert shown["terminal"].endswith("\rsandbox: 2 of 2 programs run, 1 passed\n")


def test_programs_are_taken_in_as_needed() -> None:
    taken = 0

    def endless() -> Iterator[Program]:
        nonlocal taken
        while True:
            taken += 1
            yield FINE

    verdicts = pool_module.run_ordered(endless(), Setting(Limits()), workers=2, strong=False)
    assert next(verdicts).status == "passed"
    # Two processes; each has some waiting and, while those sleep, up to 256 more.
    assert taken <= 600
    before = taken
    verdicts.close()
    assert taken == before


def test_the_package_needs_nothing_but_python() -> None:
    package = Path(peft_bench_sandbox.__file__).parents[1]
    script = f"import sys; sys.path.insert(0, {str(package)!r}); import peft_bench_sandbox"
    subprocess.run([sys.executable, "-I", "-S", "-c", script], check=True)
