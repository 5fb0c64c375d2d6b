"""The regression suite: committed model answers are rescored by the real harness, with no model.

``tasks/<task>/regression/answers.jsonl`` holds answers to rows of the project's own, and
``expected.json`` what they score, item by item. A score that differs while the task's version is
the same is a failure: whoever changes how a task scores must raise its version.

    python -m peft_bench.regression check     # compare; exit 1 on any difference
    python -m peft_bench.regression update    # write expected.json anew (needs a raised version)
"""

from __future__ import annotations

import json
import sys
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from peft_bench import catalog, data, harness, paths
from peft_bench.errors import PeftBenchError, UsageError
from peft_bench.replay import Replay

Scores = dict[str, dict[str, float]]


@dataclass(frozen=True, slots=True)
class Change:
    """One score that is not what it was."""

    task: str
    item: str
    metric: str
    before: float | None
    after: float | None

    def __str__(self) -> str:
        return f"{self.task}: item {self.item}: {self.metric} was {self.before}, is {self.after}"


def suites() -> list[Path]:
    """The tasks that have a regression suite: their folders."""
    return sorted(
        file.parent.parent for file in paths.tasks_dir().glob("*/regression/answers.jsonl")
    )


def rescore(folder: Path) -> tuple[str, Scores]:
    """The task's version and the scores of its committed answers, item -> metric -> value.

    A folder named like a group is rescored as a whole: every task of the group.
    """
    from lm_eval import simple_evaluate
    from lm_eval.tasks import TaskManager

    task = folder.name
    rows = [json.loads(line) for line in _lines(folder / "regression" / "answers.jsonl")]
    with tempfile.TemporaryDirectory() as data_dir:
        _write_rows(Path(data_dir), _source(task), rows)
        manager = TaskManager(
            include_path=str(folder.parent),
            include_defaults=False,  # reading the harness' own thousands takes seconds
            metadata={"data_dir": data_dir},
        )
        results = simple_evaluate(
            model=Replay({row["id"]: row["answers"] for row in rows}),
            tasks=[task],
            task_manager=manager,
            torch_random_seed=None,
            bootstrap_iters=0,
            confirm_run_unsafe_code=True,
        )
    assert results is not None
    scores = {
        sample["doc"]["id"]: _numbers(sample)
        for samples in results["samples"].values()
        for sample in samples
    }
    versions = sorted({str(results["versions"][name]) for name in results["samples"]})
    return "+".join(versions), scores


def _source(task: str) -> str:
    """The data set that a task, or the tasks of a group, are asked from."""
    [leaf, *_] = catalog.leaf_tasks([task])
    config = catalog.task_config(leaf) or {}
    return str((config.get("metadata") or {}).get("data", leaf))


def _numbers(sample: dict[str, Any]) -> dict[str, float]:
    """A sample's metrics that are numbers; lists are logged, and errors of no one item."""
    return {
        name: float(sample[name])
        for name in sample["metrics"]
        if isinstance(sample[name], int | float)
    }


def _write_rows(data_dir: Path, source: str, rows: Sequence[dict[str, Any]]) -> None:
    """Rows that come with the answers, in the data set's schema (a packaged task reads its own).

    They are under ``row``, or ``nl`` and ``cmd`` stand beside the answers.
    """
    folder = data_dir / source
    folder.mkdir()
    kept = [
        row["row"]
        if "row" in row
        else {"id": row["id"], "question_id": row["id"], "nl": row["nl"], "cmd": row["cmd"]}
        for row in rows
        if "row" in row or "nl" in row
    ]
    text = "".join(json.dumps(row) + "\n" for row in kept)
    for split in data.SOURCES[source].splits:
        (folder / f"{split}.jsonl").write_text(text, encoding="utf-8")


def _lines(file: Path) -> Iterator[str]:
    return (line for line in file.read_text(encoding="utf-8").split("\n") if line.strip())


def compare(task: str, before: Scores, after: Scores) -> list[Change]:
    """Every item and metric whose score differs, is new or is gone."""
    changes: list[Change] = []
    for item in sorted(before.keys() | after.keys()):
        old, new = before.get(item, {}), after.get(item, {})
        for metric in sorted(old.keys() | new.keys()):
            if old.get(metric) != new.get(metric):
                changes.append(Change(task, item, metric, old.get(metric), new.get(metric)))
    return changes


def check(folder: Path) -> list[str]:
    """What is wrong with a task's suite; nothing if its scores are the expected ones."""
    version, scores = rescore(folder)
    file = folder / "regression" / "expected.json"
    if not file.is_file():
        return [f"{folder.name}: no {file}: run `python -m peft_bench.regression update`"]
    expected = json.loads(file.read_text(encoding="utf-8"))
    changes = compare(folder.name, expected["scores"], scores)
    if expected["version"] != version:
        return [
            f"{folder.name}: version is {version}, expected.json is of {expected['version']} "
            f"({len(changes)} scores differ): run `python -m peft_bench.regression update`"
        ]
    if not changes:
        return []
    hint = f"{folder.name}: raise metadata.version in {folder.name}.yaml if this is meant"
    return [*map(str, changes), hint]


def update(folder: Path) -> None:
    """Writes ``expected.json``.

    Raises:
        UsageError: scores changed, but the task's version did not.
    """
    version, scores = rescore(folder)
    file = folder / "regression" / "expected.json"
    if file.is_file():
        expected = json.loads(file.read_text(encoding="utf-8"))
        changes = compare(folder.name, expected["scores"], scores)
        if changes and expected["version"] == version:
            raise UsageError(
                place=folder.name,
                problem=f"{len(changes)} scores changed at version {version}, first: {changes[0]}",
                remedy=f"raise metadata.version in {folder.name}.yaml, then update",
            )
    content = {"version": version, "scores": scores}
    file.write_text(json.dumps(content, indent=1, sort_keys=True) + "\n", encoding="utf-8")


def main(arguments: Sequence[str]) -> int:
    """``check`` or ``update`` all suites; returns the exit code."""
    verb = arguments[0] if arguments else "check"
    if verb not in ("check", "update"):
        print("usage: python -m peft_bench.regression check|update", file=sys.stderr)
        return 2
    if harness.sandbox_level() is None:
        print("regression: no sandbox here: answers cannot be executed", file=sys.stderr)
        return 3
    failed = 0
    passed = 0
    for folder in suites():
        try:
            if verb == "update":
                update(folder)
            problems = check(folder)
        except PeftBenchError as error:
            problems = [str(error)]
        for problem in problems:
            print(problem)
        failed += bool(problems)
        passed += not problems
        print(f"{folder.name}: {'FAILED' if problems else 'ok'}")
    print(f"regression: {passed} passed, {failed} failed")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
