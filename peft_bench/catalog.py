"""Our harness tasks and groups: which there are, and what their YAML files say."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from peft_bench.paths import tasks_dir


def task_config(name: str) -> dict[str, Any] | None:
    """The YAML of one of our tasks or groups, includes resolved, functions left as names.

    None for the harness' own tasks.
    """
    for file in sorted(tasks_dir().glob("*/*.yaml")):
        config = _read(file)
        if name in (config.get("task"), config.get("group")):
            return config
    return None


def described() -> Iterator[tuple[str, str]]:
    """Every task and group that a YAML file defines, and the sentence in its first line.

    Reads no includes and imports no harness: what `peft-bench list` shows comes at once.
    """
    for file in sorted(tasks_dir().glob("*/*.yaml")):
        text = file.read_text(encoding="utf-8")
        name = _defined(text)
        if name is not None:
            first = text.partition("\n")[0]
            yield name, first.lstrip("# ") if first.startswith("#") else ""


def _defined(text: str) -> str | None:
    """The name of the group or task in a YAML text; None where it is there to be included."""
    import yaml

    root = yaml.compose(text, yaml.SafeLoader)
    found = {
        key.value: value.value
        for key, value in (root.value if isinstance(root, yaml.MappingNode) else ())
        if isinstance(value, yaml.ScalarNode)
    }
    return found.get("group") or found.get("task")


def leaf_tasks(names: Iterable[str]) -> Iterator[str]:
    """The names with our groups and tags replaced by their tasks, in order, each once."""
    seen: set[str] = set()
    for name in names:
        for leaf in _leaves(name):
            if leaf not in seen:
                seen.add(leaf)
                yield leaf


def _leaves(name: str) -> Iterator[str]:
    config = task_config(name)
    if config is not None and "group" in config:
        for child in config["task"]:
            yield from _leaves(child)
        return
    if config is None:
        tagged = [
            str(other["task"])
            for file in sorted(tasks_dir().glob("*/*.yaml"))
            if name in _tags(other := _read(file)) and "group" not in other
        ]
        if tagged:
            yield from tagged
            return
    yield name


def _tags(config: dict[str, Any]) -> list[str]:
    tags = config.get("tag") or []
    return [tags] if isinstance(tags, str) else list(tags)


def _read(file: Path) -> dict[str, Any]:
    from lm_eval.tasks._yaml_loader import load_yaml

    config: dict[str, Any] = load_yaml(file, resolve_func=False)
    return config
