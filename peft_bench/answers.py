"""One answer of a model: its text, and what the search or the sampler knew of it."""

from __future__ import annotations

from typing import Any


class Answer(str):
    """A text with what is known of its making; None where nobody knows any more.

    It goes through the harness as the text that it is. An answer that the harness took from its
    response cache is a text alone.

    Attributes:
        score: a beam's length-normalised log-probability; a sample's log-probability.
        tokens: new tokens, without the one that ended it.
        finished: whether it ended by itself; False: it was cut at the most tokens allowed.
    """

    __slots__ = ("finished", "score", "tokens")

    score: float | None
    tokens: int | None
    finished: bool | None

    def __new__(
        cls,
        text: str,
        *,
        score: float | None = None,
        tokens: int | None = None,
        finished: bool | None = None,
    ) -> Answer:
        answer = super().__new__(cls, text)
        answer.score = score
        answer.tokens = tokens
        answer.finished = finished
        return answer

    def __getnewargs_ex__(self) -> tuple[tuple[str], dict[str, Any]]:
        # Ranks of a distributed run send answers to each other.
        return (str(self),), self.facts()

    def facts(self) -> dict[str, Any]:
        """``score``, ``tokens`` and ``finished``, for the samples log."""
        return {"score": self.score, "tokens": self.tokens, "finished": self.finished}

    @classmethod
    def of(cls, text: str) -> Answer:
        """The text itself if it is an answer already."""
        return text if isinstance(text, cls) else cls(text)
