"""Examples and chat templates in our task classes, through the harness' own code."""

from __future__ import annotations

import contextlib
import json
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
from lm_eval.api.instance import Instance
from lm_eval.api.model import LM

from peft_bench.errors import MissingError, PeftBenchError, UsageError
from peft_bench.examples import INSTRUCTION
from peft_bench.shots import ShotsMixin, check_chat, stop_strings

TEMPLATE = (
    "{% for m in messages %}<{{ m['role'] }}>{{ m['content'] }}</{{ m['role'] }}>{% endfor %}"
    "{% if add_generation_prompt %}<assistant>{% endif %}"
)
CHAT_LINE = f"{INSTRUCTION} Answer with the code alone.\n\n"


def row(split: str, number: int, nl: str, cmd: str) -> dict[str, str]:
    identity = f"{split}-{number}"
    prompt = f"### Instruction:\n{nl}\n### Response:\n"
    return {"id": identity, "nl": nl, "cmd": cmd, "question_id": identity, "prompt": prompt}


TRAIN = [row("train", n, f"take item {n} of `xs`", f"xs[{n}]") for n in range(30)]
# The third of the test rows has its own code among the examples, twice the fourth its intent.
TEST = [
    row("test", 0, "sum of `xs`", "sum(xs)"),
    row("test", 1, "sort `xs`", "[sorted(xs)]"),
    row("test", 2, "the eighth item", "xs[7]"),
    row("test", 3, "take item 9 of  `XS`", "xs[-1]"),
    row("test", 4, "reverse `xs`", "xs[::-1]"),
]


def rows(**_: Any) -> dict[str, Any]:
    from datasets import Dataset

    return {"train": Dataset.from_list(TRAIN), "test": Dataset.from_list(TEST)}


def length(doc: Mapping[str, Any], results: list[str]) -> dict[str, float]:
    return {"same": float(results[0] == doc["cmd"])}


def make(
    *, until: list[str] | None = None, split: str | None = "train", **metadata: Any
) -> ShotsMixin:
    return ShotsMixin(
        config={
            "task": "shown",
            "class": ShotsMixin,
            "custom_dataset": rows,
            "test_split": "test",
            "fewshot_split": split,
            "doc_to_text": "prompt",
            "doc_to_target": "cmd",
            "output_type": "generate_until",
            "generation_kwargs": {"until": ["\n"] if until is None else until},
            "process_results": length,
            "metric_list": [{"metric": "same", "aggregation": "mean", "higher_is_better": True}],
            "metadata": {"version": 1.0, "data": "conala", **metadata},
        }
    )


def prompts(task: ShotsMixin, shots: int, seed: int | None = 1234, **kwargs: Any) -> dict[str, str]:
    """Document id -> prompt, as the harness builds them."""
    task.set_config("num_fewshot", shots)
    task.set_fewshot_seed(seed=seed)
    task.build_all_requests(**kwargs)
    return {instance.doc["id"]: instance.args[0] for instance in task.instances}


class Says(LM):  # type: ignore[misc]
    """A model that gives one answer to everything, and knows a chat template."""

    tokenizer_name = "says"

    def __init__(self, answer: str) -> None:
        super().__init__()
        self._answer = answer

    def generate_until(self, requests: list[Instance]) -> list[str]:
        return [self._answer for _ in requests]

    def apply_chat_template(self, messages: Any, add_generation_prompt: bool = True) -> str:
        return render(messages, add_generation_prompt=add_generation_prompt)

    def loglikelihood(self, requests: list[Instance]) -> Any:
        raise NotImplementedError

    def loglikelihood_rolling(self, requests: list[Instance]) -> Any:
        raise NotImplementedError


def render(messages: Any, add_generation_prompt: bool = True) -> str:
    from jinja2 import Template

    return Template(TEMPLATE).render(messages=messages, add_generation_prompt=add_generation_prompt)


def run(task: ShotsMixin, answer: str = "xs", shots: int = 0, **kwargs: Any) -> dict[str, Any]:
    from lm_eval.evaluator import evaluate

    task.set_config("num_fewshot", shots)
    task.set_fewshot_seed(seed=1234)
    found = evaluate(
        lm=Says(answer),
        task_dict={"tasks": {"shown": task}, "groups": {}},
        bootstrap_iters=0,
        **kwargs,
    )
    assert found is not None
    return dict(found)


def test_without_examples_the_prompt_is_that_of_training() -> None:
    assert prompts(make(), 0) == {doc["id"]: doc["prompt"] for doc in TEST}
    always = prompts(make(header="always"), 0)
    assert always == {doc["id"]: f"{INSTRUCTION}\n{doc['prompt']}" for doc in TEST}


@pytest.mark.parametrize("metadata", [{}, {"shots": "fixed"}, {"retriever": "bm25"}])
def test_limits_ranks_and_order_change_no_prompt(metadata: dict[str, Any]) -> None:
    whole = prompts(make(**metadata), 3)
    assert len(whole) == len(TEST)
    assert prompts(make(**metadata), 3) == whole
    assert prompts(make(**metadata), 3, limit=2).items() <= whole.items()
    assert prompts(make(**metadata), 3, samples=[4, 1]).items() <= whole.items()
    shared: dict[str, str] = {}
    for rank in range(2):
        shared |= prompts(make(**metadata), 3, rank=rank, world_size=2)
    assert shared == whole


def test_the_seed_and_the_number_of_examples() -> None:
    task = make()
    by_seed = [prompts(task, 3, seed)["test-0"] for seed in (1, 2, 1)]
    assert by_seed[0] == by_seed[2] != by_seed[1]
    for count in (1, 8):
        assert prompts(task, count)["test-0"].count("### Response:\nxs[") == count
    assert prompts(make(shots="fixed"), 3)["test-0"].startswith(
        prompts(make(shots="fixed"), 3)["test-1"].removesuffix(TEST[1]["prompt"])
    )


def test_the_studys_profile_draws_once_and_keeps_its_stray_spaces() -> None:
    study = prompts(make(profile="study"), 2)
    heads = {study[doc["id"]].removesuffix(doc["prompt"]) for doc in (TEST[0], TEST[1], TEST[4])}
    [head] = heads
    assert head.count(f"{' ' * 32}\n### Response:") == 2
    assert prompts(make(profile="study"), 0)["test-0"] == f"\n{TEST[0]['prompt']}"
    named = prompts(make(quirks=["fixed_shots"]), 2)
    assert {text.replace(" " * 32, "") for text in study.values()} == set(named.values())


def test_own_duplicates_are_excluded_and_counted() -> None:
    results = run(make(), shots=28, log_samples=True)
    samples = {sample["doc"]["id"]: sample for sample in results["samples"]["shown"]}
    assert {name: sample["shots_excluded"] for name, sample in samples.items()} == {
        "test-0": 0,
        "test-1": 0,
        "test-2": 1,
        "test-3": 1,
        "test-4": 0,
    }
    assert "train-7" not in samples["test-2"]["shots"]
    assert "train-9" not in samples["test-3"]["shots"]
    assert len(set(samples["test-0"]["shots"])) == 28
    assert results["results"]["shown"]["shots_excluded,none"] == 2
    assert results["results"]["shown"]["shots,none"] == 28 * len(TEST)


def test_the_record_names_what_the_prompts_were_made_of() -> None:
    found = run(make(retriever="bm25"), shots=3)["configs"]["shown"]["metadata"]
    assert found["examples"] == {
        "count": 3,
        "chosen": "bm25 (lucene, k1 1.5, b 0.75, words in lower case)",
        "order": "nearest_last",
        "seed": None,
        "pool": 30,
        "pool_sha256": found["examples"]["pool_sha256"],
        "pool_repeats": 0,
        "pool_without_code": 0,
        "header": "shots",
    }
    drawn = run(make(), shots=3)["configs"]["shown"]["metadata"]["examples"]
    assert (drawn["chosen"], drawn["seed"]) == ("drawn at random for each document", 1234)
    plain = run(make())
    assert "examples" not in plain["configs"]["shown"]["metadata"]
    assert {name for name in plain["results"]["shown"] if "shots" in name} == set()


def test_a_task_without_examples_refuses_to_show_any() -> None:
    for split in (None, "test"):
        with pytest.raises(UsageError, match="shown has no examples to show"):
            prompts(make(split=split), 1)


def test_prompts_are_never_taken_from_the_harness_cache(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("lm_eval.caching.cache.PATH", str(tmp_path))
    task = make()
    first = prompts(task, 3, 1, cache_requests=True)
    assert prompts(task, 3, 2, cache_requests=True) != first
    assert list(tmp_path.iterdir()) == []


CHAT = {"apply_chat_template": True, "chat_template": render}


def test_turns_of_a_conversation() -> None:
    [shot] = [doc for doc in TRAIN if doc["id"] == "train-3"]
    text = prompts(make(retriever="bm25"), 1, fewshot_as_multiturn=True, **CHAT)
    asked = TEST[3] | {"nl": "take item 3"}
    task = make(retriever="bm25")
    task.set_config("num_fewshot", 1)
    assert (
        task.fewshot_context(
            asked,
            1,
            system_instruction="Be brief.",
            fewshot_as_multiturn=True,
            gen_prefix="x = ",
            **CHAT,
        )
        == "<system>Be brief.</system>"
        f"<user>{CHAT_LINE}{shot['nl']}</user><assistant>{shot['cmd']}</assistant>"
        f"<user>{CHAT_LINE}take item 3</user><assistant>x = </assistant>"
    )
    assert text["test-0"].endswith(f"<user>{CHAT_LINE}{TEST[0]['nl']}</user><assistant>")
    assert not any("###" in prompt for prompt in text.values())


def test_one_turn_holds_examples_in_the_prompts_form() -> None:
    text = prompts(make(), 2, **CHAT)["test-0"]
    assert text.startswith(f"<user>{INSTRUCTION}\n### Instruction:\n")
    assert text.endswith(f"{TEST[0]['prompt']}</user><assistant>")
    assert text.count("### Response:\n") == 3
    assert prompts(make(), 0, **CHAT)["test-0"] == (
        f"<user>{CHAT_LINE}{TEST[0]['nl']}</user><assistant>"
    )


def test_a_chats_answer_comes_out_of_its_fence_and_a_plain_one_stays() -> None:
    fenced = "Sure:\n```python\nsum(xs)\n```"
    chat = run(make(), fenced, apply_chat_template=True, log_samples=True)
    assert chat["results"]["shown"]["same,none"] == pytest.approx(1 / len(TEST))
    sample = chat["samples"]["shown"][0]
    assert (sample["resps"], sample["filtered_resps"]) == ([[fenced]], ["sum(xs)"])
    config = chat["configs"]["shown"]
    assert config["generation_kwargs"]["until"] == []
    assert config["metadata"]["chat"]["instruction"] == CHAT_LINE.strip()
    plain = run(make(), fenced)
    assert plain["results"]["shown"]["same,none"] == 0
    assert plain["configs"]["shown"]["generation_kwargs"]["until"] == ["\n"]
    # Saved answers that are scored again: the note in the results says what they are.
    again = run(make(chat=config["metadata"]["chat"]), fenced)
    assert again["results"]["shown"]["same,none"] == pytest.approx(1 / len(TEST))


@pytest.mark.parametrize(
    ("until", "shots", "metadata", "expected"),
    [
        (["\n"], 2, {}, ["\n"]),
        ([], 0, {}, []),
        ([], 2, {}, ["\n### Instruction:"]),
        (["\n\n"], 2, {"retriever": "bm25"}, ["\n\n", "\n### Instruction:"]),
    ],
)
def test_where_an_answer_ends(
    until: list[str], shots: int, metadata: dict[str, Any], expected: list[str]
) -> None:
    task = make(until=until, **metadata)
    prompts(task, shots)
    assert task.config.generation_kwargs["until"] == expected
    task.config.generation_kwargs["until"] = ["mine"]
    prompts(task, shots, **CHAT)
    assert task.config.generation_kwargs["until"] == ["mine"]


@pytest.mark.parametrize(
    ("metadata", "shots", "said"),
    [
        ({"retreiver": "bm25"}, 2, "retreiver says nothing to this task; did you mean retriever?"),
        ({"quirks": ["legacy_comparison"]}, 0, "quirks=legacy_comparison is none of conala's"),
        ({"quirks": "flatten+legacy_comparison"}, 0, "legacy_comparison is none of conala's"),
        ({"retriever": "bm25"}, 0, "no examples are shown: give --num_fewshot N"),
        ({"shots_order": "nearest_first"}, 0, "no examples are shown"),
        ({"retriever": "bm25", "shots_order": "nearest_first", "quirks": "flatten"}, 2, ""),
        ({"pretrained": "x", "peft": "y", "revision": "z", "dtype": "auto", "sandbox": "x"}, 0, ""),
    ],
)
def test_what_is_said_to_no_effect(
    metadata: dict[str, Any], shots: int, said: str, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level("WARNING", logger="peft_bench"):
        task = make(**metadata)
        task.set_config("num_fewshot", shots)
        with contextlib.suppress(MissingError):  # "y" is no adapter
            task.build_all_requests()
    told = [one.message for one in caplog.records if one.name.startswith("peft_bench")]
    assert len(told) == bool(said)
    assert said in "".join(told)


@pytest.mark.parametrize("quirks", [3, None, [[]], ["flaten"]])
def test_quirks_that_are_none_are_one_error(quirks: Any) -> None:
    with pytest.raises(UsageError, match="no such quirk"):
        make(quirks=quirks)


@pytest.mark.parametrize(
    ("until", "expected"), [("\n\n", ["\n\n"]), (["a", "b"], ["a", "b"]), (None, []), ("", [])]
)
def test_one_stop_string_may_be_a_text(until: Any, expected: list[str]) -> None:
    assert stop_strings({"until": until}) == expected
    assert stop_strings(None) == []


def test_an_adapter_is_not_asked_through_a_chat_template(
    trained: Callable[..., Path], tmp_path: Path
) -> None:
    adapter = trained("llama", "lora")
    with pytest.raises(PeftBenchError, match="would be asked through a chat template") as caught:
        prompts(make(peft=str(adapter)), 0, **CHAT)
    assert "### Instruction:" in str(caught.value)
    check_chat({"peft": str(adapter), "other_prompt": True})
    assert len(prompts(make(peft=str(adapter)), 0)) == len(TEST)
    bare = shutil.copytree(adapter, tmp_path / "bare")
    for card in bare.glob("*card*"):
        card.unlink()
    check_chat({"peft": str(bare)})


def test_a_chat_model_in_the_harness(tiny_model: Callable[..., Path], tmp_path: Path) -> None:
    """A real tokenizer's template; seed and number of examples by the harness' own options."""
    from lm_eval import simple_evaluate
    from lm_eval.tasks import TaskManager

    model = shutil.copytree(tiny_model("llama"), tmp_path / "chat")
    settings = json.loads((model / "tokenizer_config.json").read_text(encoding="utf-8"))
    settings["chat_template"] = TEMPLATE
    (model / "tokenizer_config.json").write_text(json.dumps(settings), encoding="utf-8")
    task = make()
    task.config.generation_kwargs["max_gen_toks"] = 4
    results = simple_evaluate(
        model="hf",
        model_args={"pretrained": str(model)},
        device="cpu",
        batch_size=2,
        tasks=[task],
        task_manager=TaskManager(include_defaults=False),
        num_fewshot=2,
        fewshot_random_seed=77,
        limit=2,
        bootstrap_iters=0,
        apply_chat_template=True,
        fewshot_as_multiturn=True,
    )
    assert results is not None
    assert results["configs"]["shown"]["metadata"]["examples"]["seed"] == 77
    logged = results["samples"]["shown"]
    expected = prompts(make(), 2, 77, fewshot_as_multiturn=True, limit=2, **CHAT)
    assert {sample["doc"]["id"]: sample["arguments"][0][0] for sample in logged} == expected
    assert [len(sample["shots"]) for sample in logged] == [2, 2]
