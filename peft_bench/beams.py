"""Ten beams a prompt under the harness' plain ``hf`` model: one search a prompt, exact.

The harness asks for one text a request and knows no returned sequences; its stop criteria cut
beams short (issue 1117 of lm-evaluation-harness). So a task makes one request a beam, and hands
``generate`` a callable (transformers' ``custom_generate``) that runs one beam search a prompt,
keeps its beams, and gives beam i to request i. The harness orders each rank of beams by length, so
that a call sees as many different prompts of about one length as the batch size says; they share
a search.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

from peft_bench.answers import Answer
from peft_bench.errors import UsageError
from peft_bench.generation import beam_loop, host
from peft_bench.generation.callable import (
    Generation,
    answer_rows,
    pad_token,
    search_config,
    stop_tokens,
)
from peft_bench.generation.made import Made, trimmed
from peft_bench.generation.rows import Prompt, learns_prompt, padded, unique, unpadded
from peft_bench.generation.task import GeneratedTask
from peft_bench.shots import stop_strings

if TYPE_CHECKING:
    import torch

__all__ = ["BeamSearch", "BeamTask"]


class BeamSearch(Generation):
    """Callable for ``custom_generate``. The beams of a prompt are kept for the whole run.

    Args:
        stop_at_newline: whether a token that holds a newline ends a beam inside the search.
        source: for :class:`Generation`.
    """

    def __init__(self, *, stop_at_newline: bool = True, **source: Any) -> None:
        super().__init__({"decoding": "peft_bench.beams"}, **source)
        self.stop_at_newline = stop_at_newline
        self._newline_ids: list[int] | None = None
        self._beams: dict[tuple[Any, ...], list[Made]] = {}

    @property
    def stop_at_newline(self) -> bool:
        """See above; an item, since answers depend on it."""
        return bool(self["stop_at_newline"])

    @stop_at_newline.setter
    def stop_at_newline(self, value: bool) -> None:
        self["stop_at_newline"] = value

    def __call__(
        self,
        model: Any,
        input_ids: torch.Tensor,
        logits_processor: Any = None,
        stopping_criteria: Any = None,
        generation_config: Any = None,
        beam_index: int = 0,
        answer_tokens: int = 0,
        asked_by: str = "",
        inputs_tensor: torch.Tensor | None = None,
        **model_kwargs: Any,
    ) -> torch.Tensor:
        """Beam ``beam_index`` of each prompt, at most ``answer_tokens`` new tokens long.

        ``input_ids`` is [prompts * num_beams, length], each prompt repeated as transformers
        expanded it; the result is [prompts, length + new tokens], for an encoder-decoder
        [prompts, 1 + new tokens]. The harness' stopping criteria are not passed on: they know
        one row a prompt, and would end every beam with the first.
        """
        del asked_by
        self.begin(model, stopping_criteria)
        count = generation_config.num_beams
        if model.config.is_encoder_decoder:
            assert inputs_tensor is not None
            rows, head = inputs_tensor, input_ids[::count, :1]
        else:
            rows = head = input_ids[::count]
        mask = model_kwargs.get("attention_mask")
        prompts = unpadded(rows, None if mask is None else mask[::count])
        config = search_config(
            generation_config,
            answer_tokens,
            num_return_sequences=count,
            return_dict_in_generate=True,
            output_scores=True,
            eos_token_id=self._stops(generation_config),
        )
        self._search(model, prompts, config, logits_processor)
        beams = [self._beams[_key(prompt, config)][beam_index] for prompt in prompts]
        return answer_rows(head, beams, pad_token(config))

    def _search(
        self, model: Any, prompts: Sequence[Prompt], config: Any, logits_processor: Any
    ) -> None:
        """Searches the prompts whose beams are not kept yet, those of like length together."""
        self._take_earlier(model, prompts, config)
        together = _loop if beam_loop.can_search(model, config, logits_processor) else _generate
        todo = [one for one in unique(prompts) if _key(one, config) not in self._beams]
        for group in _groups(todo, exact=learns_prompt(model)):
            found = together(model, group, config)
            for prompt, beams in zip(group, found, strict=True):
                self._beams[_key(prompt, config)] = beams
                self.ledger.note(model, prompt, dict(enumerate(beams)))

    def _take_earlier(self, model: Any, prompts: Sequence[Prompt], config: Any) -> None:
        """Takes the beams of these prompts that an interrupted run has searched."""
        for prompt in prompts:
            key, made = _key(prompt, config), self.ledger.earlier(model, prompt)
            if key not in self._beams and all(rank in made for rank in range(config.num_beams)):
                self._beams[key] = [made[rank] for rank in range(config.num_beams)]

    def _stops(self, config: Any) -> list[int]:
        newlines = self._newlines() if self.stop_at_newline else []
        return sorted({*stop_tokens(config), *newlines})

    def _newlines(self) -> list[int]:
        """The tokens whose text holds a newline."""
        if self._newline_ids is None:
            tokenizer = self._tokenizer
            texts = tokenizer.batch_decode([[i] for i in range(len(tokenizer))])
            self._newline_ids = [i for i, text in enumerate(texts) if "\n" in text]
        return self._newline_ids


def _loop(model: Any, prompts: Sequence[Prompt], config: Any) -> list[list[Made]]:
    """The beams of each prompt, the best first, by our own loop."""
    stops = frozenset(stop_tokens(config))
    rows, mask = padded(prompts, pad_token(config), side="left")
    found = beam_loop.search(
        model,
        rows,
        mask,
        count=config.num_beams,
        tokens=config.max_new_tokens,
        stops=stops,
        length_penalty=1.0 if config.length_penalty is None else config.length_penalty,
    )
    return [
        [trimmed(new, stops, score) for new, score in zip(beams, scores, strict=True)]
        for beams, scores in found
    ]


def _generate(model: Any, prompts: Sequence[Prompt], config: Any) -> list[list[Made]]:
    """The same by transformers' own search, which knows every kind of model."""
    pad, stops, count = pad_token(config), frozenset(stop_tokens(config)), config.num_beams
    decoder = not model.config.is_encoder_decoder
    rows, mask = padded(prompts, pad, side="left" if decoder else "right")
    found = model.generate(
        **{"inputs_embeds" if rows.is_floating_point() else "input_ids": rows},
        attention_mask=mask,
        generation_config=copy.deepcopy(config),
    )
    skip = rows.shape[1] if decoder else 1
    new = found.sequences[:, skip:]
    if count == 1:
        # transformers searches one beam greedily, and then reckons no score.
        penalty = 1.0 if config.length_penalty is None else config.length_penalty
        made = _greedy(new, found.scores, stops, penalty)
    else:
        scores = found.sequences_scores.tolist()
        made = [trimmed(row, stops, score) for row, score in zip(new.tolist(), scores, strict=True)]
    return [made[start : start + count] for start in range(0, len(made), count)]


def _greedy(
    new: torch.Tensor, scores: Sequence[torch.Tensor], stops: frozenset[int], penalty: float
) -> list[Made]:
    """Rows of new tokens ([rows, tokens]) with the score of a beam search: the sum of a row's log
    probabilities over its length to the power of ``penalty``; ``scores`` are [rows, words] a step.
    """
    import torch

    steps = torch.stack(list(scores), dim=1).float().log_softmax(-1)
    chosen = steps.gather(2, new[:, : steps.shape[1], None].to(steps.device))[..., 0]
    made = []
    for row, logs in zip(new.tolist(), chosen, strict=True):
        one = trimmed(row, stops, 0.0)
        length = len(one.ids)
        score = float(logs[:length].sum()) / length**penalty
        made.append(Made(one.ids, score, one.tokens, one.finished))
    return made


def _groups(prompts: Sequence[Prompt], *, exact: bool) -> Iterator[list[Prompt]]:
    """Prompts that may share a search: of one length each where padding would matter."""
    groups: dict[int, list[Prompt]] = {}
    for prompt in prompts:
        alike = len(prompt.row) if exact or prompt.embedded else 0
        groups.setdefault(alike, []).append(prompt)
    yield from groups.values()


def _key(prompt: Prompt, config: Any) -> tuple[Any, ...]:
    return prompt.key, config.num_beams, config.max_new_tokens, config.length_penalty


class BeamTask(GeneratedTask):
    """A harness task whose document makes one request a beam (``generation_kwargs.num_beams``).

    Use it in a task's YAML by ``class: !function utils.BeamTask``. ``process_results`` receives
    the beams, the best first.
    """

    number = "beam_index"

    def ends_at_newline(self) -> bool:
        """Whether a newline ends a beam inside the search; else it is cut there afterwards."""
        return "\n" in stop_strings(self.config.generation_kwargs)

    def make_callable(self, **source: Any) -> BeamSearch:
        """The search that the document's requests share."""
        return BeamSearch(stop_at_newline=self.ends_at_newline(), **source)

    def check_host(self, model: Any | None) -> None:
        """Refuses models that cannot give beams.

        Raises:
            UsageError: naming the sampling variant.
        """
        host.refuse_other_backends(model, str(self.config.task))

    def check_answers(self) -> None:
        """Refuses answers that are no beams: every document has the same text ten times.

        Raises:
            UsageError: naming the sampling variant.
        """
        if self._host is not None:
            return
        texts: dict[Any, list[str]] = {}
        for instance in self._instances:
            if isinstance(instance.resps[0], Answer):
                return
            texts.setdefault(instance.doc_id, []).append(instance.resps[0])
        if all(len(beams) > 1 and len(set(beams)) == 1 for beams in texts.values()):
            raise host.no_beams("that answered", str(self.config.task))

    def arguments(self) -> list[dict[str, Any]]:
        """One request a beam; each carries its rank and the search they share.

        Raises:
            UsageError: no beam is asked for.
        """
        given = self.config.generation_kwargs
        count = given.get("num_beams", 1)
        if type(count) is not int or count < 1:
            raise UsageError(
                place=f"{self.config.task}: generation_kwargs",
                problem=f"num_beams={count!r} is not a positive whole number",
            )
        search = self._generation
        assert isinstance(search, BeamSearch)
        # What ends an answer is settled only now: a chat model's answers hold newlines.
        search.stop_at_newline = self.ends_at_newline()
        shared = {
            "answer_tokens": given["max_gen_toks"],
            "asked_by": str(self.config.task),
            "custom_generate": search,
        }
        return [{**copy.deepcopy(given), "beam_index": rank, **shared} for rank in range(count)]
