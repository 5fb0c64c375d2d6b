"""A harness model that gives back answers made before: for regression and for rescoring."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from lm_eval.api.instance import Instance
from lm_eval.api.model import LM

from peft_bench.answers import Answer
from peft_bench.errors import UsageError


class Replay(LM):  # type: ignore[misc]
    """Answers from a table: a document's ``id`` -> its answers, in the order of the requests.

    Beam tasks and sampled tasks number a document's requests (``beam_index``, ``sample_index``).

    Raises:
        UsageError: a document has no answers, or too few of them.
    """

    def __init__(self, answers: Mapping[str, Sequence[str]]) -> None:
        super().__init__()
        self._answers = answers

    def generate_until(self, requests: list[Instance], **_: object) -> list[str]:
        """The answer of each request."""
        return [self._answer(request) for request in requests]

    def _answer(self, request: Instance) -> Answer:
        given = request.args[1]
        number = int(given.get("beam_index", given.get("sample_index", 0)))
        identity = str(request.doc.get("id"))
        known = self._answers.get(identity, ())
        if number >= len(known):
            raise UsageError(
                place=f"item {identity}",
                problem=f"has {len(known)} answers; number {number + 1} is asked for",
                remedy="ask for fewer: --gen_kwargs num_beams=N or num_samples=N",
            )
        return Answer.of(known[number])

    def loglikelihood(self, requests: list[Instance]) -> list[tuple[float, bool]]:
        """Not answered: our tasks generate."""
        raise UsageError(place="replay", problem="only generated answers are kept")

    def loglikelihood_rolling(self, requests: list[Instance]) -> list[float]:
        """Not answered: our tasks generate."""
        raise UsageError(place="replay", problem="only generated answers are kept")
