"""A base model put back as it was before PEFT worked on it, whatever the method did.

PEFT changes a base in place: it puts layers of its own where the base's were, hangs hooks and
attributes on modules, and freezes parameters. A ``PeftModel`` that holds several adapters could
switch among those of one type only, and keeps traces of each. So the base's modules are restored
from a copy of their attributes, taken before, and a checksum of all weights proves that none was
written to.
"""

from __future__ import annotations

import copy
from collections import OrderedDict
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True, slots=True)
class _Container:
    """A dict, list or set that a module holds: the object itself, and what was in it."""

    held: Any
    content: Any

    def restore(self) -> None:
        self.held.clear()
        if isinstance(self.held, list):
            self.held.extend(self.content)
        else:
            self.held.update(self.content)


@dataclass(frozen=True, slots=True)
class _Module:
    module: Any
    kind: type
    attributes: dict[str, Any]
    containers: tuple[_Container, ...]

    @classmethod
    def of(cls, module: Any) -> _Module:
        attributes = dict(module.__dict__)
        containers = tuple(
            _Container(value, copy.copy(value))
            for value in attributes.values()
            if isinstance(value, dict | list | set | OrderedDict)
        )
        return cls(module, type(module), attributes, containers)

    def restore(self) -> None:
        if type(self.module) is not self.kind:
            self.module.__class__ = self.kind
        self.module.__dict__.clear()
        self.module.__dict__.update(self.attributes)
        for container in self.containers:
            container.restore()


class Snapshot:
    """The state of a model right after it was loaded."""

    def __init__(self, model: Any) -> None:
        self._modules = [_Module.of(module) for module in model.modules()]
        self._settings = [
            (settings, copy.deepcopy(settings.__dict__))
            for settings in (model.config, getattr(model, "generation_config", None))
            if settings is not None
        ]
        self._trained = [(p, p.requires_grad) for p in model.parameters()]
        self._model = model
        self._checksum = checksum(model)

    def restore(self) -> bool:
        """Puts the model back; False where its weights are not what they were."""
        for state in self._modules:
            state.restore()
        for settings, attributes in self._settings:
            settings.__dict__.clear()
            settings.__dict__.update(copy.deepcopy(attributes))
        for parameter, trained in self._trained:
            parameter.requires_grad_(trained)
            parameter.grad = None
        return checksum(self._model) == self._checksum


def checksum(model: Any) -> tuple[tuple[str, int, int], ...]:
    """By parameter and buffer: name, number of values, and the sum of their bits as integers.

    A weight that was written to changes it; which values it got is nothing that an adversary
    chooses here.
    """
    found = []
    for name, tensor in (*model.named_parameters(), *model.named_buffers()):
        found.append((name, tensor.numel(), _sum_of_bits(tensor)))
    return tuple(found)


def _sum_of_bits(tensor: torch.Tensor) -> int:
    import torch

    kinds = {1: torch.uint8, 2: torch.int16, 4: torch.int32, 8: torch.int64}
    bits = tensor.detach().contiguous().view(kinds[tensor.element_size()])
    return int(bits.sum(dtype=torch.int64))
