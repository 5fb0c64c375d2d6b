"""``--dry-run``: the cells, what ``fit`` says of their training, and what is done already."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

from peft_bench import fit
from peft_bench.errors import PeftBenchError
from peft_bench.recipe import Recipe
from peft_bench.sweep import sources
from peft_bench.sweep.cells import Cell
from peft_bench.sweep.grid import Grid
from peft_bench.sweep.identity import Planned
from peft_bench.sweep.layout import Layout

_GIB = 1024**3


def listing(grid: Grid, planned: Sequence[Planned], layout: Layout) -> Iterator[str]:
    """A line a cell: its state, its name, its tasks, and whether its training fits.

    Reckoning large models takes seconds each: a line comes as soon as it is known.
    """
    fits = Fits(grid)
    counts: dict[str, int] = {}
    width = max((len(item.cell.name) for item in planned), default=0)
    for item in planned:
        state = state_of(item, layout)
        kind = state.partition(" ")[0].rstrip(":")
        counts[kind] = counts.get(kind, 0) + 1
        said = fits.of(item.cell)
        tasks = "+".join(item.cell.tasks)
        line = f"{state:<8} {item.cell.name:<{width}}  {tasks}{f'  {said}' if said else ''}"
        if item.problem is not None:
            line += f"  {' '.join(str(item.problem).split())}"
        failure = layout.failure(item.cell.name) if state == "to do" else None
        if failure is not None:
            line += f"  failed last time: {failure}"
        yield line.rstrip()
    summary = ", ".join(f"{count} {_WORDS.get(kind, kind)}" for kind, count in counts.items())
    where = f"{fits.memory_bytes / _GIB:.0f} GiB"
    yield f"{len(planned)} cells: {summary}. Memory reckoned for a GPU of {where}."


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
    """What ``peft-bench fit`` says of recipes; each shape is reckoned once."""

    def __init__(self, grid: Grid) -> None:
        import torch

        self.memory_bytes = int(grid.gpu_memory * _GIB)
        if torch.cuda.is_available():
            self.memory_bytes = int(torch.cuda.get_device_properties(0).total_memory)
        self._configs: dict[str, Any] = {}
        self._cases: dict[str, fit.Case | fit.Refused] = {}

    def of(self, cell: Cell) -> str:
        """In words; empty where nothing is trained."""
        if cell.recipe is None:
            return ""
        try:
            case = self.case(cell)
        except PeftBenchError as error:
            return f"cannot be reckoned: {' '.join(error.problem.split())}"
        if isinstance(case, fit.Refused):
            return f"refused: {case.reason}"
        return fit.sentence(case)

    def case(self, cell: Cell) -> fit.Case | fit.Refused:
        """The estimate of a cell's training at its micro batch.

        Raises:
            PeftBenchError: the model's configuration cannot be had, or is of an unknown kind.
        """
        assert cell.recipe is not None
        plan = plan_of(cell.recipe, self._config(cell))
        key = repr((cell.model.name, replace(plan, config=None, model_id="")))
        if key not in self._cases:
            self._cases[key] = fit.examine(plan, self.memory_bytes)
        return self._cases[key]

    def _config(self, cell: Cell) -> Any:
        model = cell.model
        if model.name not in self._configs:
            # The shape of a checkpoint that is repacked stays what it was.
            source = model.id if model.source == "repacked" else sources.locate(model)
            self._configs[model.name] = fit.load_config(source)
        return self._configs[model.name]


def plan_of(recipe: Recipe, config: Any) -> fit.Plan:
    """The training step of a recipe on a GPU.

    A base whose dtype is left open is reckoned in bfloat16.
    """
    choice = recipe.training
    dtype: Any = "bfloat16" if recipe.model.dtype == "auto" else recipe.model.dtype
    return fit.Plan(
        config,
        recipe.method.name,
        dict(recipe.method.options),
        recipe.model.quantization,
        dtype,
        fit.Length(recipe.data.max_prompt_tokens, recipe.data.max_target_tokens),
        choice.micro_batch_size or choice.batch_size,
        optimizer="adafactor" if choice.optimizer == "adafactor" else "adamw_torch",
        checkpointing=choice.gradient_checkpointing,
        model_id=recipe.model.id,
    )
