"""Ten beams a prompt through the harness: equal to a direct search, whatever the batch."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from peft_bench.answers import Answer
from peft_bench.errors import UsageError

NEW_TOKENS = 8
PROMPTS = 3
TIE = 1e-4

UTILS = """
from peft_bench import harness
from peft_bench.beams import BeamTask
from peft_bench.scoring import Metric, metric_list, row_scores

SEEN = {}
METRICS = metric_list([Metric("n")], logged=("beams",))


def dataset(**metadata):
    return harness.dataset("conala", **metadata)


def process_results(doc, results):
    SEEN[doc["id"]] = results
    beams = [one.facts() for one in results]
    return {**row_scores(doc["question_id"], {"n": float(len(results))}), "beams": beams}
"""


def write_task(folder: Path, name: str = "beamed", **generation: Any) -> Path:
    """A task folder with one beam task of ten beams."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "utils.py").write_text(UTILS, encoding="utf-8")
    settings = {"until": ["\n"], "do_sample": False, "num_beams": 10, "max_gen_toks": NEW_TOKENS}
    lines = {
        "test_split": "test",
        "fewshot_split": "train",
        "doc_to_text": "{{prompt}}",
        "doc_to_target": "{{cmd}}",
        "target_delimiter": "",
        "output_type": "generate_until",
        "generation_kwargs": settings | generation,
    }
    (folder / f"{name}.yaml").write_text(
        f"task: {name}\nclass: !function utils.BeamTask\n"
        "custom_dataset: !function utils.dataset\n"
        "process_results: !function utils.process_results\n"
        "metric_list: !function utils.METRICS\n"
        + "".join(f"{key}: {json.dumps(value)}\n" for key, value in lines.items()),
        encoding="utf-8",
    )
    return folder


@pytest.fixture(scope="module")
def beamed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_task(tmp_path_factory.mktemp("tasks") / "beamed")


@pytest.fixture()
def harness(
    trained: Callable[..., Path],
    tiny_model: Callable[..., Path],
    tiny_data: Path,
    beamed: Path,
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
        manager = TaskManager(include_path=str(beamed), include_defaults=False, metadata=given)
        task = manager.load(["beamed"])["tasks"]["beamed"]
        lm = HFLM(dtype="float32", device="cpu", batch_size=batch_size, **given)
        # Random weights hardly ever write a newline: more tokens end a beam, so that some end.
        task._generation._newline_ids = list(range(2, len(lm.tokenizer), 4))
        return lm, task

    return make


def ask(lm: Any, task: Any) -> list[list[str]]:
    """The answers to the first prompts, by prompt and rank, through the harness' own code."""
    answers = [request.resps[0] for request in ask_requests(lm, task)]
    each = len(answers) // PROMPTS
    return [answers[i * each : (i + 1) * each] for i in range(PROMPTS)]


def ask_requests(lm: Any, task: Any) -> list[Any]:
    """The requests of the first prompts, answered."""
    requests = [
        request
        for number, doc in enumerate(list(task.test_docs())[:PROMPTS])
        for request in task.construct_requests(
            doc, task.doc_to_text(doc), metadata=("beamed", number, 1), doc_id=number
        )
    ]
    for request, answer in zip(
        requests, lm.generate_until(requests, disable_tqdm=True), strict=True
    ):
        request.resps.append(answer)
    return requests


def search_directly(
    lm: Any, task: Any, beams: int = 10, *, newline: bool = True
) -> list[list[tuple[str, float]]]:
    """transformers alone: each prompt unpadded; texts up to a newline, with their scores."""
    import torch

    tokenizer = lm.tokenizer
    stops = task._generation._newline_ids
    if stops is None:
        stops = [i for i in range(len(tokenizer)) if "\n" in tokenizer.decode([i])]
    stops = stops if newline else []
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
        cut = "\n" if newline else "\0"
        found.append([(text.split(cut)[0], s) for text, s in zip(texts, scores, strict=True)])
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


@pytest.mark.parametrize("until", [None, [], "\n\n"])
def test_a_newline_ends_beams_only_where_it_is_to(
    until: Any, harness: Callable[..., tuple[Any, Any]]
) -> None:
    """A chat model's answers hold newlines, and stop strings may be somebody's own."""
    lm, task = harness("llama", None)
    if until is None:
        task.build_all_requests(
            limit=PROMPTS,
            apply_chat_template=True,
            chat_template=lambda messages, add_generation_prompt: messages[-1]["content"],
        )
        assert task.chat and task.config.generation_kwargs["until"] == []
    else:
        task.config.generation_kwargs["until"] = until
    newlines = set(task._generation._newline_ids)
    answers = ask(lm, task)
    assert differences(answers, search_directly(lm, task, newline=False)) == []
    beams = [beam for them in task._generation._beams.values() for beam in them]
    assert any(newlines & set(beam.ids[:-1]) for beam in beams)
    assert task._generation["stop_at_newline"] is False  # as the key of the harness' cache says
    task.config.generation_kwargs["until"] = "\n"
    task._generation._beams.clear()
    assert differences(ask(lm, task), search_directly(lm, task)) == []


@pytest.mark.parametrize("kind", ["llama", "t5"])
@pytest.mark.parametrize("penalty", [1.0, 0.0, 2.0])
def test_one_beam_is_the_greedy_answer_with_the_score_of_a_search(
    kind: str, penalty: float, harness: Callable[..., tuple[Any, Any]]
) -> None:
    lm, task = harness(kind, None, batch_size=2)
    task.config.generation_kwargs |= {"num_beams": 1, "length_penalty": penalty}
    for found in ask_requests(lm, task):
        [text] = found.resps
        answer = task._generation.ledger.find(lm.tokenizer, found.args[0], 0, text)
        assert answer.score == pytest.approx(reckoned(lm, task, found.args[0], penalty), abs=1e-4)
    # One beam asks for more than one where another processor is wanted: transformers' own loop.
    task._generation._beams.clear()
    task.config.generation_kwargs["repetition_penalty"] = 1.5
    assert all(len(answers) == 1 for answers in ask(lm, task))


def reckoned(lm: Any, task: Any, context: str, penalty: float) -> float:
    """The log probability of the greedy answer over its length, by one pass over all of it."""
    import torch

    made = task._generation.ledger.by_ids[tuple(lm.tokenizer(context).input_ids)][0]
    ids, new = lm.tokenizer(context, return_tensors="pt").input_ids, torch.tensor([made.ids])
    if lm.model.config.is_encoder_decoder:
        start = torch.tensor([[lm.model.config.decoder_start_token_id]])
        before = torch.cat([start, new[:, :-1]], dim=1)
        logits = lm.model(input_ids=ids, decoder_input_ids=before).logits
    else:
        logits = lm.model(torch.cat([ids, new[:, :-1]], dim=1)).logits[:, ids.shape[1] - 1 :]
    logs = logits.log_softmax(-1).gather(2, new[:, :, None])
    return float(logs.sum()) / new.shape[1] ** penalty


@pytest.mark.parametrize("count", [0, -1, 2.5, "4"])
def test_a_number_of_beams_that_is_none(
    count: Any, harness: Callable[..., tuple[Any, Any]]
) -> None:
    _, task = harness("llama", None)
    task.config.generation_kwargs["num_beams"] = count
    with pytest.raises(UsageError, match="is not a positive whole number"):
        task.arguments()


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("penalty", [1.0, 0.0])
def test_our_loop_is_transformers_search(seed: int, penalty: float) -> None:
    """Many stop tokens, so that beams end at all lengths; one prompt is padded."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    from peft_bench.generation import beam_loop

    torch.manual_seed(seed)
    model = LlamaForCausalLM(
        LlamaConfig(
            vocab_size=60,
            hidden_size=32,
            intermediate_size=48,
            num_hidden_layers=2,
            num_attention_heads=4,
            num_key_value_heads=2,
            initializer_range=0.3,
        )
    ).eval()
    ids = torch.randint(5, 60, (3, 7))
    mask = torch.ones_like(ids)
    mask[1, :2] = 0
    stops = [1, 2, 3, 20, 30]
    found = beam_loop.search(
        model, ids, mask, count=6, tokens=12, stops=frozenset(stops), length_penalty=penalty
    )
    lengths = set()
    for (beams, scores), row, kept in zip(found, ids, mask, strict=True):
        prompt = row[kept.bool()][None]
        result = model.generate(
            input_ids=prompt,
            attention_mask=torch.ones_like(prompt),
            do_sample=False,
            num_beams=6,
            num_return_sequences=6,
            max_new_tokens=12,
            eos_token_id=stops,
            pad_token_id=4,
            length_penalty=penalty,
            return_dict_in_generate=True,
            output_scores=True,
        )
        width = result.sequences.shape[1] - prompt.shape[1]
        new = result.sequences[:, prompt.shape[1] :].tolist()
        assert [beam + [4] * (width - len(beam)) for beam in beams] == new
        assert scores == pytest.approx(result.sequences_scores.tolist(), abs=1e-5)
        lengths |= {len(beam) for beam in beams}
    assert len(lengths) > 1


def count_searches(lm: Any, monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """A list that gets the number of prompts of each search, whoever runs it."""
    from peft_bench.generation import beam_loop

    model = lm.model.base_model if hasattr(lm.model, "peft_config") else lm.model
    prompts: list[int] = []
    generate, search = model.generate, beam_loop.search

    def generate_counted(*args: Any, **named: Any) -> Any:
        if "custom_generate" not in named:
            prompts.append(len(named["input_ids"]))
        return generate(*args, **named)

    def search_counted(model: Any, rows: Any, *args: Any, **named: Any) -> Any:
        prompts.append(len(rows))
        return search(model, rows, *args, **named)

    monkeypatch.setattr(model, "generate", generate_counted)
    monkeypatch.setattr(beam_loop, "search", search_counted)
    return prompts


@pytest.mark.parametrize(
    ("method", "searches"),
    # Prompts of about one length share a search; behind virtual tokens, only those of one length.
    [(None, [3]), ("prompt_tuning", [1, 2])],
)
def test_one_search_a_prompt_and_prompts_share_it(
    method: str | None,
    searches: list[int],
    harness: Callable[..., tuple[Any, Any]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    lm, task = harness("llama", method, batch_size=3)
    lengths = {len(lm.tok_encode(task.doc_to_text(doc))) for doc in list(task.test_docs())[:3]}
    assert len(lengths) == 2
    rows = count_searches(lm, monkeypatch)
    ask(lm, task)
    assert sorted(rows) == searches
    ask(lm, task)
    assert sorted(rows) == searches  # kept for the whole run


def test_never_more_prompts_in_a_search_than_the_batch_size(
    harness: Callable[..., tuple[Any, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    lm, task = harness("llama", None, batch_size=2)
    rows = count_searches(lm, monkeypatch)
    ask(lm, task)
    assert sorted(rows) == [1, 2]


@pytest.mark.parametrize("kind", ["llama", "t5"])
@pytest.mark.parametrize("method", [None, "prompt_tuning"])
def test_scores_tokens_and_ends_reach_the_task(
    kind: str, method: str | None, harness: Callable[..., tuple[Any, Any]]
) -> None:
    lm, task = harness(kind, method, batch_size=2)
    direct = search_directly(lm, task)
    requests = ask_requests(lm, task)
    task._instances = requests
    task.apply_filters()
    for number, beams in enumerate(direct):
        found = [one.filtered_resps["none"] for one in requests[number * 10 : number * 10 + 10]]
        assert all(isinstance(one, Answer) for one in found)
        scores = [one.score for one in found]
        assert scores == pytest.approx([score for _, score in beams], abs=TIE)
        assert scores == sorted(scores, reverse=True)
        for one in found:
            assert one.finished == (one.tokens < NEW_TOKENS)
    assert any(one.filtered_resps["none"].finished for one in requests)


def test_a_prompt_longer_than_the_context_loses_its_beginning_and_is_counted(
    harness: Callable[..., tuple[Any, Any]], caplog: pytest.LogCaptureFixture
) -> None:
    lm, task = harness("llama", None)
    lm._max_length = 14 + NEW_TOKENS - 1
    requests = ask_requests(lm, task)
    task._instances = requests
    task.apply_filters()
    assert all(one.filtered_resps["none"].score is not None for one in requests)
    long = [
        prompt
        for doc in list(task.test_docs())[:PROMPTS]
        if len(lm.tok_encode(prompt := task.doc_to_text(doc))) > 13
    ]
    assert task.truncated_prompts == len(long) == PROMPTS
    assert "their beginnings were cut off" in caplog.text


def test_other_models_are_refused_before_they_are_asked(
    tiny_data: Path, beamed: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from lm_eval import simple_evaluate
    from lm_eval.models.dummy import DummyLM
    from lm_eval.tasks import TaskManager

    monkeypatch.setenv("PEFT_BENCH_DATA", str(tiny_data))
    asked: list[Any] = []
    monkeypatch.setattr(DummyLM, "generate_until", lambda self, requests: asked.append(requests))
    with pytest.raises(UsageError, match="--tasks beamed_sampled"):
        simple_evaluate(
            model="dummy",
            tasks=["beamed"],
            task_manager=TaskManager(include_path=str(beamed), include_defaults=False),
            limit=1,
        )
    assert asked == []


def test_a_model_that_cannot_be_told_is_refused_by_its_answers(
    harness: Callable[..., tuple[Any, Any]],
) -> None:
    _lm, task = harness("llama", None)
    task.build_all_requests(limit=1)
    for request in task.instances:
        request.resps.append("sorted(xs)")
    with pytest.raises(UsageError, match="--tasks beamed_sampled"):
        task.apply_filters()


def test_answers_made_before_keep_what_is_known_of_them(
    harness: Callable[..., tuple[Any, Any]],
) -> None:
    _, task = harness("llama", None)
    task.build_all_requests(limit=1)
    for request in task.instances:
        request.resps.append(Answer("x", score=-0.5, tokens=1, finished=True))
    task.apply_filters()
    assert {one.filtered_resps["none"].score for one in task.instances} == {-0.5}


def run_harness(folder: Path, given: dict[str, str], **options: Any) -> dict[str, Any]:
    from lm_eval import simple_evaluate
    from lm_eval.tasks import TaskManager

    result = simple_evaluate(
        model="hf",
        model_args={"dtype": "float32", "device": "cpu", **given},
        task_manager=TaskManager(include_path=str(folder), include_defaults=False, metadata=given),
        limit=PROMPTS,
        bootstrap_iters=0,
        **options,
    )
    assert result is not None
    return dict(result)


def resps(result: dict[str, Any], task: str = "beamed") -> list[list[str]]:
    samples = sorted(result["samples"][task], key=lambda sample: sample["doc_id"])
    return [[answer for group in sample["resps"] for answer in group] for sample in samples]


def logged(result: dict[str, Any]) -> list[list[dict[str, Any]]]:
    samples = sorted(result["samples"]["beamed"], key=lambda sample: sample["doc_id"])
    return [sample["beams"] for sample in samples]


def test_fewer_beams_and_the_harness_own_cache(
    harness: Callable[..., tuple[Any, Any]],
    tiny_model: Callable[..., Path],
    beamed: Path,
    tmp_path: Path,
) -> None:
    given = {"pretrained": str(tiny_model())}
    options = {"tasks": ["beamed"], "use_cache": str(tmp_path / "cache")}
    first = run_harness(beamed, given, gen_kwargs="num_beams=5", **options)
    again = run_harness(beamed, given, gen_kwargs="num_beams=5", **options)
    assert first["results"]["beamed"]["n,none"] == 5
    lm, task = harness("llama", None)
    task._generation._newline_ids = None
    assert differences(resps(first), search_directly(lm, task, beams=5)) == []
    assert resps(again) == resps(first)
    # What is known of a beam does not outlive the run; the text does.
    assert all(one["score"] is not None for sample in logged(first) for one in sample)
    assert all(one["score"] is None for sample in logged(again) for one in sample)
    # The cached answers of another search are not taken for these.
    ten = run_harness(beamed, given, **options)
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
    result = run_harness(folder, given, tasks=["stock"])
    lm, task = harness("llama", None)
    task._generation._newline_ids = None
    direct = search_directly(lm, task)
    answers = resps(result, "stock")
    assert len(answers) == PROMPTS
    assert all(len(set(beams)) == 1 for beams in answers)
    padded = [beams + beams[-1:] * (10 - len(beams)) for beams in answers]
    assert len(differences(padded, direct)) >= 20


RANK = """
import json, os, sys
from accelerate import Accelerator
from lm_eval import simple_evaluate
from lm_eval.models.huggingface import HFLM
from lm_eval.tasks import TaskManager

model, tasks, out = sys.argv[1:]
given = {"pretrained": model}
lm = HFLM(dtype="float32", device="cpu", batch_size=3, **given)
# The harness sets these where there are GPUs.
lm.accelerator = Accelerator(cpu=True)
lm._rank, lm._world_size = lm.accelerator.process_index, lm.accelerator.num_processes
assert lm.world_size == 2
manager = TaskManager(include_path=tasks, include_defaults=False, metadata=given)
result = simple_evaluate(
    model=lm, tasks=["beamed"], task_manager=manager, limit=3, bootstrap_iters=0
)
if result is not None:
    samples = sorted(result["samples"]["beamed"], key=lambda sample: sample["doc_id"])
    with open(out, "w", encoding="utf-8") as file:
        json.dump([[sample["beams"], sample["filtered_resps"]] for sample in samples], file)
# Threads of the process group that outlive the interpreter abort it, now and then.
lm.accelerator.wait_for_everyone()
lm.accelerator.end_training()
"""


def test_several_ranks(
    harness: Callable[..., tuple[Any, Any]],
    tiny_model: Callable[..., Path],
    beamed: Path,
    tmp_path: Path,
) -> None:
    """Two processes share three prompts, so that one repeats a request to keep step."""
    import socket
    import subprocess
    import sys

    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = str(probe.getsockname()[1])
    out, script = tmp_path / "out.json", tmp_path / "rank.py"
    script.write_text(RANK, encoding="utf-8")
    argv = [sys.executable, str(script), str(tiny_model()), str(beamed), str(out)]
    common = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port, "WORLD_SIZE": "2"}
    common["ACCELERATE_USE_CPU"] = "true"
    ranks = [
        subprocess.Popen(
            argv,
            env={**os.environ, **common, "RANK": str(rank), "LOCAL_RANK": str(rank)},
            stderr=subprocess.PIPE,
            text=True,
        )
        for rank in range(2)
    ]
    for rank in ranks:
        said = rank.communicate(timeout=300)[1]
        assert rank.returncode == 0, said
    found = json.loads(out.read_text(encoding="utf-8"))
    lm, task = harness("llama", None)
    task._generation._newline_ids = None
    direct = search_directly(lm, task)
    assert differences([texts for _, texts in found], direct) == []
    for (facts, _), beams in zip(found, direct, strict=True):
        scores = [score for _, score in beams]
        assert [one["score"] for one in facts] == pytest.approx(scores, abs=TIE)
