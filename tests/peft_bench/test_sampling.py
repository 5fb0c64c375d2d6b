"""Samples through the harness: right in distribution, and the same whatever the batch."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from peft_bench.answers import Answer
from peft_bench.errors import UsageError

NEW_TOKENS = 8
PROMPTS = 3

UTILS = """
from peft_bench import harness
from peft_bench.sampling import SampledTask

SEEN = {}


def dataset(**metadata):
    return harness.dataset("conala", **metadata)


def process_results(doc, results):
    SEEN[doc["id"]] = results
    return {"n": len(results)}
"""


def write_task(folder: Path, **generation: Any) -> Path:
    """A task folder with one sampled task, ``sampled``."""
    folder.mkdir(parents=True)
    (folder / "utils.py").write_text(UTILS, encoding="utf-8")
    settings = {
        "until": ["\n"],
        "do_sample": True,
        "temperature": 1.0,
        "num_samples": 4,
        "max_gen_toks": NEW_TOKENS,
        **generation,
    }
    lines = {
        "test_split": "test",
        "doc_to_text": "{{prompt}}",
        "doc_to_target": "{{cmd}}",
        "target_delimiter": "",
        "output_type": "generate_until",
        "generation_kwargs": settings,
        "metric_list": [{"metric": "n", "aggregation": "mean", "higher_is_better": True}],
    }
    (folder / "sampled.yaml").write_text(
        "task: sampled\nclass: !function utils.SampledTask\n"
        "custom_dataset: !function utils.dataset\n"
        "process_results: !function utils.process_results\n"
        + "".join(f"{key}: {json.dumps(value)}\n" for key, value in lines.items()),
        encoding="utf-8",
    )
    return folder


@pytest.fixture()
def sample(
    trained: Callable[..., Path],
    tiny_model: Callable[..., Path],
    tiny_data: Path,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> Callable[..., list[list[Answer]]]:
    """Answers by prompt and sample: ``sample("t5", "lora", batch_size=3, num_samples=2)``."""
    monkeypatch.setenv("PEFT_BENCH_DATA", str(tiny_data))
    made = iter(range(1000))

    def run(
        kind: str = "llama",
        method: str | None = None,
        *,
        batch_size: int = 1,
        model: str = "hf",
        options: dict[str, Any] | None = None,
        **generation: Any,
    ) -> list[list[Answer]]:
        from lm_eval import simple_evaluate
        from lm_eval.tasks import TaskManager

        given = {"pretrained": str(tiny_model(kind))}
        if method is not None:
            given["peft"] = str(trained(kind, method))
        folder = write_task(tmp_path / f"tasks{next(made)}", **generation)
        manager = TaskManager(include_path=str(folder), include_defaults=False, metadata=given)
        loaded = {"dtype": "float32", "device": "cpu", **given} if model == "hf" else {}
        result = simple_evaluate(
            model=model,
            model_args=loaded,
            batch_size=batch_size,
            tasks=["sampled"],
            task_manager=manager,
            limit=PROMPTS,
            bootstrap_iters=0,
            **(options or {}),
        )
        assert result is not None
        samples = sorted(result["samples"]["sampled"], key=lambda one: one["doc_id"])
        return [[answer for group in one["resps"] for answer in group] for one in samples]

    return run


def facts(answers: list[list[Answer]]) -> list[list[tuple[Any, ...]]]:
    return [
        [(str(one), one.tokens, one.finished, round(one.score or 0, 3)) for one in group]
        for group in answers
    ]


@pytest.mark.parametrize("kind", ["llama", "t5"])
@pytest.mark.parametrize(
    ("method", "greedy"),
    [(None, False), ("prompt_tuning", False), ("prompt_tuning", True), ("prefix_tuning", False)],
)
def test_samples_do_not_depend_on_the_batch(
    kind: str, method: str | None, greedy: bool, sample: Callable[..., list[list[Answer]]]
) -> None:
    how = {"do_sample": False, "num_samples": 1} if greedy else {"num_samples": 3}
    one = facts(sample(kind, method, batch_size=1, **how))
    assert facts(sample(kind, method, batch_size=3, **how)) == one
    texts = [text for group in one for text, *_ in group]
    assert len(texts) == PROMPTS * (1 if greedy else 3)
    if not greedy:
        assert len(set(texts)) > PROMPTS


def test_padding_behind_virtual_tokens_changes_the_harness_own_answers(
    tiny_model: Callable[..., Path], trained: Callable[..., Path]
) -> None:
    """The twin: behind virtual tokens, the harness' own greedy answers change with padding."""
    import torch
    from lm_eval.models.huggingface import HFLM

    lm = HFLM(
        pretrained=str(tiny_model("llama")),
        peft=str(trained("llama", "prompt_tuning")),
        dtype="float32",
        device="cpu",
    )
    ids = torch.tensor(lm.tok_encode("### Instruction:\nsort\n### Response:\n"))
    alone = lm.model.generate(
        input_ids=ids[None], attention_mask=torch.ones(1, len(ids)), return_dict_in_generate=True,
        output_logits=True, max_new_tokens=1, do_sample=False,
    ).logits[0]  # fmt: skip
    pads = torch.full((6,), lm.tokenizer.pad_token_id)
    mask = torch.cat([torch.zeros(6), torch.ones(len(ids))])[None]
    padded = lm.model.generate(
        input_ids=torch.cat([pads, ids])[None], attention_mask=mask, max_new_tokens=1,
        return_dict_in_generate=True, output_logits=True, do_sample=False,
    ).logits[0]  # fmt: skip
    assert (alone - padded).abs().max() > 1e-4


def test_greedy_is_what_generate_gives(
    sample: Callable[..., list[list[Answer]]], tiny_model: Callable[..., Path]
) -> None:
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    answers = sample(do_sample=False, num_samples=1, until=["\n", "art"], batch_size=2)
    folder = str(tiny_model("llama"))
    model = AutoModelForCausalLM.from_pretrained(folder)
    tokenizer = AutoTokenizer.from_pretrained(folder)
    from peft_bench import data, prompts

    rows = data.load_split("conala", "test").rows[:PROMPTS]
    for row, [answer] in zip(rows, answers, strict=True):
        prompt = prompts.PROMPTS["instruction"].render(row.nl)
        ids = tokenizer(prompt, return_tensors="pt").input_ids
        result = model.generate(
            ids, do_sample=False, max_new_tokens=NEW_TOKENS, output_logits=True,
            return_dict_in_generate=True, pad_token_id=tokenizer.pad_token_id,
        )  # fmt: skip
        new = result.sequences[0, ids.shape[1] :]
        text = tokenizer.decode(new, skip_special_tokens=True)
        assert answer == text.split("\n")[0].split("art")[0]
        steps = torch.stack(result.logits)[:, 0].log_softmax(-1)
        scores = steps.gather(1, new[: len(steps), None])[:, 0]
        made = answer.tokens + 1 if answer.finished else answer.tokens
        assert answer.score == pytest.approx(float(scores[:made].sum()), abs=1e-3)


@pytest.mark.parametrize(
    ("settings", "kept"),
    [
        ({"temperature": 0.7}, 6),
        ({"temperature": 1.0, "top_p": 0.9}, 4),
        ({"temperature": 1.0, "top_k": 3}, 3),
    ],
)
def test_samples_have_the_right_distribution(settings: dict[str, float], kept: int) -> None:
    """Chi-square over 20,000 draws, against the probabilities worked out by hand."""
    import torch
    from scipy import stats

    from peft_bench.generation.draw import Choice, Draw, uniforms
    from peft_bench.generation.rows import Prompt

    logits = torch.tensor([2.0, 1.5, 1.0, 0.5, 0.0, -1.0])
    draws = 20_000
    prompt = Prompt(torch.tensor([7]), (7,))
    numbers = uniforms(3, [(prompt, index) for index in range(draws)], 1)
    draw = Draw(Choice(**settings), numbers)  # type: ignore[arg-type]
    out = draw(torch.zeros(draws, 1, dtype=torch.long), logits.repeat(draws, 1))
    assert (out == 0).sum(-1).eq(1).all()
    counts = torch.bincount(out.argmax(-1), minlength=6)
    wanted = torch.zeros(6, dtype=torch.float64)
    wanted[:kept] = torch.softmax(logits[:kept].double() / settings["temperature"], 0)
    assert counts[kept:].sum() == 0
    assert stats.chisquare(counts[:kept], wanted[:kept] * draws).pvalue > 1e-3
    # The log-probability is the model's own, whatever the temperature.
    own = logits.log_softmax(-1)[out.argmax(-1)]
    torch.testing.assert_close(draw.scores()[:, 0], own)


def test_the_seed_and_the_index_make_the_sample(
    sample: Callable[..., list[list[Answer]]],
) -> None:
    first = sample(options={"torch_random_seed": 1})
    assert sample(options={"torch_random_seed": 1}) == first
    assert sample(options={"torch_random_seed": 2}) != first
    # More samples of the same seed begin with the same ones.
    more = sample(options={"torch_random_seed": 1, "gen_kwargs": "num_samples=6"})
    assert [group[:4] for group in more] == first
    assert {len(group) for group in more} == {6}


def test_the_harness_own_cache(
    sample: Callable[..., list[list[Answer]]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from peft_bench.sampling import Sampling

    options = {"use_cache": str(tmp_path / "cache")}
    first = sample(options=options)
    with monkeypatch.context() as patch:
        patch.setattr(Sampling, "__call__", None)
        assert sample(options=options) == first  # nothing is made again
    assert sample(options=options | {"torch_random_seed": 99}) != first


def test_generation_ends_when_every_row_has_its_stop_string(
    sample: Callable[..., list[list[Answer]]], monkeypatch: pytest.MonkeyPatch
) -> None:
    from peft_bench.generation.draw import Draw

    steps: list[int] = []
    draw = Draw.__call__

    def count(self: Any, input_ids: Any, scores: Any) -> Any:
        steps.append(len(input_ids))
        return draw(self, input_ids, scores)

    monkeypatch.setattr(Draw, "__call__", count)
    letters = [chr(code) for code in range(33, 127)]
    answers = sample(until=letters, max_gen_toks=60, batch_size=16)
    assert len(steps) < 60
    for answer in (one for group in answers for one in group):
        assert answer.finished
        assert answer.tokens < 60


def test_several_greedy_samples_are_refused(sample: Callable[..., list[list[Answer]]]) -> None:
    with pytest.raises(UsageError, match="would all be equal"):
        sample(do_sample=False)
    with pytest.raises(UsageError, match="out of range"):
        sample(top_p=1.5)
    for number in (0, 2.5, "many", True):
        with pytest.raises(UsageError, match=f"num_samples={number!r}"):
            sample(num_samples=number)


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"typical_p": 0.2}, "typical_p would have no effect"),
        ({"epsilon_cutoff": 0.3, "eta_cutoff": 0.1}, "epsilon_cutoff, eta_cutoff would have no"),
        ({"num_beams": 4}, "num_beams would have no effect"),
        ({"top_p": True}, "top_p=True is no number"),
        ({"top_k": [5]}, r"top_k=\[5\] is no number"),
    ],
)
def test_arguments_that_do_nothing_or_are_no_numbers_are_refused(
    given: dict[str, Any], said: str, sample: Callable[..., list[list[Answer]]]
) -> None:
    with pytest.raises(UsageError, match=said):
        sample(**given)


def test_other_models_get_plain_requests(
    sample: Callable[..., list[list[Answer]]], monkeypatch: pytest.MonkeyPatch
) -> None:
    from lm_eval.models.dummy import DummyLM

    asked: list[Any] = []

    def answer(self: Any, requests: list[Any]) -> list[str]:
        asked.extend(request.args[1] for request in requests)
        return [f"answer {number}" for number, _ in enumerate(requests)]

    monkeypatch.setattr(DummyLM, "generate_until", answer)
    # The harness would describe a tokenizer of the hub's in its results.
    monkeypatch.setattr(DummyLM, "tokenizer", None)
    answers = sample(model="dummy")
    assert [len(group) for group in answers] == [4] * PROMPTS
    assert len({text for group in answers for text in group}) == 4 * PROMPTS
    assert {tuple(sorted(given)) for given in asked} == {
        ("do_sample", "max_gen_toks", "temperature", "until")
    }


def test_servers_get_a_seed_a_request() -> None:
    from lm_eval.models.anthropic_llms import AnthropicChat
    from lm_eval.models.openai_completions import LocalCompletionsAPI

    from peft_bench.generation.host import takes_seeds

    assert takes_seeds(LocalCompletionsAPI.__new__(LocalCompletionsAPI))
    assert not takes_seeds(AnthropicChat.__new__(AnthropicChat))
    assert not takes_seeds(None)
