"""Rows to token ids and padded batches. Loss falls on the response and its end-of-sequence only."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from peft_bench.data import Row
from peft_bench.errors import UsageError
from peft_bench.prompts import PromptTemplate

if TYPE_CHECKING:
    import torch

IGNORED_LABEL = -100


@dataclass(frozen=True, slots=True)
class Encoded:
    """Token ids of a split: a dict a row (``input_ids``, ``labels``, ``length``); what was cut."""

    features: list[dict[str, Any]]
    truncated_prompts: int
    truncated_targets: int

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
) -> Encoded:
    """Encodes prompts exactly as the harness does at scoring time, then the target and EOS.

    Causal: ``input_ids`` = prompt + target + EOS, ``labels`` the same with the prompt ignored.
    Encoder-decoder: ``input_ids`` = prompt, ``labels`` = target + EOS. A target over its limit
    is cut and loses its EOS, so that the model is not taught to stop early.
    """
    features: list[dict[str, Any]] = []
    cut_prompts = cut_targets = 0
    for row in rows:
        prompt_ids, cut = _prompt_ids(row, tokenizer, prompt, max_prompt_tokens)
        cut_prompts += cut
        target = tokenizer(row.cmd.strip(), add_special_tokens=False).input_ids
        target = [*target, tokenizer.eos_token_id]
        cut_targets += len(target) > max_target_tokens
        target = target[:max_target_tokens]
        length = len(prompt_ids) + len(target)
        if is_encoder_decoder:
            ids, labels = prompt_ids, target
        else:
            ids, labels = prompt_ids + target, [IGNORED_LABEL] * len(prompt_ids) + target
        features.append({"input_ids": ids, "labels": labels, "length": length})
    return Encoded(features, cut_prompts, cut_targets)


def _prompt_ids(
    row: Row, tokenizer: Any, prompt: PromptTemplate, limit: int
) -> tuple[list[int], bool]:
    ids = list(tokenizer(prompt.render(row.nl)).input_ids)
    if len(ids) <= limit:
        return ids, False
    intent = tokenizer(row.nl.strip(), add_special_tokens=False).input_ids
    frame = len(tokenizer(prompt.render("")).input_ids)
    if frame >= limit:
        raise UsageError(
            place="data.max_prompt_tokens",
            problem=f"{limit} leaves no room for the intent: the frame alone takes {frame} tokens",
            remedy=f"raise it above {frame}",
        )
    keep = min(len(intent), limit - frame)
    while len(ids) > limit:
        # A cut inside a character decodes to the replacement character, which nobody wrote.
        text = tokenizer.decode(intent[:keep]).rstrip("\N{REPLACEMENT CHARACTER}")
        ids = list(tokenizer(prompt.render(text)).input_ids)
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
