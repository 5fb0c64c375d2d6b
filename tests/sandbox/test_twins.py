"""Twins that need no sandbox: what becomes of the attacks where others judge, or ours with less.

How each kind is made stands in attacks/catalogue.py.
"""

from __future__ import annotations

import importlib
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING

import pytest
from peft_bench_sandbox import AssertTest, CallTest, Limits, Program, Verdict, probe
from peft_bench_sandbox.pool import run_programs

if TYPE_CHECKING:
    from tests.sandbox.attacks.catalogue import Attack


def load(name: str) -> ModuleType:
    """A module of the folder attacks; conftest.py makes it importable."""
    return importlib.import_module(f"sandbox_attacks.{name}")


suite, unsealed, trusting, channel, catalogue = map(
    load, ("suite", "unsealed", "trusting", "channel", "catalogue")
)
LIMITS: Limits = suite.LIMITS
_PYTHON = (3, 11)  # whose compiler the attacks on it were tried with


# Judged in the program's own process


@pytest.fixture(scope="module")
def shared(request: pytest.FixtureRequest) -> dict[str, Verdict]:
    """The forgeries judged in the program's own process."""
    attacks = suite.chosen(request, "test_judged_in_its_own_process_it_passes")
    programs = [Program(each.name, each.source, (unsealed.as_shared(each),)) for each in attacks]
    verdicts = run_programs(programs, limits=suite.TWIN_LIMITS)
    return {verdict.id: verdict for verdict in verdicts}


@suite.of_twin("shared")  # type: ignore[untyped-decorator]
def test_judged_in_its_own_process_it_passes(attack: Attack, shared: dict[str, Verdict]) -> None:
    assert shared[attack.name].status == "passed", shared[attack.name]


@suite.of_twin("wider")  # type: ignore[untyped-decorator]
def test_the_judge_that_is_meant_to_lets_it_through(attack: Attack) -> None:
    assert isinstance(attack.test, AssertTest)
    test = replace(attack.test, judge=attack.wider)
    [verdict] = run_programs([Program("wider", attack.source, (test,))], limits=suite.TWIN_LIMITS)
    if verdict.status == "harness_error" and attack.layer not in layers_in_force():
        pytest.skip(f"there is no {attack.layer} here, on which this judge rests")
    assert verdict.status == "passed", verdict


def layers_in_force() -> set[str]:
    return {layer.name for layer in probe().layers if layer.detail == "in force"}


# Scorers without a process for the program


@suite.of_twin("exit code")  # type: ignore[untyped-decorator]
def test_judged_by_the_exit_code_it_passes(attack: Attack, tmp_path: Path) -> None:
    assert unsealed.by_exit_code(attack, tmp_path) == 0


@pytest.mark.parametrize(("answer", "code"), [("42", 0), ("7", 1)])
def test_the_exit_code_tells_right_from_wrong(answer: str, code: int, tmp_path: Path) -> None:
    assert unsealed.by_exit_code(honest(f"return {answer}"), tmp_path) == code


def honest(act: str, *, call: bool = False) -> Attack:
    """A program with nothing hostile about it, as an attack."""
    test = CallTest("answer", [], 42) if call else AssertTest("assert answer() == 42", "answer")
    source = f"def answer(): {act}"
    made: Attack = catalogue.Attack(name="honest", source=source, test=test, twin="status")
    return made


@pytest.fixture(scope="module")
def in_one_process(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> dict[str, str]:
    """What a scorer tells that runs each of the programs in its own process."""
    attacks = suite.chosen(request, "test_in_the_scorers_own_process_it_ends_the_scorer")
    attacks += suite.chosen(request, "test_in_the_scorers_own_process_it_is_a_failure")
    folder = tmp_path_factory.mktemp("scorer")
    with ThreadPoolExecutor(4) as executor:
        told = executor.map(lambda attack: unsealed.in_one_process(attack, folder), attacks)
        return {attack.name: end for attack, end in zip(attacks, told, strict=True)}


@suite.of_twin("one process")  # type: ignore[untyped-decorator]
def test_in_the_scorers_own_process_it_ends_the_scorer(
    attack: Attack, in_one_process: dict[str, str]
) -> None:
    told = in_one_process[attack.name]
    if told.startswith("failed") and attack.privilege and sys.version_info[:2] != _PYTHON:
        pytest.skip(f"{attack.privilege}: {told:.200}")
    assert told.startswith("lost"), told


@pytest.mark.parametrize("call", [True, False], ids=["call", "assertion"])
@pytest.mark.parametrize(
    ("act", "told"),
    [("return 42", "passed"), ("return 7", "failed: Assert"), ("1 / 0", "failed: ZeroDivision")],
)
def test_that_scorer_judges_honest_programs(
    act: str, told: str, call: bool, tmp_path: Path
) -> None:
    assert unsealed.in_one_process(honest(act, call=call), tmp_path).startswith(told)


# The sandbox's own judges, checks left out


def through(attack: Attack, left_out: frozenset[str]) -> tuple[bool, str]:
    """Whether a judge is fooled or lost, and what became of it."""
    test = attack.test
    run = trusting.judged if isinstance(test, AssertTest) else trusting.scored
    told: str = run(attack.source, test, left_out, LIMITS)
    return told == "passed" or told.startswith("lost"), told


@suite.of_twin("trusting")  # type: ignore[untyped-decorator]
def test_without_its_checks_a_judge_is_fooled_or_lost(attack: Attack) -> None:
    got_through, told = through(attack, attack.without)
    assert got_through, told


@suite.of_twin("trusting")  # type: ignore[untyped-decorator]
def test_each_of_its_checks_is_enough(attack: Attack) -> None:
    for check in attack.without:
        got_through, told = through(attack, attack.without - {check})
        assert not got_through, f"with {check}: {told}"


SETS = sorted({a.without for a in suite.ATTACKS if a.twin == "trusting"}, key=sorted)
OF_THE_JUDGE = [each for each in SETS if each <= set(trusting.OF_THE_JUDGE)]
OF_THE_CALLER = [each for each in SETS if each <= set(trusting.OF_THE_CALLER)]
_ACTS = (("return 42", "passed"), ("return 7", "wrong"), ("1 / 0", "exception"))


@pytest.mark.parametrize("left_out", OF_THE_JUDGE, ids=lambda each: " ".join(sorted(each)))
def test_without_checks_honest_answers_are_judged_rightly(left_out: frozenset[str]) -> None:
    for act, status in _ACTS:
        assert through(honest(act), left_out)[1] == status, act
    [by_hand, *_] = channel.CONTROLS
    told = trusting.judged(by_hand.source, by_hand.tests[0], left_out, LIMITS)
    assert told == "passed"


@pytest.mark.parametrize("left_out", OF_THE_CALLER, ids=lambda each: " ".join(sorted(each)))
def test_without_checks_honest_reports_are_judged_rightly(left_out: frozenset[str]) -> None:
    for act, status in _ACTS:
        assert through(honest(act, call=True), left_out)[1] == status, act
    for by_hand in channel.CONTROLS[1:]:
        assert trusting.scored(by_hand.source, by_hand.tests[0], left_out, LIMITS) == "passed"


def test_every_attack_has_a_twin_or_is_but_a_status() -> None:
    for attack in suite.ATTACKS:
        known = set(trusting.OF_THE_JUDGE) | set(trusting.OF_THE_CALLER)
        assert attack.twin != "trusting" or (attack.without and attack.without <= known)
        assert attack.twin not in ("without", "lifted") or attack.without, attack.name


# Nothing to get through


def speaks(attack: Attack) -> bool:
    """Whether it speaks by hand to a judge, or leaves a report made by hand."""
    return attack.name.startswith(("channel", "report"))


@suite.of_twin("status", where=lambda attack: not speaks(attack))  # type: ignore[untyped-decorator]
def test_in_the_scorers_own_process_it_is_a_failure(
    attack: Attack, in_one_process: dict[str, str]
) -> None:
    told = in_one_process[attack.name]
    if attack.privilege and sys.version_info[:2] != _PYTHON:
        assert told != "passed"
        return
    assert told.startswith("failed"), told


@suite.of_twin("status", where=speaks)  # type: ignore[untyped-decorator]
def test_judges_that_trust_are_not_fooled_either(attack: Attack) -> None:
    checks = trusting.OF_THE_JUDGE if attack.name.startswith("channel") else trusting.OF_THE_CALLER
    assert through(attack, frozenset(checks))[1] != "passed"
