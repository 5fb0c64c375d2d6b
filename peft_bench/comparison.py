"""Evaluations of one task compared on the same items, from their samples."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import math
import os
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from peft_bench import paths
from peft_bench.entry import Entry
from peft_bench.errors import PeftBenchError
from peft_bench.metrics.corpus import COMBINE
from peft_bench.metrics.paired import PairedDifference, paired_bootstrap, paired_bootstraps
from peft_bench.metrics.seeds import Band, as_sums, compare_systems, mean_of_sums, seed_band
from peft_bench.records import ItemStatistics, per_item_statistics, write_text

Floats = NDArray[np.float64]
Rows = tuple[tuple[float, ...], ...]

_PREPARED_AT_ONCE = 256  # pairs
_CACHE_VERSION = 3  # raised when the same samples would give other figures


@dataclass(frozen=True)
class Outcome:
    """What a comparison gave: a difference, or why there is none.

    ``other_items`` says that the samples are of other items than the records let one think.
    """

    found: PairedDifference | None = None
    problem: str | None = None
    other_items: bool = False


class _Matched(NamedTuple):
    """Statistics of runs of the same items in the same order, and the groups of these."""

    runs: list[Rows]
    groups: tuple[str, ...]


class Comparer:
    """Compares runs; each samples file is read once, and only if a comparison needs it.

    Args:
        cache: A file that keeps what was found by the size and time of change of the samples, or
            None to keep nothing. A cache that cannot be read or written is done without.
    """

    def __init__(self, cache: Path | None = None) -> None:
        self._cache = cache
        # Entries are known by their id(), and so are held on to.
        self._held: list[Entry] = []
        self._items: dict[tuple[int, str], ItemStatistics | PeftBenchError] = {}
        self._ready: dict[tuple[int, int], Outcome] = {}
        self._contradict: dict[tuple[int, str], bool] = {}
        self._known = _read_cache(cache)
        self._new: dict[str, Any] = {}
        self._scored: dict[tuple[int, str], str] = {}
        self._here = Path.cwd()

    def pair(self, base: Entry, other: Entry, metric: str | None = None) -> Outcome:
        """The second run minus the first, by the second's primary metric unless one is named."""
        return self.systems([base], [other], metric)

    def systems(
        self, base: Sequence[Entry], other: Sequence[Entry], metric: str | None = None
    ) -> Outcome:
        """As :meth:`pair`, of runs that differ in a seed only."""
        metric = metric or other[0].metric
        if len(base) == len(other) == 1 and metric == other[0].metric:
            ready = self._ready.get((id(base[0]), id(other[0])))
            if ready is not None:
                return ready
        key = self._key("difference", metric, base, other)
        if key in self._known:
            return _outcome(self._known[key])
        return self._note(key, self._systems(base, other, metric))

    def prepare(self, pairs: Iterable[tuple[Entry, Entry]]) -> None:
        """Compares many pairs of runs at once, by the second's primary metric.

        :meth:`pair` then gives what it would have found, for a fraction of the time. Corpus
        metrics, and pairs that cannot be compared, are left to it.
        """
        waiting: dict[tuple[str, ...], list[tuple[Entry, Entry, str, Floats]]] = defaultdict(list)
        of_base, column = None, np.empty(0)
        for base, other in pairs:
            key = self._key("difference", other.metric, [base], [other])
            if key in self._known:
                self._ready[id(base), id(other)] = _outcome(self._known[key])
                continue
            matched = self._match([base], [other], other.metric)
            if isinstance(matched, Outcome) or len(matched.runs[0][0]) > 1:
                continue
            own, theirs = matched.runs
            if theirs is not of_base:  # that of many, mostly
                of_base, column = theirs, _column(theirs)
            alike = waiting[matched.groups]
            alike.append((base, other, key, _column(own) - column))
            if len(alike) == _PREPARED_AT_ONCE:
                self._compare(matched.groups, waiting.pop(matched.groups))
        for groups, alike in waiting.items():
            self._compare(groups, alike)

    def _compare(
        self, groups: tuple[str, ...], pairs: Sequence[tuple[Entry, Entry, str, Floats]]
    ) -> None:
        if len(set(groups)) < 2:
            return  # what is wrong with a pair is told when it is asked for
        compared = paired_bootstraps(np.stack([pair[3] for pair in pairs]), groups=groups)
        for (base, other, key, _), found in zip(pairs, compared, strict=True):
            self._ready[id(base), id(other)] = self._note(key, Outcome(found))

    def _note(self, key: str, outcome: Outcome) -> Outcome:
        if key:
            self._known[key] = self._new[key] = _kept(outcome)
        return outcome

    def band(self, runs: Sequence[Entry]) -> Band | None:
        """The scores of runs that differ in a seed only; None if their samples do not give it."""
        metric = runs[0].metric
        key = self._key("band", metric, runs)
        if key in self._known:
            kept = self._known[key]
            return Band(**kept) if kept else None
        found = None
        loaded = [self._of(run, metric) for run in runs]
        items = [one for one in loaded if isinstance(one, ItemStatistics)]
        if len(items) == len(runs) and not any(self._not_its_sum(run, metric) for run in runs):
            matched = _matched(items)
            if matched is not None:
                combine = _combine(metric, items[0])
                found = seed_band(_as_sums(matched), combine, groups=items[0].groups)
        if key:
            kept = dataclasses.asdict(found) if found else None
            self._known[key] = self._new[key] = kept
        return found

    def save(self) -> None:
        """Writes what was found anew into the cache."""
        if self._cache is None or not self._new:
            return
        try:
            self._cache.parent.mkdir(parents=True, exist_ok=True)
            kept = {"version": _CACHE_VERSION, "found": self._known}
            write_text(self._cache, json.dumps(kept))
        except OSError:
            return  # only time is lost
        self._new = {}

    def _systems(self, base: Sequence[Entry], other: Sequence[Entry], metric: str) -> Outcome:
        matched = self._match(base, other, metric)
        if isinstance(matched, Outcome):
            return matched
        own, theirs = matched.runs[: len(other)], matched.runs[len(other) :]
        is_mean = len(own[0][0]) == 1
        try:
            if is_mean and len(own) == len(theirs) == 1:
                found = paired_bootstrap(_column(theirs[0]), _column(own[0]), groups=matched.groups)
            else:
                combine = mean_of_sums if is_mean else COMBINE[metric]
                sums = _as_sums(theirs), _as_sums(own)
                found = compare_systems(*sums, combine, groups=matched.groups)
        except ValueError as problem:
            return Outcome(problem=f"no difference: {problem}")
        return Outcome(found)

    def _match(
        self, base: Sequence[Entry], other: Sequence[Entry], metric: str
    ) -> _Matched | Outcome:
        """The statistics of the other's runs, then the base's; or why they cannot be compared."""
        items = []
        for run, whose in (*((run, "") for run in other), *((run, "baseline ") for run in base)):
            one = self._of(run, metric)
            if isinstance(one, PeftBenchError):
                return Outcome(problem=f"no difference: {whose}{one.problem}")
            if self._not_its_sum(run, metric):
                kind = "mean" if len(one.values[0]) == 1 else "corpus score"
                return Outcome(problem=f"no difference: {metric} is not the {kind} of its items")
            items.append(one)
        runs = _matched(items)
        if runs is None:
            return Outcome(problem="no difference: other items were scored", other_items=True)
        if len({len(rows[0]) for rows in runs}) > 1:
            return Outcome(problem=f"no difference: {metric} is of other statistics there")
        return _Matched(runs, items[0].groups)

    def _of(self, entry: Entry, metric: str) -> ItemStatistics | PeftBenchError:
        key = id(entry), metric
        if key not in self._items:
            self._held.append(entry)
            try:
                self._items[key] = per_item_statistics(entry.folder, entry.task, metric)
            except PeftBenchError as problem:
                self._items[key] = problem  # told as a mark of every row that needed it
        return self._items[key]

    def _not_its_sum(self, entry: Entry, metric: str) -> bool:
        """Whether the items do not make up the score that stands in the record."""
        key = id(entry), metric
        if key not in self._contradict:
            items = self._of(entry, metric)
            assert isinstance(items, ItemStatistics)
            self._contradict[key] = _not_its_sum(items, entry, metric)
        return self._contradict[key]

    def _key(self, kind: str, metric: str, *sides: Sequence[Entry]) -> str:
        """Empty where nothing is kept: no cache, or samples that are not there."""
        if self._cache is None:
            return ""
        parts = [kind, metric]
        for side in sides:
            parts.append(str(len(side)))
            for entry in side:
                known = self._scored.get((id(entry), metric))
                if known is None:
                    self._held.append(entry)
                    known = self._scored[id(entry), metric] = self._score_of(entry, metric)
                if not known:
                    return ""
                parts.append(known)
        return hashlib.sha256("\0".join(parts).encode(errors="replace")).hexdigest()

    def _score_of(self, entry: Entry, metric: str) -> str:
        """A samples file's place, size and time of change, and what the record says of it.

        Empty where there is no such file.
        """
        # Thousands of files: no Path for each.
        file = f"{entry.folder}/{entry.task.samples_file}"
        if not file.startswith("/"):
            file = f"{self._here}/{file}"
        try:
            stat = os.stat(file)  # noqa: PTH116
        except OSError:
            return ""
        score = entry.task.scores.get(metric)
        value = repr(score.value) if score else ""
        return f"{file} {stat.st_size} {stat.st_mtime_ns}\0{value}\0{entry.task.ids_sha256}"


def default_cache() -> Path:
    """Where the command line keeps comparisons."""
    return paths.cache_dir() / "comparisons.json"


def _combine(metric: str, items: ItemStatistics) -> Any:
    return COMBINE[metric] if len(items.values[0]) > 1 else mean_of_sums


def _not_its_sum(items: ItemStatistics, entry: Entry, metric: str) -> bool:
    """Whether the items do not make up the score that stands in the record."""
    score = entry.task.scores.get(metric)
    if score is None:
        return True
    if len(items.values[0]) == 1:
        made = math.fsum(chain.from_iterable(items.values)) / len(items.values)
    elif metric in COMBINE:
        try:
            made = float(COMBINE[metric](np.asarray(items.values).sum(axis=0)))
        except ValueError:
            return True  # another number of statistics than this version's
    else:
        return True
    return not math.isclose(made, score.value, rel_tol=0, abs_tol=1e-6)


def _matched(runs: Sequence[ItemStatistics]) -> list[Rows] | None:
    """Each run's statistics in the order of the first one's items; None if they are of others."""
    ids = runs[0].ids
    found = []
    for run in runs:
        if run.ids == ids:  # no item is there twice
            found.append(run.values)
            continue
        by_id = dict(zip(run.ids, run.values, strict=True))
        if by_id.keys() != set(ids):
            return None
        found.append(tuple(by_id[i] for i in ids))
    return found


def _column(rows: Rows) -> Floats:
    """The numbers of items that have one each."""
    return np.fromiter(chain.from_iterable(rows), dtype=np.float64, count=len(rows))


def _as_sums(runs: Sequence[Rows]) -> list[ArrayLike]:
    """What a metric is a function of: of a mean, the items' values and their number."""
    return [as_sums(rows) if len(rows[0]) == 1 else rows for rows in runs]


def _kept(outcome: Outcome) -> dict[str, Any]:
    # dataclasses.asdict copies what lies within, at many times the cost.
    return dict(vars(outcome), found=dict(vars(outcome.found)) if outcome.found else None)


def _outcome(kept: Any) -> Outcome:
    found = kept["found"]
    return Outcome(
        PairedDifference(**found) if found else None, kept["problem"], kept["other_items"]
    )


def _read_cache(file: Path | None) -> dict[str, Any]:
    if file is None:
        return {}
    try:
        kept = json.loads(file.read_text(encoding="utf-8"))
        if kept["version"] == _CACHE_VERSION and isinstance(kept["found"], dict):
            return dict(kept["found"])
    except (OSError, ValueError, TypeError, KeyError, RecursionError):
        pass  # absent, of another version or broken: all is found anew
    return {}
