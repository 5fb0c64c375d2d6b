"""The gold check: references run once, are remembered by content, and tell the judge."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from peft_bench_sandbox import AssertTest, Level, Program, StdinTest, best_level

from peft_bench import gold
from peft_bench.errors import PeftBenchError
from peft_bench.gold import Gold, Sandbox

pytestmark = pytest.mark.skipif(
    best_level() < Level.STRONG, reason="this machine gives no strong sandbox level"
)
STRONG = Sandbox("strong")


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("PEFT_BENCH_CACHE", str(tmp_path))
    return tmp_path / "gold"


@pytest.fixture()
def runs(monkeypatch: pytest.MonkeyPatch) -> list[list[str]]:
    """The sources of each call of the sandbox."""
    calls: list[list[str]] = []
    settle = gold.settle

    def count(programs: Any, **named: Any) -> Any:
        calls.append([program.source for program in programs])
        return settle(programs, **named)

    monkeypatch.setattr(gold, "settle", count)
    return calls


def program(source: str, test: str = "assert f(2) == 4") -> Program:
    return Program("p", source, (AssertTest(test, "f"),))


DOUBLE = program("def f(x):\n    return 2 * x\n")
WRONG = program("def f(x):\n    return x\n")


def test_outcomes_and_judges() -> None:
    maker = program("def f(x):\n    return lambda: x\n", "assert f(1)() == 1")
    changer = program("def f(x):\n    x.append(1)\n", "x = []\nf(x)\nassert x == [1]")
    script = Program("s", "print(input())", (StdinTest("7\n", "7\n"),))
    found = gold.check(
        {
            "sound": [DOUBLE],
            "second": [WRONG, DOUBLE],
            "failing": [WRONG, program("x = 1")],
            "without": [],
            "shared": [maker],
            "in place": [changer],
            "script": [script],
        },
        STRONG,
    )
    assert {name: (one.outcome, one.judge) for name, one in found.items()} == {
        "sound": ("passed", "split"),
        "second": ("passed", "split"),
        "failing": ("failed", "split"),
        "without": ("none", "split"),
        "shared": ("passed", "shared"),
        "in place": ("passed", "split-arguments"),
        "script": ("passed", "split"),
    }
    assert found["failing"].message.startswith("wrong: ")


def test_what_is_known_does_not_run_again(cache: Path, runs: list[list[str]]) -> None:
    first = gold.check({"a": [DOUBLE], "b": [WRONG]}, STRONG)
    assert len(runs) == 1
    assert gold.check({"b": [WRONG], "a": [DOUBLE]}, STRONG) == first
    assert len(runs) == 1
    [file] = cache.glob("*.json")
    kept = json.loads(file.read_text(encoding="utf-8"))
    assert kept["setting"] == gold.describe_setting(STRONG)
    assert len(kept["problems"]) == 2


def test_a_check_that_is_stopped_goes_on(
    runs: list[list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(gold, "_KEPT_EVERY", 2)
    references = {
        name: [program(f"{DOUBLE.source}# {name}\n")] if name != "c" else [] for name in "abcde"
    }
    settle = gold.settle

    def stop(programs: Any, **named: Any) -> Any:
        if len(runs) == 2:
            raise KeyboardInterrupt
        return settle(programs, **named)

    with monkeypatch.context() as patch:
        patch.setattr(gold, "settle", stop)
        with pytest.raises(KeyboardInterrupt):
            gold.check(references, STRONG)
    found = gold.check(references, STRONG)
    assert [len(them) for them in runs] == [2, 1, 1]
    assert {name: one.outcome for name, one in found.items()} == {
        name: "none" if name == "c" else "passed" for name in "abcde"
    }


def test_another_reference_or_test_runs(runs: list[list[str]]) -> None:
    gold.check({"a": [DOUBLE]}, STRONG)
    gold.check({"a": [program(DOUBLE.source, "assert f(3) == 6")], "b": [DOUBLE]}, STRONG)
    gold.check({"a": [WRONG]}, STRONG)
    assert runs == [[DOUBLE.source], [DOUBLE.source], [WRONG.source]]


def test_another_setting_has_its_own_memory(
    cache: Path, monkeypatch: pytest.MonkeyPatch, runs: list[list[str]]
) -> None:
    gold.check({"a": [DOUBLE]}, STRONG)
    monkeypatch.setattr("platform.python_version", lambda: "3.99.0")
    gold.check({"a": [DOUBLE]}, STRONG)
    gold.check({"a": [DOUBLE]}, Sandbox("limits"))
    assert len(runs) == 3
    assert len(list(cache.glob("*.json"))) == 3


@pytest.mark.parametrize(
    "content",
    ["", "{", "[]", '{"problems": {"x": 1}}', '{"problems": {"x": {"outcome": 1, "y": 2}}}'],
)
def test_a_broken_memory_is_made_anew(content: str, cache: Path, runs: list[list[str]]) -> None:
    gold.check({"a": [DOUBLE]}, STRONG)
    [file] = cache.glob("*.json")
    file.write_text(content, encoding="utf-8")
    assert gold.check({"a": [DOUBLE]}, STRONG)["a"].outcome == "passed"
    assert len(runs) == 2
    assert json.loads(file.read_text(encoding="utf-8"))["problems"]


def test_what_others_found_meanwhile_stays(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two ranks check at once: the one that writes last keeps what the other wrote."""
    settle, nested = gold.settle, [True]

    def interrupted(programs: Any, **named: Any) -> Any:
        if nested.pop() if nested else False:
            gold.check({"other": [WRONG]}, STRONG)
        return settle(programs, **named)

    monkeypatch.setattr(gold, "settle", interrupted)
    gold.check({"mine": [DOUBLE]}, STRONG)
    [file] = cache.glob("*.json")
    kept = json.loads(file.read_text(encoding="utf-8"))["problems"].values()
    assert sorted(one["outcome"] for one in kept) == ["failed", "passed"]
    assert [one.name for one in cache.iterdir()] == [file.name], "nothing half-written stays"


def test_a_folder_that_cannot_be_written_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").write_text("", encoding="utf-8")
    monkeypatch.setenv("PEFT_BENCH_CACHE", str(tmp_path / "file"))
    assert gold.check({"a": [DOUBLE]}, STRONG)["a"].outcome == "passed"
    assert "cannot be written" in capsys.readouterr().err


def test_a_failure_of_the_sandbox_is_no_outcome(
    cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import dataclasses

    from peft_bench_sandbox import Status

    settle = gold.settle

    def fail(programs: Any, **named: Any) -> Any:
        return [
            dataclasses.replace(
                one,
                verdict=dataclasses.replace(
                    one.verdict, status=Status.HARNESS_ERROR, message="no room"
                ),
            )
            for one in settle(programs, **named)
        ]

    monkeypatch.setattr(gold, "settle", fail)
    with pytest.raises(PeftBenchError, match="reference of p: the sandbox failed: no room"):
        gold.check({"a": [DOUBLE]}, STRONG)
    assert not cache.exists()


def test_long_integers_tell_problems_apart() -> None:
    from peft_bench_sandbox import CallTest

    def key(number: int) -> str:
        return gold._key([Program("p", "", (CallTest("f", [number], 0),))])

    assert key(10**5000) != key(10**5000 + 1)
    assert key(1) != key(True)


def test_the_report_lists_what_fails(capsys: pytest.CaptureFixture[str]) -> None:
    checked = {f"r{number}": Gold("failed", message="wrong: x\ny") for number in range(12)}
    gold.report("odex", {**checked, "ok": Gold("passed"), "bare": Gold("none")})
    told = capsys.readouterr().err
    assert "odex: 12 of 14 reference solutions fail on this machine" in told
    assert "  r0: wrong: x y\n" in told
    assert "  and r10, r11\n" in told
    assert "1 of 14 problems have no reference solution" in told
    gold.report("odex", {"ok": Gold("passed")})
    assert capsys.readouterr().err == ""
