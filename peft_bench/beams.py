"""Ten beams a prompt under the harness' plain ``hf`` model: one search a prompt, exact.

The harness asks for one text a request and knows no returned sequences; its stop criteria cut
beams short (issue 1117 of lm-evaluation-harness). So a task makes one request a beam, and hands
``generate`` a callable (transformers' ``custom_generate``) that runs one beam search a prompt,
keeps its beams, and gives beam i to request i. Rows are searched without padding; prompts of the
same length share a search.
"""

from __future__ import annotations

import copy
import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lm_eval.api.instance import Instance
from lm_eval.api.task import ConfigurableTask

if TYPE_CHECKING:
    import torch


class BeamSearch(dict[str, Any]):
    """Callable for ``custom_generate``; a dict so that the harness can write it into results.

    Its items are what the answers depend on and nothing else, since they enter the key of the
    harness' response cache. The beams of a prompt are kept for the whole run.

    Args:
        tokenizer: id or folder of the model's tokenizer; None takes the model's own id.
        revision: the tokenizer's revision on the hub.
        peft: id or folder of the adapter that must be loaded; verified at the first search.
        stop_at_newline: whether a token that holds a newline ends a beam inside the search.
    """

    def __init__(
        self,
        *,
        tokenizer: str | None = None,
        revision: str | None = None,
        peft: str | None = None,
        stop_at_newline: bool = True,
    ) -> None:
        super().__init__(decoding="peft_bench.beams", stop_at_newline=stop_at_newline)
        self._tokenizer = tokenizer
        self._revision = revision
        self._peft = peft
        self._stop_at_newline = stop_at_newline
        self._newline_ids: list[int] | None = None
        self._beams: dict[tuple[Any, ...], list[list[int]]] = {}
        self._verified = False

    def __deepcopy__(self, memo: dict[int, Any]) -> BeamSearch:
        # The harness copies generation arguments a request; the beams must stay shared.
        return self

    def __call__(
        self,
        model: Any,
        input_ids: torch.Tensor,
        logits_processor: Any = None,
        stopping_criteria: Any = None,
        generation_config: Any = None,
        beam_index: int = 0,
        answer_tokens: int = 0,
        inputs_tensor: torch.Tensor | None = None,
        **model_kwargs: Any,
    ) -> torch.Tensor:
        """Beam ``beam_index`` of each prompt, at most ``answer_tokens`` new tokens long.

        ``input_ids`` is [prompts * num_beams, length], each prompt repeated as transformers
        expanded it; the result is [prompts, length + new tokens], for an encoder-decoder
        [prompts, 1 + new tokens]. The harness' stopping criteria are not passed on: they know
        one row a prompt, and would end every beam with the first.
        """
        import torch

        del logits_processor, stopping_criteria
        self._verify(model)
        count = generation_config.num_beams
        if model.config.is_encoder_decoder:
            assert inputs_tensor is not None
            rows, head = inputs_tensor, input_ids[::count, :1]
        else:
            rows = head = input_ids[::count]
        # transformers drops a mask that masks nothing.
        mask = model_kwargs.get("attention_mask")
        mask = rows.new_ones(rows.shape[:2], dtype=torch.long) if mask is None else mask[::count]
        prompts = [_Prompt.unpadded(row, kept) for row, kept in zip(rows, mask, strict=True)]
        config = self._search_config(model, generation_config, answer_tokens)
        self._search(model, prompts, config)
        beams = [self._beams[_key(prompt, config)][beam_index] for prompt in prompts]
        pad = config.pad_token_id if config.pad_token_id is not None else config.eos_token_id[0]
        width = max(map(len, beams))
        new = torch.tensor([[*beam, *[pad] * (width - len(beam))] for beam in beams])
        return torch.cat([head, new.to(head.device)], dim=1)

    def _search(self, model: Any, prompts: list[_Prompt], config: Any) -> None:
        """Searches the prompts whose beams are not kept yet, those of equal length together."""
        import torch

        todo: dict[int, dict[Any, _Prompt]] = {}
        for prompt in prompts:
            if _key(prompt, config) not in self._beams:
                todo.setdefault(len(prompt.row), {})[prompt.key] = prompt
        for group in todo.values():
            rows = torch.stack([prompt.row for prompt in group.values()])
            # Prompt learning on an encoder-decoder arrives as embeddings.
            name = "inputs_embeds" if rows.is_floating_point() else "input_ids"
            found = model.generate(
                **{name: rows},
                attention_mask=rows.new_ones(rows.shape[:2], dtype=torch.long),
                generation_config=copy.deepcopy(config),
            )
            skip = 1 if model.config.is_encoder_decoder else rows.shape[1]
            texts = found[:, skip:].tolist()
            count = config.num_beams
            for index, prompt in enumerate(group.values()):
                beams = texts[index * count : (index + 1) * count]
                self._beams[_key(prompt, config)] = beams

    def _search_config(self, model: Any, given: Any, budget: int) -> Any:
        config = copy.deepcopy(given)
        config.max_length = None
        config.max_new_tokens = budget
        config.num_return_sequences = config.num_beams
        config.return_dict_in_generate = False
        stops = config.eos_token_id
        stops = [stops] if isinstance(stops, int) else list(stops or [])
        if self._stop_at_newline:
            stops += self._newlines(model)
        config.eos_token_id = sorted(set(stops))
        return config

    def _newlines(self, model: Any) -> list[int]:
        """The tokens whose text holds a newline."""
        if self._newline_ids is None:
            from transformers import AutoTokenizer

            source = self._tokenizer or model.config._name_or_path
            tokenizer = AutoTokenizer.from_pretrained(source, revision=self._revision)
            texts = tokenizer.batch_decode([[i] for i in range(len(tokenizer))])
            self._newline_ids = [i for i, text in enumerate(texts) if "\n" in text]
        return self._newline_ids

    def _verify(self, model: Any) -> None:
        if self._verified or self._peft is None:
            return
        from peft_bench import adapters, cards

        folder = Path(self._peft)
        if not folder.is_dir():
            from huggingface_hub import snapshot_download

            folder = Path(snapshot_download(self._peft))
        adapters.verify_loaded(model, folder)
        card = cards.read_card(folder)
        # A quantised base has a fingerprint of its own, which only one loaded alike can match.
        quantized = bool(getattr(model, "is_quantized", False))
        if card is not None and quantized == (card.base.quantization is not None):
            found = adapters.fingerprint(model, quantized=quantized)
            name = model.config._name_or_path
            adapters.check_base(card.base, found, name, place=f"adapter {self._peft}")
        self._verified = True


@dataclass(frozen=True)
class _Prompt:
    """One prompt without its padding: ids [length] or embeddings [length, width], and a key."""

    row: torch.Tensor
    key: Any

    @classmethod
    def unpadded(cls, row: torch.Tensor, mask: torch.Tensor) -> _Prompt:
        kept = row[mask.bool()]
        if kept.is_floating_point():
            import torch

            raw = kept.detach().to("cpu", torch.float32).contiguous().view(torch.uint8)
            return cls(kept, hashlib.sha256(bytes(raw.flatten().tolist())).digest())
        return cls(kept, tuple(kept.tolist()))


def _key(prompt: _Prompt, config: Any) -> tuple[Any, ...]:
    return prompt.key, config.num_beams, config.max_new_tokens, config.length_penalty


class BeamTask(ConfigurableTask):  # type: ignore[misc]
    """A harness task whose document makes one request a beam (``generation_kwargs.num_beams``).

    Use it in a task's YAML by ``class: !function utils.BeamTask``. ``process_results`` receives
    the beams' texts, the best first.
    """

    def __init__(self, config: dict[str, Any] | None = None) -> None:
        settings = dict(config or {})
        settings.pop("class", None)
        super().__init__(config=settings)
        metadata = self.config.metadata or {}
        pretrained = metadata.get("pretrained")
        self._search = BeamSearch(
            tokenizer=metadata.get("tokenizer") or (str(pretrained) if pretrained else None),
            revision=metadata.get("revision"),
            peft=metadata.get("peft"),
            stop_at_newline="\n" in self.config.generation_kwargs.get("until", []),
        )

    def construct_requests(self, doc: dict[str, Any], ctx: str, **kwargs: Any) -> list[Instance]:
        """One request a beam; each carries its rank and the search they share."""
        kwargs.pop("apply_chat_template", None)
        kwargs.pop("chat_template", None)
        given = self.config.generation_kwargs
        shared = {"answer_tokens": given["max_gen_toks"], "custom_generate": self._search}
        return [
            Instance(
                request_type="generate_until",
                doc=doc,
                arguments=(ctx, {**copy.deepcopy(given), "beam_index": rank, **shared}),
                idx=rank,
                **kwargs,
            )
            for rank in range(int(given.get("num_beams", 1)))
        ]
