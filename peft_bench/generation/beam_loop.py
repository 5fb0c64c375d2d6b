"""Beam search over several prompts, each of which leaves when it is done.

The beams are those of transformers' ``generate(num_beams=n, num_return_sequences=n,
early_stopping=False)``, version 5 (tests compare them over model families and adapters). What is
left out is work that cannot change them:

- transformers keeps ``n * (1 + stop tokens)`` candidates a step, so that n are left that go on;
  here the best n, and the best n that go on, are looked for apart;
- it searches all prompts of a batch until the last is done; here a prompt that is done leaves;
- it reads a prompt once a beam, and copies the cache of the whole prompt at each step.
"""

from __future__ import annotations

import inspect
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from peft_bench.generation import prefill
from peft_bench.generation.beam_cache import expanded

if TYPE_CHECKING:
    import torch

#: The score of what is no candidate, as in transformers.
_NEVER = -1.0e9

Found = tuple[list[list[int]], list[float]]


def can_search(model: Any, config: Any, logits_processor: Any) -> bool:
    """Whether this loop does all that the model and the configuration ask for."""
    plain = not config.do_sample and config.early_stopping is False and not logits_processor
    return plain and prefill.can_share(model)


def search(
    model: Any,
    rows: torch.Tensor,
    mask: torch.Tensor,
    *,
    count: int,
    tokens: int,
    stops: frozenset[int],
    length_penalty: float,
) -> list[Found]:
    """The ``count`` best beams of each prompt: new tokens (no padding) and scores, best first.

    Args:
        model: a causal language model for which :func:`peft_bench.generation.prefill.can_share`.
        rows: ids [prompts, length], padded on the left.
        mask: [prompts, length].
        count: beams of a prompt.
        tokens: the most new tokens.
        stops: tokens that end a beam.
        length_penalty: scores are divided by (new tokens) to this power.
    """
    import torch

    ends = torch.tensor(sorted(stops), device=rows.device)
    with torch.no_grad():
        logits, cache = prefill.read_prompts(model, rows, mask, last=True)
        cache = expanded(cache, count, tokens)
        step = _Step(model, mask, count)
        state = _State.begin(len(rows), count, tokens, rows.device)
        found: dict[int, Found] = {}
        for length in range(1, tokens + 1):
            last = length == tokens
            parents = state.advance(logits, ends, length, length_penalty, last=last)
            done = state.done(length, length_penalty) | last
            state.collect(done, found)
            if len(found) == len(rows):
                break
            cache.reorder_cache(parents)
            if bool(done.any()):
                keep = (~done).nonzero()[:, 0]
                state.keep(keep)
                step.keep(keep)
                beams = keep[:, None] * count + torch.arange(count, device=keep.device)
                cache.batch_select_indices(beams.view(-1))
            logits = step(state.tokens[:, :, length - 1], cache, length)
    return [found[number] for number in range(len(rows))]


class _Step:
    """The model on the newest token of each beam."""

    def __init__(self, model: Any, mask: torch.Tensor, count: int) -> None:
        self._model = model
        self._mask = None if bool(mask.all()) else mask
        self._lengths = mask.sum(-1)
        self._count = count
        self._takes = frozenset(inspect.signature(model.forward).parameters)

    def keep(self, prompts: torch.Tensor) -> None:
        self._lengths = self._lengths[prompts]
        if self._mask is not None:
            self._mask = self._mask[prompts]

    def __call__(self, newest: torch.Tensor, cache: Any, length: int) -> torch.Tensor:
        """Logits [prompts, beams, vocabulary] after ``length`` new tokens, ``newest`` the last."""
        import torch

        named: dict[str, Any] = {}
        if self._mask is not None:
            whole = torch.cat([self._mask, self._mask.new_ones(len(newest), length)], dim=1)
            named["attention_mask"] = whole.repeat_interleave(self._count, dim=0)
        if "position_ids" in self._takes:
            places = self._lengths + length - 1
            named["position_ids"] = places.repeat_interleave(self._count)[:, None]
        out = self._model(
            input_ids=newest.reshape(-1, 1), past_key_values=cache, use_cache=True, **named
        )
        logits: torch.Tensor = out.logits[:, -1].float()
        return logits.view(len(newest), self._count, -1)


@dataclass
class _State:
    """What is known of each prompt's beams, the best first.

    Attributes:
        prompts: their numbers, [prompts].
        tokens: of the beams that go on, [prompts, beams, most tokens].
        scores: log-probabilities of those, [prompts, beams].
        ended: tokens of the beams that ended, [prompts, beams, most tokens].
        ended_scores: theirs, divided by length, [prompts, beams].
        lengths: how many tokens they have; 0: no beam yet, [prompts, beams].
    """

    prompts: torch.Tensor
    tokens: torch.Tensor
    scores: torch.Tensor
    ended: torch.Tensor
    ended_scores: torch.Tensor
    lengths: torch.Tensor

    @classmethod
    def begin(cls, prompts: int, count: int, tokens: int, device: Any) -> _State:
        import torch

        none = torch.zeros(prompts, count, tokens, dtype=torch.long, device=device)
        return cls(
            torch.arange(prompts, device=device),
            none,
            torch.zeros(prompts, 1, device=device),
            none.clone(),
            torch.full((prompts, count), _NEVER, device=device),
            torch.zeros(prompts, count, dtype=torch.long, device=device),
        )

    def advance(
        self,
        logits: torch.Tensor,
        ends: torch.Tensor,
        length: int,
        length_penalty: float,
        *,
        last: bool,
    ) -> torch.Tensor:
        """One token further; the flat number of the beam that each beam goes on from.

        ``logits`` is [prompts, beams (1 at first), vocabulary]; changed in place.
        """
        import torch

        chances = logits.log_softmax(-1)
        best = self._best(chances)
        self._end(best, ends, length, length_penalty, last=last)
        chances.index_fill_(-1, ends, -torch.inf)
        self.scores, parents, token = self._best(chances)
        self.tokens = _rows(self.tokens, parents)
        self.tokens[:, :, length - 1] = token
        count = self.tokens.shape[1]
        first = torch.arange(len(parents), device=parents.device)[:, None] * count
        return (first + parents).view(-1)

    def done(self, length: int, length_penalty: float) -> torch.Tensor:
        """Whether no beam can still become one of the best, by transformers' heuristic."""
        possible = self.scores[:, 0] / length**length_penalty
        full = (self.lengths > 0).all(-1)
        hopeless: torch.Tensor = possible <= self.ended_scores.min(-1).values
        return full & hopeless

    def collect(self, done: torch.Tensor, found: dict[int, Found]) -> None:
        """Puts the beams of the prompts that are done into ``found``."""
        for place in done.nonzero()[:, 0].tolist():
            lengths = self.lengths[place].tolist()
            rows = self.ended[place].tolist()
            beams = [row[:length] for row, length in zip(rows, lengths, strict=True)]
            found[int(self.prompts[place])] = beams, self.ended_scores[place].tolist()

    def keep(self, places: torch.Tensor) -> None:
        """Goes on with these prompts alone."""
        for name in self.__dataclass_fields__:
            setattr(self, name, getattr(self, name)[places])

    def _best(self, chances: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """The best continuations: scores, beams and tokens, [prompts, beams] each.

        The best of all are among the best of each beam.
        """
        count = self.tokens.shape[1]
        top, token = chances.topk(count, dim=-1)
        total, order = (top + self.scores[:, :, None]).flatten(1).topk(count, dim=-1)
        return total, order // count, token.flatten(1).gather(1, order)

    def _end(
        self,
        best: tuple[torch.Tensor, torch.Tensor, torch.Tensor],
        ends: torch.Tensor,
        length: int,
        length_penalty: float,
        *,
        last: bool,
    ) -> None:
        """Takes in those of the best continuations that end here."""
        import torch

        scores, parents, token = best
        ending = torch.isin(token, ends) | last
        scores = scores / length**length_penalty
        scores = torch.where(ending, scores, scores + _NEVER)
        tokens = _rows(self.tokens, parents)
        tokens[:, :, length - 1] = token
        merged = torch.cat([self.ended_scores, scores], dim=1)
        self.ended_scores, order = merged.topk(self.ended_scores.shape[1], dim=-1)
        self.ended = _rows(torch.cat([self.ended, tokens], dim=1), order)
        new = torch.where(ending, length, 0)
        self.lengths = torch.cat([self.lengths, new], dim=1).gather(1, order)


def _rows(tokens: torch.Tensor, order: torch.Tensor) -> torch.Tensor:
    """Of [prompts, beams, n], the beams in this order ([prompts, beams])."""
    return tokens.gather(1, order[:, :, None].expand(-1, -1, tokens.shape[-1]))
