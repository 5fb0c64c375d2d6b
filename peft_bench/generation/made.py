"""What was made for each prompt, and how an answer finds what is known of it."""

from __future__ import annotations

import glob
import json
import logging
import os
from collections.abc import Mapping, Sequence
from contextvars import ContextVar
from dataclasses import astuple, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from peft_bench.answers import Answer
from peft_bench.generation.rows import Prompt

if TYPE_CHECKING:
    import torch

_log = logging.getLogger(__name__)

#: The folder of a run that may be interrupted. The harness' response cache there keeps an answer's
#: text alone; what else is known of it is kept beside, so that a run that goes on scores the same.
KEPT_IN: ContextVar[Path | None] = ContextVar("KEPT_IN", default=None)
KEPT_FILES = "made_*.jsonl"


@dataclass(frozen=True, slots=True)
class Made:
    """One beam or sample.

    Attributes:
        ids: its new tokens, the one that ended it included.
        score: as in :class:`peft_bench.answers.Answer`.
        tokens: new tokens, without the one that ended it.
        finished: whether it ended by itself.
    """

    ids: list[int]
    score: float
    tokens: int
    finished: bool


@dataclass
class Ledger:
    """The answers of each prompt, by token ids; kept for the run.

    ``longest`` is the most tokens a prompt had: the harness cuts longer ones at their beginning.
    ``truncated`` holds the contexts for which that was seen.
    """

    by_ids: dict[tuple[int, ...], dict[int, Made]] = field(default_factory=dict)
    longest: int = 0
    truncated: set[str] = field(default_factory=set)
    _vectors: dict[bytes, int] = field(default_factory=dict)
    _earlier: dict[tuple[int, ...], dict[int, Made]] = field(default_factory=dict)
    _kept: Path | None = None

    def go_on(self, task: str) -> None:
        """Takes in what an interrupted run of the task made, and keeps what is made from now on.

        Nothing happens outside of a folder to keep it in (:data:`KEPT_IN`).
        """
        folder = KEPT_IN.get()
        if folder is None or self._kept is not None:
            return
        self._kept = folder / f"made_{task}_rank{os.environ.get('RANK', '0')}.jsonl"
        for file in sorted(folder.glob(f"made_{glob.escape(task)}_rank*.jsonl")):
            for line in file.read_text(encoding="utf-8").splitlines():
                try:
                    ids, made = json.loads(line)
                except ValueError:
                    continue  # the process was killed while it wrote this line
                read = {number: Made(*one) for number, *one in made}
                self._earlier.setdefault(tuple(ids), {}).update(read)
                self._take(tuple(ids), read)
        if self._kept.is_file() and not self._kept.read_bytes().endswith(b"\n"):
            with self._kept.open("a", encoding="utf-8") as lines:
                lines.write("\n")

    def note(self, model: Any, prompt: Prompt, made: Mapping[int, Made]) -> None:
        """Keeps what more was made for a prompt."""
        ids = self._ids(model, prompt)
        self._take(ids, made)
        if self._kept is not None:
            line = json.dumps([ids, [[number, *astuple(one)] for number, one in made.items()]])
            with self._kept.open("a", encoding="utf-8") as lines:
                lines.write(f"{line}\n")

    def earlier(self, model: Any, prompt: Prompt) -> Mapping[int, Made]:
        """What the interrupted run made for a prompt: the harness' cache has a part of it only.

        The harness asks for the first beams of all prompts, then for the second ones, while all
        beams of a prompt are made at once.
        """
        return self._earlier.get(self._ids(model, prompt), {}) if self._earlier else {}

    def _take(self, ids: tuple[int, ...], made: Mapping[int, Made]) -> None:
        self.by_ids.setdefault(ids, {}).update(made)
        self.longest = max(self.longest, len(ids))

    def find(self, tokenizer: Any, context: str, number: int, text: str) -> Answer:
        """The answer with what is known of it; with nothing, where it was not made here.

        Args:
            tokenizer: the model's.
            context: the request's text.
            number: the beam's rank or the sample's index.
            text: the answer that the harness holds; taken from its cache, perhaps.
        """
        for special in (False, True):
            ids = tuple(tokenizer.encode(context, add_special_tokens=special))
            made = self.by_ids.get(ids)
            if made is None and len(ids) > self.longest > 0:
                made = self.by_ids.get(ids[-self.longest :])
                if made is not None:
                    self.truncated.add(context)
            if made is None or number not in made:
                continue
            one = made[number]
            # The harness cuts at stop strings; another text means that another run made it.
            if text.strip() in tokenizer.decode(one.ids, skip_special_tokens=True):
                return Answer(text, score=one.score, tokens=one.tokens, finished=one.finished)
        return Answer.of(text)

    def tell_truncated(self, task: str) -> None:
        """Says how many prompts did not fit, once."""
        if self.truncated:
            _log.warning(
                "%s: %d prompts were longer than the model's context with room for the answer; "
                "their beginnings were cut off",
                task,
                len(self.truncated),
            )

    def _ids(self, model: Any, prompt: Prompt) -> tuple[int, ...]:
        """A prompt's token ids; one in embeddings is read back into them."""
        if isinstance(prompt.key, bytes):
            return self._read_back(model, prompt.row)
        return prompt.key

    def _read_back(self, model: Any, row: torch.Tensor) -> tuple[int, ...]:
        """The ids whose embeddings these are; what comes first and is no token is dropped."""
        import torch

        layer = model.get_input_embeddings()
        if not self._vectors:
            every = torch.arange(layer.num_embeddings, device=row.device)
            vectors = layer(every).detach().to(row.dtype)
            for number, vector in enumerate(_bytes(vectors)):
                self._vectors.setdefault(vector, number)
        ids = [self._vectors.get(vector) for vector in _bytes(row)]
        real = [number for number in ids if number is not None]
        return tuple(real)


def _bytes(vectors: torch.Tensor) -> list[bytes]:
    import hashlib

    import torch

    raw = vectors.detach().to("cpu", torch.float32).contiguous().numpy()
    return [hashlib.blake2b(vector.tobytes(), digest_size=16).digest() for vector in raw]


def trimmed(
    new: Sequence[int], stops: frozenset[int], score: float, *, ended_at: int | None = None
) -> Made:
    """One generated row up to its end.

    Args:
        new: the row's new tokens, padding after its end.
        stops: tokens that end an answer.
        score: of the whole row.
        ended_at: how many tokens there were when a stop string was complete.
    """
    end = next((number + 1 for number, token in enumerate(new) if token in stops), None)
    if ended_at is not None and (end is None or ended_at < end):
        end = ended_at
    if end is None:
        return Made(list(new), score, len(new), finished=False)
    return Made(list(new[:end]), score, end - 1, finished=True)
