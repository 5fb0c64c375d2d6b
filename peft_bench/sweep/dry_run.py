"""``--dry-run``: the cells and what is done already; then what ``fit`` says of their training.

The cells are told at once. Reckoning a large model's step takes seconds of computing, so that it
comes afterwards, once for each shape, and is kept in the cache.
"""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import replace
from functools import cache
from importlib.metadata import version
from pathlib import Path
from typing import Any

from peft_bench import compatibility, fit
from peft_bench.errors import PeftBenchError
from peft_bench.paths import cache_dir
from peft_bench.records import write_text
from peft_bench.sweep import sources
from peft_bench.sweep.cells import Cell
from peft_bench.sweep.grid import Grid
from peft_bench.sweep.identity import Planned
from peft_bench.sweep.layout import Layout

_GIB = 1024**3


def listing(grid: Grid, planned: Sequence[Planned], layout: Layout) -> Iterator[str]:
    """A line a cell, a line for all; then a line a problem, and a line a step that is reckoned."""
    counts: dict[str, int] = {}
    width = max((len(item.cell.name) for item in planned), default=0)
    for item in planned:
        state = state_of(item, layout)
        kind = state.partition(" ")[0]
        counts[kind] = counts.get(kind, 0) + 1
        line = f"{state:<8} {item.cell.name:<{width}}  {'+'.join(item.cell.tasks)}"
        if item.same_as is not None:
            line += f"  as {item.same_as}"
        failure = layout.failure(item.cell.name) if state == "to do" else None
        yield f"{line}  failed last time: {failure}" if failure is not None else line
    summary = ", ".join(f"{count} {_WORDS.get(kind, kind)}" for kind, count in counts.items())
    yield f"{len(planned)} cells: {summary}."
    problems = Counter(
        " ".join(str(item.problem).split()) for item in planned if item.problem is not None
    )
    for problem, count in problems.items():
        yield f"faulty ({count} cells): {problem}"
    yield from _memory(grid, [i.cell for i in planned if state_of(i, layout) in _TO_TRAIN])


_TO_TRAIN = ("to do", "faulty")


def _memory(grid: Grid, cells: Sequence[Cell]) -> Iterator[str]:
    """What ``fit`` says of the training that is left, a line for those that are alike."""
    alike: dict[tuple[str, str, str], list[Cell]] = {}
    for cell in cells:
        if cell.recipe is not None:
            choice = cell.recipe.data
            length = f"{choice.max_prompt_tokens}+{choice.max_target_tokens} tokens"
            key = cell.model.name, cell.method, length
            alike.setdefault(key, []).append(cell)
    if not alike:
        return
    fits = Fits(grid)
    yield f"\nMemory of a training step, reckoned for a GPU of {fits.memory_bytes / _GIB:.0f} GiB:"
    for (model, method, length), group in alike.items():
        said = list(dict.fromkeys(fits.of(cell) for cell in group))
        many = f" ({len(group)} cells)" if len(group) > 1 else ""
        yield f"  {model}, {method}, {length}{many}: {'; '.join(said)}"


_WORDS = {"to": "to do", "same": "the same as another"}


def state_of(item: Planned, layout: Layout) -> str:
    """``done``, ``trained`` (not scored yet), ``same``, ``faulty`` or ``to do``."""
    if item.problem is not None:
        return "faulty"
    if item.same_as is not None:
        return "same"
    if item.evaluation and (layout.evaluations / item.evaluation).is_dir():
        return "done"
    if item.adapter and (layout.adapters / item.adapter).is_dir():
        return "trained"
    return "to do"


class Fits:
    """What ``peft-bench fit`` says of recipes; each shape is reckoned once, and then kept."""

    def __init__(self, grid: Grid) -> None:
        import torch

        self.memory_bytes = int(grid.gpu_memory * _GIB)
        if torch.cuda.is_available():
            self.memory_bytes = int(torch.cuda.get_device_properties(0).total_memory)
        self._configs: dict[str, Any] = {}
        self._cases: dict[str, fit.Case | fit.Refused] = {}
        self._said = _kept()

    def of(self, cell: Cell) -> str:
        """In words; empty where nothing is trained."""
        if cell.recipe is None:
            return ""
        try:
            key = self._key(self._plan(cell))
            if key not in self._said:
                case = self.case(cell)
                if isinstance(case, fit.Refused):
                    self._said[key] = f"refused: {case.reason}"
                else:
                    self._said[key] = fit.sentence(case)
                self._keep()
        except PeftBenchError as error:
            return f"cannot be reckoned: {' '.join(error.problem.split())}"
        return self._said[key]

    def case(self, cell: Cell) -> fit.Case | fit.Refused:
        """The estimate of a cell's training at its micro batch.

        Raises:
            PeftBenchError: the model's configuration cannot be had, or is of an unknown kind.
        """
        plan = self._plan(cell)
        key = self._key(plan)
        if key not in self._cases:
            self._cases[key] = fit.examine(plan, self.memory_bytes)
        return self._cases[key]

    def _plan(self, cell: Cell) -> fit.Plan:
        assert cell.recipe is not None
        plan = fit.plan_of(cell.recipe, self._config(cell))
        micro = cell.recipe.training.micro_batch_size
        return replace(plan, micro_batch_size=micro) if micro else plan

    def _key(self, plan: fit.Plan) -> str:
        """The same for bases of one shape, whatever they are called."""
        shape = {k: v for k, v in plan.config.to_dict().items() if not k.startswith("_")}
        content = [shape, repr(replace(plan, config=None, model_id="")), self.memory_bytes]
        text = json.dumps([*content, _versions()], sort_keys=True, default=str)
        return hashlib.sha256(text.encode()).hexdigest()[:24]

    def _keep(self) -> None:
        """Adds to what earlier listings have kept; where nothing can be kept, it is not."""
        with suppress(OSError):
            _kept_file().parent.mkdir(parents=True, exist_ok=True)
            write_text(_kept_file(), json.dumps({**_kept(), **self._said}, indent=0) + "\n")

    def _config(self, cell: Cell) -> Any:
        model = cell.model
        if model.name not in self._configs:
            # The shape of a checkpoint that is repacked stays what it was.
            source = model.id if model.source == "repacked" else sources.locate(model)
            self._configs[model.name] = fit.load_config(source)
        return self._configs[model.name]


def _kept_file() -> Path:
    return cache_dir() / "fit-sentences.json"


def _kept() -> dict[str, str]:
    try:
        return dict(json.loads(_kept_file().read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError):
        return {}


@cache
def _versions() -> str:
    """What an estimate depends on besides the step: another release reckons anew."""
    own = hashlib.sha256()
    rules = Path(compatibility.__file__)
    for file in (rules, *sorted(Path(fit.__file__).parent.glob("*.py"))):
        own.update(file.read_bytes())
    packages = (version(name) for name in ("torch", "transformers", "peft"))
    return " ".join([*packages, own.hexdigest()])
