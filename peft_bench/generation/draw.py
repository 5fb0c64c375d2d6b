"""How the next token is chosen, and when a row ends: for ``generate``, row by row."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Self

from peft_bench.errors import UsageError
from peft_bench.generation.rows import Key, Prompt

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True, slots=True)
class Choice:
    """How a token is chosen. ``temperature`` 0 takes the most probable one.

    ``top_k``, ``top_p`` and ``min_p`` are transformers' own; None leaves all tokens in.
    """

    temperature: float = 0.0
    top_k: int | None = None
    top_p: float | None = None
    min_p: float | None = None

    @classmethod
    def parse(cls, given: dict[str, Any], place: str) -> Self:
        """From generation arguments, out of which it takes its own.

        Raises:
            UsageError: a value is out of range, or samples are asked for that would be equal.
        """
        wanted = {
            name: given.pop(name, None) for name in ("temperature", "top_k", "top_p", "min_p")
        }
        random = given.pop("do_sample", None)
        temperature = wanted["temperature"]
        if random and temperature is None:
            temperature = 1.0
        if not random or not temperature:
            return cls()
        for name, value in {**wanted, "temperature": temperature}.items():
            if value is not None and (
                isinstance(value, bool) or not isinstance(value, int | float)
            ):
                raise UsageError(
                    place=place, problem=f"{name}={value!r} is no number", remedy="give a number"
                )
        ranges = {
            "temperature": temperature > 0,
            "top_k": not wanted["top_k"] or wanted["top_k"] >= 1,
            "top_p": wanted["top_p"] is None or 0 < wanted["top_p"] <= 1,
            "min_p": wanted["min_p"] is None or 0 <= wanted["min_p"] <= 1,
        }
        for name, right in ranges.items():
            if not right:
                raise UsageError(
                    place=place,
                    problem=f"{name}={wanted[name]} is out of range",
                    remedy="temperature is above 0, top_k 1 or more, top_p and min_p to 1",
                )
        return cls(
            float(temperature), wanted["top_k"] or None, wanted["top_p"], wanted["min_p"] or None
        )

    @property
    def greedy(self) -> bool:
        """Whether nothing is left to chance."""
        return self.temperature == 0

    def warpers(self) -> list[Any]:
        """transformers' processors, in its order."""
        from transformers.generation import logits_process as process

        made: list[Any] = [process.TemperatureLogitsWarper(self.temperature)]
        if self.top_k is not None:
            made.append(process.TopKLogitsWarper(self.top_k))
        if self.top_p is not None and self.top_p < 1:
            made.append(process.TopPLogitsWarper(self.top_p))
        if self.min_p is not None:
            made.append(process.MinPLogitsWarper(self.min_p))
        return made


class Draw:
    """A logits processor that leaves one token: drawn by the row's own numbers, or the likeliest.

    Inverse transform sampling: the token where the cumulated probabilities pass the row's next
    number. One number a token makes a sample independent of what else is in the batch.
    """

    def __init__(self, choice: Choice, uniforms: torch.Tensor) -> None:
        self._warpers = [] if choice.greedy else choice.warpers()
        self._uniforms = uniforms
        self._scores: list[torch.Tensor] = []

    def __call__(self, input_ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
        """Both [rows, ...]; the scores come back as -inf but for one token a row."""
        import torch

        if self._warpers:
            warped = scores
            for warper in self._warpers:
                warped = warper(input_ids, warped)
            exact = torch.float32 if scores.device.type == "mps" else torch.float64
            levels = warped.softmax(-1, dtype=exact).cumsum(-1)
            number = self._uniforms[:, len(self._scores), None].to(scores.device, exact)
            token = torch.searchsorted(levels, number * levels[:, -1:], right=True)
            # Rounding can carry the last number past the end.
            beyond = token >= scores.shape[-1]
            token = torch.where(beyond, warped.argmax(-1, keepdim=True), token)
        else:
            token = scores.argmax(-1, keepdim=True)
        self._scores.append(scores.float().log_softmax(-1).gather(-1, token)[:, 0])
        return torch.full_like(scores, -torch.inf).scatter_(-1, token, 0.0)

    def scores(self) -> torch.Tensor:
        """Log-probabilities of the tokens under the model itself, [rows, tokens]."""
        import torch

        return torch.stack(self._scores, dim=1).cpu()


class StopStrings:
    """A stopping criterion that ends each row when its text holds a stop string."""

    def __init__(
        self, tokenizer: Any, until: Sequence[str], stops: frozenset[int], skip: int, rows: int
    ) -> None:
        self._tokenizer = tokenizer
        self._until = until
        self._stops = stops
        self._skip = skip
        # A token is a byte of text or more.
        self._window = max((len(text.encode()) for text in until), default=0) + 1
        self.ended_at: list[int | None] = [None] * rows
        self._open = set(range(rows))

    def __call__(self, input_ids: torch.Tensor, scores: Any, **_: Any) -> torch.Tensor:
        import torch

        length = input_ids.shape[1] - self._skip
        begin = max(self._skip, input_ids.shape[1] - self._window)
        for row, ids in enumerate(input_ids[:, begin:].tolist()) if self._until else ():
            if row not in self._open:
                continue
            if ids[-1] in self._stops:
                self._open.discard(row)
                continue
            text = self._tokenizer.decode(ids, skip_special_tokens=True)
            if any(stop in text for stop in self._until):
                self.ended_at[row] = length
                self._open.discard(row)
        done = [at is not None for at in self.ended_at]
        return torch.tensor(done, device=input_ids.device)


def uniforms(seed: int, batch: Sequence[tuple[Prompt, int]], tokens: int) -> torch.Tensor:
    """Numbers in [0, 1) for each row's tokens, [rows, tokens], the same on every device."""
    import numpy as np
    import torch

    made = [
        np.random.default_rng(_stream(seed, prompt.key, index)).random(tokens)
        for prompt, index in batch
    ]
    return torch.from_numpy(np.stack(made))


def _stream(seed: int, key: Key, index: int) -> int:
    digest = hashlib.sha256(repr((seed, index, key)).encode()).digest()
    return int.from_bytes(digest[:16], "big")
