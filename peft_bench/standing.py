"""Rows on one scale, runs that are one experiment, and the runs that others are compared with."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from datetime import datetime

from peft_bench.comparison import Comparer, Outcome
from peft_bench.entry import Entry, same_items


def odd_ones(entries: Iterable[Entry]) -> dict[int, str]:
    """By id() of an entry, in what it differs from most entries of its task and metric.

    Counted are complete runs. Where as many agree on one thing as on another, the larger number
    of items goes first, then the newer run.
    """
    boards: dict[tuple[str, str], list[Entry]] = defaultdict(list)
    for entry in entries:
        boards[entry.task.task, entry.metric].append(entry)
    found = {}
    for board in boards.values():
        counted = [entry for entry in board if entry.record.status == "complete"] or board
        votes = Counter(_condition(entry) for entry in counted)
        usual = max(
            counted,
            key=lambda entry: (votes[_condition(entry)], entry.task.n, created(entry)),
        )
        for entry in board:
            if _condition(entry) != _condition(usual) and (why := _why(entry, usual)):
                found[id(entry)] = why
    return found


def _condition(entry: Entry) -> tuple[object, ...]:
    return (entry.task.version, entry.rules, entry.task.ids_sha256)


def _why(entry: Entry, usual: Entry) -> str:
    task, other = entry.task, usual.task
    reasons = []
    if task.version != other.version:
        reasons.append(f"task version {task.version}, not {other.version}")
    if task.profile != other.profile:
        reasons.append(f"profile {task.profile}, not {other.profile}")
    if task.sandbox_level != other.sandbox_level:
        reasons.append(
            f"sandbox {task.sandbox_level or 'none'}, not {other.sandbox_level or 'none'}"
        )
    if task.data_sha256 != other.data_sha256:
        reasons.append("other data")
    if task.n != other.n:
        reasons.append(f"{task.n} items, not {other.n}")
    elif not same_items(entry, usual):
        reasons.append("other items")
    return f"not comparable: {', '.join(reasons)}" if reasons else ""


def created(entry: Entry) -> datetime:
    """When the run was recorded."""
    return datetime.fromisoformat(entry.record.created)


class Baselines:
    """The runs that others are compared with, found by what must agree.

    An adapter's is the base model's run on the same task, as many shots, the same rules. That of
    examples in the prompt, drawn or retrieved, is the model's zero-shot run on the same rows.

    Args:
        entries: All of the board.
        name: A run to compare all others with in place of those, where it is on their scale.
    """

    def __init__(self, entries: Iterable[Entry], name: str | None = None) -> None:
        self._by_key: dict[tuple[object, ...], list[Entry]] = defaultdict(list)
        self._found: dict[tuple[object, ...], list[Entry]] = {}
        self._asked: dict[int, list[Entry]] = {}
        self._name = name
        for entry in entries:
            if entry.record.status != "complete":
                continue
            if name is None and entry.record.adapter is not None:
                continue
            if name is None or entry.record.name == name:
                for key in self._as_baseline(entry):
                    self._by_key[key].append(entry)

    def of(self, entry: Entry) -> list[Entry]:
        """The candidates, the one most like the entry first; none for a zero-shot run."""
        if id(entry) not in self._asked:
            self._asked[id(entry)] = self._of(entry)
        return self._asked[id(entry)]

    def _of(self, entry: Entry) -> list[Entry]:
        if self._name is not None:
            key: tuple[object, ...] = (entry.data, entry.rules)
        elif entry.record.adapter is not None:
            key = _exact(entry)
        elif entry.approach != "zero-shot":
            key = ("zero-shot", entry.data, entry.model_key, entry.rules)
        else:
            return []
        # Thousands of runs have the same ones.
        alike = (key, entry.compared_by)
        if alike not in self._found:
            self._found[alike] = self._sorted(key, entry)
        return [base for base in self._found[alike] if base is not entry]

    def _sorted(self, key: tuple[object, ...], entry: Entry) -> list[Entry]:
        dtype, own = entry.record.model.dtype, decoding(entry)
        return sorted(
            (base for base in self._by_key[key] if _fits(entry, base)),
            key=lambda base: (
                base.record.model.dtype == dtype,
                decoding(base) == own,
                created(base),
                base.record.name,
            ),
            reverse=True,
        )

    def _as_baseline(self, entry: Entry) -> list[tuple[object, ...]]:
        if self._name is not None:
            return [(entry.data, entry.rules)]
        keys = [_exact(entry)]
        if entry.approach == "zero-shot":
            keys.append(("zero-shot", entry.data, entry.model_key, entry.rules))
        return keys


def _exact(entry: Entry) -> tuple[object, ...]:
    task = entry.task
    return (task.task, task.version, task.num_fewshot, entry.model_key, entry.rules)


def _fits(entry: Entry, base: Entry) -> bool:
    """What a key cannot say: both known or one unknown."""
    prints = {entry.record.model.fingerprint, base.record.model.fingerprint} - {None}
    same_model = len(prints) < 2 or entry.model_key != base.model_key
    same_version = entry.task.task != base.task.task or entry.task.version == base.task.version
    return (
        same_model and same_version and same_items(entry, base) and entry.metric in base.task.scores
    )


def decoding(entry: Entry) -> dict[str, object]:
    """How answers were made; where examples were shown, without what ends an answer.

    A prompt with examples needs one more end (where the model begins another example).
    """
    settings = dict(entry.task.decoding)
    settings.pop("until", None)
    return settings


def compared(
    comparer: Comparer, baselines: Baselines, runs: Sequence[Entry]
) -> tuple[Entry | None, Outcome, tuple[str, ...]]:
    """Runs that differ in a seed only against their baseline: which, what came out, marks."""
    first = runs[0]
    own = {id(run) for run in runs}
    if len(own) > 1 and any(id(base) in own for run in runs for base in baselines.of(run)):
        return None, Outcome(), ("no difference: the baseline is one of them",)
    problems = []
    for base in baselines.of(first):
        outcome = comparer.systems([base], runs)
        if outcome.found is None:
            if not outcome.other_items:
                problems.append(outcome.problem or "")
            continue
        marks = []
        if base.record.model.dtype != first.record.model.dtype:
            marks.append(f"baseline in {base.record.model.dtype or 'an unknown dtype'}")
        if decoding(base) != decoding(first):
            marks.append("baseline decoded otherwise")
        return base, outcome, tuple(marks)
    return None, Outcome(), tuple(problems[:1])


def seed_groups(entries: Iterable[Entry]) -> list[list[Entry]]:
    """Runs that differ in a seed only, one a seed (the newest), of two seeds or more."""
    variants: dict[tuple[object, ...], dict[tuple[int | None, ...], Entry]] = defaultdict(dict)
    for entry in sorted(entries, key=created):
        if entry.record.status == "complete":
            variants[entry.variant][entry.seed] = entry
    return [
        [seeds[seed] for seed in sorted(seeds, key=repr)]
        for seeds in variants.values()
        if len(seeds) > 1
    ]
