"""From a grid to its cells: train (if anything is), evaluate, record. Pure: nothing is read."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from peft_bench import methods
from peft_bench.errors import Faults, UsageError
from peft_bench.recipe import Recipe, parse_recipe
from peft_bench.sweep.grid import Baseline, Data, Grid, Method, Model, Where


@dataclass(frozen=True, slots=True)
class Cell:
    """One row of the study: an adapter, or a base alone, scored on some tasks.

    Attributes:
        name: of its model, method, data and seed; once in a grid.
        model: the base, with the grid's own id, which is resolved where the cell runs.
        method: the method's name in the grid, or the baseline's.
        recipe: what is trained; None for a base alone.
        quantization: of a base alone; a recipe has its own.
        tasks: the harness' tasks.
        args: the harness' options.
    """

    name: str
    model: Model
    method: str
    data: str
    recipe: Recipe | None
    quantization: str | None
    tasks: tuple[str, ...]
    args: tuple[str, ...]

    @property
    def trains_whole_model(self) -> bool:
        """Whether the outcome is a model of its own, which shares no base."""
        return self.recipe is not None and self.recipe.method.name == methods.FULL


def expand(grid: Grid, *, place: str = "grid") -> tuple[Cell, ...]:
    """All cells: model by model, the baselines first, then what is trained.

    Raises:
        UsageError: recipes that cannot be, all of them at once; or no cell is left.
    """
    faults = Faults(place)
    told: set[str] = set()
    trained = _trained(grid)
    cells: list[Cell] = []
    for model in grid.models:
        cells += _baselines(grid, model)
        for point in trained:
            if point[0] is model:
                cell = _trained_cell(grid, *point, faults, told)
                if cell is not None:
                    cells.append(cell)
    if not cells and not len(faults):
        faults.add(place="axes", problem="leave no cell", remedy="exclude less")
    faults.raise_if_any()
    return tuple(cells)


_Point = tuple[Model, Method, Data, int]


def _trained(grid: Grid) -> list[_Point]:
    """The product of the axes with what is included, without what is excluded, each once."""
    axes = grid.axes
    product = Where(axes.models, axes.methods, axes.data, axes.seeds)
    points: dict[tuple[str, str, str, int], _Point] = {}
    for where in (product, *grid.include):
        for model, method, entry in itertools.product(
            _chosen(grid.models, where.models),
            _chosen(grid.methods, where.methods),
            _chosen(grid.data, where.data),
        ):
            for seed in where.seeds or axes.seeds:
                names = model.name, method.name, entry.name, seed
                if not any(excluded.covers(*names) for excluded in grid.exclude):
                    points.setdefault(names, (model, method, entry, seed))
    return list(points.values())


def _chosen(items: Sequence[Any], names: tuple[str, ...] | None) -> list[Any]:
    return [item for item in items if names is None or item.name in names]


def _trained_cell(
    grid: Grid,
    model: Model,
    method: Method,
    entry: Data,
    seed: int,
    faults: Faults,
    told: set[str],
) -> Cell | None:
    name = f"{model.name}--{method.name}--{entry.name}--s{seed}"
    overrides = [
        override
        for override in grid.overrides
        if override.where.covers(model.name, method.name, entry.name, seed)
    ]
    raw: dict[str, Any] = {
        "name": name,
        "model": {
            "id": model.id or model.source,
            "revision": model.revision,
            "dtype": model.dtype,
            "quantization": method.quantization,
        },
        "method": {"name": method.method or method.name},
        "data": {"tasks": list(entry.trained_on)},
        "training": {},
    }
    for changes in (grid.set, model.set, entry.set, method.set, *(o.set for o in overrides)):
        for key, value in changes.items():
            _put(raw, key, value)
    raw["training"]["seed"] = seed
    try:
        recipe = parse_recipe(raw, place="")
    except UsageError as error:
        for fault in error.faults or (error,):
            if str(fault) not in told:  # a faulty value is in the recipes of many cells
                told.add(str(fault))
                faults.add(
                    place=f"{name}: {fault.place}", problem=fault.problem, remedy=fault.remedy
                )
        return None
    args = (grid.args, model.args, entry.args, method.args, *(o.args for o in overrides))
    return Cell(name, model, method.name, entry.name, recipe, None, entry.scored, _joined(args))


def _put(raw: dict[str, Any], key: str, value: Any) -> None:
    """Sets a dotted key; where a parent is no mapping the recipe's own check tells."""
    *parents, last = key.split(".")
    node = raw
    for parent in parents:
        child = node.setdefault(parent, {})
        if not isinstance(child, dict):
            node[parent] = child = {}
        node = child
    node[last] = value


def _joined(parts: Iterable[tuple[str, ...]]) -> tuple[str, ...]:
    return tuple(itertools.chain.from_iterable(parts))


def _baselines(grid: Grid, model: Model) -> Iterator[Cell]:
    for baseline in grid.baselines:
        if baseline.models is not None and model.name not in baseline.models:
            continue
        for entry in _chosen(grid.data, baseline.data):
            if entry.is_joint:
                continue
            for quantization, shots in itertools.product(
                (None, *model.quantization), baseline.shots
            ):
                # Without examples there is nothing to draw.
                for seed in (baseline.seeds if shots else ()) or (None,):
                    if any(
                        where.covers(model.name, baseline.name, entry.name, seed)
                        for where in grid.exclude
                    ):
                        continue
                    yield _baseline_cell(grid, model, baseline, entry, quantization, shots, seed)


def _baseline_cell(
    grid: Grid,
    model: Model,
    baseline: Baseline,
    entry: Data,
    quantization: str | None,
    shots: int,
    seed: int | None,
) -> Cell:
    parts = [
        model.name,
        f"{baseline.name}-{shots}" if shots else baseline.name,
        *([quantization] if quantization else []),
        entry.name,
        *([f"s{seed}"] if seed is not None else []),
    ]
    own: list[str] = []
    if shots:
        own += ["--num_fewshot", str(shots)]
    if seed is not None:
        # The harness' seeds: Python's, numpy's, torch's (as by default), and the examples'.
        own += ["--seed", f"0,1234,1234,{seed}"]
    named: Mapping[str, str | None] = {
        "dtype": None if model.dtype == "auto" else model.dtype,
        "revision": model.revision,
        "quantization": quantization,
    }
    given = [f"{key}={value}" for key, value in named.items() if value is not None]
    if given:
        own += ["--model_args", ",".join(given)]
    overrides = [
        override.args
        for override in grid.overrides
        if override.where.covers(model.name, baseline.name, entry.name, seed)
    ]
    return Cell(
        "--".join(parts),
        model,
        baseline.name,
        entry.name,
        None,
        quantization,
        tuple(task + baseline.suffix for task in entry.scored),
        _joined((grid.args, model.args, entry.args, baseline.args, *overrides, tuple(own))),
    )
