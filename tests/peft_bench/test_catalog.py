"""Our tasks and groups, as their YAML files say."""

from __future__ import annotations

from pathlib import Path

import pytest

from peft_bench import catalog


def test_task_configurations() -> None:
    conala = catalog.task_config("conala")
    assert conala is not None and conala["metadata"]["primary_metric"] == "em@10"
    quickstart = catalog.task_config("quickstart")
    assert quickstart is not None and quickstart["unsafe_code"] is True
    assert catalog.task_config("hellaswag") is None


def test_a_file_describes_itself_in_its_first_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, text in (
        ("a", "# What a is.\n# More.\ntask: a\nclass: !function utils.A\n"),
        ("b", "task: b\n# No first line.\n"),
        ("c", "# A group of two.\ngroup: c\ntask:\n  - a\n  - b\n"),
        ("_base", "# For others to include.\nclass: !function utils.A\n"),
        ("empty", ""),
    ):
        (tmp_path / name).mkdir()
        (tmp_path / name / f"{name}.yaml").write_text(text, encoding="utf-8")
    monkeypatch.setattr(catalog, "tasks_dir", lambda: tmp_path)
    assert list(catalog.described()) == [("a", "What a is."), ("b", ""), ("c", "A group of two.")]


def test_groups_and_tags_are_their_tasks_each_once() -> None:
    apps = ["apps_introductory", "apps_interview", "apps_competition"]
    assert list(catalog.leaf_tasks(["apps", "conala", "apps_interview"])) == [*apps, "conala"]
    assert {"conala", "quickstart"} < set(catalog.leaf_tasks(["peft_bench"]))
    assert list(catalog.leaf_tasks(["hellaswag"])) == ["hellaswag"]
