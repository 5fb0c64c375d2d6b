"""What is trained on: mixtures with weights, one's own files, APPS, chat templates."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from peft_bench import cards, data, mixture, models
from peft_bench.encoding import IGNORED_LABEL, encode_rows
from peft_bench.errors import MissingError, UsageError
from peft_bench.prompts import CHAT, PROMPTS
from peft_bench.recipe import BaseModel, DataChoice, parse_recipe
from peft_bench.training import train

TEMPLATE = (
    "{% for m in messages %}<|{{ m.role }}|>\n{{ m.content }}<|end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>\n{% endif %}"
)


def write(file: Path, rows: list[dict[str, Any]]) -> str:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return str(file)


def pairs(count: int, name: str = "x") -> list[dict[str, Any]]:
    return [{"nl": f"print {name} {i}", "cmd": f"print({i})"} for i in range(count)]


def split(task: str, count: int) -> data.Split:
    rows = tuple(data.Row(f"{task}-{i}", f"ask {i}", f"do({i})", str(i)) for i in range(count))
    return data.Split(task, "train", rows, "", "", True)


def test_weights_say_how_often_a_row_is_seen() -> None:
    splits = [split("a", 10), split("b", 8)]
    assert mixture.weighed(splits, {}, 42) == [*splits[0].rows, *splits[1].rows]
    rows = [row.id for row in mixture.weighed(splits, {"a": 2.5, "b": 0.25}, 42)]
    counts = [rows.count(f"a-{i}") for i in range(10)]
    assert sorted(counts) == [2] * 5 + [3] * 5
    assert sum(row.startswith("b-") for row in rows) == len({r for r in rows if r[0] == "b"}) == 2
    assert rows == [row.id for row in mixture.weighed(splits, {"a": 2.5, "b": 0.25}, 42)]
    assert rows != [row.id for row in mixture.weighed(splits, {"a": 2.5, "b": 0.25}, 43)]
    with pytest.raises(UsageError, match="leave no row"):
        mixture.weighed(splits, {"a": 0.01, "b": 0.01}, 42)


def test_fewer_rows_of_a_mix_are_spread_over_it() -> None:
    rows = [*split("a", 6).rows, *split("b", 6).rows]
    assert mixture.at_most(rows, None, 2) == mixture.at_most(rows, 12, 2) == rows
    assert [row.id for row in mixture.at_most(rows, 4, 2)] == ["a-0", "a-3", "b-0", "b-3"]
    assert mixture.at_most(rows, 4, 1) == rows[:4]


def test_own_files_are_trained_on_beside_a_task(
    recipe_dict: dict[str, Any], conala_data: Path, tmp_path: Path
) -> None:
    file = write(tmp_path / "own.jsonl", pairs(20))
    recipe_dict["data"] = {"tasks": ["conala"], "files": [file], "weights": {"files": 0.5}}
    recipe_dict["training"] = {"epochs": 1, "batch_size": 4, "evaluations_per_epoch": 1}
    card = cards.read_card(train(parse_recipe(recipe_dict), tmp_path / "a", progress=False))
    assert card is not None and card.custom_data
    rows = {name: facts["rows"] for name, facts in card.data.items()}
    assert rows == {
        "conala/train": 8,
        "files/train": 18,
        "conala/validation": 8,
        "files/validation": 2,
    }
    assert card.outcome.steps == 5  # 8 rows and half of 18


def test_files_alone_with_validation_files_of_their_own(tmp_path: Path) -> None:
    train_file = write(tmp_path / "own.jsonl", pairs(3))
    other = write(tmp_path / "other.jsonl", pairs(2, "y"))
    choice = DataChoice(files=(train_file,), validation_files=(other,))
    splits = mixture.load(choice)
    assert [(s.task, s.name, len(s.rows)) for s in splits] == [
        ("files", "train", 3),
        ("files", "validation", 2),
    ]
    with pytest.raises(MissingError, match=r"nothing\.jsonl cannot be read"):
        mixture.load(DataChoice(files=(str(tmp_path / "nothing.jsonl"),)))
    lone = write(tmp_path / "lone.jsonl", pairs(1))
    with pytest.raises(UsageError, match="one row"):
        mixture.load(DataChoice(files=(lone,)))
    bad = write(tmp_path / "bad.jsonl", [{"nl": "ask"}])
    with pytest.raises(UsageError, match="cmd"):
        mixture.load(DataChoice(files=(bad,)))


@pytest.mark.parametrize(
    ("section", "told"),
    [
        ({"tasks": []}, "names no data set"),
        ({}, "names no data set"),
        ({"tasks": ["conala"], "weights": {"apps": 2}}, "is not trained on"),
        ({"tasks": ["conala"], "weights": {"conala": 0}}, "not positive"),
        ({"files": "own.jsonl"}, "not a list"),
    ],
)
def test_faulty_mixtures_are_refused(
    section: dict[str, Any], told: str, recipe_dict: dict[str, Any]
) -> None:
    with pytest.raises(UsageError, match=told):
        parse_recipe(recipe_dict | {"data": section})


def test_a_set_without_rows_to_train_on_is_refused() -> None:
    with pytest.raises(UsageError, match="no rows to train on"):
        mixture.load(DataChoice(tasks=("odex",)))


def test_apps_keeps_validation_rows_apart(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rows = [
        {
            "problem_id": i,
            "question": f"Print {i}.",
            "solutions": json.dumps([f"print({i})"] if i != 3 else []),
            "difficulty": "interview",
        }
        for i in range(41)
    ]
    write(tmp_path / "apps" / "train.jsonl", rows)
    monkeypatch.setenv(data.ENVIRONMENT_VARIABLE, str(tmp_path))
    first, second = mixture.load(DataChoice(tasks=("apps",)))
    assert (first.name, len(first.rows)) == ("train", 36)
    assert (second.name, len(second.rows)) == ("validation", 4)
    ids = {row.id for row in (*first.rows, *second.rows)}
    assert len(ids) == 40 and "3" not in ids  # it has no solution
    assert mixture.load(DataChoice(tasks=("apps",)))[1] == second


def test_validation_rows_of_apps_are_the_first_500_as_datasets_shuffles_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from datasets import Dataset

    rows = [
        {"problem_id": i, "question": "q", "solutions": '["x"]', "difficulty": "interview"}
        for i in range(5000)
    ]
    write(tmp_path / "apps" / "train.jsonl", rows)
    monkeypatch.setenv(data.ENVIRONMENT_VARIABLE, str(tmp_path))
    first, second = mixture.load(DataChoice(tasks=("apps",)))
    shuffled = Dataset.from_dict({"id": [str(i) for i in range(5000)]}).shuffle(seed=42)["id"]
    assert [row.id for row in second.rows] == list(shuffled[:500])
    assert [row.id for row in first.rows] == list(shuffled[500:])


def test_rows_that_are_too_long_are_left_out(tiny_model: Callable[..., Path]) -> None:
    tokenizer = models.load_tokenizer(BaseModel(str(tiny_model())))
    rows = [data.Row("1", "short", "x", "1"), data.Row("2", "long " * 60, "y", "2")]

    def encode(limit: int) -> Any:
        return encode_rows(
            rows,
            tokenizer,
            PROMPTS["instruction"],
            max_prompt_tokens=64,
            max_target_tokens=8,
            is_encoder_decoder=False,
            max_row_tokens=limit,
        )

    encoded = encode(60)
    assert (len(encoded.features), encoded.dropped_rows, encoded.truncated_prompts) == (1, 1, 0)
    with pytest.raises(UsageError, match="leaves none"):
        encode(2)


@pytest.fixture()
def chat_model(tiny_model: Callable[..., Path], tmp_path: Path) -> Path:
    """A tiny model with a chat template."""
    from transformers import AutoModelForCausalLM, AutoTokenizer

    source, folder = tiny_model(), tmp_path / "chat-model"
    tokenizer = AutoTokenizer.from_pretrained(source)
    tokenizer.chat_template = TEMPLATE
    tokenizer.save_pretrained(folder)
    AutoModelForCausalLM.from_pretrained(source).save_pretrained(folder)
    return folder


def test_chat_loss_falls_on_the_answer_and_the_end_of_its_turn(chat_model: Path) -> None:
    tokenizer = models.load_tokenizer(BaseModel(str(chat_model)))
    row = data.Row("1", "sort `xs`", "sorted(xs)", "1")
    [feature] = encode_rows(
        [row],
        tokenizer,
        PROMPTS[CHAT],
        max_prompt_tokens=200,
        max_target_tokens=64,
        is_encoder_decoder=False,
    ).features
    learnt = [label for label in feature["labels"] if label != IGNORED_LABEL]
    assert tokenizer.decode(learnt) == "sorted(xs)<|end|>"
    text = tokenizer.decode(feature["input_ids"])
    turns = [
        {"role": "user", "content": PROMPTS[CHAT].render(row.nl)},
        {"role": "assistant", "content": row.cmd},
    ]
    assert text == tokenizer.apply_chat_template(turns, tokenize=False).rstrip()


def test_chat_prompt_is_the_one_that_scoring_asks() -> None:
    from peft_bench.shots import ShotsMixin

    intent = " sort `xs`\n"
    asked = f"{ShotsMixin.chat_instruction}\n\n{intent.strip()}"
    assert PROMPTS[CHAT].render(intent) == asked


BOS_TEMPLATE = "{{ bos_token }}" + TEMPLATE


@pytest.mark.parametrize(
    ("template", "adds_bos"), [(TEMPLATE, False), (TEMPLATE, True), (BOS_TEMPLATE, True)]
)
def test_scoring_asks_a_chat_model_in_the_very_tokens_of_training(
    template: str, adds_bos: bool, chat_model: Path
) -> None:
    from datasets import Dataset
    from lm_eval.models.huggingface import HFLM
    from tokenizers import processors

    from peft_bench.shots import ShotsMixin

    tokenizer = models.load_tokenizer(BaseModel(str(chat_model)))
    tokenizer.chat_template = template
    if adds_bos:
        tokenizer.add_special_tokens({"bos_token": "<s>"})
        number = tokenizer.bos_token_id
        tokenizer.backend_tokenizer.post_processor = processors.TemplateProcessing(
            single="<s> $A", special_tokens=[("<s>", number)]
        )
    tokenizer.save_pretrained(chat_model)
    row = data.Row("1", " sort `xs`\n", "sorted(xs)", "1")
    doc = {"id": "1", "nl": row.nl, "cmd": row.cmd, "question_id": "1", "prompt": row.nl}
    task = ShotsMixin(
        config={
            "task": "chat",
            "custom_dataset": lambda **_: {"test": Dataset.from_list([doc])},
            "test_split": "test",
            "doc_to_text": "prompt",
            "doc_to_target": "cmd",
            "output_type": "generate_until",
            "metric_list": [{"metric": "bypass"}],
            "metadata": {"version": 1.0, "data": "conala"},
        }
    )
    lm = HFLM(pretrained=str(chat_model), device="cpu")
    task.set_config("num_fewshot", 0)
    task.build_all_requests(
        apply_chat_template=True,
        chat_template=lm.apply_chat_template,
        tokenizer_name=lm.tokenizer_name,
    )
    [instance] = task.instances
    asked, _ = lm.tok_batch_encode([instance.args[0]])
    [feature] = encode_rows(
        [row],
        models.load_tokenizer(BaseModel(str(chat_model))),
        PROMPTS[CHAT],
        max_prompt_tokens=200,
        max_target_tokens=64,
        is_encoder_decoder=False,
    ).features
    prompt = feature["labels"].count(IGNORED_LABEL)
    assert feature["input_ids"][:prompt] == asked[0].tolist()
    if adds_bos:
        assert feature["input_ids"].count(tokenizer.bos_token_id) == 1


def test_chat_without_a_template_is_refused(
    recipe_dict: dict[str, Any], conala_data: Path, tmp_path: Path
) -> None:
    recipe_dict["data"]["prompt"] = CHAT
    with pytest.raises(UsageError, match="chat template"):
        train(parse_recipe(recipe_dict), tmp_path / "a", progress=False)


def test_a_chat_adapter_is_asked_through_its_template_alone(
    recipe_dict: dict[str, Any], conala_data: Path, tmp_path: Path, chat_model: Path
) -> None:
    from peft_bench.errors import PeftBenchError
    from peft_bench.shots import check_chat, check_plain

    recipe_dict["model"]["id"] = str(chat_model)
    recipe_dict["data"] |= {"prompt": CHAT, "max_prompt_tokens": 128}
    folder = train(parse_recipe(recipe_dict), tmp_path / "a", progress=False)
    card = cards.read_card(folder)
    assert card is not None and card.prompt.name == CHAT
    check_chat({"peft": str(folder)})
    with pytest.raises(PeftBenchError, match="--apply_chat_template"):
        check_plain({"peft": str(folder)})
    check_plain({"peft": str(folder), "other_prompt": True})
