from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from peft_bench.data import Row
from peft_bench.encoding import IGNORED_LABEL, Collator, Encoded, encode_rows, order_by_length
from peft_bench.errors import UsageError
from peft_bench.prompts import PROMPTS

PROMPT = PROMPTS["instruction"]
SHORT = Row("1", "sort list `xs`", "sorted(xs)", "1")
OTHER = Row("2", "  reverse list `xs`\n", " xs[::-1]\n", "2")


@pytest.fixture(scope="module")
def tokenizer(tiny_model: Callable[..., Path]) -> Any:
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(tiny_model("llama"))


@pytest.fixture(scope="module")
def eos_tokenizer(tiny_model: Callable[..., Path]) -> Any:
    """One that ends every text with EOS on its own, as T5's does."""
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(tiny_model("t5"))


def encode(tokenizer: Any, *rows: Row, **changes: Any) -> Encoded:
    options = {"max_prompt_tokens": 200, "max_target_tokens": 200, "is_encoder_decoder": False}
    return encode_rows(rows, tokenizer, PROMPT, **{**options, **changes})


def parts(feature: dict[str, Any]) -> tuple[list[int], list[int]]:
    """The prompt's ids and the target's, told apart by the labels."""
    length = feature["labels"].count(IGNORED_LABEL)
    assert feature["labels"][:length] == [IGNORED_LABEL] * length
    return feature["input_ids"][:length], feature["labels"][length:]


def test_the_harness_would_encode_the_prompt_the_same(
    tokenizer: Any, tiny_model: Callable[..., Path]
) -> None:
    from lm_eval.models.huggingface import HFLM

    harness = HFLM(pretrained=str(tiny_model("llama")), device="cpu")
    for row, feature in zip((SHORT, OTHER), encode(tokenizer, SHORT, OTHER).features, strict=True):
        prompt, _ = parts(feature)
        text = PROMPT.render(row.nl)
        assert prompt == tokenizer(text).input_ids
        assert prompt == harness.tok_batch_encode([text])[0][0].tolist()
        assert tokenizer.decode(prompt) == text


def test_loss_falls_on_the_target_and_its_end_only(tokenizer: Any) -> None:
    encoded = encode(tokenizer, SHORT, OTHER)
    for row, feature in zip((SHORT, OTHER), encoded.features, strict=True):
        prompt, target = parts(feature)
        assert feature["input_ids"] == prompt + target
        assert target[-1] == tokenizer.eos_token_id
        assert tokenizer.decode(target[:-1]) == row.cmd.strip()
        assert feature["length"] == len(prompt) + len(target)
    assert (encoded.truncated_prompts, encoded.truncated_targets) == (0, 0)
    assert encoded.tokens == sum(len(feature["input_ids"]) for feature in encoded.features)


def test_a_long_prompt_loses_the_end_of_its_intent_and_keeps_its_frame(tokenizer: Any) -> None:
    long = Row("3", "sort list `xs` " * 30, "sorted(xs)", "3")
    for limit in range(len(tokenizer(PROMPT.render("")).input_ids) + 1, 60):
        encoded = encode(tokenizer, SHORT, long, max_prompt_tokens=limit)
        prompt, target = parts(encoded.features[1])
        text = tokenizer.decode(prompt)
        assert len(prompt) <= limit
        assert text.startswith("### Instruction:\n") and text.endswith("\n### Response:\n")
        kept = text.removeprefix("### Instruction:\n").removesuffix("\n### Response:\n")
        assert long.nl.startswith(kept)
        assert target[-1] == tokenizer.eos_token_id
    assert len(kept) > 20
    assert (encoded.truncated_prompts, encoded.truncated_targets) == (1, 0)


def test_a_prompt_of_just_the_limit_is_whole(tokenizer: Any) -> None:
    length = len(tokenizer(PROMPT.render(SHORT.nl)).input_ids)
    assert encode(tokenizer, SHORT, max_prompt_tokens=length).truncated_prompts == 0
    assert encode(tokenizer, SHORT, max_prompt_tokens=length - 1).truncated_prompts == 1


def test_a_cut_inside_a_character_drops_it(tokenizer: Any) -> None:
    row = Row("4", "\N{SNAKE}" * 20, "x", "4")
    for limit in range(40, 48):
        prompt, _ = parts(encode(tokenizer, row, max_prompt_tokens=limit).features[0])
        assert "\N{REPLACEMENT CHARACTER}" not in tokenizer.decode(prompt)


def test_a_frame_without_room_for_an_intent_is_refused(tokenizer: Any) -> None:
    frame = len(tokenizer(PROMPT.render("")).input_ids)
    with pytest.raises(UsageError, match="leaves no room") as caught:
        encode(tokenizer, SHORT, max_prompt_tokens=frame)
    assert f"above {frame}" in str(caught.value)


def test_a_long_target_is_cut_and_has_no_end(tokenizer: Any) -> None:
    length = len(tokenizer(SHORT.cmd).input_ids)
    whole = encode(tokenizer, SHORT, max_target_tokens=length + 1)
    assert whole.truncated_targets == 0
    cut = encode(tokenizer, SHORT, max_target_tokens=length)
    _, target = parts(cut.features[0])
    assert cut.truncated_targets == 1
    assert len(target) == length and tokenizer.eos_token_id not in target
    shorter = encode(tokenizer, SHORT, OTHER, max_target_tokens=2)
    assert shorter.truncated_targets == 2
    assert [len(parts(feature)[1]) for feature in shorter.features] == [2, 2]


def test_an_encoder_decoder_has_the_target_in_its_labels_alone(eos_tokenizer: Any) -> None:
    encoded = encode(eos_tokenizer, SHORT, is_encoder_decoder=True)
    [feature] = encoded.features
    assert feature["input_ids"] == eos_tokenizer(PROMPT.render(SHORT.nl)).input_ids
    assert feature["input_ids"][-1] == eos_tokenizer.eos_token_id
    assert feature["labels"].count(eos_tokenizer.eos_token_id) == 1
    assert feature["labels"][-1] == eos_tokenizer.eos_token_id
    assert eos_tokenizer.decode(feature["labels"][:-1]) == SHORT.cmd
    assert encoded.tokens == len(feature["input_ids"]) + len(feature["labels"])


def test_a_long_prompt_of_an_encoder_decoder_keeps_its_end(eos_tokenizer: Any) -> None:
    long = Row("3", "sort list `xs` " * 30, "sorted(xs)", "3")
    encoded = encode(eos_tokenizer, long, is_encoder_decoder=True, max_prompt_tokens=45)
    ids = encoded.features[0]["input_ids"]
    assert len(ids) <= 45 and ids[-1] == eos_tokenizer.eos_token_id
    assert eos_tokenizer.decode(ids[:-1]).endswith("\n### Response:\n")


def test_batches_are_padded_on_the_right() -> None:
    batch = Collator(pad_token_id=9)(
        [
            {"input_ids": [1, 2, 3], "labels": [IGNORED_LABEL, 2, 3], "length": 3},
            {"input_ids": [4], "labels": [4], "length": 1},
        ]
    )
    assert batch["input_ids"].tolist() == [[1, 2, 3], [4, 9, 9]]
    assert batch["attention_mask"].tolist() == [[1, 1, 1], [1, 0, 0]]
    ignored = IGNORED_LABEL
    assert batch["labels"].tolist() == [[ignored, 2, 3], [4, ignored, ignored]]


def test_labels_of_another_length_than_the_ids_are_padded_on_their_own() -> None:
    batch = Collator(pad_token_id=0)(
        [
            {"input_ids": [1, 2], "labels": [5], "length": 3},
            {"input_ids": [3], "labels": [6, 7, 8], "length": 4},
        ]
    )
    assert batch["input_ids"].tolist() == [[1, 2], [3, 0]]
    assert batch["attention_mask"].tolist() == [[1, 1], [1, 0]]
    assert batch["labels"].tolist() == [[5, IGNORED_LABEL, IGNORED_LABEL], [6, 7, 8]]


def test_a_pad_token_that_is_eos_is_masked_but_the_real_end_is_not(tokenizer: Any) -> None:
    eos = tokenizer.eos_token_id
    encoded = encode(tokenizer, SHORT, Row("5", "sum of list `xs`", "sum(xs) + sum(xs)", "5"))
    batch = Collator(pad_token_id=eos)(encoded.features)
    for feature, labels, mask in zip(
        encoded.features, batch["labels"].tolist(), batch["attention_mask"].tolist(), strict=True
    ):
        assert sum(mask) == feature["length"]
        assert labels.count(eos) == 1 and labels[feature["length"] - 1] == eos


@pytest.mark.parametrize(("count", "batch"), [(1, 8), (8, 8), (13, 8), (200, 8), (203, 4), (5, 1)])
def test_an_order_by_length_holds_every_row_once(count: int, batch: int) -> None:
    draw = random.Random(0)
    lengths = [draw.randint(3, 60) for _ in range(count)]
    order = order_by_length(lengths, batch, "1 0")
    assert sorted(order) == list(range(count))
    assert order == order_by_length(lengths, batch, "1 0")
    if count >= 2 * batch:
        assert max(lengths[row] for row in order[:batch]) == max(
            lengths[row] for row in order[: count // batch * batch]
        )


def test_batches_by_length_hold_little_padding_and_change_from_epoch_to_epoch() -> None:
    draw = random.Random(0)
    lengths = [draw.randint(10, 100) for _ in range(400)]

    def batches(order: list[int]) -> list[list[int]]:
        return [order[i : i + 8] for i in range(0, 400, 8)]

    def padding(order: list[int]) -> int:
        return sum(
            8 * max(of) - sum(of) for of in ([lengths[r] for r in b] for b in batches(order))
        )

    first, second = (order_by_length(lengths, 8, f"1 {epoch}") for epoch in (0, 1))
    assert padding(first) < 0.05 * sum(lengths) < 0.5 * padding(list(range(400)))
    company = [{frozenset(batch) for batch in batches(order)} for order in (first, second)]
    assert len(company[0] & company[1]) < 5
    # Long and short batches come by lot: both halves of an epoch hold about as many tokens.
    half = sum(lengths[row] for row in first[:200])
    assert 0.4 < half / sum(lengths) < 0.6
