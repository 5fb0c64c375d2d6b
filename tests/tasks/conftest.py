"""Executed tasks, asked through the harness itself: rows and answers of our own, no model."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from peft_bench import paths

Ask = Callable[..., dict[str, Any]]


@pytest.fixture()
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """What is found of references is kept apart from the user's."""
    monkeypatch.setenv("PEFT_BENCH_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture()
def ask(tmp_path: Path, own_cache: Path, monkeypatch: pytest.MonkeyPatch) -> Ask:
    """``ask(task, source, rows, answers, **options)`` -> the harness' results.

    rows: in the hub's schema, as every split (``train``: others for training).
    answers: row id -> texts, one a sample.
    ``metadata`` is the harness' ``--metadata``; other options are ``simple_evaluate``'s.
    """
    # It calls pip and git to describe the machine: as long again as all else here.
    monkeypatch.setattr("lm_eval.evaluator.add_env_info", lambda _: None)
    monkeypatch.setattr("lm_eval.evaluator.get_git_commit_hash", lambda: None)

    def run(
        task: str,
        source: str,
        rows: Sequence[Mapping[str, Any]],
        answers: Mapping[str, Sequence[Any]],
        *,
        metadata: Mapping[str, Any] | None = None,
        train: Sequence[Mapping[str, Any]] | None = None,
        **options: Any,
    ) -> dict[str, Any]:
        from lm_eval import simple_evaluate
        from lm_eval.tasks import TaskManager

        from peft_bench.replay import Replay

        folder = tmp_path / "rows" / source
        folder.mkdir(parents=True, exist_ok=True)
        for split in ("train", "test", "prompt"):
            chosen = rows if train is None or split != "train" else train
            text = "".join(json.dumps(row) + "\n" for row in chosen)
            (folder / f"{split}.jsonl").write_text(text, encoding="utf-8")
        manager = TaskManager(
            include_path=str(paths.tasks_dir()),
            include_defaults=False,
            metadata={"data_dir": str(folder.parent), **(metadata or {})},
        )
        given = {"model": Replay(answers), "confirm_run_unsafe_code": True, **options}
        results = simple_evaluate(
            tasks=[task],
            task_manager=manager,
            torch_random_seed=None,
            bootstrap_iters=0,
            **given,
        )
        assert results is not None
        return dict(results)

    return run


@pytest.fixture()
def verdicts() -> Callable[..., dict[str, list[dict[str, Any]]]]:
    """``verdicts(results, task)`` -> row id -> its logged verdicts."""

    def read(results: Mapping[str, Any], task: str) -> dict[str, list[dict[str, Any]]]:
        return {one["doc"]["id"]: one["verdicts"] for one in results["samples"][task]}

    return read
