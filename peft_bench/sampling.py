"""Samples under the harness' plain ``hf`` model: the same whatever the batch, and its order.

A sampled task makes one request a sample, and hands ``generate`` a callable that draws all
samples of a prompt at once, keeps them, and gives sample i to request i. The random numbers of a
sample depend on the run's seed (the third of ``--seed``), the prompt and the sample's index
alone. Prompts of an adapter that puts virtual tokens before them are never padded, so that
greedy answers, too, are those of batch size 1. Other backends get plain requests.
"""

from __future__ import annotations

import copy
import sys
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

from peft_bench.errors import UsageError
from peft_bench.generation import host, prefill
from peft_bench.generation.callable import (
    Generation,
    answer_rows,
    pad_token,
    search_config,
    stop_tokens,
)
from peft_bench.generation.draw import Choice, Draw, StopStrings, uniforms
from peft_bench.generation.made import Made, trimmed
from peft_bench.generation.rows import Prompt, learns_prompt, padded, unique, unpadded
from peft_bench.generation.task import GeneratedTask
from peft_bench.shots import stop_strings

if TYPE_CHECKING:
    import torch

__all__ = ["SampledTask", "Sampling"]

# Rows that are generated together at batch size 1: the samples of one prompt, up to this many.
_LEAST_ROWS = 8
# Arguments of `generate` that act where it draws tokens, which is done here; or search otherwise.
_NOT_OURS = (
    "epsilon_cutoff",
    "eta_cutoff",
    "num_beams",
    "num_return_sequences",
    "penalty_alpha",
    "top_h",
    "typical_p",
)


class Sampling(Generation):
    """Callable for ``custom_generate`` that makes ``count`` samples a prompt.

    Args:
        until: strings that end an answer.
        source: for :class:`Generation`.
    """

    def __init__(self, *, until: Sequence[str] = (), count: int = 1, **source: Any) -> None:
        super().__init__({"decoding": "peft_bench.sampling"}, **source)
        self.count = count
        self.until = list(until)
        self._made: dict[tuple[Any, ...], dict[int, Made]] = {}
        self._widest = 1

    def __call__(
        self,
        model: Any,
        input_ids: torch.Tensor,
        logits_processor: Any = None,
        stopping_criteria: Any = None,
        generation_config: Any = None,
        sample_index: int = 0,
        answer_tokens: int = 0,
        sampling: dict[str, Any] | None = None,
        asked_by: str = "",
        inputs_tensor: torch.Tensor | None = None,
        **model_kwargs: Any,
    ) -> torch.Tensor:
        """Sample ``sample_index`` of each prompt, at most ``answer_tokens`` new tokens long.

        ``input_ids`` is [prompts, length]; the result is [prompts, length + new tokens], for an
        encoder-decoder [prompts, 1 + new tokens]. ``sampling`` holds the :class:`Choice` and the
        ``seed``; None is greedy.
        """
        del logits_processor, asked_by
        self.begin(model, stopping_criteria)
        if model.config.is_encoder_decoder:
            assert inputs_tensor is not None
            rows, head = inputs_tensor, input_ids[:, :1]
        else:
            rows = head = input_ids
        prompts = unpadded(rows, model_kwargs.get("attention_mask"))
        self._widest = max(self._widest, len(prompts))
        settings = dict(sampling or {})
        seed = int(settings.pop("seed", 0))
        choice = Choice(**settings)
        config = search_config(
            generation_config,
            answer_tokens,
            num_beams=1,
            num_return_sequences=1,
            do_sample=False,
            return_dict_in_generate=False,
            # They belong to chance, which is ours; transformers would warn of them.
            temperature=None,
            top_k=None,
            top_p=None,
            min_p=None,
        )
        key = seed, choice, answer_tokens
        wanted = []
        for prompt in unique(prompts):
            samples = self._made.get((prompt.key, key))
            if samples is None:
                samples = self._made[prompt.key, key] = dict(self.ledger.earlier(model, prompt))
            indices = range(sample_index, max(self.count, sample_index + 1))
            wanted += [(prompt, index) for index in indices if index not in samples]
        for batch in _batches(wanted, self._rows(), exact=learns_prompt(model)):
            drawn: dict[Prompt, dict[int, Made]] = {}
            made = self._draw(model, batch, config, choice, seed)
            for (prompt, index), one in zip(batch, made, strict=True):
                drawn.setdefault(prompt, {})[index] = one
            for prompt, more in drawn.items():
                self._made[prompt.key, key].update(more)
                self.ledger.note(model, prompt, more)
        chosen = [self._made[prompt.key, key][sample_index] for prompt in prompts]
        return answer_rows(head, chosen, pad_token(config))

    def _rows(self) -> int:
        return max(self._widest, min(self.count, _LEAST_ROWS))

    def _draw(
        self,
        model: Any,
        batch: Sequence[tuple[Prompt, int]],
        config: Any,
        choice: Choice,
        seed: int,
    ) -> list[Made]:
        """The samples of a batch of prompts and indices, in one ``generate``."""
        import torch

        prompts = unique(prompt for prompt, _ in batch)
        places = {prompt.key: number for number, prompt in enumerate(prompts)}
        pad, stops = pad_token(config), frozenset(stop_tokens(config))
        decoder = not model.config.is_encoder_decoder
        rows, mask = padded(prompts, pad, side="left" if decoder else "right")
        which = torch.tensor([places[prompt.key] for prompt, _ in batch], device=rows.device)
        skip = rows.shape[1] if decoder else 1
        draw = Draw(choice, uniforms(seed, batch, config.max_new_tokens))
        ends = StopStrings(self._tokenizer, list(filter(None, self.until)), stops, skip, len(batch))
        named: dict[str, Any] = {}
        if len(batch) > len(prompts) and rows.shape[1] > 1 and prefill.can_share(model):
            _, cache = prefill.read_prompts(model, rows, mask)
            cache.batch_select_indices(which)
            named["past_key_values"] = cache
        found = model.generate(
            **{"inputs_embeds" if rows.is_floating_point() else "input_ids": rows[which]},
            attention_mask=mask[which],
            generation_config=copy.deepcopy(config),
            logits_processor=[draw],
            stopping_criteria=[ends],
            **named,
        )
        new = found[:, skip:].tolist()
        scores = draw.scores()
        made = []
        for number, row in enumerate(new):
            one = trimmed(row, stops, 0.0, ended_at=ends.ended_at[number])
            score = float(scores[number, : len(one.ids)].sum())
            made.append(Made(one.ids, score, one.tokens, one.finished))
        return made


def _batches(
    wanted: Sequence[tuple[Prompt, int]], rows: int, *, exact: bool
) -> Iterator[list[tuple[Prompt, int]]]:
    """In order, at most ``rows`` at once; of one length each where padding would matter."""
    groups: dict[int, list[tuple[Prompt, int]]] = {}
    for one in wanted:
        alike = len(one[0].row) if exact or one[0].embedded else 0
        groups.setdefault(alike, []).append(one)
    for group in groups.values():
        for start in range(0, len(group), rows):
            yield group[start : start + rows]


class SampledTask(GeneratedTask):
    """A harness task with ``num_samples`` answers a document, one request each.

    Use it in a task's YAML by ``class: !function utils.SampledTask``; ``generation_kwargs``:
    ``do_sample``, ``temperature``, ``top_p``, ``top_k``, ``min_p``, ``num_samples``,
    ``max_gen_toks``, ``until``. ``process_results`` receives the samples in order.
    """

    number = "sample_index"

    def make_callable(self, **source: Any) -> Sampling:
        """The callable that the document's requests share."""
        return Sampling(**source)

    def arguments(self) -> list[dict[str, Any]]:
        """One request a sample; for other backends as plain as any task's.

        Raises:
            UsageError: no samples are asked for, or several that would all be equal.
        """
        given = copy.deepcopy(dict(self.config.generation_kwargs))
        place = f"{self.config.task}: generation_kwargs"
        count = _count(given.pop("num_samples", 1), place)
        plain = copy.deepcopy(given)
        choice = Choice.parse(given, place)
        if choice.greedy and count > 1:
            raise UsageError(
                place=place,
                problem=f"{count} samples without chance would all be equal",
                remedy="set do_sample=true and a temperature, or num_samples=1",
            )
        if not host.runs_transformers(self._host):
            seeded = host.takes_seeds(self._host) and not choice.greedy
            return [
                {**plain, **({"seed": _seed() + index} if seeded else {})} for index in range(count)
            ]
        if ignored := [name for name in _NOT_OURS if given.get(name) not in (None, False)]:
            raise UsageError(
                place=place,
                problem=f"{', '.join(ignored)} would have no effect on samples",
                remedy="leave it out; temperature, top_k, top_p and min_p shape the distribution",
            )
        sampling: dict[str, Any] = {}
        if not choice.greedy:
            values = {name: getattr(choice, name) for name in Choice.__slots__}
            sampling = {name: value for name, value in values.items() if value is not None}
            sampling["seed"] = _seed()
        generation = self._generation
        assert isinstance(generation, Sampling)
        generation.count = count
        generation.until = stop_strings(given)
        shared = {
            "answer_tokens": given["max_gen_toks"],
            "asked_by": str(self.config.task),
            "sampling": sampling,
            "custom_generate": generation,
        }
        return [{**copy.deepcopy(given), "sample_index": index, **shared} for index in range(count)]


def _count(given: Any, place: str) -> int:
    count = given if type(given) is int else 0
    if count < 1:
        raise UsageError(place=place, problem=f"num_samples={given!r} is not a positive number")
    return count


def _seed() -> int:
    """The harness' torch seed: it has set it when a task is asked for requests.

    0 where nothing has loaded torch: then nothing is drawn either, and answers are read.
    """
    loaded = sys.modules.get("torch")
    return 0 if loaded is None else int(loaded.initial_seed())
