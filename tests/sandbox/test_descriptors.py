"""The caller may have few files open: no more run at once, and what is lost is run again."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
import time
from collections.abc import Iterator

import pytest

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="the limits are Linux's")

from peft_bench_sandbox.descriptors import Room  # noqa: E402

_RUN = """
import collections, resource, sys
from peft_bench_sandbox import AssertTest, Limits, Program, StdinTest, best_level, run_all
from peft_bench_sandbox import engine
soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
best_level()
resource.setrlimit(resource.RLIMIT_NOFILE, ({soft}, {hard} or hard))
{before}
source = "import time\\ntime.sleep({sleep})\\nprint(1)\\ndef f(): return 1"
programs = [Program(str(n), source, ({test},)) for n in range({count})]
verdicts = run_all(programs, workers=2, limits=Limits(wall_s=20), require="limits")
print(collections.Counter((v.status.value, v.message) for v in verdicts))
assert resource.getrlimit(resource.RLIMIT_NOFILE)[0] == {soft}
"""
ASSERT, STDIN = "AssertTest('assert f() == 1')", "StdinTest('', '1')"


def told(count: int, soft: int, hard: int = 0, *, test: str, sleep: float, before: str = "") -> str:
    """What becomes of so many programs that sleep, in a process with these limits."""
    code = _RUN.format(**locals())
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", textwrap.dedent(code)],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def passed(count: int) -> str:
    return f"Counter({{('passed', ''): {count}}})"


@pytest.mark.parametrize("hard", [0, 256], ids=["soft", "hard"])
def test_programs_that_sleep_are_no_more_than_there_are_descriptors_for(hard: int) -> None:
    assert told(150, 256, hard, test=ASSERT, sleep=0.5) == passed(150)


def test_a_zygote_with_few_descriptors_has_fewer_children_and_lives() -> None:
    began = time.monotonic()
    assert told(150, 256, 256, test=STDIN, sleep=0.3) == passed(150)
    assert time.monotonic() - began < 30  # one by one: over 45 s


def test_a_run_whose_descriptors_are_lost_is_run_again() -> None:
    # As if the caller had opened files meanwhile: there is room for a third of these.
    believed = "engine.Room = type('Room', (), {'__init__': lambda self, width, each: "
    believed += "self.__dict__.update(width=width, runs=999, close=lambda: None)})"
    assert told(90, 48, test=ASSERT, sleep=0.2, before=believed) == passed(90)


@pytest.fixture
def limit() -> Iterator[int]:
    """The soft limit on open files, low for a while."""
    import resource

    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    low = len(os.listdir("/proc/self/fd")) + 50  # noqa: PTH208 - names only
    resource.setrlimit(resource.RLIMIT_NOFILE, (low, before[1]))
    yield low
    resource.setrlimit(resource.RLIMIT_NOFILE, before)


def soft_limit() -> int:
    import resource

    return resource.getrlimit(resource.RLIMIT_NOFILE)[0]


def test_the_limit_is_raised_for_as_long_as_a_run_needs_it(limit: int) -> None:
    first = Room(1, 10)
    raised = soft_limit()
    assert raised > limit and (first.width, first.runs) == (1, 10)
    second = Room(2, 50)
    assert soft_limit() > raised and (second.width, second.runs) == (2, 100)
    second.close()
    assert soft_limit() == raised
    first.close()
    first.close()
    assert soft_limit() == limit


def test_what_somebody_else_has_set_stays(limit: int) -> None:
    import resource

    room = Room(1, 10)
    other = soft_limit() + 1, resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, other)
    room.close()
    assert soft_limit() == other[0]


@pytest.mark.parametrize("free", [1, 100, 300, 1000])
def test_where_it_cannot_be_raised_there_is_less_room(
    limit: int, monkeypatch: pytest.MonkeyPatch, free: int
) -> None:
    import resource

    taken = len(os.listdir("/proc/self/fd"))  # noqa: PTH208
    monkeypatch.setattr(resource, "getrlimit", lambda _: (taken + free, taken + free))
    room = Room(64, 256)
    assert 1 <= room.width <= room.runs <= max(1, free // 2)
    room.close()
