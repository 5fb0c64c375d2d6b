"""Evaluation through the real harness on tiny models: records, refusals, and what they prevent."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from peft_bench import adapters, cards, cli, evaluation, prompts, records
from peft_bench.errors import MissingError, PeftBenchError, UsageError
from peft_bench.evaluation import evaluate
from peft_bench.records.items import items_file

SHORT = ("--limit", "3", "--gen_kwargs", "max_gen_toks=6")


@pytest.fixture(autouse=True)
def _only_our_tasks(monkeypatch: pytest.MonkeyPatch) -> None:
    """The harness reads thousands of files of its own tasks each time: more work than the rest."""
    from lm_eval.tasks import TaskManager

    from peft_bench import paths

    build = TaskManager.__init__

    def only_ours(self: Any, *args: Any, **named: Any) -> None:
        named |= {"include_defaults": False, "include_path": str(paths.tasks_dir())}
        build(self, *args, **named)

    monkeypatch.setattr(TaskManager, "__init__", only_ours)


@pytest.fixture(autouse=True)
def _data(tiny_data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PEFT_BENCH_DATA", str(tiny_data))


def score(*args: Any, extra: tuple[str, ...] = SHORT, **named: Any) -> records.RunRecord:
    return evaluate(*args, tasks=named.pop("tasks", ["conala"]), harness_args=extra, **named)


def results_in(folder: Path) -> dict[str, Any]:
    [file] = folder.glob("results_*.json")
    return dict(json.loads(file.read_text(encoding="utf-8")))


def answers_in(folder: Path, task: str = "conala") -> list[Any]:
    [file] = folder.glob(f"samples_{task}_*.jsonl")
    rows = [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()]
    return sorted((row["doc_id"], row["resps"]) for row in rows)


def lm_eval_alone(given: dict[str, str]) -> dict[str, Any]:
    from lm_eval import simple_evaluate
    from lm_eval.tasks import TaskManager

    result = simple_evaluate(
        model="hf",
        model_args={"dtype": "float32", "device": "cpu", **given},
        tasks=["conala"],
        task_manager=TaskManager(metadata=given),
        gen_kwargs="max_gen_toks=6",
        limit=3,
        bootstrap_iters=0,
    )
    assert result is not None
    return dict(result)


def rewrite_prompt(folder: Path) -> prompts.PromptTemplate:
    """Makes a card say that its adapter was trained with another prompt."""
    other = prompts.PROMPTS["instruction-seq2seq"]
    file = folder / cards.CARD_FILE
    card = json.loads(file.read_text(encoding="utf-8"))
    card["prompt"] = {"name": "instruction", "text": other.text, "sha256": other.sha256}
    file.write_text(json.dumps(card), encoding="utf-8")
    return other


def test_record_is_what_the_harness_found(trained: Callable[..., Path], tmp_path: Path) -> None:
    folder = trained()
    record = score(folder, out=tmp_path / "e")
    assert records.read_record(tmp_path / "e") == record
    assert not (tmp_path / "e.partial").exists()
    assert not list((tmp_path / "e").glob("*.db*"))

    card = cards.read_card(folder)
    assert card is not None and record.adapter is not None
    assert record.adapter.sha256 == card.adapter_sha256 == adapters.content_sha256(folder)
    assert record.adapter.recipe_sha256 == card.recipe_sha256
    assert record.adapter.trainable_parameters == card.trainable_parameters
    assert record.model.fingerprint == card.base.fingerprint
    assert record.model.parameters == card.base.parameters
    assert record.model.dtype == "float32"

    [task] = record.tasks
    results = results_in(tmp_path / "e")
    found = {
        key.split(",")[0]: value
        for key, value in results["results"]["conala"].items()
        if isinstance(value, float) and "_stderr" not in key
    }
    assert {"em@1", "em@10", "codebleu", "bleu"} <= set(found)
    assert {metric: value.value for metric, value in task.scores.items()} == found
    assert task.scores["em@10"].k == 10
    assert task.primary_metric == "em@10"
    assert task.n == 3
    assert task.version == str(results["versions"]["conala"])
    assert task.prompt_hash == prompts.PROMPTS["instruction"].sha256
    assert task.decoding["num_beams"] == 10
    assert task.custom_data and task.sandbox_level is None
    assert set(task.marks) == {"3 of 8 problems", "trained on custom data"}
    assert all(len(group) == 10 for _, group in answers_in(tmp_path / "e"))
    kept = items_file(tmp_path / "e" / str(task.samples_file)).read_text(encoding="utf-8")
    assert all(f'{{"{metric}": ' in kept for metric in task.scores)


def test_again_gives_the_same_scores_and_answers(
    trained: Callable[..., Path], tmp_path: Path
) -> None:
    one = score(trained(), out=tmp_path / "one")
    two = score(trained(), out=tmp_path / "two")
    assert one.tasks[0].scores == two.tasks[0].scores
    assert one.tasks[0].ids_sha256 == two.tasks[0].ids_sha256
    assert answers_in(tmp_path / "one") == answers_in(tmp_path / "two")
    # And the plain harness finds the same.
    card = cards.read_card(trained())
    assert card is not None
    alone = lm_eval_alone({"pretrained": card.base.id, "peft": str(trained())})
    resps = sorted((s["doc_id"], s["resps"]) for s in alone["samples"]["conala"])
    assert json.loads(json.dumps(resps)) == [list(pair) for pair in answers_in(tmp_path / "one")]


def test_finished_folder_is_kept_and_another_request_refused(
    trained: Callable[..., Path], tmp_path: Path
) -> None:
    out = tmp_path / "e"
    record = score(trained(), out=out)
    before = {path: path.stat().st_mtime_ns for path in out.iterdir()}
    assert score(trained(), out=out) == record
    with pytest.raises(UsageError, match="another evaluation"):
        score(trained(), out=out, extra=("--limit", "2"))
    with pytest.raises(UsageError, match="another evaluation"):
        score(trained("llama", "ia3"), out=out)
    assert {path: path.stat().st_mtime_ns for path in out.iterdir()} == before


def stopped_after(
    count: int, out: Path, *args: Any, extra: tuple[str, ...] = SHORT, **named: Any
) -> None:
    """Scores prompt by prompt until answers were made so many times."""
    from peft_bench.generation.made import Ledger

    note, noted = Ledger.note, []

    def stop(self: Any, *rest: Any) -> None:
        if len(noted) >= count:
            raise KeyboardInterrupt
        noted.append(1)
        note(self, *rest)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Ledger, "note", stop)
        with pytest.raises(KeyboardInterrupt):
            score(*args, out=out, extra=(*extra, "--batch_size", "1"), **named)
    assert len(noted) == count


def makings(act: Callable[[], Any]) -> int:
    """How many times answers are made for a prompt."""
    from peft_bench.generation.made import Ledger

    note, noted = Ledger.note, []

    def count(self: Any, *rest: Any) -> None:
        noted.append(1)
        note(self, *rest)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Ledger, "note", count)
        act()
    return len(noted)


def test_a_smaller_batch_goes_on_with_what_was_stopped(
    trained: Callable[..., Path], tmp_path: Path
) -> None:
    whole = score(trained(), out=tmp_path / "whole")
    out = tmp_path / "e"
    stopped_after(2, out, trained())
    found: list[records.RunRecord] = []
    again = (*SHORT, "--device", "cpu", "--batch_size", "2")
    assert makings(lambda: found.append(score(trained(), out=out, extra=again))) == 1
    assert found[0].tasks[0].scores == whole.tasks[0].scores
    assert answers_in(out) == answers_in(tmp_path / "whole")
    assert not list(tmp_path.glob("*e.*"))  # neither working folder nor lock
    # And what is finished is the same at any size of batch.
    assert makings(lambda: score(trained(), out=out, extra=(*SHORT, "--batch_size", "3"))) == 0


def test_samples_of_a_run_that_was_stopped_are_not_drawn_again(
    trained: Callable[..., Path], tmp_path: Path
) -> None:
    asked: dict[str, Any] = {"tasks": ["conala_sampled"]}
    score(trained(), out=tmp_path / "whole", **asked)
    out = tmp_path / "e"
    # Ten samples a prompt are drawn in two batches.
    stopped_after(3, out, trained(), **asked)
    [kept] = (tmp_path / "e.partial").glob("made_*.jsonl")
    lines = [json.loads(line) for line in kept.read_text(encoding="utf-8").splitlines()]
    assert [len(made) for _, made in lines] == [8, 2, 8]  # each sample is written once
    assert makings(lambda: score(trained(), out=out, **asked)) == 3
    assert answers_in(out, "conala_sampled") == answers_in(tmp_path / "whole", "conala_sampled")


def test_answers_to_another_request_are_kept(trained: Callable[..., Path], tmp_path: Path) -> None:
    out = tmp_path / "e"
    stopped_after(2, out, trained())
    partial = tmp_path / "e.partial"
    before = {path.name: path.read_bytes() for path in partial.iterdir()}
    with pytest.raises(UsageError, match="keeps answers of another evaluation") as caught:
        score(trained(), out=out, extra=("--limit", "4", *SHORT[2:]))
    assert "options limit was 3.0, is 4.0" in caught.value.problem
    with pytest.raises(UsageError, match="adapter_sha256 was"):
        score(trained("llama", "ia3"), out=out)
    assert {path.name: path.read_bytes() for path in partial.iterdir()} == before
    # As asked before, it goes on.
    assert makings(lambda: score(trained(), out=out)) == 1


def test_where_nothing_was_answered_anything_may_be_asked(
    trained: Callable[..., Path], tmp_path: Path
) -> None:
    stopped_after(0, tmp_path / "e", trained())
    assert (tmp_path / "e.partial").is_dir()
    record = score(trained(), out=tmp_path / "e", extra=("--limit", "2", *SHORT[2:]))
    assert record.tasks[0].n == 2


def test_a_damaged_cache_is_not_deleted_for_another_request(
    trained: Callable[..., Path], tmp_path: Path
) -> None:
    stopped_after(0, tmp_path / "e", trained())
    [cache] = (tmp_path / "e.partial").glob("answers_rank*.db")
    cache.write_bytes(b"no database at all" * 100)
    with pytest.raises(UsageError, match="keeps answers of another evaluation"):
        score(trained(), out=tmp_path / "e", extra=("--limit", "2", *SHORT[2:]))
    assert cache.read_bytes().startswith(b"no database")


def test_two_at_one_folder(trained: Callable[..., Path], tmp_path: Path) -> None:
    from peft_bench.workfolder import alone

    with alone(tmp_path / "e"), pytest.raises(UsageError, match="another process is making it"):
        score(trained(), out=tmp_path / "e")
    score(trained(), out=tmp_path / "e")


def test_a_torn_request_is_another(trained: Callable[..., Path], tmp_path: Path) -> None:
    score(trained(), out=tmp_path / "e")
    (tmp_path / "e" / "request.json").write_text('{"model": ', encoding="utf-8")
    with pytest.raises(UsageError, match=r"request\.json is missing or cannot be read"):
        score(trained(), out=tmp_path / "e")


def test_examples_are_of_the_request(
    tiny_model: Callable[..., Path],
    tmp_path: Path,
    tiny_data: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    data_dir = Path(shutil.copytree(tiny_data, tmp_path / "data"))
    monkeypatch.setenv("PEFT_BENCH_DATA", str(data_dir))
    shown = {"out": tmp_path / "shown", "extra": (*SHORT, "--num_fewshot", "1")}
    model = str(tiny_model())
    score(model=model, **shown)
    score(model=model, out=tmp_path / "none")
    [file] = (data_dir / "conala").glob("train.jsonl")
    file.write_text("".join(file.read_text(encoding="utf-8").splitlines(True)[1:]))
    score(model=model, out=tmp_path / "none")  # no example is asked for
    with pytest.raises(UsageError, match="another evaluation: rows conala train was"):
        score(model=model, **shown)


def test_a_task_whose_name_begins_another_s_has_its_own_samples(
    tiny_model: Callable[..., Path], tmp_path: Path
) -> None:
    out = tmp_path / "e"
    record = score(model=str(tiny_model()), tasks=["conala", "conala_rag"], out=out)
    stamp = records.stamp_of(next(out.glob("results_*.json")))
    for task in record.tasks:
        assert task.samples_file == f"samples_{task.task}_{stamp}.jsonl"
        primary = task.scores[task.primary_metric]
        assert primary.stderr is not None  # that of the samples' own
        records.per_item_statistics(out, task, task.primary_metric)


def test_base_alone(tiny_model: Callable[..., Path], tmp_path: Path) -> None:
    record = score(model=str(tiny_model()), out=tmp_path / "e")
    assert record.adapter is None
    assert record.model.id == str(tiny_model())
    assert set(record.tasks[0].marks) == {"3 of 8 problems"}


def test_quantised_base_is_loaded_as_in_training(
    trained: Callable[..., Path], tmp_path: Path
) -> None:
    folder = trained("llama", "lora", width=64, quantization="4bit")
    card = cards.read_card(folder)
    record = score(folder, out=tmp_path / "e")
    assert card is not None
    assert record.model.quantization == "4bit"
    assert record.model.parameters == card.base.parameters
    assert record.model.fingerprint == card.base.fingerprint


def test_wrong_base_of_the_same_shape(
    trained: Callable[..., Path], tiny_model: Callable[..., Path], tmp_path: Path
) -> None:
    other = str(tiny_model("llama", 1))
    with pytest.raises(PeftBenchError, match="made for another base") as caught:
        score(trained(), model=other, out=tmp_path / "e")
    assert caught.value.exit_code == 1
    assert not (tmp_path / "e").exists()
    with pytest.raises(PeftBenchError, match="made for another base"):
        lm_eval_alone({"pretrained": other, "peft": str(trained())})
    # The twin: without a card that knows its base, it is scored without a word.
    stranger = Path(shutil.copytree(trained(), tmp_path / "stranger"))
    (stranger / cards.CARD_FILE).unlink()
    alone = lm_eval_alone({"pretrained": other, "peft": str(stranger)})
    assert "em@10,none" in alone["results"]["conala"]


def test_base_that_has_moved_is_the_same_base(
    trained: Callable[..., Path], tiny_model: Callable[..., Path], tmp_path: Path
) -> None:
    moved = shutil.copytree(tiny_model(), tmp_path / "moved")
    record = score(trained(), model=str(moved), out=tmp_path / "e")
    assert record.model.id == str(moved)


def test_wrong_prompt_stops_evaluation_and_the_plain_harness(
    trained: Callable[..., Path], tmp_path: Path
) -> None:
    folder = Path(shutil.copytree(trained(), tmp_path / "adapter"))
    other = rewrite_prompt(folder)
    card = adapters.check_folder(folder)
    assert card is not None  # nothing else is wrong with it
    for stopped in (
        lambda: score(folder, out=tmp_path / "e"),
        lambda: lm_eval_alone({"pretrained": card.base.id, "peft": str(folder)}),
    ):
        with pytest.raises(PeftBenchError, match="was trained with the prompt") as caught:
            stopped()
        assert repr(other.text) in str(caught.value)
        assert repr(prompts.PROMPTS["instruction"].text) in str(caught.value)
    assert not (tmp_path / "e").exists()


def test_adapter_that_does_not_load_is_not_scored(
    trained: Callable[..., Path], tmp_path: Path
) -> None:
    from safetensors.torch import save_file

    folder = Path(shutil.copytree(trained(), tmp_path / "adapter"))
    (folder / cards.CARD_FILE).unlink()
    tensors = adapters.saved_tensors(folder)
    renamed = {key.replace("self_attn", "attention"): value for key, value in tensors.items()}
    save_file(renamed, folder / adapters.WEIGHTS_FILE, metadata={"format": "pt"})
    with pytest.raises(PeftBenchError, match="did not really load"):
        score(folder, out=tmp_path / "e")
    # The task's own search looks too, so the plain harness stops as well.
    config = json.loads((folder / adapters.CONFIG_FILE).read_text(encoding="utf-8"))
    with pytest.raises(PeftBenchError, match="did not really load"):
        lm_eval_alone({"pretrained": config["base_model_name_or_path"], "peft": str(folder)})


def test_adapter_without_a_card_is_scored_without_its_history(
    trained: Callable[..., Path], tmp_path: Path
) -> None:
    folder = Path(shutil.copytree(trained(), tmp_path / "adapter"))
    (folder / cards.CARD_FILE).unlink()
    record = score(folder, out=tmp_path / "e")
    assert record.adapter is not None
    assert record.adapter.method == "unknown"
    assert record.adapter.sha256 == adapters.content_sha256(folder)


def test_shots_are_marked(trained: Callable[..., Path], tmp_path: Path) -> None:
    record = score(trained(), out=tmp_path / "e", extra=(*SHORT, "--num_fewshot", "2"))
    assert record.tasks[0].num_fewshot == 2
    assert "2-shot prompt, trained zero-shot" in record.tasks[0].marks


def test_executing_task_needs_consent_before_anything_loads(tmp_path: Path) -> None:
    nowhere = str(tmp_path / "no-such-model")
    with pytest.raises(UsageError, match="confirm_run_unsafe_code") as caught:
        score(model=nowhere, tasks=["quickstart"], out=tmp_path / "e")
    assert "executes programs" in caught.value.problem
    # With consent the model is looked for.
    with pytest.raises(MissingError):
        score(
            model=nowhere,
            tasks=["quickstart"],
            out=tmp_path / "e",
            extra=("--confirm_run_unsafe_code",),
        )
    assert not (tmp_path / "e").exists()


def test_executing_task_tells_its_level(tiny_model: Callable[..., Path], tmp_path: Path) -> None:
    from peft_bench_sandbox import Level, best_level

    record = score(
        model=str(tiny_model()),
        tasks=["quickstart"],
        out=tmp_path / "e",
        extra=(*SHORT, "--confirm_run_unsafe_code"),
    )
    [task] = record.tasks
    level = best_level()
    executed = level is not Level.NONE
    assert task.sandbox_level == (level.value if executed else None)
    assert ("pass@1" in task.scores) == executed
    assert task.primary_metric == ("pass@1" if executed else "em@1")
    weak = f"sandbox {level.value}" if executed else "nothing executed: no sandbox here"
    assert (weak in task.marks) == (level is not Level.STRONG)
    assert task.demonstration
    assert not task.custom_data
    assert not list((tmp_path / "e").glob("verdicts_*"))


@pytest.mark.parametrize(
    "flags",
    [
        ("--model", "hf"),
        ("--output_path", "x"),
        ("--use_cache=x",),
        ("--log_samples",),
        ("--predict_only",),
    ],
)
def test_flags_that_eval_sets_itself_are_refused(flags: tuple[str, ...], tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="is set by peft-bench eval itself") as caught:
        score(model=str(tmp_path / "no-such-model"), out=tmp_path / "e", extra=flags)
    assert caught.value.place == flags[0].split("=")[0]


def test_one_process_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(UsageError, match=r"one of 2 processes.*accelerate launch -m lm_eval"):
        score(model="nowhere")


def test_neither_adapter_nor_model() -> None:
    with pytest.raises(UsageError, match="neither an adapter nor a model"):
        score()


def test_missing_rows_are_told_before_the_model_is_looked_for(
    tmp_path: Path, tiny_data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "data"
    shutil.copytree(tiny_data, folder)
    (folder / "conala" / "test.jsonl").unlink()
    monkeypatch.setenv("PEFT_BENCH_DATA", str(folder))
    with pytest.raises(MissingError, match="has no test split"):
        score(model=str(tmp_path / "no-such-model"), out=tmp_path / "e")


def test_unknown_task(tiny_model: Callable[..., Path], tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no_such_task"):
        score(model=str(tiny_model()), tasks=["no_such_task"], out=tmp_path / "e")
    assert not (tmp_path / "e").exists()


def test_the_traceback_is_asked_for_as_told() -> None:
    told = evaluation._harness_error(ZeroDivisionError("by 0")).remedy
    command = told.partition("`peft-bench ")[2].partition(" ...`")[0].split()
    arguments, rest = cli._parser().parse_known_args([*command, "--tasks", "conala"])
    assert (arguments.verb, arguments.verbose, rest) == ("eval", True, [])


@pytest.mark.parametrize("lost", ["save_results_aggregated", "save_results_samples"])
def test_results_that_could_not_be_saved_are_noticed(
    lost: str, trained: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The harness only warns when it cannot write."""
    from lm_eval.loggers import EvaluationTracker

    with monkeypatch.context() as patch:
        patch.setattr(EvaluationTracker, lost, lambda *args, **named: None)
        with pytest.raises(PeftBenchError, match="could not save"):
            score(trained(), out=tmp_path / "e")
    assert not (tmp_path / "e").exists()
    # The same command again: the answers are kept, no search is run.
    from peft_bench.beams import BeamSearch

    with monkeypatch.context() as patch:
        patch.setattr(BeamSearch, "_search", None)
        score(trained(), out=tmp_path / "e")
    assert (tmp_path / "e" / records.RECORD_NAME).is_file()
