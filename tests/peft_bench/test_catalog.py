"""Our tasks and groups, as their YAML files say."""

from __future__ import annotations

from peft_bench import catalog


def test_task_configurations() -> None:
    conala = catalog.task_config("conala")
    assert conala is not None and conala["metadata"]["primary_metric"] == "em@10"
    quickstart = catalog.task_config("quickstart")
    assert quickstart is not None and quickstart["unsafe_code"] is True
    assert catalog.task_config("hellaswag") is None


def test_groups_and_tags_are_their_tasks_each_once() -> None:
    apps = ["apps_introductory", "apps_interview", "apps_competition"]
    assert list(catalog.leaf_tasks(["apps", "conala", "apps_interview"])) == [*apps, "conala"]
    assert {"conala", "quickstart"} < set(catalog.leaf_tasks(["peft_bench"]))
    assert list(catalog.leaf_tasks(["hellaswag"])) == ["hellaswag"]
