"""A grid: a whole study as a YAML file. The dataclasses below are its only schema."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from peft_bench import catalog, data, schema
from peft_bench.errors import Faults
from peft_bench.paths import recipes_dir
from peft_bench.yaml_reader import read_yaml

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")

Source = Literal["hub", "repacked", "smollm2", "tiny"]


@dataclass(frozen=True, slots=True)
class Model:
    """A base model of the grid.

    ``source`` says where it comes from: ``hub`` (``id`` is a hub id or a folder), ``repacked``
    (a CodeGen2 checkpoint, which is repacked into the cache first), ``smollm2`` (the packaged
    SmolLM2-135M) or ``tiny`` (a random model of a few thousand weights, made on the spot).
    ``quantization`` names those in which the base alone is scored, besides none at all.
    ``set`` changes recipes by their dotted keys, ``args`` are further options of the harness.
    """

    name: str
    id: str = ""
    source: Source = "hub"
    revision: str | None = None
    dtype: Literal["auto", "float32", "float16", "bfloat16"] = "auto"
    quantization: tuple[Literal["4bit", "8bit"], ...] = ()
    set: dict[str, Any] = field(default_factory=dict)
    args: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Method:
    """A PEFT method of the grid: ``method`` (its name by default) as recipes name it."""

    name: str
    method: str | None = None
    quantization: Literal["4bit", "8bit"] | None = None
    set: dict[str, Any] = field(default_factory=dict)
    args: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Data:
    """What is trained on and what is scored: data sets, and tasks of the harness.

    ``train`` is the name alone where it is left out; several are trained on jointly. ``tasks``
    are those of ``train`` where they are left out. Baselines are scored where ``train`` is one
    data set, so that a joint one adds none.
    """

    name: str
    train: tuple[str, ...] = ()
    tasks: tuple[str, ...] = ()
    set: dict[str, Any] = field(default_factory=dict)
    args: tuple[str, ...] = ()

    @property
    def trained_on(self) -> tuple[str, ...]:
        """The data sets that adapters are trained on."""
        return self.train or (self.name,)

    @property
    def is_joint(self) -> bool:
        """Whether one adapter is trained on several data sets."""
        return len(self.trained_on) > 1

    @property
    def scored(self) -> tuple[str, ...]:
        """The tasks that are scored."""
        return self.tasks or self.trained_on


@dataclass(frozen=True, slots=True)
class Baseline:
    """What adapters are compared with: the base alone, shown ``shots`` examples or none.

    ``suffix`` names variants of the tasks, such as ``_rag``. ``seeds`` draw the examples.
    ``models`` and ``data`` name those that it is scored on; all of them where left out.
    """

    name: str
    shots: tuple[int, ...] = (0,)
    seeds: tuple[int, ...] = ()
    suffix: str = ""
    models: tuple[str, ...] | None = None
    data: tuple[str, ...] | None = None
    args: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Axes:
    """The names whose product is trained; all that are defined where left out."""

    models: tuple[str, ...] | None = None
    methods: tuple[str, ...] | None = None
    data: tuple[str, ...] | None = None
    seeds: tuple[int, ...] = (42,)


@dataclass(frozen=True, slots=True)
class Where:
    """Names on each axis; an axis left out stands for all of them. A baseline is a method here."""

    models: tuple[str, ...] | None = None
    methods: tuple[str, ...] | None = None
    data: tuple[str, ...] | None = None
    seeds: tuple[int, ...] | None = None

    def covers(self, model: str, method: str, data_name: str, seed: int | None) -> bool:
        """Whether a cell at these names is meant."""
        pairs: tuple[tuple[tuple[Any, ...] | None, Any], ...] = (
            (self.models, model),
            (self.methods, method),
            (self.data, data_name),
            (self.seeds, seed),
        )
        return all(names is None or value in names for names, value in pairs)


@dataclass(frozen=True, slots=True)
class Override:
    """Changes where several axes meet; ``set`` and ``args`` as in :class:`Model`."""

    where: Where
    set: dict[str, Any] = field(default_factory=dict)
    args: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Grid:
    """The study: axes, what is added to their product and taken from it, and the baselines.

    Attributes:
        name: of the study, and of its folder.
        title: of the page that it ends in.
        set: dotted keys of all recipes; models, methods, data and overrides change it in turn.
        args: the harness' options in every cell.
        gpu_memory: GiB that ``--dry-run`` reckons with; the GPU's own where there is one.
        stand_ins: by data set, a packaged one whose rows stand in for it (demonstrations).
    """

    name: str
    models: tuple[Model, ...]
    data: tuple[Data, ...]
    methods: tuple[Method, ...] = ()
    baselines: tuple[Baseline, ...] = ()
    axes: Axes = Axes()
    include: tuple[Where, ...] = ()
    exclude: tuple[Where, ...] = ()
    overrides: tuple[Override, ...] = ()
    title: str | None = None
    set: dict[str, Any] = field(default_factory=dict)
    args: tuple[str, ...] = ()
    gpu_memory: float = 24.0
    stand_ins: dict[str, str] = field(default_factory=dict)


def load_grid(path: str | Path) -> Grid:
    """The grid in a YAML file.

    Raises:
        MissingError: there is no such file.
        UsageError: the file is not YAML, or the grid is faulty; all faults are told at once.
    """
    file = Path(path)
    known = ", ".join(map(str, sorted(recipes_dir().glob("*/grid.yaml"))))
    raw = read_yaml(file, kind="grid", known=f"grids that come with peft-bench: {known}")
    return parse_grid(raw, place=str(file))


def parse_grid(raw: object, *, place: str = "grid") -> Grid:
    """A grid from plain data. Faults of its recipes are told by :func:`cells.expand`.

    Raises:
        UsageError: with all faults at once.
    """
    faults = Faults(place)
    grid = schema.read(Grid, raw, "", faults)
    if grid is not None:
        _check_names(grid, faults)
        _check_models(grid, faults)
        _check_data(grid, faults)
        _check_baselines(grid, faults)
    faults.raise_if_any()
    assert grid is not None
    return grid


def _check_names(grid: Grid, faults: Faults) -> None:
    """Names are folders' names, are there once, and those referred to are defined."""
    models, sets = _names(grid.models), _names(grid.data)
    methods = _names(grid.methods)
    known: dict[str, list[str]] = {
        "models": models,
        "methods": methods + _names(grid.baselines),
        "data": sets,
    }
    for axis, names in (("name", [grid.name]), *known.items()):
        for name in names:
            if not _NAME.fullmatch(name) or "--" in name:
                faults.add(
                    place=f"{axis}",
                    problem=f"{name!r} cannot name a folder",
                    remedy="use letters, digits, '.', '_' and single '-'",
                )
        for name in sorted({name for name in names if names.count(name) > 1}):
            faults.add(place=axis, problem=f"{name!r} is there twice", remedy="name each once")
    trained = {**known, "methods": methods}  # nothing is trained by a baseline
    for place, item, only_trained in _references(grid):
        for axis, allowed in (trained if only_trained else known).items():
            for name in getattr(item, axis, None) or ():
                if name not in allowed:
                    faults.add(
                        place=f"{place}.{axis}",
                        problem=f"{name!r} is not defined",
                        remedy=f"defined: {', '.join(allowed) or 'none'}",
                    )


def _references(grid: Grid) -> Iterable[tuple[str, object, bool]]:
    """What names entries of the grid, where, and whether only methods that train may be named."""
    yield "axes", grid.axes, True
    for number, where in enumerate(grid.include):
        yield f"include[{number}]", where, True
    for number, where in enumerate(grid.exclude):
        yield f"exclude[{number}]", where, False
    for number, override in enumerate(grid.overrides):
        yield f"overrides[{number}].where", override.where, False
    for number, baseline in enumerate(grid.baselines):
        yield f"baselines[{number}]", baseline, False


def _names(items: Iterable[Any]) -> list[str]:
    return [item.name for item in items]


def _check_models(grid: Grid, faults: Faults) -> None:
    for number, model in enumerate(grid.models):
        if model.source in ("hub", "repacked") and not model.id:
            faults.add(
                place=f"models[{number}].id",
                problem="is missing",
                remedy="give a hub id or a folder",
            )
    if not grid.models:
        faults.add(place="models", problem="names none", remedy="name at least one")
    if not 0 < grid.gpu_memory < float("inf"):
        faults.add(
            place="gpu_memory",
            problem=f"{grid.gpu_memory:g} is not a positive size",
            remedy="give the GPU's memory in GiB, such as 24",
        )


def _check_data(grid: Grid, faults: Faults) -> None:
    for number, entry in enumerate(grid.data):
        for name in entry.trained_on:
            if name not in data.SOURCES:
                faults.add(
                    place=f"data[{number}].train",
                    problem=f"no data set is named {name!r}",
                    remedy=f"known: {', '.join(sorted(data.SOURCES))}",
                )
    if not grid.data:
        faults.add(place="data", problem="names none", remedy="name at least one")
    for name, other in grid.stand_ins.items():
        source = data.SOURCES.get(other)
        if name not in data.SOURCES or source is None or not source.packaged:
            packaged = sorted(key for key, source in data.SOURCES.items() if source.packaged)
            faults.add(
                place=f"stand_ins.{name}",
                problem=f"{other!r} cannot stand in for it",
                remedy=f"packaged data sets: {', '.join(packaged)}",
            )
    if grid.stand_ins:
        for name in {name for entry in grid.data for name in entry.trained_on}:
            source = data.SOURCES.get(name)
            if source and not source.packaged and name not in grid.stand_ins:
                faults.add(
                    place="stand_ins",
                    problem=f"leaves {name} without rows",
                    remedy="name a stand-in for every data set that is not packaged, or for none",
                )


def _check_baselines(grid: Grid, faults: Faults) -> None:
    by_name = {entry.name: entry for entry in grid.data}
    for number, baseline in enumerate(grid.baselines):
        place = f"baselines[{number}]"
        if min(baseline.shots, default=0) < 0 or not baseline.shots:
            faults.add(
                place=f"{place}.shots",
                problem=f"{list(baseline.shots)} holds no number of examples",
                remedy="give whole numbers from 0 on",
            )
        for name in baseline.data or by_name:
            for task in by_name[name].scored if baseline.suffix and name in by_name else ():
                if by_name[name].is_joint:
                    continue
                if catalog.task_config(task + baseline.suffix) is None:
                    faults.add(
                        place=f"{place}.suffix",
                        problem=f"there is no task {task}{baseline.suffix}",
                        remedy="name the data sets that have it in data",
                    )
