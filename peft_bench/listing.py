"""What ``peft-bench list`` shows."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from peft_bench import compatibility
from peft_bench.families import FAMILIES
from peft_bench.methods import METHODS
from peft_bench.paths import tasks_dir


def tasks() -> Iterator[str]:
    """The harness tasks of this project, with the first line of each one's README."""
    for readme in sorted(tasks_dir().glob("*/README.md")):
        lines = readme.read_text(encoding="utf-8").splitlines()
        about = next((line for line in lines if line and not line.startswith("#")), "")
        yield f"{readme.parent.name:<16} {about}"


def methods() -> Iterator[str]:
    """Every method: its defaults where it has some, and where it works or why it is refused."""
    for method in METHODS.values():
        yield f"{method.name:<24} {method.summary} (learning rate {method.learning_rate:g})"
    yield "any other PEFT type, by its own options:"
    for name, refused in compatibility.verdicts():
        if name not in METHODS:
            yield f"{name:<24} {compatibility.describe_method(name, refused)}"
    yield "on a base in 4 or 8 bits every method works but:"
    for kind in compatibility.UNQUANTIZED:
        yield f"{kind.lower():<24} {compatibility.describe_quantized(kind)}"


def families() -> Iterator[str]:
    """The model types with target modules and prompts of their own."""
    for family in FAMILIES.values():
        targets = ", ".join(family.lora_targets)
        yield f"{family.model_type:<16} {family.models}: {family.architecture}, LoRA on {targets}"
    yield "any other        targets by PEFT's own tables, or method.options.target_modules"


LISTS: dict[str, Callable[[], Iterator[str]]] = {
    "tasks": tasks,
    "methods": methods,
    "families": families,
}
