"""Every attack of attacks/ is held, and gets through once its guard is left out.

The twins that need no sandbox are in test_twins.py.
"""

from __future__ import annotations

import functools
import importlib
import os
import re
from collections import defaultdict
from collections.abc import Collection, Iterable
from dataclasses import dataclass, replace
from itertools import zip_longest
from types import ModuleType
from typing import TYPE_CHECKING

import pytest
from peft_bench_sandbox import CallTest, Limits, Program, Verdict, probe, run_all
from peft_bench_sandbox.pool import run_programs

if TYPE_CHECKING:
    from tests.sandbox.attacks.catalogue import Attack
    from tests.sandbox.attacks.scene import Scene


def load(name: str) -> ModuleType:
    """A module of the folder attacks; conftest.py makes it importable."""
    return importlib.import_module(f"sandbox_attacks.{name}")


suite, unsealed, channel, answers = map(load, ("suite", "unsealed", "channel", "answers"))
ATTACKS: list[Attack] = suite.ATTACKS
LIMITS: Limits = suite.LIMITS
_HONEST_EVERY = 3
# The layers of the seal that can stand in for each other.
_WALLS = {"landlock", *(f"{name} namespace" for name in ("mount", "pid", "network", "ipc"))}

Outcomes = dict[str, "Outcome"]


@dataclass(frozen=True)
class Outcome:
    """What became of an attack; traced: the test process saw that it got through."""

    verdict: Verdict
    traced: bool

    def got_through(self, attack: Attack) -> bool:
        return self.verdict.status == "passed" and (attack.trace is None or self.traced)

    def told(self) -> str:
        return f"traced {self.traced}; {self.verdict.status}: {self.verdict.message}"


def outcomes(attacks: Iterable[Attack], verdicts: Iterable[Verdict], scene: Scene) -> Outcomes:
    """Of the copies of an attack, the one that got through counts."""
    by_name: dict[str, Verdict] = {}
    for verdict in verdicts:
        name = suite.attack_of(verdict.id)
        if name not in by_name or verdict.status == "passed":
            by_name[name] = verdict
    return {
        attack.name: Outcome(by_name[attack.name], bool(attack.trace) and scene.traces(attack))
        for attack in attacks
    }


@functools.cache
def uid_of(without: frozenset[str]) -> int:
    """Whom programs run as: the attacks' aims are to belong to the same user."""
    source = "import os\ndef f(): return [os.getuid()]"
    program = Program("uid", source, (CallTest("f", [], []),))
    [verdict] = run_programs([program], without=without)
    found = re.search(r"got \[(\d+)\]", verdict.message)
    assert found, verdict
    return int(found[1])


# What keeps the zygote from a root of its own, and perhaps from becoming another user.
_OPEN_ROOT = frozenset({"files", "metadata", "rights"})


@pytest.fixture(scope="module")
def layers() -> frozenset[str]:
    """The layers of the seal that are in force here."""
    return frozenset(layer.name for layer in probe().layers if layer.detail == "in force")


@dataclass(frozen=True)
class Held:
    outcomes: Outcomes
    honest: list[Verdict]


@pytest.fixture(scope="module")
def held(request: pytest.FixtureRequest, layers: frozenset[str]) -> Held:
    """All attacks under all guards, in one run, with honest programs between them."""
    honest = load("honest").honest
    attacks = suite.chosen(request, "test_held")
    with load("scene").Scene(uid_of(frozenset())) as scene:
        programs: list[Program] = []
        for place, attack in enumerate(attacks):
            programs += suite.programs_of(attack, scene)
            if place % _HONEST_EVERY == 0:
                programs.append(honest(place // _HONEST_EVERY, files="mount namespace" in layers))
        verdicts = run_all(programs, limits=LIMITS, workers=2, require="strong")
        kept = [verdict for verdict in verdicts if verdict.id.startswith("honest")]
        return Held(outcomes(attacks, verdicts, scene), kept)


@pytest.mark.parametrize("attack", ATTACKS, ids=lambda attack: attack.name)
def test_held(attack: Attack, held: Held, layers: frozenset[str]) -> None:
    require_layer(attack, layers)
    outcome = held.outcomes[attack.name]
    verdict = outcome.verdict
    assert not outcome.traced, outcome.told()
    assert verdict.passed == 0, outcome.told()
    assert verdict.status in attack.held, outcome.told()
    if verdict.status == "wrong":
        assert re.search(attack.says, verdict.message), outcome.told()
    assert len(verdict.message.encode()) <= LIMITS.message_bytes


def require_layer(attack: Attack, layers: frozenset[str]) -> None:
    if attack.layer and attack.layer not in layers:
        pytest.skip(f"there is no {attack.layer} here, on which this rests")


def test_no_attack_harms_its_neighbours(held: Held) -> None:
    assert [verdict for verdict in held.honest if verdict.status != "passed"] == []


Groups = dict[frozenset[str], list["Attack"]]


def run_without(groups: Groups) -> dict[tuple[str, frozenset[str]], Outcome]:
    """The attacks with guards left out, one run for each set of guards."""
    found = {}
    for without, attacks in groups.items():
        with load("scene").Scene(uid_of(without & _OPEN_ROOT)) as scene:
            copies = zip_longest(*(suite.programs_of(attack, scene) for attack in attacks))
            # The first of each, the second of each: copies shall come after each other.
            programs = [program for nth in copies for program in nth if program is not None]
            verdicts = run_programs(programs, limits=suite.TWIN_LIMITS, without=without)
            seen = outcomes(attacks, verdicts, scene)
            found |= {(name, without): outcome for name, outcome in seen.items()}
    return found


@pytest.fixture(scope="module")
def unguarded(request: pytest.FixtureRequest) -> dict[tuple[str, frozenset[str]], Outcome]:
    groups: Groups = defaultdict(list)
    for attack in suite.chosen(request, "test_without_its_guard_it_gets_through"):
        groups[attack.without].append(attack)
    return run_without(groups)


@suite.of_twin("without")  # type: ignore[untyped-decorator]
def test_without_its_guard_it_gets_through(
    attack: Attack,
    unguarded: dict[tuple[str, frozenset[str]], Outcome],
    layers: frozenset[str],
) -> None:
    require_layer(attack, layers)
    outcome = unguarded[attack.name, attack.without]
    if not outcome.got_through(attack) and attack.privilege:
        require_plain(attack)
        return
    assert outcome.got_through(attack), outcome.told()


def require_plain(attack: Attack) -> None:
    """The attack succeeds without any sandbox, for the programs' user or at least for this one."""
    told = {}
    for uid in dict.fromkeys((uid_of(frozenset()), os.geteuid())):
        with load("scene").Scene(uid) as scene:
            told[uid] = unsealed.as_plain_process(attack, scene, uid)
            if told[uid] == "escaped":
                assert attack.trace is None or scene.traces(attack)
                return
    pytest.skip(f"{attack.privilege}; without any sandbox it is {told}")


def all_but_one(guards: Collection[str]) -> list[frozenset[str]]:
    return [frozenset(guards) - {guard} for guard in sorted(guards)]


@pytest.fixture(scope="module")
def restored(request: pytest.FixtureRequest) -> dict[tuple[str, frozenset[str]], Outcome]:
    groups: Groups = defaultdict(list)
    for attack in suite.chosen(request, "test_each_of_its_guards_is_enough"):
        for without in all_but_one(attack.without):
            groups[without].append(attack)
    return run_without(groups)


@suite.of_twin("without", where=lambda attack: len(attack.without) > 1)  # type: ignore[untyped-decorator]
def test_each_of_its_guards_is_enough(
    attack: Attack,
    restored: dict[tuple[str, frozenset[str]], Outcome],
    layers: frozenset[str],
) -> None:
    if missing := sorted(_WALLS - layers):
        pytest.skip(f"some walls are single here: there is no {', '.join(missing)}")
    for without in all_but_one(attack.without):
        outcome = restored[attack.name, without]
        assert not outcome.got_through(attack), f"without {sorted(without)} alone"
        assert not outcome.traced, f"without {sorted(without)} alone"


@pytest.fixture(scope="module")
def lifted(request: pytest.FixtureRequest) -> dict[str, Verdict]:
    """The attacks with one limit lifted, one run for each limit."""
    groups: Groups = defaultdict(list)
    for attack in suite.chosen(request, "test_with_its_limit_lifted_it_gets_through"):
        groups[attack.without].append(attack)
    found = {}
    for (limit,), attacks in groups.items():
        limits = replace(LIMITS, **{limit: suite.LIFTED[limit]})
        programs = [Program(each.name, each.source, (each.test,)) for each in attacks if each.test]
        found |= {verdict.id: verdict for verdict in run_programs(programs, limits=limits)}
    return found


@suite.of_twin("lifted")  # type: ignore[untyped-decorator]
def test_with_its_limit_lifted_it_gets_through(attack: Attack, lifted: dict[str, Verdict]) -> None:
    assert lifted[attack.name].status == "passed", lifted[attack.name]


def test_frames_and_reports_made_by_hand_are_of_the_right_form() -> None:
    verdicts = run_programs(channel.CONTROLS, limits=LIMITS)
    assert {verdict.id: verdict.status for verdict in verdicts} == {
        program.id: "passed" for program in channel.CONTROLS
    }


def test_random_frames_neither_pass_nor_break_a_judge() -> None:
    verdicts = run_programs(channel.fuzzed(150), limits=LIMITS)
    bad = ("passed", "harness_error")
    assert [verdict for verdict in verdicts if verdict.status in bad] == []


def test_random_changes_neither_pass_nor_break_a_judge() -> None:
    verdicts = run_programs(load("widened").fuzzed(150), limits=LIMITS)
    assert [verdict for verdict in verdicts if verdict.status == "passed"] == []
    broken = [verdict.message for verdict in verdicts if verdict.status == "harness_error"]
    assert all("no working directory" in message for message in broken), broken


def test_nothing_of_other_programs_tests_or_answers_is_in_memory() -> None:
    verdicts = run_programs(answers.neighbours_and_hunters(), limits=LIMITS)
    assert [verdict for verdict in verdicts if verdict.status != "passed"] == []


def heard(without: frozenset[str] = frozenset()) -> dict[str, str]:
    """What programs say that look for signs of others, by what those tell."""
    programs = load("leftovers").tellers_and_hearers()
    verdicts = run_programs(programs, limits=LIMITS, without=without)
    return {v.id: v.message for v in verdicts if v.status != "passed" and "hears" in v.id}


def test_nothing_is_told_to_the_next_program_by_descriptors() -> None:
    assert heard() == {}


# A device that all have open, if none opens it for itself, keeps flags and locks; so do files that
# nobody has written to.
@pytest.mark.parametrize(
    ("guard", "ways"),
    [("descriptors", {"flags", "a lock"}), ("locks", {"a lock of an open file"})],
)
def test_without_its_guard_something_is_told(guard: str, ways: set[str]) -> None:
    assert {name.removeprefix("hears after ") for name in heard(frozenset({guard}))} >= ways


@pytest.mark.parametrize("without", [frozenset(), frozenset({"kill at end"})], ids=["held", "twin"])
def test_no_program_goes_on_after_its_verdict(without: frozenset[str]) -> None:
    marker = f"mark-{os.getpid()}"
    limits = replace(LIMITS, wall_s=2.0)
    [verdict] = run_programs([load("leftovers").lingering(marker)], limits=limits, without=without)
    names = [name for _, name in load("scene").process_names()]
    assert marker not in names
    if without:
        assert verdict.wall_s >= 2.0, verdict
    else:
        assert verdict.status == "wrong" and verdict.wall_s < 1.0, verdict
