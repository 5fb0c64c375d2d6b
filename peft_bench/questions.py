"""The study's four questions, one function each: what was compared, or what is lacking."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field

from peft_bench.entry import Entry
from peft_bench.leaderboard import Board
from peft_bench.metrics.paired import PairedDifference
from peft_bench.report import text
from peft_bench.report.markdown import escape
from peft_bench.report.row import LeaderboardRow

SMALL = 10**9  # parameters; the study's small models are below, its large ones above
MEMORY = 24 * 2**30  # bytes of the study's GPU

Pick = Callable[[LeaderboardRow], bool]


@dataclass(frozen=True)
class Side:
    """One configuration: the row that stands for it, and its runs (several with seeds)."""

    row: LeaderboardRow
    runs: tuple[Entry, ...]

    @property
    def value(self) -> float:
        """The score, the mean over seeds where there are several."""
        row = self.row
        return row.primary_value if row.seeds_mean is None else row.seeds_mean


@dataclass
class Tests:
    """The comparisons made, corrected together once all are known."""

    board: Board
    found: list[PairedDifference] = field(default_factory=list)

    def compare(self, first: Side, second: Side) -> int | str:
        """The number of the test, or why there is none."""
        if first.runs[0].rules != second.runs[0].rules:
            return "they were scored by other rules or on other rows"
        outcome = self.board.comparer.systems(first.runs, second.runs)
        if outcome.found is None:
            return (outcome.problem or "no difference").removeprefix("no difference: ")
        self.found.append(outcome.found)
        return len(self.found) - 1


@dataclass(frozen=True)
class Sentence:
    """``said`` with ``{0}`` where the difference of test ``test`` belongs."""

    said: str
    test: int | str | None = None


def _best(sides: Iterable[Side], pick: Pick) -> Side | None:
    return max(
        (side for side in sides if pick(side.row)), key=lambda side: side.value, default=None
    )


def _by_task(sides: Sequence[Side]) -> dict[str, list[Side]]:
    """By data set, retrieval with the task it is about; where most are of one number of items."""
    tasks: dict[str, list[Side]] = {}
    for side in sides:
        tasks.setdefault(text.family(side.row), []).append(side)
    return tasks


def large_against_small(sides: Sequence[Side], tests: Tests) -> list[Sentence]:
    """RQ1: the best tuned large model within 24 GB against the best small ones."""
    said = []
    for task, members in _by_task(sides).items():
        large = _best(
            members, lambda row: row.approach == "adapter" and _is_large(row) and _fits(row)
        )
        unknown = sum(
            row.approach == "adapter" and _is_large(row) and row.train_peak_bytes is None
            for row in (side.row for side in members)
        )
        for name, approach in (
            ("fully tuned small model", "full fine-tuning"),
            ("small model with an adapter", "adapter"),
        ):
            small = _best(
                members,
                lambda row, approach=approach: row.approach == approach and _is_small(row),  # type: ignore[misc]
            )
            if large is None or small is None:
                lacking = [] if large else ["a large model tuned within 24 GB"]
                lacking += [] if small else [f"a {name}"]
                said.append(_cannot(task, lacking))
                continue
            said.append(
                Sentence(
                    f"{escape(task)}: the best tuned large model is {_name(large)}; the best "
                    f"{name} is {_name(small)}. The large one's lead is {{0}}"
                    f"{_relative(small, large)}.",
                    tests.compare(small, large),
                )
            )
        if unknown:
            said.append(
                Sentence(
                    f"{escape(task)}: {many(unknown, 'adapter')} of large models left out, "
                    "since no record tells the memory of their training."
                )
            )
        said += _first_methods(task, members)
    return said or [Sentence("The records cannot answer this: there is no comparable run.")]


def _first_methods(task: str, members: Sequence[Side]) -> list[Sentence]:
    """Which PEFT method came first, of the models that several were tried on."""
    wins: Counter[str] = Counter()
    for model in sorted({side.row.model for side in members}):
        tried = [s for s in members if s.row.model == model and s.row.approach == "adapter"]
        if len({side.row.method for side in tried}) > 1:
            wins[max(tried, key=lambda side: side.value).row.method] += 1
    if not wins:
        return []
    of = sum(wins.values())
    ordered = sorted(wins.items(), key=lambda win: (-win[1], win[0]))
    listed = ", ".join(f"{escape(method)} ({count})" for method, count in ordered)
    return [Sentence(f"{escape(task)}: of {many(of, 'model')} with several PEFT methods, the "
                      f"highest score is by {listed}.")]  # fmt: skip


def against_examples(sides: Sequence[Side], tests: Tests) -> list[Sentence]:
    """RQ2: each model's best adapter against its best runs with examples."""
    said = []
    for task, members in _by_task(sides).items():
        for model in sorted({side.row.model for side in members}):
            own = [side for side in members if side.row.model == model]
            adapter = _best(own, lambda row: row.approach == "adapter")
            if adapter is None:
                continue
            lacking = []
            for name, approach in (("examples drawn", "in-context"), ("retrieval", "retrieval")):
                other = _best(own, lambda row, approach=approach: row.approach == approach)  # type: ignore[misc]
                if other is None:
                    lacking.append(f"a run with {name}")
                    continue
                said.append(
                    Sentence(
                        f"{escape(_place(task, model))}: the best adapter ({_name(adapter)}) "
                        f"against the best run with {name} ({_name(other)}): {{0}}"
                        f"{_relative(other, adapter)}.",
                        tests.compare(other, adapter),
                    )
                )
            if lacking:
                said.append(_cannot(_place(task, model), lacking))
    return said or [Sentence("The records cannot answer this: no adapter was scored.")]


def joint(sides: Sequence[Side], tests: Tests) -> list[Sentence]:
    """RQ3: each joint adapter against one of its kind for the task alone."""
    said = []
    for task, members in _by_task(sides).items():
        for both in members:
            if "+" not in both.row.trained_on:
                continue
            alone = _best(
                members,
                lambda row, both=both: (
                    is_of(row.task, row.trained_on)  # type: ignore[misc]
                    and (row.model, row.method, row.quantization)
                    == (both.row.model, both.row.method, both.row.quantization)
                ),
            )
            if alone is None:
                said.append(
                    _cannot(f"{task}, {both.row.run}", [f"an adapter of its kind for {task} alone"])
                )
                continue
            said.append(
                Sentence(
                    f"{escape(task)}: the joint adapter {_name(both)}, trained on "
                    f"{escape(both.row.trained_on)}, against {_name(alone)}: {{0}}.",
                    tests.compare(alone, both),
                )
            )
    return said or [
        Sentence("The records cannot answer this: none is of an adapter trained on several sets.")
    ]


def is_of(task: str, data: str) -> bool:
    """Whether the task's rows are the data set's; tasks are named after it."""
    return task == data or task.startswith(f"{data}_")


def quantised(sides: Sequence[Side], tests: Tests) -> list[Sentence]:
    """RQ4: adapters of a quantised base against LoRA on the plain one, score and memory."""
    said = []
    for task, members in _by_task(sides).items():
        adapters = [side for side in members if side.row.approach == "adapter"]
        for model in sorted({side.row.model for side in adapters}):
            own = [side for side in adapters if side.row.model == model]
            plain = _best(own, lambda row: row.quantization is None and row.method == "lora")
            for bits in sorted({side.row.quantization or "" for side in own} - {""}):
                small = _best(own, lambda row, bits=bits: row.quantization == bits)  # type: ignore[misc]
                if plain is None or small is None:
                    said.append(_cannot(_place(task, model), ["LoRA without quantisation"]))
                    continue
                said.append(
                    Sentence(
                        f"{escape(_place(task, model))}: {escape(bits)} ({_name(small)}) against "
                        f"LoRA without quantisation ({_name(plain)}): {{0}}."
                        f"{_memory(plain.row, small.row)}",
                        tests.compare(plain, small),
                    )
                )
    if not said:
        said = [
            Sentence("The records cannot answer this: no adapter of a quantised base is there.")
        ]
    fitting = [s.row for s in sides if s.row.approach == "adapter" and _fits(s.row)]
    largest = max(fitting, key=lambda row: row.total_parameters or 0, default=None)
    if largest is not None and largest.total_parameters:
        said.append(
            Sentence(
                f"The largest model tuned within 24 GB is {escape(text.model(largest.model))} "
                f"({text.count(largest.total_parameters).strip()} parameters, "
                f"{text.size(largest.train_peak_bytes)} by {escape(text.method(largest))})."
            )
        )
    return said


def _memory(plain: LeaderboardRow, small: LeaderboardRow) -> str:
    if not plain.train_peak_bytes or not small.train_peak_bytes:
        return " The records do not tell the memory of both trainings."
    share = small.train_peak_bytes / plain.train_peak_bytes
    return (
        f" Its training took {text.size(small.train_peak_bytes)} against "
        f"{text.size(plain.train_peak_bytes)}: {100 * share:.0f} %."
    )


def _name(side: Side) -> str:
    row = side.row
    score = text.seeds(row) or text.score(row)
    return f"{escape(row.run)} ({escape(text.method(row))}, {score} %)"


def _relative(first: Side, second: Side) -> str:
    if first.value <= 0:
        return ""
    return f" ({text.points(second.value / first.value - 1)} % relative to it)"


def _place(task: str, model: str) -> str:
    return f"{task}, {text.model(model)}"


def _cannot(what: str, lacking: Sequence[str]) -> Sentence:
    return Sentence(f"{escape(what)}: cannot be answered; no record of {' or of '.join(lacking)}.")


def many(count: int, name: str) -> str:
    """``1 run``, ``2 runs``."""
    return f"{count} {name}" if count == 1 else f"{count} {name}s"


def _is_large(row: LeaderboardRow) -> bool:
    return row.total_parameters is not None and row.total_parameters >= SMALL


def _is_small(row: LeaderboardRow) -> bool:
    return row.total_parameters is not None and row.total_parameters < SMALL


def _fits(row: LeaderboardRow) -> bool:
    return row.train_peak_bytes is not None and row.train_peak_bytes <= MEMORY
