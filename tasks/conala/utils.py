"""CoNaLa: one line of Python from an intent; ten beams, exact match among the first k."""

from __future__ import annotations

from typing import Any

from peft_bench import harness
from peft_bench.snippets import SampledSnippetTask, SnippetTask

__all__ = ["Conala", "ConalaSampled", "dataset"]


class Conala(SnippetTask):
    """Ten beams a row; a newline ends an answer."""

    data = "conala"


class ConalaSampled(SampledSnippetTask):
    """Samples in the place of beams, for models that cannot give those."""

    data = "conala"


def dataset(**metadata: Any) -> dict[str, Any]:
    """The splits, as the harness calls for them."""
    return harness.dataset("conala", **metadata)
