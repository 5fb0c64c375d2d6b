"""CodeAlpacaPy: a Python program from an instruction; ten beams, exact match and CodeBLEU."""

from __future__ import annotations

from typing import Any

from peft_bench import harness
from peft_bench.snippets import SampledSnippetTask, SnippetTask

__all__ = ["CodeAlpacaPy", "CodeAlpacaPySampled", "dataset"]


class CodeAlpacaPy(SnippetTask):
    """Ten beams a row, scored as CoNaLa's are; only the end of sequence ends an answer."""

    data = "codealpacapy"


class CodeAlpacaPySampled(SampledSnippetTask):
    """Samples in the place of beams, for models that cannot give those."""

    data = "codealpacapy"


def dataset(**metadata: Any) -> dict[str, Any]:
    """The splits, as the harness calls for them."""
    return harness.dataset("codealpacapy", **metadata)
