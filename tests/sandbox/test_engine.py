"""The event loop: processes of its own that die, order, what is waiting, what is large."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from peft_bench_sandbox import (
    AssertTest,
    CallTest,
    Limits,
    Program,
    SandboxUnavailable,
    StdinTest,
    Verdict,
)
from peft_bench_sandbox.engine import Engine
from peft_bench_sandbox.judging import Host
from peft_bench_sandbox.runs import Run
from peft_bench_sandbox.score import Result, Status, score_program
from peft_bench_sandbox.types import Judge, Test
from peft_bench_sandbox.worker import Setting

ONE = "def f(): return 1"
FINE = Program("fine", ONE, (CallTest("f", [], 1),))
ASSERTED = Program("asserted", ONE, (AssertTest("assert f() == 1"),))
LIMITS = Limits()


@pytest.fixture
def engine() -> Iterator[Engine]:
    with closing(Engine(Setting(LIMITS), 1, strong=False)) as made:
        yield made


def statuses(verdicts: list[Verdict]) -> dict[str, str]:
    return {verdict.id: f"{verdict.status} {verdict.message}".strip() for verdict in verdicts}


def children(pid: int | str = "self") -> set[int]:
    lists = [path.read_text() for path in Path(f"/proc/{pid}/task").glob("*/children")]
    return {int(child) for text in lists for child in text.split()}


def leaves(pid: int) -> set[int]:
    """The last in a line of processes that begins here."""
    try:
        below = children(pid)
    except OSError:  # it is gone
        return set()
    return {leaf for child in below for leaf in leaves(child)} or {pid}


def born(before: set[int]) -> int:
    [pid] = children() - before
    return pid


def outer(zygote: int) -> int:
    """The process that was started, which waits for the one that does the work."""
    return zygote


def inner(zygote: int) -> int:
    """The process that does the work: the first in its namespace, where it has one."""
    return min(children(zygote), default=zygote)


def during(act: Callable[[], None], pause: float = 0.3) -> threading.Timer:
    timer = threading.Timer(pause, act)
    timer.start()
    return timer


# Processes of the sandbox that die


@pytest.mark.parametrize("which", [outer, inner])
def test_a_zygote_killed_in_the_middle_is_replaced_and_its_programs_run_again(
    which: Callable[[int], int],
) -> None:
    before = children()
    with closing(Engine(Setting(LIMITS), 1, strong=False)) as engine:
        source = "import time\ntime.sleep(0.2)\nprint(1)"
        programs = [Program(str(n), source, (StdinTest("", "1"),)) for n in range(12)]
        verdicts = engine.run(programs)
        told = [next(verdicts)]
        first = born(before)
        os.kill(which(first), signal.SIGKILL)
        told += verdicts
        assert statuses(told) == {str(n): "passed" for n in range(12)}
        assert born(before) != first
        assert statuses(list(engine.run([FINE, ASSERTED]))) == {
            "fine": "passed",
            "asserted": "passed",
        }
    assert children() == before


class Deadly(Engine):
    """Kills a zygote whenever it has a program of this id, for so many times."""

    deadly = "deadly"
    times = 99

    def _step(self, wait_s: float) -> None:
        for candidates in list(self._candidates):
            ids = {run.work.program.id for run in candidates.runs.values()}
            if self.deadly in ids and self.times and candidates.zygote.layers is not None:
                self.times -= 1
                candidates.zygote.process.kill()
        super()._step(wait_s)


@pytest.mark.parametrize("width", [1, 2])
@pytest.mark.parametrize("times", [1, 99])
def test_a_program_that_kills_its_zygote_twice_harms_no_other(width: int, times: int) -> None:
    programs = [Program(str(n), f"print({n})", (StdinTest("", str(n)),)) for n in range(30)]
    # So long that it is under way when its zygote goes, and not done already.
    programs[9] = Program("deadly", "import time; time.sleep(2)", (StdinTest("", ""),))
    with closing(Deadly(Setting(LIMITS), width, strong=False)) as engine:
        engine.times = times
        told = statuses(list(engine.run(programs)))
    assert list(told) == [program.id for program in programs]
    deadly = told.pop("deadly")
    assert set(told.values()) == {"passed"}
    if times == 1:
        assert deadly == "passed"
    else:
        assert deadly.startswith("harness_error a process of the sandbox ended")


def test_a_zygote_that_dies_with_several_tests_of_a_program_harms_none_for_good() -> None:
    program = Program(
        "deadly", f"import time; time.sleep(0.5)\n{ONE}", (CallTest("f", [], 1),) * 20
    )
    with closing(Deadly(Setting(LIMITS), 1, strong=False)) as engine:
        engine.times = 1
        [verdict] = engine.run([program])
    assert (verdict.status, verdict.passed) == ("passed", 20)


@pytest.fixture
def judges(engine: Engine) -> int:
    """The zygote of judges of an engine, with one judge that waits."""
    list(engine.run([FINE]))
    before = children()
    list(engine.run([ASSERTED]))
    zygote = born(before)
    assert leaves(zygote) != {inner(zygote)}, "no judge is there"
    return zygote


def test_a_judge_killed_while_it_waits_is_replaced(engine: Engine, judges: int) -> None:
    for _ in range(3):
        [judge] = leaves(judges)
        os.kill(judge, signal.SIGKILL)
        assert statuses(list(engine.run([ASSERTED]))) == {"asserted": "passed"}


def test_a_judge_killed_before_any_answer_is_replaced(engine: Engine, judges: int) -> None:
    [judge] = leaves(judges)
    slow = Program("slow", ONE, (AssertTest("import time\ntime.sleep(1)\nassert f() == 1"),))
    timer = during(lambda: os.kill(judge, signal.SIGKILL))
    told = statuses(list(engine.run([slow, ASSERTED])))
    timer.join()
    assert told == {"slow": "passed", "asserted": "passed"}
    assert judge not in leaves(judges)


def test_a_judge_killed_after_an_answer_fails_its_program_alone(
    engine: Engine, judges: int
) -> None:
    [judge] = leaves(judges)
    slow = Program("slow", ONE, (AssertTest("f()\nimport time\ntime.sleep(60)"),))
    timer = during(lambda: os.kill(judge, signal.SIGKILL))
    told = statuses(list(engine.run([slow, ASSERTED])))
    timer.join()
    # What the program answered may have been the reason: it is not tried again.
    assert told["slow"].startswith("timeout the judge ended with -9")
    assert told["asserted"] == "passed"


@pytest.mark.parametrize("judge", ["split", "split-files"])
@pytest.mark.parametrize("which", [outer, inner])
def test_the_judges_zygote_killed_in_the_middle_is_replaced(
    works: None, engine: Engine, which: Callable[[int], int], judge: Judge
) -> None:
    list(engine.run([FINE]))
    before = children()
    # The first ends long before the others, so that these are there to be killed.
    slow = [f"import time\ntime.sleep({0.6 if n else 0.1})\nassert f() == 1" for n in range(5)]
    programs = [
        Program(str(n), ONE, (AssertTest(test, judge=judge),)) for n, test in enumerate(slow)
    ]
    verdicts = engine.run(programs)
    told = [next(verdicts)]
    first = born(before)
    os.kill(which(first), signal.SIGKILL)
    told += verdicts
    assert statuses(told) == {str(n): "passed" for n in range(5)}
    assert born(before) != first


def test_a_process_that_cannot_start_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.executable", "/nowhere/python")
    with (
        closing(Engine(Setting(LIMITS), 1, strong=False)) as engine,
        pytest.raises(SandboxUnavailable, match=r"cannot run here: .*not found"),
    ):
        list(engine.run([FINE]))


def test_a_process_that_breaks_off_at_its_start_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("peft_bench_sandbox.worker._MAIN", "raise LookupError('no luck')")
    with (
        closing(Engine(Setting(LIMITS), 1, strong=False)) as engine,
        pytest.raises(SandboxUnavailable, match="LookupError: no luck"),
    ):
        list(engine.run([FINE]))


def test_a_failure_of_the_program_is_not_tried_again(monkeypatch: pytest.MonkeyPatch) -> None:
    sent = []

    class Counting(Engine):
        def _send(self, run: Any, candidates: Any) -> None:
            sent.append((run.work.program.id, run.attempt))
            super()._send(run, candidates)

    sources = {"exits": "import os; os._exit(1)", "dies": "import os; os.abort()", "raises": "1/0"}
    programs = [Program(name, source, (StdinTest("", ""),)) for name, source in sources.items()]
    with closing(Counting(Setting(LIMITS), 1, strong=False)) as engine:
        told = [verdict.status.value for verdict in engine.run(programs)]
    assert told == ["exited", "crashed", "exception"]
    assert sent == [(name, 1) for name in sources]


def test_a_failure_of_the_sandbox_outweighs_an_earlier_one_of_the_program() -> None:
    program = Program("p", "", (StdinTest("", ""),) * 3)
    results = [
        Result(Status.PASSED, ""),
        Result(Status.WRONG, "no"),
        Result(Status.HARNESS_ERROR, "own"),
    ]
    verdict = score_program(program, results, LIMITS)
    assert (verdict.status, verdict.passed, verdict.total) == ("harness_error", 1, 3)
    assert verdict.message == "test 3 of 3: own"


# Order and waiting


def test_an_engine_runs_again_and_again(engine: Engine) -> None:
    for _ in range(3):
        assert statuses(list(engine.run([FINE, ASSERTED]))) == {
            "fine": "passed",
            "asserted": "passed",
        }
        assert list(engine.run([])) == []


def test_an_engine_goes_on_after_a_test_that_cannot_be_judged(engine: Engine) -> None:
    for code in ("(", "import os\nos._exit(0)", "eval('1')", "import os\nos._exit(0)"):
        bad = Program("bad", ONE, (AssertTest(code),))
        told = statuses(list(engine.run([bad, FINE, ASSERTED])))
        assert told.pop("bad").startswith("harness_error")
        assert set(told.values()) == {"passed"}


def test_an_engine_goes_on_after_a_run_broken_off(engine: Engine) -> None:
    slow = Program("slow", "import time; time.sleep(0.5)", (StdinTest("", ""),))
    waiting = Program("waiting", ONE, (AssertTest("import time\nf()", judge="split-files"),))
    verdicts = engine.run([FINE, *[slow, waiting] * 20])
    assert next(verdicts).status == "passed"
    verdicts.close()
    assert statuses(list(engine.run([FINE, ASSERTED]))) == {"fine": "passed", "asserted": "passed"}


def test_candidates_that_die_while_their_judges_start_harm_no_other(works: None) -> None:
    tests = (AssertTest("assert f() == 1", judge="split-files"),)
    programs = [Program("deadly" if n == 5 else str(n), ONE, tests) for n in range(40)]
    for _ in range(3):
        with closing(Deadly(Setting(LIMITS), 1, strong=False)) as engine:
            engine.times = 1
            told = statuses(list(engine.run(programs)))
        assert set(told.values()) == {"passed"}, told


class ZygotesFirst:
    """A selector by which a zygote is heard before its judges, all having had time to speak."""

    def __init__(self, real: Any) -> None:
        self._real = real

    def __getattr__(self, name: str) -> Any:
        return getattr(self._real, name)

    def select(self, seconds: float) -> list[Any]:
        time.sleep(0.02)
        return sorted(
            self._real.select(seconds), key=lambda found: isinstance(found[0].data[1], Host)
        )


@pytest.mark.parametrize(
    "test",
    [
        AssertTest("assert f() == 1", judge="split-files"),
        AssertTest("import sys\nassert f() == 1"),
        AssertTest("assert f() == 1"),
    ],
)
def test_a_judge_is_heard_out_though_its_end_is_told_first(test: AssertTest) -> None:
    """A judge that ends with its test: under load, its zygote's word often came first."""
    with closing(Engine(Setting(LIMITS), 1, strong=False)) as engine:
        engine._board._selector = ZygotesFirst(engine._board._selector)  # type: ignore[assignment]
        told = statuses(list(engine.run(Program(str(n), ONE, (test,)) for n in range(40))))
    assert set(told.values()) == {"passed"}, told


GREEDY = """
import threading, time
threading.stack_size(32768)
started = []
try:
    while True:
        started.append(threading.Thread(target=time.sleep, args=(0.6,), daemon=True))
        started[-1].start()
except RuntimeError:
    time.sleep(0.6)
def f(): return len(started) > 100
print(f())
"""
THREADED = """
import threading, time
time.sleep(0.3)
found = []
def f():
    thread = threading.Thread(target=found.append, args=(1,))
    thread.start()
    thread.join()
    return bool(found)
if __name__ in ("__main__", "candidate"):
    print(f())
"""


@pytest.mark.parametrize(
    "test", [AssertTest("assert f()"), CallTest("f", [], True), StdinTest("", "True")]
)
def test_a_program_that_takes_all_threads_takes_them_from_no_other(test: Test) -> None:
    programs = [Program("greedy", GREEDY, (test,))]
    programs += [Program(str(n), THREADED, (test,)) for n in range(10)]
    with closing(Engine(Setting(LIMITS), 1, strong=False)) as engine:
        told = statuses(list(engine.run(programs)))
    del told["greedy"]  # where the uid stays 0, it finds no end
    assert set(told.values()) == {"passed"}, told


def test_verdicts_come_in_order_for_every_kind_of_test() -> None:
    programs = []
    for n in range(60):
        source = f"import time\ntime.sleep({0.2 if n % 7 == 0 else 0})\ndef f(): return {n}\n"
        script = source + f"if __name__ == '__main__': print({n})"
        test = [
            AssertTest(f"assert f() == {n}"),
            StdinTest("", str(n)),
            CallTest("f", [], n),
            AssertTest(f"assert f() == {n}", judge="shared"),
        ][n % 4]
        programs.append(Program(str(n), script, (test,)))
    with closing(Engine(Setting(LIMITS), 2, strong=False)) as engine:
        verdicts = list(engine.run(programs))
    assert statuses(verdicts) == {str(n): "passed" for n in range(60)}
    assert [verdict.id for verdict in verdicts] == [str(n) for n in range(60)]


def test_hundreds_that_sleep_do_so_together() -> None:
    programs = [Program("p", "import time; time.sleep(1)", (StdinTest("", ""),))] * 300
    began = time.monotonic()
    with closing(Engine(Setting(LIMITS), 2, strong=False)) as engine:
        verdicts = list(engine.run(programs))
    assert {verdict.status for verdict in verdicts} == {"passed"}
    assert sum(verdict.wall_s for verdict in verdicts) >= 300
    assert time.monotonic() - began < 60


def test_more_judges_than_there_are_directories_wait_for_one(
    works: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("peft_bench_sandbox.worker._SLOTS", 3)  # of each of two zygotes, and theirs
    source = "import time\ndef f():\n    time.sleep(0.2)\n    open('a', 'w').close()"
    test = AssertTest("f()\nopen('a').close()", judge="split-files")
    with closing(Engine(Setting(LIMITS), 2, strong=False)) as engine:
        verdicts = list(engine.run([Program("p", source, (test,))] * 30))
    assert {verdict.message for verdict in verdicts} == {""}


def test_few_judges_are_kept_once_many_were_needed(engine: Engine) -> None:
    list(engine.run([FINE]))
    before, source = children(), "import time\ndef f():\n    time.sleep(3)\n    return 1"
    programs = [Program("p", source, (AssertTest("assert f() == 1"),))] * 60
    seen, done = [0], threading.Event()

    def watch() -> None:
        while not done.wait(0.05):
            seen.extend(len(leaves(zygote)) for zygote in children() - before)

    watcher = threading.Thread(target=watch)
    watcher.start()
    assert {verdict.status for verdict in engine.run(programs)} == {"passed"}
    done.set()
    watcher.join()
    deadline = time.monotonic() + 30
    while len(kept := leaves(born(before))) > 40 and time.monotonic() < deadline:
        list(engine.run([FINE]))
    assert max(seen) > 50
    assert len(kept) <= 40


def test_a_slow_program_holds_up_only_so_many(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("peft_bench_sandbox.engine._AHEAD", 50)
    taken = []

    def programs() -> Iterator[Program]:
        slow = Program("slow", "import time; time.sleep(1)", (StdinTest("", ""),))
        for program in [slow] + [FINE] * 200:
            taken.append(program.id)
            yield program

    with closing(Engine(Setting(LIMITS), 1, strong=False)) as engine:
        verdicts = engine.run(programs())
        assert next(verdicts).id == "slow"
        assert len(taken) <= 50
        assert len(list(verdicts)) == 200
    assert len(taken) == 201


def test_large_programs_are_held_only_up_to_a_size(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("peft_bench_sandbox.engine._AHEAD_BYTES", 1 << 20)
    taken = []

    def programs() -> Iterator[Program]:
        padding = "#" * (1 << 18)
        for n in range(30):
            taken.append(n)
            yield Program(str(n), padding, (StdinTest("", ""),))

    with closing(Engine(Setting(LIMITS), 2, strong=False)) as engine:
        verdicts = engine.run(programs())
        assert next(verdicts).status == "passed"
        assert len(taken) <= 5
        assert {verdict.status for verdict in verdicts} == {"passed"}


def test_an_error_of_the_source_of_programs_is_the_callers(engine: Engine) -> None:
    def programs() -> Iterator[Program]:
        yield FINE
        raise LookupError("the caller's own")

    with pytest.raises(LookupError, match="the caller's own"):
        list(engine.run(programs()))
    assert statuses(list(engine.run([FINE]))) == {"fine": "passed"}


# Large and many


def test_a_huge_source_and_a_huge_input_pass_through(engine: Engine) -> None:
    size = 5 << 20
    comments = "# a comment\n" * (size // 12)
    text = "0123456789\n" * (size // 11)
    programs = [
        Program("source", comments + ONE, (CallTest("f", [], 1), AssertTest("assert f() == 1"))),
        Program(
            "stdin",
            "import sys\nt = sys.stdin.read()\nprint(len(t), t[-3:])",
            (StdinTest(text, f"{len(text)} 89"),),
        ),
        Program("test", ONE, (AssertTest(comments + "assert f() == 1"),)),
        Program("shared", ONE, (AssertTest(comments + "assert f() == 1", judge="shared"),)),
        Program("call", "f = len", (CallTest("f", [text], len(text)),)),
    ]
    assert set(statuses(list(engine.run(programs))).values()) == {"passed"}


def test_a_large_output_is_compared_whole() -> None:
    size = 5 << 20
    with closing(Engine(Setting(Limits(output_bytes=8 << 20)), 1, strong=False)) as engine:
        source = f"print('x' * {size} + 'y')"
        tests = (StdinTest("", "x" * size + "y"), StdinTest("", "x" * size + "z"))
        [verdict] = engine.run([Program("p", source, tests)])
    assert (verdict.status, verdict.passed) == ("wrong", 1)


def test_a_program_may_have_very_many_tests(engine: Engine) -> None:
    tests = tuple(CallTest("f", [n], n * 2 if n != 333 else 0) for n in range(400))
    [verdict] = engine.run([Program("p", "def f(x): return x * 2", tests)])
    assert (verdict.status, verdict.passed, verdict.total) == ("wrong", 399, 400)
    assert verdict.message.startswith("test 334 of 400")


def test_a_test_of_lone_surrogates_reaches_its_program(engine: Engine) -> None:
    programs = [
        Program("call", "def f(x): return x", (CallTest("f", ["\ud800"], "\ud800"),)),
        Program("source", "x = '\ud800'", (StdinTest("", ""),)),
        Program("assert", ONE, (AssertTest("x = '\ud800'"),)),
    ]
    told = statuses(list(engine.run(programs)))
    assert told["call"] == "passed"
    assert told["source"].startswith("exception UnicodeEncodeError")
    assert told["assert"].startswith("harness_error the test does not compile")
    assert statuses(list(engine.run([FINE]))) == {"fine": "passed"}


def test_a_process_that_does_not_begin_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("peft_bench_sandbox.worker.START_S", 0.2)
    monkeypatch.setattr("peft_bench_sandbox.worker._MAIN", "import time; time.sleep(3)")
    with (
        closing(Engine(Setting(Limits()), 1, strong=False)) as engine,
        pytest.raises(SandboxUnavailable, match="was not ready within"),
    ):
        engine.layers()


# What a test may do to the caller and to its neighbours


def test_the_message_of_a_test_is_cut_before_it_is_sent() -> None:
    lengths = []

    class Watched(Engine):
        def judged(self, run: Run) -> None:
            if run.judged is not None:
                lengths.append(len(run.judged.message))
            super().judged(run)

    test = AssertTest("n = f()\nassert n == 1, 'x' * n")
    program = Program("p", "def f(): return 5 * 10**6", (test,))
    with closing(Watched(Setting(LIMITS), 1, strong=False)) as engine:
        [verdict] = engine.run([program])
    assert verdict.message == "AssertionError: ".ljust(LIMITS.message_bytes, "x")
    assert max(lengths) == LIMITS.message_bytes


@pytest.mark.parametrize("most", [3, 99], ids=["held", "twin"])
def test_no_program_waits_for_its_judge_to_have_a_directory(
    works: None, monkeypatch: pytest.MonkeyPatch, most: int
) -> None:
    send, beside = Engine._send, []

    def watched(engine: Engine, run: Run, *rest: Any) -> None:
        send(engine, run, *rest)
        beside.append(sum(len(each.runs) for each in engine._candidates))

    monkeypatch.setattr("peft_bench_sandbox.engine._MOST_FILED", most)
    monkeypatch.setattr(Engine, "_send", watched)
    source = "import time\ndef f(): time.sleep(0.1); return 1"
    test = AssertTest("assert f() == 1", judge="split-files")
    with closing(Engine(Setting(LIMITS), 2, strong=False)) as engine:
        verdicts = [*engine.run([Program("p", source, (test,))] * 12)]
        assert [verdict.status for verdict in verdicts] == ["passed"] * 12
        assert not engine._filed
    assert (max(beside) <= 3) == (most == 3)
