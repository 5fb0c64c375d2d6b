"""What tells cells apart, whatever they are called: recipe, rows, tasks' versions, options."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

from peft_bench import catalog, data, mixture
from peft_bench.errors import PeftBenchError
from peft_bench.sweep.cells import Cell


@dataclass(frozen=True, slots=True)
class Planned:
    """A cell with the names of its folders, which hold hashes of all that its scores rest on.

    Attributes:
        cell: what is to be done.
        evaluation: the name of its evaluation's folder; None where ``problem`` says why.
        adapter: that of its adapter's folder, shared by cells of one recipe and one set of rows.
        same_as: the name of an earlier cell that is the same in all but its name.
        problem: what keeps it from being identified, such as rows that cannot be had.
    """

    cell: Cell
    evaluation: str | None = None
    adapter: str | None = None
    same_as: str | None = None
    problem: PeftBenchError | None = None


def identify(cells: Iterable[Cell]) -> tuple[Planned, ...]:
    """The cells with their folders' names; reads the rows of all data sets, each once."""
    facts = _Facts()
    adapters: dict[str, str] = {}
    evaluations: dict[str, tuple[str, str]] = {}
    found = []
    for cell in cells:
        try:
            trained = facts.of_training(cell)
            key = facts.of_cell(cell, trained)
        except PeftBenchError as error:
            found.append(Planned(cell, problem=error))
            continue
        adapter = None
        if trained is not None:
            adapter = adapters.setdefault(trained, f"{cell.name}--{trained[:8]}")
        folder, first = evaluations.setdefault(key, (f"{cell.name}--{key[:8]}", cell.name))
        same_as = first if first != cell.name else None
        found.append(Planned(cell, folder, adapter, same_as))
    return tuple(found)


def shard(planned: Sequence[Planned], part: tuple[int, int] | None) -> tuple[Planned, ...]:
    """Part I of N (from 1 on): every N-th training with all its cells, whatever is done already."""
    if part is None:
        return tuple(planned)
    number, of = part
    groups: dict[str, int] = {}
    chosen = []
    for item in planned:
        group = item.adapter or item.evaluation or item.cell.name
        if groups.setdefault(group, len(groups)) % of == number - 1:
            chosen.append(item)
    return tuple(chosen)


class _Facts:
    """Hashes of rows and versions of tasks; each read once."""

    def __init__(self) -> None:
        self._rows: dict[str, dict[str, str] | PeftBenchError] = {}
        self._config = cache(catalog.task_config)
        self._leaves = cache(lambda tasks: tuple(catalog.leaf_tasks(tasks)))

    def of_training(self, cell: Cell) -> str | None:
        if cell.recipe is None:
            return None
        choice = cell.recipe.data

        def read() -> dict[str, str]:
            described = data.describe(mixture.load(choice))
            return {name: facts["sha256"] for name, facts in described.items()}

        place = json.dumps([choice.tasks, choice.files, choice.validation_files])
        rows = self._once(place, read)
        return _sha256([cell.recipe.sha256, cell.model.source, rows])

    def of_cell(self, cell: Cell, trained: str | None) -> str:
        versions: dict[str, Any] = {}
        rows: dict[str, str] = {}
        for task in self._leaves(cell.tasks):
            metadata = (self._config(task) or {}).get("metadata") or {}
            versions[task] = metadata.get("version")
            source = str(metadata.get("data", task))
            if source in data.SOURCES:
                rows |= self._once(source, lambda name=source: _test_rows(name))
        model = cell.model
        subject = trained or [model.id, model.source, model.revision, model.dtype]
        return _sha256([subject, cell.quantization, versions, rows, cell.args])

    def _once(self, place: str, read: Any) -> dict[str, str]:
        if place not in self._rows:
            try:
                self._rows[place] = read()
            except PeftBenchError as error:
                self._rows[place] = error
        found = self._rows[place]
        if isinstance(found, PeftBenchError):
            raise found
        return found


def _test_rows(source: str) -> dict[str, str]:
    return {source: data.load_split(source, "test").sha256}


def _sha256(content: list[Any]) -> str:
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()
