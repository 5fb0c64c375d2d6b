"""Saved answers scored again: the same numbers without a model, and what each quirk changes."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from peft_bench import paths, records
from peft_bench.answers import Answer
from peft_bench.cli import main
from peft_bench.errors import MissingError, UsageError
from peft_bench.replay import Replay
from peft_bench.rescoring import CHANGES_FILE, Rescored, rescore

ROWS = [
    ("0-0", "is `a` less than `b`", "a < b"),
    ("0-1", "sum of `xs`", "sum(xs)"),
    ("1-2", "both on lines", "a = 1\nb = 2"),
    ("2-3", "loop over `xs`", "for x in xs:\n\tprint(x)"),
]
ANSWERS = {
    "0-0": ["a < b", "a > b"],
    "0-1": ["sum(xs) # no <", "sum(xs)"],
    "1-2": ["a = 1", "a = 1 b = 2"],
    "2-3": ["for x in xs:  print(x)", ""],
}
FACTS = {"score": -1.5, "tokens": 3, "finished": False}


@pytest.fixture()
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Path]:
    """What plain lm_eval leaves of a run whose model gave the answers above."""
    folder = tmp_path / "data" / "conala"
    folder.mkdir(parents=True)
    rows = [json.dumps({"question_id": i, "nl": nl, "cmd": cmd}) for i, nl, cmd in ROWS]
    for split in ("train", "validation", "test"):
        (folder / f"{split}.jsonl").write_text("\n".join(rows), encoding="utf-8")
    monkeypatch.setenv("PEFT_BENCH_DATA", str(tmp_path / "data"))

    def make(name: str = "run", **metadata: Any) -> Path:
        from lm_eval import simple_evaluate
        from lm_eval.loggers import EvaluationTracker
        from lm_eval.tasks import TaskManager

        predict_only = bool(metadata.pop("predict_only", False))
        answers = {
            identity: [Answer(text, **FACTS) for text in texts]
            for identity, texts in ANSWERS.items()
        }
        manager = TaskManager(
            include_path=str(paths.tasks_dir()), include_defaults=False, metadata=metadata
        )
        tracker = EvaluationTracker(output_path=str(tmp_path / name / "results.json"))
        results = simple_evaluate(
            model=Replay(answers),
            tasks=["conala"],
            task_manager=manager,
            gen_kwargs={"num_beams": 2},
            bootstrap_iters=0,
            predict_only=predict_only,
            evaluation_tracker=tracker,
            metadata=metadata,
        )
        assert results is not None
        samples = results.pop("samples")
        tracker.save_results_aggregated(results=results, samples=samples)
        tracker.save_results_samples(task_name="conala", samples=samples["conala"])
        return tmp_path / name

    return make


def scores(folder: Path) -> dict[str, Any]:
    [file] = folder.glob("results_*.json")
    found = json.loads(file.read_text(encoding="utf-8"))["results"]["conala"]
    return {
        key: value
        for key, value in found.items()
        if "," in key and not key.startswith(("bypass", "answers"))
    }


def items(rescored: Rescored, quirk: str, metric: str) -> dict[str, tuple[Any, Any]]:
    return {
        one.item: (one.before, one.after)
        for one in rescored.changes
        if (one.quirk, one.metric) == (quirk, metric)
    }


def test_the_default_profile_gives_the_numbers_of_the_run(run: Callable[..., Path]) -> None:
    folder = run()
    rescored = rescore(folder, profile="default")
    assert rescored.changes == () and rescored.out_of_reach == ()
    assert scores(rescored.folder) == scores(folder)
    assert scores(folder)["em@1,none"] == 0.25 and scores(folder)["em@2,none"] == 0.5
    [kept] = rescored.folder.glob("items_*.jsonl")
    assert '{"em@1": "1000"}' in kept.read_text(encoding="utf-8")


def test_samples_of_another_task_or_invocation_are_not_taken(run: Callable[..., Path]) -> None:
    folder = run()
    [samples] = folder.glob("samples_*.jsonl")
    samples.with_name(samples.name.replace("conala", "conala_rag")).write_text("{", "utf-8")
    (folder / "samples_conala_2999-01-01T00-00-00.jsonl").write_text("{", "utf-8")
    rescored = rescore(folder, profile="default")
    assert scores(rescored.folder) == scores(folder)
    assert rescored.record.tasks[0].samples_file == samples.name


def test_answers_that_were_only_predicted_get_the_same_numbers(run: Callable[..., Path]) -> None:
    scored, predicted = run("scored"), run("predicted", predict_only=True)
    assert scores(predicted) == {}
    rescored = rescore(predicted, profile="default")
    assert scores(rescored.folder) == scores(scored)
    assert scores(scored)["truncated_answers,none"] == 1.0  # a fact that only the log keeps


def test_the_study_s_profile_tells_what_each_quirk_changed(run: Callable[..., Path]) -> None:
    rescored = rescore(run(tokenizer="none"), profile="default", quirks=["cut_at_angle", "flatten"])
    assert items(rescored, "cut_at_angle", "em@1") == {"0-0": (1.0, 0.0)}
    # Cut before the comment's "<", the first answer is "sum(xs) # no": still no match.
    assert items(rescored, "cut_at_angle", "em@1_ast") == {"0-0": (1.0, 0.0)}
    assert items(rescored, "flatten", "em@1") == {"2-3": (0.0, 1.0)}
    assert items(rescored, "flatten", "em@2") == {"1-2": (0.0, 1.0), "2-3": (0.0, 1.0)}
    table = rescored.scores["conala"]
    assert table["none"]["em@2"] == 0.5 and table["flatten"]["em@2"] == 1.0
    assert table["all of default"]["em@2"] == 0.75
    kept = (rescored.folder / CHANGES_FILE).read_text(encoding="utf-8").splitlines()
    assert len(kept) == len(rescored.changes)
    assert json.loads(kept[0]).keys() == {"task", "quirk", "item", "metric", "before", "after"}


def test_a_profile_s_rest_needs_the_model_and_is_named(
    run: Callable[..., Path], tiny_model: Callable[..., Path], capsys: pytest.CaptureFixture[str]
) -> None:
    folder = run(tokenizer=str(tiny_model("llama")))
    assert main(["rescore", str(folder), "--profile", "study"]) == 0
    said = capsys.readouterr().out
    assert "not to be had from saved answers" in said and "leading_newline" in said
    assert "newline_after_search" in said and "items changed" in said
    record = records.read_record(folder.with_name("run--study"))
    expected = "default+codexglue+cut_at_angle+flatten+tokenizer_references"
    assert record.tasks[0].profile == expected
    assert record.tasks[0].scores["em@2"].value == 0.75
    assert record.tasks[0].scores["em@2"].stderr is not None


def test_an_evaluation_s_record_is_carried_over(run: Callable[..., Path]) -> None:
    folder = run()
    first = rescore(folder, profile="default", out=folder.with_name("first"))
    task = first.record.tasks[0]
    marked = records.read_record(first.folder)
    again = rescore(first.folder, profile="default", quirks=["flatten"])
    assert again.record.model == marked.model and again.record.created == marked.created
    assert again.record.tasks[0].data_sha256 == task.data_sha256 != {}
    assert again.record.tasks[0].ids_sha256 == task.ids_sha256
    assert again.record.tasks[0].profile == "default+flatten"


def test_the_folder_one_is_in_may_be_given(
    run: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = run()
    monkeypatch.chdir(folder)
    assert rescore(".", profile="default").folder == folder.with_name("run--default")
    with pytest.raises(UsageError, match=r"--out .*: cannot be written"):
        rescore(".", profile="default", out=next(folder.iterdir()) / "out")


def test_a_folder_of_several_runs_is_refused_and_one_of_them_may_be_named(
    run: Callable[..., Path], tmp_path: Path
) -> None:
    both = tmp_path / "both"
    both.mkdir()
    first = run("one").rename(both / "one")
    second = run("two").rename(both / "two")
    with pytest.raises(UsageError, match="2 results of lm_eval") as caught:
        rescore(both, profile="default")
    [early], [late] = (folder.glob("results_*.json") for folder in (first, second))
    assert str(early) in caught.value.remedy and str(late) in caught.value.remedy
    for file in second.iterdir():  # as where lm_eval was called twice for one model
        file.rename(first / file.name)
    with pytest.raises(UsageError, match="2 results of lm_eval"):
        rescore(first, profile="default")
    rescored = rescore(first / early.name, profile="default")
    assert rescored.folder == both / "one--default"
    samples = rescored.record.tasks[0].samples_file
    assert samples == f"samples_conala_{records.stamp_of(early)}.jsonl"


def test_what_cannot_be_rescored_is_told(run: Callable[..., Path], tmp_path: Path) -> None:
    with pytest.raises(MissingError, match="no such folder"):
        rescore(tmp_path / "nowhere")
    folder = run()
    with pytest.raises(UsageError, match="no such profile"):
        rescore(folder, profile="studdy")
    with pytest.raises(UsageError, match="tokenizer_references: no tokenizer is named"):
        rescore(folder, profile="study")
    assert not folder.with_name("run--study").exists()
    assert [one.name for one in tmp_path.glob(".run*")] == []
    rescore(folder, profile="default")
    with pytest.raises(UsageError, match="exists already"):
        rescore(folder, profile="default")
    [samples] = folder.glob("samples_*.jsonl")
    text = samples.read_text(encoding="utf-8")
    samples.write_text(text[: len(text) // 2], encoding="utf-8")
    with pytest.raises(UsageError, match=r"line \d+: is no JSON"):
        rescore(folder, profile="default", out=tmp_path / "other")
    samples.write_text('{"doc": {}, "resps": []}\n', encoding="utf-8")
    with pytest.raises(UsageError, match="line 1: has no document with an id"):
        rescore(folder, profile="default", out=tmp_path / "other")
    samples.unlink()
    with pytest.raises(MissingError, match="has no samples"):
        rescore(folder, profile="default", out=tmp_path / "other")
