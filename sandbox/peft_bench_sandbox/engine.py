"""The event loop: programs go to zygotes, their tests to judges, results come back.

One thread, so that nothing is ever forked from a process with locks held, and so that Ctrl-C finds
everything in one place. A zygote keeps few runs waiting; when its runs are all asleep it asks for
more, up to hundreds.
"""

from __future__ import annotations

import os
import time
from collections import deque
from collections.abc import Generator, Iterable
from dataclasses import dataclass, field

from .batch import grouped, leaves_nothing, score_batch
from .descriptors import Room
from .judging import Host, Judges
from .runs import Run, Work, job_file
from .score import Ended, Result, read_left, score_program, score_test
from .switchboard import Switchboard
from .types import Program, SandboxUnavailable, Status, Verdict
from .worker import Setting, Zygote, unsealed

_WINDOW = 16  # runs with a zygote beyond those asleep: enough to keep it busy
_MOST = 256  # a zygote has so many children at most; what it has beyond waits for them
# Runs whose judges need one of 256 directories. One that waited for it would use up its wall limit.
_MOST_FILED = 240
_AHEAD = 4096  # programs begun before the oldest that is not done
_AHEAD_BYTES = 64 << 20
_ATTEMPTS = 2
_TOO_MANY = "this process has too many files open"
_NO_THREAD = "can't start new thread"  # Python's words
_POLL_S = 1.0


@dataclass(eq=False, slots=True)
class _Candidates:
    """A zygote of candidates, the runs it has, and how many it may have."""

    zygote: Zygote
    window: int
    runs: dict[int, Run] = field(default_factory=dict)


class Engine:
    """Runs programs; to be closed."""

    def __init__(self, setting: Setting, width: int, *, strong: bool) -> None:
        self._setting = setting
        self._room = Room(width, _MOST)
        self._width = self._room.width
        self._window = max(1, min(_WINDOW, self._room.runs // self._width))
        self._strong = strong
        self._board = Switchboard()
        self._judges = Judges(setting, self._board, self)
        self._candidates: list[_Candidates] = []
        self._again: deque[Run] = deque()  # each alone, so that it brings no other down
        self._fresh: deque[Run] = deque()
        self._filed: set[Run] = set()
        self._number = 0

    def run(self, programs: Iterable[Program]) -> Generator[Verdict]:
        """Yield verdicts in order while later programs run.

        Raises:
            SandboxUnavailable: a process could not be started, or not sealed as it has to be.
        """
        source = iter(programs)
        order: deque[Work] = deque()
        size, more = 0, True
        while True:
            while more and self._has_room() and len(order) < _AHEAD and size < _AHEAD_BYTES:
                program = next(source, None)
                if program is None:
                    more = False
                    break
                work = self._begin(program)
                order.append(work)
                size += work.size
                self._dispatch()
            while order and None not in order[0].results:
                work = order.popleft()
                size -= work.size
                results = [result for result in work.results if result is not None]
                yield score_program(work.program, results, self._setting.limits)
            if not order and not more:
                return
            # Also with nothing in order: runs that were given up may still take their room.
            self._step(_POLL_S)
            self._dispatch()

    def layers(self) -> dict[str, str]:
        """The layers of the seal, by name, and why one is not there; starts a zygote if need be.

        Raises: SandboxUnavailable: as `run`.
        """
        zygote = self._ensure(0).zygote
        while zygote.layers is None:
            self._step(_POLL_S)
        return zygote.layers

    def close(self) -> None:
        """End every process."""
        for candidates in self._candidates:
            candidates.zygote.link.close()  # so that all end at the same time
        self._judges.close()
        for candidates in self._candidates:
            candidates.zygote.close()
        self._board.close()
        self._room.close()

    # Out

    def _begin(self, program: Program) -> Work:
        size = len(program.source) * len(program.tests)
        work = Work(program, [None] * len(program.tests), size)
        work.clean = program.isolate == "program" and leaves_nothing(program.source)
        for tests in grouped(program):
            self._queue(work, tests)
        return work

    def _queue(self, work: Work, tests: tuple[int, ...]) -> None:
        self._number += 1
        self._fresh.append(Run(self._number, work, tests))

    def _has_room(self) -> bool:
        if self._fresh:
            return False
        if len(self._candidates) < self._width:
            return True
        return any(len(each.runs) < each.window for each in self._candidates)

    def _dispatch(self) -> None:
        if self._again:
            # Whatever took a zygote down may do so again: with it, nothing else is at stake.
            least = min(self._candidates, key=lambda each: len(each.runs))
            least.window = 0
            if not least.runs and not self._must_wait(self._again[0]):
                self._send(self._again.popleft(), least)
        while self._fresh and not self._must_wait(self._fresh[0]):
            if (candidates := self._roomiest()) is None:
                break
            self._send(self._fresh.popleft(), candidates)
        self._board.flush()

    def _must_wait(self, run: Run) -> bool:
        return run.files and len(self._filed) >= _MOST_FILED

    def _roomiest(self) -> _Candidates | None:
        if len(self._candidates) < self._width:
            return self._ensure(len(self._candidates))
        open_ = [each for each in self._candidates if len(each.runs) < each.window]
        return min(open_, key=lambda each: len(each.runs) - each.window, default=None)

    def _ensure(self, place: int) -> _Candidates:
        if place == len(self._candidates):
            candidates = _Candidates(Zygote(self._setting), self._window)
            self._candidates.append(candidates)
            self._board.add(candidates.zygote.link, candidates)
        return self._candidates[place]

    def _send(self, run: Run, candidates: _Candidates) -> None:
        program = run.work.program
        try:
            job, size = job_file(program.source, *run.of, clean=run.work.clean)
        except OSError as error:
            self.short_of_files(run, f"the sandbox could not tell a run its job: {error}")
            return
        candidates.runs[run.number] = run
        if run.files:
            self._filed.add(run)
        self._board.post(candidates.zygote.link, ("run", run.number, run.kind, size), job)

    # In

    def _step(self, wait_s: float) -> None:
        """Wait for something to happen, and deal with it."""
        for owner, messages in self._board.wait(wait_s):
            if isinstance(owner, Host):
                self._judges.of_host(owner, messages)
            elif messages is None:
                self._lost(owner)
            else:
                zygote = owner if isinstance(owner, Zygote) else owner.zygote
                for what, *rest in messages:
                    if what in ("ready", "failed"):
                        self._of_start(zygote, what, *rest)
                    elif owner is zygote:
                        self._judges.of_zygote(what, *rest)
                    else:
                        self._of_candidates(owner, what, *rest)
        now = time.monotonic()
        for candidates in self._candidates:
            candidates.zygote.check_start(now)
        self._judges.look(now)

    def _of_start(self, zygote: Zygote, what: str, *rest: object) -> None:
        if what == "failed":
            raise SandboxUnavailable(f"the sandbox cannot run here: {rest[0]}")
        layers = rest[0]
        assert isinstance(layers, dict)
        zygote.layers = layers
        if self._strong and (lacking := unsealed(layers)):
            raise SandboxUnavailable(f"a process could not be sealed: {'; '.join(lacking)}")

    def _of_candidates(self, owner: _Candidates, what: str, *rest: object) -> None:
        if what == "hungry":
            asleep = rest[0]
            assert isinstance(asleep, int)
            if owner.window:  # else a run is being tried again, alone
                owner.window = min(self._window + 3 * asleep, _MOST, self._left_for(owner))
            return
        number, *told, fds = rest
        assert isinstance(number, int) and isinstance(fds, tuple)
        if what == "started":
            run = owner.runs[number]
            if not fds:
                self.short_of_files(run, f"the socket to its program is lost: {_TOO_MANY}")
            if run.failed:
                for fd in fds:
                    os.close(fd)
                return
            [run.channel] = fds
            self._judges.judge(run)
            return
        run = owner.runs.pop(number)
        owner.window = max(self._window, min(owner.window, len(owner.runs) + self._window))
        if what == "error":
            self.failed(run, str(told[0]))
        else:
            *seen, sizes = told
            assert isinstance(sizes, dict)
            if any(sizes.values()) and not fds:
                self.short_of_files(run, f"what its program has left is lost: {_TOO_MANY}")
                return
            left = read_left(sizes, fds, self._setting.limits)
            run.ended = Ended(*seen, **left)  # type: ignore[arg-type]
            self.judged(run)

    def _left_for(self, owner: _Candidates) -> int:
        """How many runs a zygote may have, so that there are descriptors enough for all."""
        others = [each.window for each in self._candidates if each is not owner]
        others += [0] * (self._width - 1 - len(others))
        return max(self._window, self._room.runs - sum(max(self._window, its) for its in others))

    def _lost(self, owner: _Candidates | Zygote) -> None:
        """A zygote is gone; it is replaced when there is need."""
        zygote = owner if isinstance(owner, Zygote) else owner.zygote
        text = f"a process of the sandbox ended: {zygote.last_words()}"
        if zygote.layers is None:
            raise SandboxUnavailable(f"the sandbox cannot run here: {text}")
        if isinstance(owner, Zygote):
            self._judges.lost(text)
            return
        self._candidates.remove(owner)
        zygote.close()
        for run in owner.runs.values():
            self.failed(run, text)
        if not self._candidates:
            self._ensure(0)

    # What becomes of a run

    def judged(self, run: Run) -> None:
        """Settle a run's result, once all have spoken who have a say in it."""
        if run.failed or run.ended is None or (run.kind == "serve" and run.judged is None):
            return
        self._filed.discard(run)
        if run.ended.failure:
            self.failed(run, run.ended.failure)
            return
        limits = self._setting.limits
        settled: list[Result | None]
        if len(run.tests) == 1:
            settled = [score_test(run.of[0], run.ended, run.judged, limits)]
        else:
            settled = score_batch(run.of, run.ended, limits, clean=run.work.clean)
        for place, result in zip(run.tests, settled, strict=True):
            if result is None:
                self._queue(run.work, (place,))
            elif run.attempt < _ATTEMPTS and _NO_THREAD in result.message:
                # All programs of a zygote have their threads from one stock, and another may have
                # used it up: this one may say so alone.
                self._number += 1
                self._again.append(Run(self._number, run.work, (place,), run.attempt + 1))
            else:
                run.work.results[place] = result

    def short_of_files(self, run: Run, message: str) -> None:
        """Others of this process have taken what was counted on: from now on with half as much."""
        under_way = sum(len(each.runs) for each in self._candidates)
        self._room.runs = max(self._width, min(self._room.runs, under_way // 2))
        self._window = max(1, min(self._window, self._room.runs // self._width))
        for each in self._candidates:
            each.window = min(each.window, self._room.runs // self._width)
        self.failed(run, message)

    def failed(self, run: Run, message: str) -> None:
        """The sandbox failed on this run: try it once more, alone."""
        if run.failed:
            return
        run.failed = True
        self._filed.discard(run)
        self._judges.forget(run)
        if run.attempt >= _ATTEMPTS:
            for place in run.tests:
                run.work.results[place] = Result(Status.HARNESS_ERROR, message)
            return
        self._number += 1
        self._again.append(Run(self._number, run.work, run.tests, run.attempt + 1))
