"""The attacks in one list, the limits they run under, and who runs which."""

from __future__ import annotations

import platform
from collections.abc import Callable
from dataclasses import replace

import pytest
from peft_bench_sandbox import CallTest, Limits, Program

from . import (
    answers,
    bombs,
    channel,
    endings,
    files,
    forging,
    forks,
    kernel,
    leftovers,
    network,
    parsing,
    patching,
    processes,
    widened,
)
from .catalogue import Attack, Twin
from .scene import Scene

_CATALOGUE = (
    *(forging, patching, answers, channel, endings, parsing, bombs, files, network, forks),
    *(processes, kernel, leftovers, widened),
)
ATTACKS: list[Attack] = [
    attack
    for module in _CATALOGUE
    for attack in module.ATTACKS
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
LIFTED = {"cpu_s": 5.0, "wall_s": 10.0, "output_bytes": 1 << 20}


def of_twin(
    kind: Twin, *, where: Callable[[Attack], bool] = lambda _: True
) -> pytest.MarkDecorator:
    """A test's attacks: those of this kind that the condition holds for."""
    attacks = [attack for attack in ATTACKS if attack.twin == kind and where(attack)]
    return pytest.mark.parametrize("attack", attacks, ids=lambda attack: attack.name)


def chosen(request: pytest.FixtureRequest, test: str) -> list[Attack]:
    """The attacks that a test is to be run with: all of them, or those that -k leaves."""
    names = {item.name for item in request.session.items}
    return [attack for attack in ATTACKS if f"{test}[{attack.name}]" in names]


def programs_of(attack: Attack, scene: Scene) -> list[Program]:
    """As many copies as are asked for, told apart by their ids."""
    test = attack.test
    if test is None:
        given = [scene.value(attack, need) for need in attack.needs]
        expected = scene.value(attack, "secret") if attack.expected == "secret" else attack.expected
        test = CallTest("attack", given, expected)
    names = [attack.name, *(f"{attack.name} #{n}" for n in range(2, attack.copies + 1))]
    return [Program(name, attack.source, (test,)) for name in names]


def attack_of(program_id: str) -> str:
    """The name of the attack that a program is a copy of."""
    return program_id.partition(" #")[0]
