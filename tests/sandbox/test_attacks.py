"""Every attack of attacks/ is held, and gets through once its guard is left out."""

from __future__ import annotations

import functools
import importlib.util
import os
import platform
import re
import sys
from collections import defaultdict
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING

import pytest
from peft_bench_sandbox import AssertTest, CallTest, Limits, Program, Verdict, probe, run_all
from peft_bench_sandbox.pool import run_programs

if TYPE_CHECKING:
    from tests.sandbox.attacks.catalogue import Attack
    from tests.sandbox.attacks.scene import Scene


def load(name: str) -> ModuleType:
    """A module of the folder attacks, which is on no path: pytest imports by importlib."""
    package = "sandbox_attacks"
    folder = Path(__file__).with_name("attacks")
    if package not in sys.modules:
        spec = importlib.util.spec_from_file_location(
            package, folder / "__init__.py", submodule_search_locations=[str(folder)]
        )
        assert spec is not None and spec.loader is not None
        sys.modules[package] = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(sys.modules[package])
    return importlib.import_module(f"{package}.{name}")


CATALOGUE = (
    "forging",
    "patching",
    "answers",
    "channel",
    "endings",
    "parsing",
    "bombs",
    "files",
    "network",
    "forks",
    "processes",
    "kernel",
    "leftovers",
)
bombs, answers, channel, unsealed = map(load, ("bombs", "answers", "channel", "unsealed"))
ATTACKS: list[Attack] = [
    attack
    for name in CATALOGUE
    for attack in load(name).ATTACKS
    if attack.only in ("", platform.machine())
]
LIMITS = Limits(
    cpu_s=bombs.CPU_S,
    wall_s=bombs.WALL_S,
    memory_bytes=bombs.MEMORY,
    stack_bytes=64 * bombs.MIB,
    output_bytes=bombs.OUTPUT,
    file_bytes=bombs.FILE,
    message_bytes=1024,
)
TWIN_LIMITS = replace(LIMITS, cpu_s=5.0, wall_s=10.0)
_HONEST_EVERY = 3

Outcomes = dict[str, "Outcome"]


@dataclass(frozen=True)
class Outcome:
    """What became of an attack; traced: the test process saw that it got through."""

    verdict: Verdict
    traced: bool

    def got_through(self, attack: Attack) -> bool:
        return self.verdict.status == "passed" and (attack.trace is None or self.traced)


def program_of(attack: Attack, scene: Scene) -> Program:
    if attack.test is not None:
        return Program(attack.name, attack.source, (attack.test,))
    given = [scene.value(attack, need) for need in attack.needs]
    expected = scene.value(attack, "secret") if attack.expected == "secret" else attack.expected
    return Program(attack.name, attack.source, (CallTest("attack", given, expected),))


def outcomes(attacks: Iterable[Attack], verdicts: Iterable[Verdict], scene: Scene) -> Outcomes:
    by_id = {verdict.id: verdict for verdict in verdicts}
    return {
        attack.name: Outcome(by_id[attack.name], bool(attack.trace) and scene.traces(attack))
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
_OPEN_ROOT = frozenset({"files", "metadata"})


@pytest.fixture(scope="module")
def layers() -> frozenset[str]:
    """The layers of the seal that are in force here."""
    return frozenset(layer.name for layer in probe().layers if layer.detail == "in force")


@dataclass(frozen=True)
class Held:
    outcomes: Outcomes
    honest: list[Verdict]


def chosen(request: pytest.FixtureRequest, test: str) -> list[Attack]:
    """The attacks that a test is to be run with: all of them, or those that -k leaves."""
    names = {item.name for item in request.session.items}
    return [attack for attack in ATTACKS if f"{test}[{attack.name}]" in names]


@pytest.fixture(scope="module")
def held(request: pytest.FixtureRequest, layers: frozenset[str]) -> Held:
    """All attacks under all guards, in one run, with honest programs between them."""
    honest = load("honest").honest
    attacks = chosen(request, "test_held")
    with load("scene").Scene(uid_of(frozenset())) as scene:
        programs: list[Program] = []
        for place, attack in enumerate(attacks):
            programs.append(program_of(attack, scene))
            if place % _HONEST_EVERY == 0:
                programs.append(honest(place // _HONEST_EVERY, files="mount namespace" in layers))
        verdicts = run_all(programs, limits=LIMITS, workers=2, require="strong")
        kept = [verdict for verdict in verdicts if verdict.id.startswith("honest")]
        return Held(outcomes(attacks, verdicts, scene), kept)


def of_twin(kind: str) -> pytest.MarkDecorator:
    attacks = [attack for attack in ATTACKS if attack.twin == kind]
    return pytest.mark.parametrize("attack", attacks, ids=lambda attack: attack.name)


@pytest.mark.parametrize("attack", ATTACKS, ids=lambda attack: attack.name)
def test_held(attack: Attack, held: Held, layers: frozenset[str]) -> None:
    require_layer(attack, layers)
    outcome = held.outcomes[attack.name]
    verdict = outcome.verdict
    told = f"{verdict.status}: {verdict.message}"
    assert not outcome.traced, told
    assert verdict.passed == 0, told
    assert verdict.status in attack.held, told
    if verdict.status == "wrong":
        assert re.search(attack.says, verdict.message), told
    assert len(verdict.message.encode()) <= LIMITS.message_bytes


def require_layer(attack: Attack, layers: frozenset[str]) -> None:
    if attack.layer and attack.layer not in layers:
        pytest.skip(f"there is no {attack.layer} here, on which this rests")


def test_no_attack_harms_its_neighbours(held: Held) -> None:
    assert [verdict for verdict in held.honest if verdict.status != "passed"] == []


@pytest.fixture(scope="module")
def unguarded(request: pytest.FixtureRequest) -> Outcomes:
    """The attacks with guards left out, one run for each set of guards."""
    groups: dict[frozenset[str], list[Attack]] = defaultdict(list)
    for attack in chosen(request, "test_without_its_guard_it_gets_through"):
        groups[attack.without].append(attack)
    found: Outcomes = {}
    for without, attacks in groups.items():
        with load("scene").Scene(uid_of(without & _OPEN_ROOT)) as scene:
            programs = [program_of(attack, scene) for attack in attacks]
            verdicts = run_programs(programs, limits=TWIN_LIMITS, without=without)
            found |= outcomes(attacks, verdicts, scene)
    return found


@of_twin("without")
def test_without_its_guard_it_gets_through(
    attack: Attack, unguarded: Outcomes, layers: frozenset[str]
) -> None:
    require_layer(attack, layers)
    outcome = unguarded[attack.name]
    told = f"traced {outcome.traced}; {outcome.verdict.status}: {outcome.verdict.message}"
    if not outcome.got_through(attack) and attack.privilege:
        require_plain(attack)
        return
    assert outcome.got_through(attack), told


@of_twin("plain")
def test_in_a_plain_process_it_gets_through(attack: Attack) -> None:
    require_plain(attack)


def require_plain(attack: Attack) -> None:
    """The attack succeeds without any sandbox, for the programs' user or at least for this one."""
    told = {}
    for uid in dict.fromkeys((uid_of(frozenset()), os.geteuid())):
        with load("scene").Scene(uid) as scene:
            told[uid] = unsealed.as_plain_process(attack, scene, uid)
            if told[uid] == "escaped":
                assert attack.trace is None or scene.traces(attack)
                return
    if attack.privilege:
        pytest.skip(f"{attack.privilege}; without any sandbox it is {told}")
    pytest.fail(f"without any sandbox it is {told}")


@pytest.fixture(scope="module")
def shared(request: pytest.FixtureRequest) -> dict[str, Verdict]:
    """The forgeries judged in the program's own process."""
    programs = []
    for attack in chosen(request, "test_judged_in_its_own_process_it_passes"):
        assert isinstance(attack.test, AssertTest)
        test = replace(attack.test, judge="shared")
        programs.append(Program(attack.name, attack.source, (test,)))
    return {verdict.id: verdict for verdict in run_programs(programs, limits=TWIN_LIMITS)}


@of_twin("shared")
def test_judged_in_its_own_process_it_passes(attack: Attack, shared: dict[str, Verdict]) -> None:
    assert shared[attack.name].status == "passed", shared[attack.name]


@pytest.fixture(scope="module")
def bares(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> dict[str, str]:
    """How plain interpreters end on the programs."""
    attacks = chosen(request, "test_a_plain_interpreter_crashes_raises_or_hangs")
    attacks += chosen(request, "test_judged_by_the_exit_code_it_passes")
    folder = tmp_path_factory.mktemp("bare")
    with ThreadPoolExecutor(4) as executor:
        ends = executor.map(lambda attack: unsealed.bare(attack, folder), attacks)
        return {attack.name: end for attack, end in zip(attacks, ends, strict=True)}


@of_twin("bare")
def test_a_plain_interpreter_crashes_raises_or_hangs(attack: Attack, bares: dict[str, str]) -> None:
    assert bares[attack.name] != "exit 0", attack.name


@of_twin("exit code")
def test_judged_by_the_exit_code_it_passes(attack: Attack, bares: dict[str, str]) -> None:
    assert bares[attack.name] == "exit 0", attack.name


def test_frames_and_reports_made_by_hand_are_of_the_right_form() -> None:
    verdicts = run_programs(channel.CONTROLS, limits=LIMITS)
    assert {verdict.id: verdict.status for verdict in verdicts} == {
        program.id: "passed" for program in channel.CONTROLS
    }


def test_random_frames_neither_pass_nor_break_a_judge() -> None:
    verdicts = run_programs(channel.fuzzed(150), limits=LIMITS)
    bad = ("passed", "harness_error")
    assert [verdict for verdict in verdicts if verdict.status in bad] == []


def test_nothing_of_other_programs_tests_or_answers_is_in_memory() -> None:
    verdicts = run_programs(answers.neighbours_and_hunters(), limits=LIMITS)
    assert [verdict for verdict in verdicts if verdict.status != "passed"] == []


def test_nothing_is_told_to_the_next_program_by_descriptors() -> None:
    verdicts = run_programs(load("leftovers").tellers_and_hearers(), limits=LIMITS)
    heard = {v.id: v.message for v in verdicts if v.status != "passed" and "hears" in v.id}
    assert heard == {}


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
