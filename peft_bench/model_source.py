"""Where the harness' model arguments say that a model's configuration and tokenizer lie."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class ModelSource:
    """A model as ``hf`` loads it: ``pretrained``, ``tokenizer``, ``revision``, and so on.

    Attributes:
        model: a hub id or folder; None where the model is served elsewhere or is no text.
        tokenizer: the tokenizer's own id or folder, where it has one.
        revision: of both.
        subfolder: of the repository, in which both lie.
        gguf_file: the file of a GGUF repository.
        trusted: whether the repository's own code may run (``trust_remote_code``).
    """

    model: str | None = None
    tokenizer: str | None = None
    revision: str | None = None
    subfolder: str | None = None
    gguf_file: str | None = None
    trusted: bool = False

    @classmethod
    def of(cls, metadata: Mapping[str, Any]) -> ModelSource:
        """From the harness' metadata, which holds the model arguments."""
        model, tokenizer = metadata.get("pretrained"), metadata.get("tokenizer")
        here = isinstance(model, str) and "base_url" not in metadata
        revision = metadata.get("revision")
        return cls(
            model=model if here else None,
            tokenizer=tokenizer if isinstance(tokenizer, str) else None,
            revision=None if revision is None else str(revision),
            subfolder=metadata.get("subfolder") or None,
            gguf_file=metadata.get("gguf_file") or None,
            trusted=metadata.get("trust_remote_code") in (True, "true", "True") or _trust_is_set(),
        )

    def load_config(self) -> Any:
        """The model's configuration.

        Raises:
            OSError, ValueError: transformers', where there is none, or its code is not trusted.
        """
        from transformers import AutoConfig

        more = {"gguf_file": self.gguf_file} if self.gguf_file else {}
        return AutoConfig.from_pretrained(self.model, **self._options(), **more)

    def load_tokenizer(self, fallback: str | None = None) -> Any:
        """Its tokenizer; that of ``fallback`` where neither a tokenizer nor a model is named."""
        from transformers import AutoTokenizer

        source = self.tokenizer or self.model or fallback
        more = {"gguf_file": self.gguf_file} if self.gguf_file and not self.tokenizer else {}
        return AutoTokenizer.from_pretrained(source, **self._options(), **more)

    @property
    def named(self) -> bool:
        """Whether a tokenizer can be loaded without a model at hand."""
        return bool(self.tokenizer or self.model)

    def _options(self) -> dict[str, Any]:
        told = {
            "revision": self.revision,
            "subfolder": self.subfolder,
            "trust_remote_code": self.trusted or None,
        }
        return {name: value for name, value in told.items() if value is not None}


def _trust_is_set() -> bool:
    """Whether ``lm_eval --trust_remote_code`` was given: it is in no metadata, but set here."""
    from datasets import config

    return bool(getattr(config, "HF_DATASETS_TRUST_REMOTE_CODE", False))
