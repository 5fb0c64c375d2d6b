"""All answers of a task, run in one pool: the harness' filter, and what it hands on."""

from __future__ import annotations

import os
import warnings
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from lm_eval.api.filter import Filter
from peft_bench_sandbox import Program, Status, Verdict, WeakSandboxWarning, run_all

from peft_bench.answers import Answer
from peft_bench.errors import PeftBenchError
from peft_bench.executed.kept import KeptVerdicts
from peft_bench.executed.problems import Problem
from peft_bench.gold import Gold, Sandbox, describe_setting, program_key

Kind = Literal["code", "empty", "truncated", "missing"]

# A problem's id, and a program.
_Place = tuple[str, str]

_MESSAGE_LENGTH = 1000


@dataclass(frozen=True, slots=True)
class Run:
    """One answer of a problem, and what became of it.

    Attributes:
        kind: ``code`` was run. What is ``empty``, ``truncated`` (the most tokens allowed cut it
            before its code ended) or ``missing`` is wrong, and was not.
        gold: how the problem's references fared.
        tests: how many tests the problem has.
        verdict: of the program, if it was run.
        source: the program.
        facts: what is known of the answer's making.
    """

    kind: Kind
    gold: Gold
    tests: int
    verdict: Verdict | None = None
    source: str = ""
    facts: Mapping[str, Any] = field(default_factory=dict)

    def __str__(self) -> str:
        # What the harness' samples log shows of a filtered answer.
        return self.source

    @property
    def passed(self) -> bool:
        """Whether the program passed every test."""
        return self.verdict is not None and self.verdict.status is Status.PASSED

    @property
    def share(self) -> float:
        """The share of the tests that the program passed, from 0 to 1."""
        return self.verdict.passed / self.verdict.total if self.verdict is not None else 0.0

    def logged(self) -> dict[str, Any]:
        """For the samples log."""
        verdict = self.verdict
        logged: dict[str, Any] = {
            "answer": self.kind,
            "status": verdict.status.value if verdict is not None else "not run",
            "message": verdict.message[:_MESSAGE_LENGTH] if verdict is not None else "",
            "passed": verdict.passed if verdict is not None else 0,
            "total": verdict.total if verdict is not None else self.tests,
            "judge": verdict.judge if verdict is not None else self.gold.judge,
            "reference": self.gold.outcome,
            "kept_apart": self.gold.outcome == "failed",
            **self.facts,
        }
        if verdict is not None and verdict.lenient:
            logged["lenient"] = [list(one) for one in verdict.lenient]
        return logged


def kind_of(problem: Problem, response: str | None) -> tuple[Kind, str]:
    """What a response is, and its program where it is code."""
    if response is None:
        return "missing", ""
    answer = Answer.of(response)
    code = problem.code(str(answer))
    if not code.text.strip():
        return "empty", ""
    if answer.finished is False and not code.closed:
        return "truncated", ""
    return "code", problem.assemble(code)


class RunPrograms(Filter):  # type: ignore[misc]
    """Runs all answers of a task in one pool; each response becomes a :class:`Run`.

    Equal programs of a problem are run once: the same program gets the same verdict.

    Args:
        problems: by the documents' ids.
        gold: how their references fared, by the same ids.
        sandbox: where they run.

    Raises:
        PeftBenchError: the sandbox failed on a program, or problems have unequal numbers of
            answers, of which some must have been lost.
    """

    def __init__(
        self, problems: Mapping[str, Problem], gold: Mapping[str, Gold], sandbox: Sandbox
    ) -> None:
        super().__init__()
        self._problems = problems
        self._gold = gold
        self._sandbox = sandbox

    def apply(
        self, resps: Iterable[Sequence[str | None]], docs: Sequence[Mapping[str, Any]]
    ) -> Iterator[Run]:
        """One run a request; each request has one response."""
        ids = [str(doc["id"]) for doc in docs]
        _refuse_unequal(ids)
        answers = [responses[0] if responses else None for responses in resps]
        kinds = [
            kind_of(self._problems[name], answer) for name, answer in zip(ids, answers, strict=True)
        ]
        programs: dict[_Place, Program] = {}
        for name, (kind, source) in zip(ids, kinds, strict=True):
            if kind == "code" and (name, source) not in programs:
                judge = self._gold[name].judge
                programs[name, source] = self._problems[name].program(source, judge=judge)
        verdicts = self._run(programs)
        for name, answer, (kind, source) in zip(ids, answers, kinds, strict=True):
            verdict = verdicts.get((name, source))
            tests = verdict.total if verdict else len(self._problems[name].tests(source))
            facts = Answer.of("" if answer is None else answer).facts()
            yield Run(kind, self._gold[name], tests, verdict, source, facts)

    def _run(self, programs: Mapping[_Place, Program]) -> dict[_Place, Verdict]:
        """The verdicts; those that an interrupted run left are taken as they are."""
        kept, keys = KeptVerdicts(), dict.fromkeys(programs, "")
        if kept.wanted:
            setting = describe_setting(self._sandbox)
            for place, program in programs.items():
                keys[place] = program_key(program, self._gold[place[0]].judge, setting)
        verdicts = {place: known for place, key in keys.items() if (known := kept.get(key))}
        todo = [place for place in programs if place not in verdicts]
        following = iter(todo)
        with warnings.catch_warnings():
            # The level stands in the record and in the results.
            warnings.simplefilter("ignore", WeakSandboxWarning)
            found = run_all(
                [programs[place] for place in todo],
                workers=workers(),
                profile=self._sandbox.profile,
                require=self._sandbox.level,
                progress=True,
                on_verdict=lambda verdict: kept.keep(keys[next(following)], verdict),
            )
        for verdict in found:
            if verdict.status is Status.HARNESS_ERROR:
                raise PeftBenchError(
                    place=f"problem {verdict.id}",
                    problem=f"the sandbox failed: {verdict.message}",
                    remedy="nothing is scored; run it again, and see `peft-bench doctor`",
                )
        return verdicts | dict(zip(todo, found, strict=True))


def workers() -> int | None:
    """How many programs run at once: this rank's share of the CPUs, None for all of them."""
    ranks = int(os.environ.get("LOCAL_WORLD_SIZE", "1"))
    return max(1, len(os.sched_getaffinity(0)) // ranks) if ranks > 1 else None


def _refuse_unequal(ids: Sequence[str]) -> None:
    numbers = sorted(set(Counter(ids).values()))
    if len(numbers) > 1:
        raise PeftBenchError(
            place="answers",
            problem=f"problems have from {numbers[0]} to {numbers[-1]} answers: some were lost",
            remedy="generate them anew; nothing is scored",
        )
