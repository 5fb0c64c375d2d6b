"""Prompts as a model receives them: padding taken off, and put on again where it does no harm."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch

#: A prompt's identity: its token ids; a digest where only embeddings are known.
Key = tuple[int, ...] | bytes


@dataclass(frozen=True, eq=False)
class Prompt:
    """One prompt without padding: ids [length] or embeddings [length, width], and its key."""

    row: torch.Tensor
    key: Key

    @property
    def embedded(self) -> bool:
        """Whether it arrived as embeddings (prompt learning on an encoder-decoder)."""
        return bool(self.row.is_floating_point())


def unpadded(rows: torch.Tensor, mask: torch.Tensor | None) -> list[Prompt]:
    """The prompts in ``rows`` ([prompts, length] or [prompts, length, width]).

    ``mask`` is [prompts, length], or None where transformers dropped a mask that masks nothing.
    """
    if mask is None:
        return [_prompt(row) for row in rows]
    return [_prompt(row[kept.bool()]) for row, kept in zip(rows, mask, strict=True)]


def padded(prompts: Sequence[Prompt], pad: int, *, side: str) -> tuple[torch.Tensor, torch.Tensor]:
    """Prompts side by side: rows [prompts, longest(, width)] and their mask [prompts, longest].

    Embeddings are never padded: they must be of one length.
    """
    import torch

    longest = max(len(prompt.row) for prompt in prompts)
    first = prompts[0].row
    mask = torch.zeros(len(prompts), longest, dtype=torch.long, device=first.device)
    rows = torch.full(
        (len(prompts), longest, *first.shape[1:]), pad, dtype=first.dtype, device=first.device
    )
    for number, prompt in enumerate(prompts):
        length = len(prompt.row)
        if prompt.embedded and length != longest:
            raise ValueError("embeddings of different lengths in one batch")
        where = slice(longest - length, None) if side == "left" else slice(0, length)
        rows[number, where] = prompt.row
        mask[number, where] = 1
    return rows, mask


def unique(prompts: Iterable[Prompt]) -> list[Prompt]:
    """Each prompt once, in order."""
    return list({prompt.key: prompt for prompt in prompts}.values())


def learns_prompt(model: Any) -> bool:
    """Whether PEFT puts virtual tokens before the prompt: then padding changes the answers.

    While it generates, PEFT lends such a base model its own ``prepare_inputs_for_generation``.
    The virtual tokens come before the padding, and position ids are dropped (issue 1093 of peft).
    """
    method = vars(model).get("prepare_inputs_for_generation")
    return method is not None and getattr(method, "__self__", model) is not model


def _prompt(row: torch.Tensor) -> Prompt:
    if not row.is_floating_point():
        return Prompt(row, tuple(row.tolist()))
    import torch

    raw = row.detach().to("cpu", torch.float32).contiguous().view(torch.uint8)
    return Prompt(row, hashlib.sha256(raw.numpy().tobytes()).digest())
