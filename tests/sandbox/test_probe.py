"""The probe tells what holds, and notices what does not."""

from __future__ import annotations

import dataclasses
import sys
from typing import Any

import pytest
from peft_bench_sandbox import Level, Status, best_level, probe
from peft_bench_sandbox.score import Result

# The package has a function of the same name.
PROBE_MODULE = sys.modules["peft_bench_sandbox.probe"]


def test_the_limits_hold_here_and_the_missing_seal_is_named() -> None:
    seen = probe()
    assert seen.level is Level.LIMITS
    held = {layer.name: layer.ok for layer in seen.layers}
    assert held == {
        "cpu": True,
        "memory": True,
        "file size": True,
        "output": True,
        "isolation": False,
    }
    [missing] = [layer for layer in seen.layers if not layer.ok]
    assert "network" in missing.detail and missing.remedy


def test_a_limit_that_does_not_hold_lowers_the_level(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(PROBE_MODULE, "run_test", lambda *a: Result(Status.PASSED, ""))
    seen = probe()
    assert seen.level is Level.NONE
    assert not any(layer.ok for layer in seen.layers)
    assert all(layer.detail and layer.remedy for layer in seen.layers)


def test_lifted_limits_are_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    quick = [trial for trial in PROBE_MODULE._TRIALS if trial.name in ("memory", "file size")]
    lifted = [dataclasses.replace(trial, limits=PROBE_MODULE.Limits()) for trial in quick]
    monkeypatch.setattr(PROBE_MODULE, "_TRIALS", tuple(lifted))
    assert [layer.ok for layer in probe().layers] == [False, False, False]


def test_it_never_raises(monkeypatch: pytest.MonkeyPatch) -> None:
    def explode(*_: Any) -> Result:
        raise RuntimeError("boo")

    monkeypatch.setattr(PROBE_MODULE, "run_test", explode)
    seen = probe()
    assert seen.level is Level.NONE and "RuntimeError: boo" in seen.layers[0].detail


def test_elsewhere_there_is_no_level(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.platform", "win32")
    seen = probe()
    assert seen.level is Level.NONE and "win32" in seen.layers[0].detail


def test_the_best_level_is_probed_once(monkeypatch: pytest.MonkeyPatch) -> None:
    best_level.cache_clear()
    calls = []

    def count(*given: Any) -> Result:
        calls.append(given)
        return Result(Status.CPU, "")

    monkeypatch.setattr(PROBE_MODULE, "run_test", count)
    assert best_level() is best_level() is Level.NONE
    assert len(calls) == 4
    best_level.cache_clear()
