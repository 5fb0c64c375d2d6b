"""What ``peft-bench list`` shows."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from peft_bench import catalog, compatibility
from peft_bench.families import FAMILIES
from peft_bench.methods import METHODS


def tasks() -> Iterator[str]:
    """The harness tasks and groups of this project, and what each is."""
    for name, about in catalog.described():
        yield f"{name:<24} {about}".rstrip()


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
