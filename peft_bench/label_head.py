"""Logits only where a token is to be predicted: no other row of the output projection is computed.

Of a prompt and its answer only the answer's tokens carry a loss, yet a model that is given labels
projects every position, pads included, onto its vocabulary. Here a hook at the output
projection's entrance drops the hidden states of positions without a label. What models do after
it (soft-capping, scaling) works position by position, so the rest of the forward pass is the
model's own, whatever its family and however PEFT has wrapped it.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from peft_bench.encoding import IGNORED_LABEL

if TYPE_CHECKING:
    import torch

# Methods that give their keys and values to the model as a cache.
_CACHED = frozenset({"PREFIX_TUNING", "CARTRIDGE"})


class LabelHead:
    """Sums of a model's losses over label tokens, logits being computed for these alone.

    ``model``: a causal or encoder-decoder model of transformers, as it is or within PEFT's.

    ``right_padded_causal``: whether every batch is padded on the right and the model attends to
    earlier positions only. Pads then have no influence on what comes before them, and attention
    needs no mask.
    """

    def __init__(self, model: Any, *, right_padded_causal: bool = False) -> None:
        self.config = model.config
        self.head = model.get_output_embeddings()
        peft = getattr(model, "active_peft_config", None)
        self.kind = None if peft is None else str(getattr(peft.peft_type, "value", peft.peft_type))
        learned_prompt = peft is not None and peft.is_prompt_learning
        self.masked = self.config.is_encoder_decoder or learned_prompt or not right_padded_causal
        self.shift_right = getattr(model, "_shift_right", None)

    def loss(self, model: Any, inputs: dict[str, Any]) -> tuple[Any, int]:
        """The sum of the cross-entropies of a batch's labels, in nats, and how many there are.

        Args:
            model: what is called; may be wrapped for several processes.
            inputs: ``input_ids``, ``attention_mask`` and ``labels``, each (rows, width); a causal
                model's labels are its input ids, an encoder-decoder's what it is to answer.
        """
        import torch

        labels = inputs["labels"]
        call: dict[str, Any] = {}
        ids, mask = inputs["input_ids"], inputs["attention_mask"]
        if self.config.is_encoder_decoder:
            targets = labels
            call["decoder_input_ids"] = self._decoder_inputs(labels)
        else:
            # Nothing is predicted from a row's last token: it need not be computed.
            ids, mask, targets = ids[:, :-1], mask[:, :-1], labels[:, 1:]
        if self.masked:
            call["attention_mask"] = mask
        if self.kind not in _CACHED:
            call["use_cache"] = False
        wanted = targets.flatten().ne(IGNORED_LABEL).nonzero().squeeze(1)
        with self._only(wanted, targets.shape) as fired:
            logits = model(input_ids=ids, **call).logits
        if not fired:
            logits = _rows(logits, wanted, targets.shape)
        logits = logits.flatten(0, -2).float()
        expected = targets.flatten()[wanted]
        loss = torch.nn.functional.cross_entropy(logits, expected, reduction="sum")
        return loss, len(wanted)

    def _decoder_inputs(self, labels: torch.Tensor) -> Any:
        if self.shift_right is not None:
            return self.shift_right(labels)
        from transformers.models.bart.modeling_bart import shift_tokens_right

        config = self.config
        return shift_tokens_right(labels, config.pad_token_id, config.decoder_start_token_id)

    @contextmanager
    def _only(self, wanted: torch.Tensor, shape: torch.Size) -> Iterator[list[bool]]:
        """Lets ``wanted`` positions alone into the head; the list stays empty if none did."""
        fired: list[bool] = []

        def keep(module: Any, arguments: tuple[Any, ...]) -> tuple[Any, ...] | None:
            if not arguments or arguments[0].dim() != 3 or arguments[0].shape[0] != shape[0]:
                return None
            fired.append(True)
            return (_rows(arguments[0], wanted, shape).unsqueeze(0), *arguments[1:])

        handle = None if self.head is None else self.head.register_forward_pre_hook(keep)
        try:
            yield fired
        finally:
            if handle is not None:
                handle.remove()


def _rows(states: torch.Tensor, wanted: torch.Tensor, shape: torch.Size) -> torch.Tensor:
    """The wanted rows of (rows, virtual tokens and width, columns): (wanted, columns)."""
    virtual = states.shape[1] - shape[1]
    if virtual:
        states = states[:, virtual:]
    return states.flatten(0, 1).index_select(0, wanted.to(states.device))
