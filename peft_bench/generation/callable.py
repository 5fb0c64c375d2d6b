"""What the callables for transformers' ``custom_generate`` share."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from peft_bench.generation.made import Ledger, Made
from peft_bench.hub_adapters import adapter_folder
from peft_bench.model_source import ModelSource
from peft_bench.raw_codegen2 import refuse_raw_codegen2

if TYPE_CHECKING:
    import torch


class Generation(dict[str, Any]):
    """A callable for ``custom_generate``; a dict so that the harness can write it into results.

    Its items are what the answers depend on and nothing else, since they enter the key of the
    harness' response cache.

    Args:
        described: the items.
        source: where the model's tokenizer lies, asked where the harness' own is not at hand;
            with nothing named, the model's own id.
        peft: id or folder of the adapter that must be loaded; verified at the first call.
    """

    def __init__(
        self,
        described: dict[str, Any],
        *,
        source: ModelSource = ModelSource(),  # noqa: B008 - frozen
        peft: str | None = None,
    ) -> None:
        super().__init__(described)
        self.ledger = Ledger()
        self.called = False
        self._source = source
        self._peft = peft
        self._tokenizer: Any = None

    def __deepcopy__(self, memo: dict[int, Any]) -> Generation:
        # The harness copies generation arguments a request; what was made must stay shared.
        return self

    @property
    def tokenizer(self) -> Any:
        """The tokenizer of the model that called.

        None before the first call, unless there are answers of an interrupted run to be found.
        """
        if self._tokenizer is None and self.ledger.by_ids and self._source.named:
            self._tokenizer = self._source.load_tokenizer()
        return self._tokenizer

    def begin(self, model: Any, stopping_criteria: Any) -> None:
        """Once a run: checks the model and its adapter, and finds the tokenizer.

        Raises:
            UsageError: the model is a CodeGen2 checkpoint that was not repacked.
            PeftBenchError: the adapter is not the one loaded, or the base not its own.
        """
        if self.called:
            return
        refuse_raw_codegen2(model.config, str(getattr(model.config, "_name_or_path", "")))
        self._verify(model)
        self._tokenizer = self._find_tokenizer(model, stopping_criteria)
        self.called = True

    def _find_tokenizer(self, model: Any, stopping_criteria: Any) -> Any:
        # The harness' criteria look for stop strings, so they hold the tokenizer that it uses.
        for criterion in stopping_criteria or ():
            tokenizer = getattr(criterion, "tokenizer", None)
            if tokenizer is not None:
                return tokenizer
        return self._source.load_tokenizer(model.config._name_or_path)

    def _verify(self, model: Any) -> None:
        if self._peft is None:
            return
        from peft_bench import adapters, cards

        folder = adapter_folder(self._peft)
        adapters.verify_loaded(model, folder)
        card = cards.read_card(folder)
        # A quantised base has a fingerprint of its own, which only one loaded alike can match.
        quantized = bool(getattr(model, "is_quantized", False))
        if card is not None and quantized == (card.base.quantization is not None):
            found = adapters.fingerprint(model, quantized=quantized)
            name = model.config._name_or_path
            adapters.check_base(card.base, found, name, place=f"adapter {self._peft}")


def stop_tokens(config: Any) -> list[int]:
    """The tokens at which a generation configuration ends an answer."""
    stops = config.eos_token_id
    return [stops] if isinstance(stops, int) else list(stops or [])


def pad_token(config: Any) -> int:
    """What shorter rows are filled with."""
    if config.pad_token_id is not None:
        return int(config.pad_token_id)
    return stop_tokens(config)[0]


def search_config(given: Any, budget: int, **changes: Any) -> Any:
    """A copy of a generation configuration, for at most ``budget`` new tokens."""
    config = copy.deepcopy(given)
    config.max_length = None
    config.max_new_tokens = budget
    for name, value in changes.items():
        setattr(config, name, value)
    return config


def answer_rows(head: torch.Tensor, made: Sequence[Made], pad: int) -> torch.Tensor:
    """What ``generate`` must return: ``head`` [rows, length], then the new tokens, padded."""
    import torch

    width = max(len(one.ids) for one in made)
    new = torch.tensor([[*one.ids, *[pad] * (width - len(one.ids))] for one in made])
    return torch.cat([head, new.to(head.device)], dim=1)
