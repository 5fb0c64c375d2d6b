"""Which tensors a step allocates and frees, in order, without a byte of them."""

from __future__ import annotations

import weakref
from dataclasses import dataclass
from typing import Any, NamedTuple


class Event(NamedTuple):
    """One storage comes (``n_bytes`` above 0) or goes (``n_bytes`` 0); ``key`` names it."""

    key: int
    n_bytes: int


@dataclass(frozen=True, slots=True)
class Trace:
    """A simulated step: its events from the first weight on, and what is held all along.

    The parts are bytes of live tensors: ``weights_bytes`` of the base (buffers and
    quantisation's tables included), the trained parameters, their gradients, the optimiser's
    states. What the events hold beyond them is activations and workspace.
    """

    events: tuple[Event, ...]
    weights_bytes: int
    trained_bytes: int
    gradient_bytes: int
    optimizer_bytes: int
    parameters: int
    trainable_parameters: int


def peak_bytes(events: tuple[Event, ...] | list[Event]) -> int:
    """The most bytes alive at once, with no rounding by an allocator."""
    live = most = 0
    sizes: dict[int, int] = {}
    for key, n_bytes in events:
        if n_bytes:
            sizes[key] = n_bytes
            live += n_bytes
            most = max(most, live)
        else:
            live -= sizes.pop(key)
    return most


class Tracker:
    """Notes each storage that operations return, and when the last tensor on it is gone.

    ``mode`` is the context manager under which work is observed. Storages are numbered as they
    come, so that two equal runs give equal keys.
    """

    def __init__(self) -> None:
        import torch
        from torch.utils._python_dispatch import TorchDispatchMode
        from torch.utils._pytree import tree_leaves

        self.events: list[Event] = []
        self._known: dict[int, int] = {}
        self._count = 0
        tracker = self
        read_value = torch.ops.aten._local_scalar_dense.default

        class Mode(TorchDispatchMode):  # type: ignore[no-untyped-call]
            def __torch_dispatch__(
                self, func: Any, types: Any, args: Any = (), kwargs: Any = None
            ) -> Any:
                if func is read_value:
                    return _some_value(args[0].dtype)
                out = func(*args, **(kwargs or {}))
                if isinstance(out, torch.Tensor):
                    tracker.note(out)
                elif isinstance(out, (tuple, list)):
                    for leaf in tree_leaves(out):
                        if isinstance(leaf, torch.Tensor):
                            tracker.note(leaf)
                return out

        self.mode = Mode()  # type: ignore[no-untyped-call]

    def note(self, tensor: Any) -> None:
        """Counts a tensor's storage from now until it is freed; once, however many views."""
        storage = tensor.untyped_storage()
        address, n_bytes = storage._cdata, storage.nbytes()
        if address in self._known or not n_bytes:
            return
        key = self._count
        self._count += 1
        self._known[address] = key
        self.events.append(Event(key, n_bytes))

        def gone() -> None:
            del self._known[address]
            self.events.append(Event(key, 0))

        weakref.finalize(storage, gone).atexit = False


def _some_value(dtype: Any) -> bool | int | float:
    """What a fake tensor is taken to hold where code asks: a scale of 1, a condition that holds."""
    import torch

    if dtype == torch.bool:
        return True
    return 1.0 if dtype.is_floating_point else 1
