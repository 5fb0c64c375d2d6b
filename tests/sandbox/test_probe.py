"""The probe tells what holds, and notices what does not."""

from __future__ import annotations

import dataclasses
import sys
from collections.abc import Callable
from typing import Any

import pytest
from peft_bench_sandbox import (
    AssertTest,
    Level,
    Probe,
    Program,
    SandboxUnavailable,
    best_level,
    probe,
    run_all,
)
from peft_bench_sandbox.worker import Setting

# The package has a function of the same name.
PROBE_MODULE: Any = sys.modules["peft_bench_sandbox.probe"]
TRIALS = {trial.name: trial for trial in PROBE_MODULE._TRIALS}
LIMITS = [name for name, trial in TRIALS.items() if trial.level is Level.LIMITS]
STRONG = [name for name, trial in TRIALS.items() if trial.level is Level.STRONG]
FINE = Program("fine", "pass", (AssertTest("pass"),))


@pytest.fixture
def as_found(monkeypatch: pytest.MonkeyPatch) -> Callable[[Probe], None]:
    """Have what was found here be this."""
    return lambda found: monkeypatch.setattr(PROBE_MODULE, "_probed", lambda: found)


def lacking(found: Probe) -> dict[str, Any]:
    for layer in found.layers:
        assert layer.name and layer.detail
        assert bool(layer.remedy) is not layer.ok, layer
    return {layer.name: layer for layer in found.layers if not layer.ok}


def test_everything_is_held_here(sealed: None) -> None:
    found = probe()
    assert found.level is Level.STRONG
    assert lacking(found) == {}
    names = [layer.name for layer in found.layers]
    assert names[: len(TRIALS)] == list(TRIALS)
    assert {"seccomp", "no_new_privs", "landlock", "mount namespace"} <= {*names}
    assert len({*names}) == len(names)


def test_the_limits_are_held_on_any_machine() -> None:
    found = probe()
    assert found.level >= Level.LIMITS
    assert not {*LIMITS} & {*lacking(found)}


@pytest.mark.parametrize("name", TRIALS)
def test_what_gets_through_lowers_the_level(
    sealed: None, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    trial = TRIALS[name]
    got_through = "def f(): return 'held'" if name in LIMITS else "def f(): return 'open'"
    changed = dataclasses.replace(trial, source=got_through)
    trials = [changed if each is trial else each for each in TRIALS.values() if each.name != "cpu"]
    if name == "cpu":
        trials = [changed]
    monkeypatch.setattr(PROBE_MODULE, "_TRIALS", tuple(trials))
    found = probe()
    assert found.level is (Level.NONE if name in LIMITS else Level.LIMITS)
    [missing] = lacking(found).values()
    assert (missing.name, missing.remedy) == (name, trial.remedy)
    assert missing.detail.startswith("not held: ")


@pytest.mark.parametrize("name", STRONG)
def test_a_program_that_ends_another_way_is_not_taken_for_held(
    sealed: None, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    # An attack that breaks down has shown nothing.
    broken = dataclasses.replace(TRIALS[name], source="def f(): raise OSError")
    monkeypatch.setattr(PROBE_MODULE, "_TRIALS", (broken,))
    found = probe()
    assert found.level is Level.LIMITS and [*lacking(found)] == [name]


def test_what_runs_out_of_time_is_tried_again_with_more(
    sealed: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    # As on a machine that is ten times slower.
    wait = "    import time\n    while time.process_time() < 0.5: pass\n    return "
    for answer, lacked in (("'held'", []), ("'open'", ["network"])):
        slow = dataclasses.replace(TRIALS["network"], source=f"def f():\n{wait}{answer}")
        monkeypatch.setattr(PROBE_MODULE, "_TRIALS", (TRIALS["memory"], slow))
        assert [*lacking(probe())] == lacked


@pytest.mark.parametrize(
    ("guards", "noticed"),
    [
        ("network", {"network"}),
        ("files", {"files read", "files written"}),
        ("exec files", {"exec"}),  # in a root of its own there is no program to execute
        ("fork", {"fork"}),
        ("signals", {"signals"}),
        ("rlimits", {"memory"}),
    ],
)
def test_a_guard_that_is_really_left_out_is_noticed(
    sealed: None, monkeypatch: pytest.MonkeyPatch, guards: str, noticed: set[str]
) -> None:
    monkeypatch.setattr(
        PROBE_MODULE, "Setting", lambda limits: Setting(limits, without=frozenset(guards.split()))
    )
    found = probe()
    assert noticed <= {*lacking(found)}
    assert found.level is (Level.NONE if guards == "rlimits" else Level.LIMITS)


def test_a_missing_layer_of_the_seal_lowers_the_level_and_is_told_with_its_remedy(
    sealed: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    told = "seccomp (absent): use a kernel with seccomp"
    monkeypatch.setattr(PROBE_MODULE, "unsealed", lambda layers: [told])
    monkeypatch.setattr(PROBE_MODULE, "_sealing", lambda seal: [])
    assert probe().level is Level.LIMITS


def test_a_layer_that_another_stands_in_for_is_told_but_lowers_nothing() -> None:
    seal = dict.fromkeys(("no_new_privs", "seccomp", "mount namespace", "landlock"), "")
    either = [
        layer.ok
        for name in ("mount namespace", "landlock")
        for layer in PROBE_MODULE._sealing(seal | {name: "not here"})
    ]
    assert all(either)
    layers = PROBE_MODULE._sealing(seal | {"mount namespace": "no", "landlock": "not here"})
    found = {layer.name: layer for layer in layers}
    assert not found["landlock"].ok and not found["mount namespace"].ok
    assert "not here" in found["landlock"].detail and "5.13" in found["landlock"].remedy
    [alone] = [layer for layer in PROBE_MODULE._sealing(seal | {"seccomp": "no"}) if not layer.ok]
    assert alone.name == "seccomp" and "CONFIG_SECCOMP_FILTER" in alone.remedy


def test_it_never_raises(monkeypatch: pytest.MonkeyPatch) -> None:
    def explode(*_: Any, **__: Any) -> Any:
        raise RuntimeError("boo")

    monkeypatch.setattr(PROBE_MODULE, "Engine", explode)
    found = probe()
    assert found.level is Level.NONE and "RuntimeError: boo" in found.layers[0].detail


def test_a_sandbox_that_does_not_start_is_no_level(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.executable", "/nowhere/python")
    found = probe()
    assert found.level is Level.NONE
    assert "SandboxUnavailable: the sandbox cannot run here" in found.layers[0].detail


@pytest.mark.parametrize(
    ("place", "value", "said"),
    [
        ("sys.platform", "win32", "the system is win32; use Linux"),
        ("platform.machine", lambda: "vax", "the machine is vax; use x86_64"),
    ],
)
def test_elsewhere_there_is_no_level(
    monkeypatch: pytest.MonkeyPatch, place: str, value: Any, said: str
) -> None:
    monkeypatch.setattr(place, value)
    found = probe()
    assert found.level is Level.NONE and said in found.layers[0].detail


def test_the_best_level_is_probed_once(monkeypatch: pytest.MonkeyPatch) -> None:
    calls = []

    def count() -> Probe:
        calls.append(1)
        return Probe(Level.NONE, ())

    PROBE_MODULE._probed.cache_clear()
    try:
        with monkeypatch.context() as patch:
            patch.setattr(PROBE_MODULE, "probe", count)
            assert best_level() is best_level() is Level.NONE
        assert calls == [1]
    finally:
        PROBE_MODULE._probed.cache_clear()


def test_what_is_lacking_is_told_with_its_remedy(as_found: Callable[[Probe], None]) -> None:
    layer = PROBE_MODULE.Layer
    as_found(
        Probe(
            Level.LIMITS,
            (
                layer("cpu", True, "held: cpu", ""),
                layer("fork", False, "not held: wrong", "use another kernel"),
                layer("exec", False, "not held: passed", "let it through"),
            ),
        )
    )
    assert PROBE_MODULE.told_lacking() == (
        "fork (not held: wrong): use another kernel; exec (not held: passed): let it through"
    )
    said = r"only 'limits': fork \(not held: wrong\): use another kernel; exec"
    with pytest.raises(SandboxUnavailable, match=said):
        run_all([FINE], require="strong")
    assert run_all([FINE], require="limits")[0].status == "passed"


def test_no_level_at_all_is_refused_unless_it_is_asked_for(
    as_found: Callable[[Probe], None],
) -> None:
    as_found(Probe(Level.NONE, (PROBE_MODULE.Layer("cpu", False, "not held", "mend it"),)))
    for level in ("limits", "strong"):
        with pytest.raises(SandboxUnavailable, match=r"only 'none': cpu \(not held\): mend it"):
            run_all([FINE], require=level)
    assert run_all([FINE], require="none")[0].status == "passed"
