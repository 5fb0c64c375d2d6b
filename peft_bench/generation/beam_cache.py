"""A key-value cache for beam search: prompts stand still, only what was written since moves.

transformers' own cache is copied as a whole at each step twice: once to append a token, once to
follow the beams. The beams of a prompt share all of the prompt, so here room for all tokens is
taken beforehand, a token is written in place, and of the new tokens only the rows of beams that
changed places are copied.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch


def expanded(cache: Any, count: int, room: int) -> Any:
    """A cache that holds each row of ``cache`` ``count`` times, with room for new tokens.

    Args:
        cache: a ``DynamicCache`` of plain layers, keys [prompts, heads, tokens, width]; emptied.
        count: beams of a prompt.
        room: the most tokens that will be added.
    """
    from transformers.cache_utils import Cache, DynamicLayer

    class BeamLayer(DynamicLayer):  # type: ignore[misc]
        """One layer; ``keys`` and ``values`` are views of what is filled."""

        def __init__(self, keys: torch.Tensor, values: torch.Tensor) -> None:
            super().__init__()
            self.dtype, self.device = keys.dtype, keys.device
            self._fixed = keys.shape[-2]
            self._all = [_spread(states, count, room) for states in (keys, values)]
            self._length = self._fixed
            self.is_initialized = True
            self._show()

        def update(
            self, key_states: torch.Tensor, value_states: torch.Tensor, *_: Any, **__: Any
        ) -> tuple[torch.Tensor, torch.Tensor]:
            """Writes the new tokens' states behind the others."""
            begin, self._length = self._length, self._length + key_states.shape[-2]
            for states, new in zip(self._all, (key_states, value_states), strict=True):
                states[:, :, begin : self._length] = new
            self._show()
            return self.keys, self.values

        def follow(self, moved: torch.Tensor, source: torch.Tensor) -> None:
            """Rows ``moved`` go on from what rows ``source`` wrote."""
            for states in self._all:
                written = states[:, :, self._fixed : self._length]
                written[moved] = written[source]

        def batch_select_indices(self, indices: torch.Tensor) -> None:
            """Goes on with these rows alone."""
            for number, states in enumerate(self._all):
                kept = states.new_empty(len(indices), *states.shape[1:])
                kept[:, :, : self._length] = states[indices, :, : self._length]
                self._all[number] = kept
            self._show()

        def _show(self) -> None:
            self.keys, self.values = (states[:, :, : self._length] for states in self._all)

    class BeamCache(Cache):  # type: ignore[misc]
        """All layers."""

        def reorder_cache(self, beam_idx: torch.Tensor) -> None:
            """As the search asks after each token; a beam never leaves its prompt."""
            import torch

            place = torch.arange(len(beam_idx), device=beam_idx.device)
            [moved] = torch.nonzero(beam_idx != place, as_tuple=True)
            if len(moved):
                source = beam_idx[moved].long()
                for layer in self.layers:
                    layer.follow(moved, source)

    layers = []
    for layer in cache.layers:
        layers.append(BeamLayer(layer.keys, layer.values))
        layer.keys = layer.values = None
    return BeamCache(layers=layers)


def _spread(states: torch.Tensor, count: int, room: int) -> torch.Tensor:
    prompts, heads, tokens, width = states.shape
    wide = states.new_empty(prompts * count, heads, tokens + room, width)
    wide[:, :, :tokens] = states.repeat_interleave(count, dim=0)
    return wide
