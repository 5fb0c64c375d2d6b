"""Saved programs scored again: run anew in the sandbox, by the default rules and by the study's."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from peft_bench_sandbox import Level, best_level

from peft_bench import paths, records
from peft_bench.cli import main
from peft_bench.errors import UsageError
from peft_bench.replay import Replay
from peft_bench.rescoring import rescore

pytestmark = pytest.mark.skipif(
    best_level() < Level.STRONG, reason="this machine gives no strong sandbox level"
)
TASK = "apps_introductory"
# Wrong in order: a pass by the published comparison alone, which compares sets of lines too.
SWAPPED = "print('a\\nb')"
RIGHT = "print('b\\na')"


@pytest.fixture()
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Path]:
    """What plain lm_eval leaves of a run whose model wrote the programs above."""
    folder = tmp_path / "data" / "apps"
    folder.mkdir(parents=True)
    row = {
        "problem_id": 1,
        "question": "Print b, then a.",
        "solutions": json.dumps([RIGHT]),
        "input_output": json.dumps({"inputs": ["\n"], "outputs": ["b\na\n"]}),
        "difficulty": "introductory",
        "url": "",
        "starter_code": "",
    }
    for split in ("train", "test"):
        (folder / f"{split}.jsonl").write_text(json.dumps(row) + "\n", encoding="utf-8")
    monkeypatch.setenv("PEFT_BENCH_DATA", str(tmp_path / "data"))
    monkeypatch.setenv("PEFT_BENCH_CACHE", str(tmp_path / "cache"))

    def make(name: str, *, predict_only: bool = False) -> Path:
        from lm_eval import simple_evaluate
        from lm_eval.loggers import EvaluationTracker
        from lm_eval.tasks import TaskManager

        manager = TaskManager(
            include_path=str(paths.tasks_dir()), include_defaults=False, metadata={}
        )
        tracker = EvaluationTracker(output_path=str(tmp_path / name / "results.json"))
        results = simple_evaluate(
            model=Replay({"1": [RIGHT, SWAPPED, SWAPPED, "", "1 +"]}),
            tasks=[TASK],
            task_manager=manager,
            bootstrap_iters=0,
            predict_only=predict_only,
            evaluation_tracker=tracker,
            confirm_run_unsafe_code=True,
        )
        assert results is not None
        samples = results.pop("samples")
        tracker.save_results_aggregated(results=results, samples=samples)
        tracker.save_results_samples(task_name=TASK, samples=samples[TASK])
        return tmp_path / name

    return make


def scores(folder: Path) -> dict[str, Any]:
    [file] = folder.glob("results_*.json")
    found = json.loads(file.read_text(encoding="utf-8"))["results"][TASK]
    return {key: found[key] for key in found if key.startswith(("pass@", "avg_", "empty_a"))}


def test_programs_are_run_again_only_if_that_is_confirmed(run: Callable[..., Path]) -> None:
    folder = run("scored")
    with pytest.raises(UsageError, match="--confirm_run_unsafe_code"):
        rescore(folder, profile="default")
    assert not folder.with_name("scored--default").exists()


def test_predicted_programs_get_the_run_s_numbers(run: Callable[..., Path]) -> None:
    scored, predicted = run("scored"), run("predicted", predict_only=True)
    assert scores(scored)["pass@1,executed"] == pytest.approx(0.2)
    assert scores(scored)["empty_answers,executed"] == pytest.approx(0.2)
    assert scores(predicted) == {}
    rescored = rescore(predicted, profile="default", confirm_run_unsafe_code=True)
    assert scores(rescored.folder) == scores(scored)


def test_the_study_s_comparison_tells_which_programs_it_lets_pass(
    run: Callable[..., Path], capsys: pytest.CaptureFixture[str]
) -> None:
    folder = run("scored")
    typed = ["rescore", str(folder), "--profile", "study", "--confirm_run_unsafe_code"]
    assert main(typed) == 0
    said = capsys.readouterr().out
    assert "legacy_comparison" in said
    record = records.read_record(folder.with_name("scored--study"))
    [task] = record.tasks
    assert task.scores["pass@1"].value == pytest.approx(0.6)
    assert "legacy_comparison" in task.profile and task.sandbox_level == "strong"
