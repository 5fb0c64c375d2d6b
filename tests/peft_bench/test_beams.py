"""Ten beams a prompt through the harness: equal to a direct search, whatever the batch."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from peft_bench import paths
from peft_bench.beams import BeamSearch

NEW_TOKENS = 8
PROMPTS = 3
TIE = 1e-4


@pytest.fixture()
def harness(
    trained: Callable[..., Path],
    tiny_model: Callable[..., Path],
    tiny_data: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> Callable[..., tuple[Any, Any]]:
    """The harness' own model and task: ``harness("t5", "lora", batch_size=3)``."""
    monkeypatch.setenv("PEFT_BENCH_DATA", str(tiny_data))

    def make(kind: str, method: str | None, *, batch_size: int = 1) -> tuple[Any, Any]:
        from lm_eval.models.huggingface import HFLM
        from lm_eval.tasks import TaskManager

        given = {"pretrained": str(tiny_model(kind))}
        if method is not None:
            given["peft"] = str(trained(kind, method))
        folder = str(paths.tasks_dir())
        manager = TaskManager(include_path=folder, include_defaults=False, metadata=given)
        task = manager.load(["conala"])["tasks"]["conala"]
        task.config.generation_kwargs["max_gen_toks"] = NEW_TOKENS
        return HFLM(dtype="float32", device="cpu", batch_size=batch_size, **given), task

    return make


def ask(lm: Any, task: Any) -> list[list[str]]:
    """The answers to the first prompts, by prompt and rank, through the harness' own code."""
    requests = [
        request
        for number, doc in enumerate(list(task.test_docs())[:PROMPTS])
        for request in task.construct_requests(
            doc, task.doc_to_text(doc), metadata=("conala", number, 1), doc_id=number
        )
    ]
    answers = lm.generate_until(requests, disable_tqdm=True)
    each = len(requests) // PROMPTS
    return [answers[i * each : (i + 1) * each] for i in range(PROMPTS)]


def search_directly(lm: Any, task: Any, beams: int = 10) -> list[list[tuple[str, float]]]:
    """transformers alone: each prompt unpadded; texts up to a newline, with their scores."""
    import torch

    tokenizer = lm.tokenizer
    stops = [i for i in range(len(tokenizer)) if "\n" in tokenizer.decode([i])]
    found = []
    for doc in list(task.test_docs())[:PROMPTS]:
        ids = tokenizer(task.doc_to_text(doc), return_tensors="pt").input_ids
        result = lm.model.generate(
            input_ids=ids,
            attention_mask=torch.ones_like(ids),
            do_sample=False,
            num_beams=beams,
            num_return_sequences=beams,
            max_new_tokens=NEW_TOKENS,
            eos_token_id=[tokenizer.eos_token_id, *stops],
            pad_token_id=tokenizer.pad_token_id,
            return_dict_in_generate=True,
            output_scores=True,
        )
        skip = 1 if lm.model.config.is_encoder_decoder else ids.shape[1]
        texts = tokenizer.batch_decode(result.sequences[:, skip:], skip_special_tokens=True)
        scores = result.sequences_scores.tolist()
        found.append([(text.split("\n")[0], s) for text, s in zip(texts, scores, strict=True)])
    return found


def differences(answers: list[list[str]], direct: list[list[tuple[str, float]]]) -> list[str]:
    """Answers that differ from the direct search's, those of equal score put aside."""
    wrong = []
    for mine, theirs in zip(answers, direct, strict=True):
        for answer, (text, score) in zip(mine, theirs, strict=True):
            tied = {other for other, theirs_score in theirs if abs(theirs_score - score) < TIE}
            if answer != text and answer not in tied:
                wrong.append(f"{answer!r} for {text!r}")
    return wrong


@pytest.mark.parametrize("kind", ["llama", "codegen", "t5"])
@pytest.mark.parametrize("method", [None, "lora", "ia3", "prompt_tuning", "prefix_tuning"])
def test_beams_are_those_of_a_direct_search(
    kind: str, method: str | None, harness: Callable[..., tuple[Any, Any]]
) -> None:
    lm, task = harness(kind, method)
    direct = search_directly(lm, task)
    assert len({text for text, _ in direct[0]}) > 5  # the beams are worth telling apart
    answers = ask(lm, task)
    assert [len(beams) for beams in answers] == [10] * PROMPTS
    assert differences(answers, direct) == []
    exact = sum(
        answer == text
        for mine, theirs in zip(answers, direct, strict=True)
        for answer, (text, _) in zip(mine, theirs, strict=True)
    )
    assert exact >= 10 * PROMPTS - 3  # ties are rare
    lm, task = harness(kind, method, batch_size=3)
    assert differences(ask(lm, task), direct) == []


def test_one_search_a_prompt_and_prompts_of_one_length_share_it(
    harness: Callable[..., tuple[Any, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    lm, task = harness("llama", None, batch_size=3)
    rows: list[int] = []
    generate = lm.model.generate

    def count(*args: Any, **named: Any) -> Any:
        if "custom_generate" not in named:
            rows.append(len(named["input_ids"]))
        return generate(*args, **named)

    monkeypatch.setattr(lm.model, "generate", count)
    ask(lm, task)
    lengths = {len(lm.tok_encode(task.doc_to_text(doc))) for doc in list(task.test_docs())[:3]}
    assert sum(rows) == PROMPTS
    assert len(lengths) <= len(rows) <= PROMPTS
    ask(lm, task)
    assert sum(rows) == PROMPTS  # kept for the whole run


def test_prompts_of_one_length_in_one_search(
    harness: Callable[..., tuple[Any, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    import torch

    lm, task = harness("llama", None)
    search = task._search
    ids = torch.tensor([[5, 6, 7], [8, 9, 10]]).repeat_interleave(10, dim=0)
    config = lm.model.generation_config
    config.num_beams = 10
    config.pad_token_id = lm.tokenizer.pad_token_id
    rows: list[int] = []
    generate = lm.model.generate

    def count(**named: Any) -> Any:
        rows.append(len(named["input_ids"]))
        return generate(**named)

    monkeypatch.setattr(lm.model, "generate", count)
    together = search(lm.model, ids, generation_config=config, answer_tokens=4)
    assert rows == [2]
    apart = BeamSearch(tokenizer=lm.model.config._name_or_path)
    for number, prompt in enumerate((ids[:10], ids[10:])):
        alone = apart(lm.model, prompt, generation_config=config, answer_tokens=4)
        assert together[number].tolist()[: alone.shape[1]] == alone[0].tolist()


def run_harness(tmp_path: Path, given: dict[str, str], **options: Any) -> dict[str, Any]:
    from lm_eval import simple_evaluate
    from lm_eval.tasks import TaskManager

    folder = options.pop("include_path", str(paths.tasks_dir()))
    result = simple_evaluate(
        model="hf",
        model_args={"dtype": "float32", "device": "cpu", **given},
        task_manager=TaskManager(include_path=folder, include_defaults=False, metadata=given),
        limit=PROMPTS,
        bootstrap_iters=0,
        **options,
    )
    assert result is not None
    return dict(result)


def resps(result: dict[str, Any], task: str = "conala") -> list[list[str]]:
    samples = sorted(result["samples"][task], key=lambda sample: sample["doc_id"])
    return [[answer for group in sample["resps"] for answer in group] for sample in samples]


def test_fewer_beams_and_the_harness_own_cache(
    harness: Callable[..., tuple[Any, Any]],
    tiny_model: Callable[..., Path],
    tmp_path: Path,
) -> None:
    given = {"pretrained": str(tiny_model())}
    options = {"tasks": ["conala"], "use_cache": str(tmp_path / "cache")}
    five = f"num_beams=5,max_gen_toks={NEW_TOKENS}"
    first = run_harness(tmp_path, given, gen_kwargs=five, **options)
    again = run_harness(tmp_path, given, gen_kwargs=five, **options)
    metrics = {key.split(",")[0] for key in first["results"]["conala"] if key.startswith("em@")}
    assert {name for name in metrics if "stderr" not in name} == {
        f"em@{k}{suffix}" for k in (1, 2, 5) for suffix in ("", "_whitespace", "_ast")
    }
    lm, task = harness("llama", None)
    assert differences(resps(first), search_directly(lm, task, beams=5)) == []
    assert resps(again) == resps(first)
    # The cached answers of another search are not taken for these.
    ten = run_harness(tmp_path, given, gen_kwargs=f"max_gen_toks={NEW_TOKENS}", **options)
    assert differences(resps(ten), search_directly(lm, task)) == []


def test_the_harness_alone_has_no_ten_beams(
    harness: Callable[..., tuple[Any, Any]], tiny_model: Callable[..., Path], tmp_path: Path
) -> None:
    """The twin: the same task without our class; ten repeats are not ten beams."""
    folder = tmp_path / "tasks"
    folder.mkdir()
    (folder / "utils.py").write_text(
        "from peft_bench import harness\n"
        "def dataset(**metadata):\n    return harness.dataset('conala', **metadata)\n"
        "def score(doc, results):\n    return {'n': len(results)}\n",
        encoding="utf-8",
    )
    task_yaml = {
        "test_split": "test",
        "doc_to_text": "{{prompt}}",
        "doc_to_target": "{{cmd}}",
        "target_delimiter": "",
        "output_type": "generate_until",
        "repeats": 10,
        "generation_kwargs": {
            "until": ["\n"],
            "do_sample": False,
            "num_beams": 10,
            "max_gen_toks": NEW_TOKENS,
        },
        "metric_list": [{"metric": "n", "aggregation": "mean", "higher_is_better": True}],
    }
    (folder / "stock.yaml").write_text(
        "task: stock\ncustom_dataset: !function utils.dataset\n"
        "process_results: !function utils.score\n"
        + "".join(f"{key}: {json.dumps(value)}\n" for key, value in task_yaml.items()),
        encoding="utf-8",
    )
    given = {"pretrained": str(tiny_model())}
    result = run_harness(tmp_path, given, tasks=["stock"], include_path=str(folder))
    lm, task = harness("llama", None)
    direct = search_directly(lm, task)
    answers = resps(result, "stock")
    assert len(answers) == PROMPTS
    assert all(len(set(beams)) == 1 for beams in answers)
    padded = [beams + beams[-1:] * (10 - len(beams)) for beams in answers]
    assert len(differences(padded, direct)) >= 20
