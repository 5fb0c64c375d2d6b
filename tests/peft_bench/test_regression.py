"""The committed suites hold, and a score cannot change unnoticed."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from peft_bench import harness, paths, regression
from peft_bench.errors import UsageError

pytestmark = pytest.mark.skipif(
    harness.sandbox_level() is None, reason="no sandbox on this machine: nothing can be executed"
)

Tasks = Callable[[], Path]


@pytest.fixture()
def tasks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of the tasks that a test may change, with the suites of two."""
    folder = tmp_path / "tasks"
    shutil.copytree(paths.tasks_dir(), folder, ignore=shutil.ignore_patterns("__pycache__"))
    for suite in folder.glob("*/regression"):
        if suite.parent.name not in ("conala", "quickstart"):
            shutil.rmtree(suite)
    monkeypatch.setattr(paths, "tasks_dir", lambda: folder)
    return folder


def expected(folder: Path) -> Any:
    return json.loads((folder / "regression" / "expected.json").read_text(encoding="utf-8"))


def expect(folder: Path, content: Any) -> None:
    (folder / "regression" / "expected.json").write_text(json.dumps(content), encoding="utf-8")


def raise_version(folder: Path) -> None:
    file = folder / f"{folder.name}.yaml"
    text = file.read_text(encoding="utf-8")
    version = expected(folder)["version"]
    assert f"version: {version}" in text
    file.write_text(text.replace(f"version: {version}", "version: 77.0"), encoding="utf-8")


def test_every_committed_suite_passes(capsys: pytest.CaptureFixture[str]) -> None:
    names = {folder.name for folder in regression.suites()}
    assert names >= {"apps", "conala", "humaneval_sealed", "mbpp_sealed", "odex", "quickstart"}
    assert regression.main(["check"]) == 0
    said = capsys.readouterr().out
    assert [name for name in names if f"{name}: ok" not in said] == []
    assert "0 failed" in said


@pytest.mark.parametrize(("task", "metric"), [("conala", "em@10"), ("quickstart", "pass@1")])
def test_answers_that_score_and_answers_that_do_not(task: str, metric: str) -> None:
    """Of the primary metric: a suite where all is right, or all wrong, would notice little."""
    scores = expected(paths.tasks_dir() / task)["scores"].values()
    assert {item[metric] for item in scores} == {0.0, 1.0}


def test_a_changed_score_is_told_with_item_metric_before_and_after(tasks: Path) -> None:
    conala = tasks / "conala"
    content = expected(conala)
    item, metric = "r1", "em@5"
    after = content["scores"][item][metric]
    content["scores"][item][metric] = 1.0 - after
    expect(conala, content)
    problems = regression.check(conala)
    assert problems[0] == f"conala: item {item}: {metric} was {1.0 - after}, is {after}"
    assert len(problems) == 2 and "raise metadata.version in conala.yaml" in problems[1]


def test_a_metric_that_scores_otherwise_is_noticed(tasks: Path) -> None:
    quickstart = tasks / "quickstart"
    utils = quickstart / "utils.py"
    text = utils.read_text(encoding="utf-8")
    assert 'doc["cmd"], result' in text
    utils.write_text(text.replace('doc["cmd"], result', '"0", result'), encoding="utf-8")
    problems = regression.check(quickstart)
    assert "quickstart: item qs-test-001: em@1 was 1.0, is 0.0" in problems
    assert not [problem for problem in problems if "pass@1" in problem]


def test_a_raised_version_asks_for_an_update_and_gets_one(tasks: Path) -> None:
    conala = tasks / "conala"
    before = expected(conala)
    stale = json.loads(json.dumps(before))
    stale["scores"]["r1"]["em@1"] += 1.0
    expect(conala, stale)
    raise_version(conala)
    [problem] = regression.check(conala)
    assert f"version is 77.0, expected.json is of {before['version']}" in problem
    assert "(1 scores differ)" in problem
    assert "python -m peft_bench.regression update" in problem
    regression.update(conala)
    assert expected(conala) == {"version": "77.0", "scores": before["scores"]}


def test_update_refuses_changed_scores_of_the_same_version(tasks: Path) -> None:
    conala = tasks / "conala"
    stale = expected(conala)
    stale["scores"]["r2"]["em@1"] = 0.5
    expect(conala, stale)
    with pytest.raises(UsageError) as caught:
        regression.update(conala)
    assert caught.value.exit_code == 2
    assert "item r2: em@1 was 0.5, is 1.0" in str(caught.value)
    assert "raise metadata.version" in str(caught.value)
    assert expected(conala) == stale


def test_main_tells_which_suite_failed(tasks: Path, capsys: pytest.CaptureFixture[str]) -> None:
    shutil.rmtree(tasks / "quickstart" / "regression")
    (tasks / "conala" / "regression" / "expected.json").unlink()
    assert regression.main(["check"]) == 1
    said = capsys.readouterr().out
    assert "no " in said and "expected.json" in said and "conala: FAILED" in said
    assert "0 passed, 1 failed" in said
    assert regression.main(["update"]) == 0
    assert "1 passed, 0 failed" in capsys.readouterr().out
    assert regression.main(["check"]) == 0


def test_main_refuses_an_unknown_verb(capsys: pytest.CaptureFixture[str]) -> None:
    assert regression.main(["chek"]) == 2
    assert "check|update" in capsys.readouterr().err


def test_items_that_are_new_or_gone_are_changes() -> None:
    changes = regression.compare("t", {"a": {"m": 1.0}}, {"b": {"m": 0.0}})
    assert [(one.item, one.before, one.after) for one in changes] == [
        ("a", 1.0, None),
        ("b", None, 0.0),
    ]
    assert regression.compare("t", {"a": {"m": 1.0}}, {"a": {"m": 1.0}}) == []
