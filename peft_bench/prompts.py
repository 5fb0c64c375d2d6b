"""The prompts that models are trained and scored with: defined once, told apart by a hash.

Source: the instruction format of the study's published scripts (arXiv 2308.10462); the
sequence-to-sequence form prefixes the task in words, as T5's pre-training did.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

_SLOT = "{intent}"

CHAT = "chat"
"""The prompt for which a model's chat template is applied; its text is the user's turn."""


@dataclass(frozen=True, slots=True)
class PromptTemplate:
    """A prompt with one slot, ``{intent}``; response and end-of-sequence token follow it."""

    name: str
    text: str
    verbatim: bool = False

    def render(self, intent: str) -> str:
        """The prompt for one intent; blank space around it is dropped, unless ``verbatim``."""
        return self.text.replace(_SLOT, intent if self.verbatim else intent.strip())

    @property
    def sha256(self) -> str:
        """Hash of the template's text: equal hashes mean equal prompts for equal intents."""
        return hashlib.sha256(self.text.encode()).hexdigest()


PROMPTS: dict[str, PromptTemplate] = {
    template.name: template
    for template in (
        PromptTemplate("instruction", "### Instruction:\n{intent}\n### Response:\n"),
        PromptTemplate(
            "instruction-seq2seq",
            "Generate Python code: ### Instruction:\n{intent}\n### Response:\n",
        ),
        # For code to be gone on with, as HumanEval asks: blanks are part of it.
        PromptTemplate("completion", "{intent}", verbatim=True),
        # The user's turn alone: the model's own chat template goes around it.
        PromptTemplate(
            CHAT,
            "Generate Python code given a natural language instruction. "
            "Answer with the code alone.\n\n{intent}",
        ),
    )
}
