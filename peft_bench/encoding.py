"""Rows to token ids and padded batches. Loss falls on the response and its end-of-sequence only."""

from __future__ import annotations

import random
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from peft_bench.data import Row
from peft_bench.errors import UsageError
from peft_bench.prompts import CHAT, PromptTemplate

if TYPE_CHECKING:
    import torch

IGNORED_LABEL = -100


@dataclass(frozen=True, slots=True)
class Encoded:
    """Token ids of a split: a dict a row (``input_ids``, ``labels``, ``length``); what was cut.

    ``dropped_rows`` were too long, and left out.
    """

    features: list[dict[str, Any]]
    truncated_prompts: int
    truncated_targets: int
    dropped_rows: int = 0

    @property
    def label_tokens(self) -> int:
        """Tokens that carry a loss in one pass over the rows."""
        return sum(sum(label != IGNORED_LABEL for label in row["labels"]) for row in self.features)

    @property
    def tokens(self) -> int:
        """Real tokens in one pass over the rows, labels of an encoder-decoder included."""
        return sum(feature["length"] for feature in self.features)


def encode_rows(
    rows: Iterable[Row],
    tokenizer: Any,
    prompt: PromptTemplate,
    *,
    max_prompt_tokens: int,
    max_target_tokens: int,
    is_encoder_decoder: bool,
    max_row_tokens: int | None = None,
) -> Encoded:
    """Encodes prompts exactly as the harness does at scoring time, then the target and EOS.

    Causal: ``input_ids`` = prompt + target + EOS, ``labels`` the same with the prompt ignored.
    Encoder-decoder: ``input_ids`` = prompt, ``labels`` = target + EOS. A target over its limit
    is cut and loses its EOS, so that the model is not taught to stop early. Rows of more than
    ``max_row_tokens`` in all, before anything is cut, are left out.

    With the prompt ``chat`` the prompt is the model's chat template around one turn of the user's,
    up to where the assistant begins, and the target the assistant's turn with what ends it.

    Raises:
        UsageError: a limit leaves no room for the intent; or there is no chat template.
    """
    features: list[dict[str, Any]] = []
    cut_prompts = cut_targets = dropped = 0
    frame: Frame = (
        ChatFrame(tokenizer, prompt) if prompt.name == CHAT else PlainFrame(tokenizer, prompt)
    )
    for row in rows:
        target = frame.target_ids(row)
        if max_row_tokens is not None:
            whole = len(frame.prompt_ids(row.nl)) + len(target)
            if whole > max_row_tokens:
                dropped += 1
                continue
        prompt_ids, cut = _prompt_ids(row, tokenizer, frame, max_prompt_tokens)
        cut_prompts += cut
        cut_targets += len(target) > max_target_tokens
        target = target[:max_target_tokens]
        length = len(prompt_ids) + len(target)
        if is_encoder_decoder:
            ids, labels = prompt_ids, target
        else:
            ids, labels = prompt_ids + target, [IGNORED_LABEL] * len(prompt_ids) + target
        features.append({"input_ids": ids, "labels": labels, "length": length})
    if dropped and not features:
        raise UsageError(
            place="data.max_row_tokens",
            problem=f"leaves none of {dropped} rows",
            remedy="raise it",
        )
    return Encoded(features, cut_prompts, cut_targets, dropped)


@dataclass(frozen=True, slots=True)
class PlainFrame:
    """A prompt template as it stands; the target ends in EOS."""

    tokenizer: Any
    prompt: PromptTemplate

    def prompt_ids(self, intent: str) -> list[int]:
        """Encoded as the harness does, the tokenizer's own special tokens included."""
        return list(self.tokenizer(self.prompt.render(intent)).input_ids)

    def target_ids(self, row: Row) -> list[int]:
        """The code and EOS."""
        ids = self.tokenizer(row.cmd.strip(), add_special_tokens=False).input_ids
        return [*ids, self.tokenizer.eos_token_id]


@dataclass(frozen=True, slots=True)
class ChatFrame:
    """A model's chat template: one turn of the user's, and the assistant's with what ends it.

    Raises:
        UsageError: the tokenizer has no chat template.
    """

    tokenizer: Any
    prompt: PromptTemplate

    def __post_init__(self) -> None:
        if not getattr(self.tokenizer, "chat_template", None):
            raise UsageError(
                place="data.prompt",
                problem="chat needs a chat template, which this model's tokenizer lacks",
                remedy="leave data.prompt out, or choose an instruction-tuned model",
            )

    def prompt_ids(self, intent: str) -> list[int]:
        """Encoded as the harness does: a template that writes BOS itself gets no second one."""
        text = self._render(intent)
        bos = self.tokenizer.bos_token
        special = not (bos and text.startswith(bos))
        return list(self.tokenizer(text, add_special_tokens=special).input_ids)

    def target_ids(self, row: Row) -> list[int]:
        """The code and what ends the turn, without the blank space that follows it."""
        start = self._render(row.nl)
        code = row.cmd.strip()
        whole = self._render(row.nl, code)
        if whole.startswith(start):
            text = whole[len(start) :].rstrip()
        else:
            # A template may write an empty thought before an answer that is yet to come.
            text = code + whole.rpartition(code)[2].rstrip()
        ids = list(self.tokenizer(text, add_special_tokens=False).input_ids)
        eos = self.tokenizer.eos_token_id
        return ids if text != code and ids else [*ids, eos]

    def _render(self, intent: str, answer: str | None = None) -> str:
        turns = [{"role": "user", "content": self.prompt.render(intent)}]
        if answer is not None:
            turns.append({"role": "assistant", "content": answer})
        return str(
            self.tokenizer.apply_chat_template(
                turns, tokenize=False, add_generation_prompt=answer is None
            )
        )


Frame = PlainFrame | ChatFrame


def _prompt_ids(row: Row, tokenizer: Any, frame: Frame, limit: int) -> tuple[list[int], bool]:
    ids = frame.prompt_ids(row.nl)
    if len(ids) <= limit:
        return ids, False
    intent = tokenizer(row.nl.strip(), add_special_tokens=False).input_ids
    empty = len(frame.prompt_ids(""))
    if empty >= limit:
        raise UsageError(
            place="data.max_prompt_tokens",
            problem=f"{limit} leaves no room for the intent: the frame alone takes {empty} tokens",
            remedy=f"raise it above {empty}",
        )
    keep = min(len(intent), limit - empty)
    while len(ids) > limit:
        # A cut inside a character decodes to the replacement character, which nobody wrote.
        text = tokenizer.decode(intent[:keep]).rstrip("\N{REPLACEMENT CHARACTER}")
        ids = frame.prompt_ids(text)
        keep -= 1
    return ids, True


@dataclass(frozen=True, slots=True)
class Collator:
    """Pads a batch on the right to its longest row; pads are masked and carry no label."""

    pad_token_id: int

    def __call__(self, features: Sequence[dict[str, Any]]) -> dict[str, torch.Tensor]:
        import torch

        def padded(name: str, fill: int) -> torch.Tensor:
            rows = [feature[name] for feature in features]
            width = max(map(len, rows))
            return torch.tensor([[*row, *[fill] * (width - len(row))] for row in rows])

        width = max(len(feature["input_ids"]) for feature in features)
        mask = [
            [1] * len(feature["input_ids"]) + [0] * (width - len(feature["input_ids"]))
            for feature in features
        ]
        return {
            "input_ids": padded("input_ids", self.pad_token_id),
            "attention_mask": torch.tensor(mask),
            "labels": padded("labels", IGNORED_LABEL),
        }


def order_by_length(lengths: Sequence[int], batch_size: int, seed: str) -> list[int]:
    """An epoch's order of rows, such that batches of ``batch_size`` hold rows of about one length.

    Rows are ranked by length, equal ones by lot; each rank is moved up by chance, by at most a
    fiftieth of the rows or one batch, so that the company a row keeps changes from epoch to epoch.
    Batches come by lot, each from its longest row down. The longest of all is the first: a step
    that does not fit in memory fails at once. A short batch is the last.
    """
    draw = random.Random(seed)
    count = len(lengths)
    ranked = sorted(range(count), key=lambda row: (lengths[row], draw.random()))
    reach = max(batch_size, count // 50)
    moved = sorted((rank + reach * draw.random(), row) for rank, row in enumerate(ranked))
    rows = [row for _, row in moved]
    whole, rest = divmod(count, batch_size)
    # Which rows make the short batch: any that stand together.
    start = batch_size * draw.randint(0, whole)
    short, rows = rows[start : start + rest], rows[:start] + rows[start + rest :]
    batches = [rows[i : i + batch_size] for i in range(0, len(rows), batch_size)]
    for batch in batches:
        batch.sort(key=lambda row: -lengths[row])
    draw.shuffle(batches)
    if batches:
        longest = max(range(len(batches)), key=lambda i: lengths[batches[i][0]])
        batches.insert(0, batches.pop(longest))
    return [row for batch in [*batches, short] for row in batch]
