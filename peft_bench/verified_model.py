"""The harness' ``hf`` model, which refuses to score an adapter that did not really load.

It differs from ``hf`` in three ways: embeddings keep their size under an adapter; after loading,
every adapter tensor is compared with the file and the base with the card's fingerprint; and
``quantization=4bit|8bit`` loads the base as training did. Prompts, decoding and scores are the
harness' own.
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from lm_eval.api.registry import register_model
from lm_eval.models.huggingface import HFLM

from peft_bench import adapters, cards, models
from peft_bench.errors import PeftBenchError

MODEL_NAME = "peft-bench-hf"


@dataclass(frozen=True, slots=True)
class Expected:
    """What must be loaded: the adapter's folder and its card, as far as there are any."""

    adapter: Path | None = None
    card: cards.AdapterCard | None = None


@register_model(MODEL_NAME)
class VerifiedHFLM(HFLM):  # type: ignore[misc]
    """``expected`` is set before the harness builds the model; ``facts`` tells what was loaded."""

    expected: ClassVar[Expected] = Expected()
    facts: ClassVar[dict[str, Any]] = {}
    _model: Any  # the harness' own attribute

    def _create_model(self, pretrained: str, **kwargs: Any) -> None:
        quantization = kwargs.pop("quantization", None)
        if quantization is not None:
            dtype = str(kwargs.get("dtype", "auto"))
            kwargs["quantization_config"] = models.quantization_config(
                quantization, models.resolve_dtype(dtype)
            )
        expected = type(self).expected
        peft = kwargs.pop("peft", None)
        super()._create_model(pretrained, **kwargs)
        try:
            if peft:
                from peft import PeftModel

                # The harness itself would first cut the embeddings down to the tokenizer's
                # length, so that adapter and base are scored over different vocabularies.
                with warnings.catch_warnings():
                    # PEFT asks transformers by a name that it warns of since 5.23.
                    warnings.filterwarnings("ignore", "`is_gradient_checkpointing`", FutureWarning)
                    self._model = PeftModel.from_pretrained(self._model, peft)
        except RuntimeError as error:
            # torch says "size mismatch for ..." once a tensor; one line is enough to know.
            if expected.adapter is None or "size mismatch" not in str(error):
                raise
            raise PeftBenchError(
                place=f"adapter {expected.adapter}",
                problem=f"does not fit {pretrained}: its tensors have other shapes",
                remedy="score it on the base that it was made for",
            ) from error
        model = self._model
        if expected.adapter is not None:
            adapters.verify_loaded(model, expected.adapter)
        fingerprint = adapters.fingerprint(model, quantized=quantization is not None)
        base = expected.card.base if expected.card is not None else None
        # A card without an adapter to load is that of a fully tuned model: other weights than
        # its base's, which it is compared with all the same.
        full = base is not None and expected.adapter is None
        if base is not None and not full:
            adapters.check_base(base, fingerprint, pretrained, place=f"adapter {expected.adapter}")
        parameters = dict(model.named_parameters())
        type(self).facts = {
            "id": base.id if base is not None and full else pretrained,
            "revision": base.revision if base is not None and full else kwargs.get("revision"),
            "dtype": str(getattr(model, "dtype", None) or "").removeprefix("torch.") or None,
            "quantization": quantization,
            "model_type": self.config.model_type,
            "parameters": base.parameters if base is not None else _count(parameters),
            "fingerprint": base.fingerprint if base is not None and full else fingerprint,
        }


def _count(parameters: dict[str, Any]) -> int:
    return sum(parameter.numel() for parameter in parameters.values())
