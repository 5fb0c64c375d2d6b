"""``peft-bench rescore``: saved answers are scored again, with no model, under another profile.

What counts is the harness' samples: each row's document and answers. They go through the task's
own code by a model that gives them back, once for each quirk by itself and once for the whole
profile, so that what each quirk changed can be told item by item.
"""

from __future__ import annotations

import json
import shutil
import tempfile
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from peft_bench import catalog, paths, records
from peft_bench.errors import UsageError, writing
from peft_bench.quirks import QUIRKS, active_quirks
from peft_bench.recording import Asked, build_record, task_record
from peft_bench.replay import Replay
from peft_bench.saved import SavedRun, SavedTask, read_run
from peft_bench.scoring import LOGGED

CHANGES_FILE = "changes.jsonl"


@dataclass(frozen=True, slots=True)
class Change:
    """One number of one item that a quirk changes; None where there is none."""

    task: str
    quirk: str
    item: str
    metric: str
    before: float | None
    after: float | None


@dataclass(frozen=True, slots=True)
class Rescored:
    """The record of the new scores, what each quirk changed, and quirks that need the model."""

    folder: Path
    record: records.RunRecord
    changes: tuple[Change, ...]
    scores: dict[str, dict[str, dict[str, float]]]
    out_of_reach: tuple[str, ...]


def rescore(
    run: str | Path,
    *,
    profile: str = "study",
    quirks: Sequence[str] = (),
    out: str | Path | None = None,
    confirm_run_unsafe_code: bool = False,
) -> Rescored:
    """Scores a run's saved answers under a profile; writes results, samples, record and changes.

    Args:
        run: an evaluation's folder, or the harness' own output (``--log_samples``, also with
            ``--predict_only``); one of its results where there are several.
        profile: a name of :data:`peft_bench.quirks.PROFILES`.
        quirks: further quirks by name.
        out: the new evaluation's folder; ``RUN--PROFILE`` by default.
        confirm_run_unsafe_code: needed for tasks that execute the answers.

    Raises:
        MissingError: no results, no samples, or a tokenizer that a quirk needs.
        UsageError: several runs, broken samples, tasks that are not ours, an unknown profile or
            quirk, ``out`` that exists or cannot be written, or programs to be executed without
            leave.
    """
    saved = read_run(Path(run))
    given = saved.folder.resolve()  # which may be "."
    folder = Path(out) if out is not None else given.with_name(f"{given.name}--{profile}")
    with writing("--out", folder):
        if folder.exists():
            raise UsageError(
                place=str(folder),
                problem="exists already",
                remedy="choose another --out, or delete it",
            )
        _refuse_unsafe(saved, confirm_run_unsafe_code)
        folder.parent.mkdir(parents=True, exist_ok=True)
        partial = Path(tempfile.mkdtemp(prefix=f".{folder.name}-", dir=folder.parent))
        try:
            rescored = _rescore(saved, partial, folder, profile, tuple(quirks))
            partial.chmod(0o755)
            partial.rename(folder)
        except BaseException:
            shutil.rmtree(partial, ignore_errors=True)
            raise
    return rescored


def describe(rescored: Rescored) -> str:
    """What to show of it: each task's numbers by quirk, and how many items each quirk changed."""
    lines: list[str] = []
    for task, table in rescored.scores.items():
        changed = Counter((one.quirk, one.item) for one in rescored.changes if one.task == task)
        items = Counter(quirk for quirk, _ in changed)
        width = max(map(len, next(iter(table.values()))))
        lines += [f"{task}, in percent", ""]
        lines.append("".join([" " * width, *(f"  {name:>20}" for name in table)]))
        for metric, plain in table["none"].items():
            values = [numbers.get(metric) for numbers in table.values()]
            if any(value != plain for value in values):
                shown = ("" if value is None else f"{100 * value:.2f}" for value in values)
                lines.append("".join([f"{metric:<{width}}", *(f"  {text:>20}" for text in shown)]))
        counts = (str(items.get(name, 0)) if name in QUIRKS else "" for name in table)
        lines.append("".join([f"{'items changed':<{width}}", *(f"  {n:>20}" for n in counts)]))
        lines.append("")
    if rescored.out_of_reach:
        lines.append(
            f"not to be had from saved answers (they need the model): "
            f"{', '.join(rescored.out_of_reach)}"
        )
    lines.append(f"written: {rescored.folder}, {CHANGES_FILE} has every change")
    return "\n".join(lines)


def _refuse_unsafe(saved: SavedRun, confirmed: bool) -> None:
    for task in saved.tasks:
        config = catalog.task_config(task.name)
        if config is None:
            raise UsageError(
                place=f"{saved.folder}: task {task.name}",
                problem="is not one of ours",
                remedy="rescore runs of the tasks in `peft-bench list tasks`",
            )
        if config.get("unsafe_code") and not confirmed:
            raise UsageError(
                place=f"task {task.name}",
                problem="executes programs that the model wrote",
                remedy="read sandbox/README.md, then add --confirm_run_unsafe_code",
            )


def _rescore(
    saved: SavedRun, partial: Path, folder: Path, profile: str, quirks: tuple[str, ...]
) -> Rescored:
    results = saved.results_without_scores()
    changes: list[Change] = []
    scores: dict[str, dict[str, dict[str, float]]] = {}
    out_of_reach: set[str] = set()
    for task in saved.tasks:
        had = active_quirks(task.data, **task.metadata)
        wanted = active_quirks(task.data, profile=profile, quirks=quirks)
        out_of_reach |= {name for name in wanted ^ had if QUIRKS[name].stage != "scoring"}
        scoring = frozenset(name for name in wanted if QUIRKS[name].stage == "scoring")
        kept = frozenset(name for name in had if QUIRKS[name].stage != "scoring")
        plain = _score(task, kept)
        table = scores[task.name] = {"none": _numbers(plain, task)}
        for name in sorted(scoring):
            alone = _score(task, kept | {name})
            table[name] = _numbers(alone, task)
            changes += _changes(task.name, name, plain, alone)
        whole = _score(task, kept | scoring) if len(scoring) > 1 else (alone if scoring else plain)
        table[f"all of {profile}"] = _numbers(whole, task)
        _write_samples(partial, task, whole)
        for key, value in _parts(whole, task).items():
            results[key][task.name] = value
    (partial / f"results_{saved.stamp}.json").write_text(
        json.dumps(results, indent=2, default=str, ensure_ascii=False), encoding="utf-8"
    )
    with (partial / CHANGES_FILE).open("w", encoding="utf-8") as file:
        for change in changes:
            file.write(json.dumps({key: getattr(change, key) for key in change.__slots__}) + "\n")
    record = _record(saved, partial, folder.name, results)
    for scored in record.tasks:
        records.keep_items(partial, scored)
    records.write_record(partial, record)
    return Rescored(folder, record, tuple(changes), scores, tuple(sorted(out_of_reach)))


def _score(task: SavedTask, quirks: frozenset[str]) -> dict[str, Any]:
    """The harness' results of a task's saved answers under some quirks."""
    from lm_eval.evaluator import evaluate
    from lm_eval.tasks import TaskManager

    with tempfile.TemporaryDirectory() as scratch:
        docs = Path(scratch) / "docs.jsonl"
        docs.write_text("".join(f"{json.dumps(doc)}\n" for doc in task.docs), encoding="utf-8")
        metadata = {**task.metadata, "docs": str(docs), "profile": "default"}
        metadata["quirks"] = sorted(quirks)
        manager = TaskManager(
            include_path=str(paths.tasks_dir()), include_defaults=False, metadata=metadata
        )
        built = manager.load([task.name])["tasks"][task.name]
        built.config.generation_kwargs.update(task.decoding)
        found = evaluate(
            lm=Replay(task.answers),
            task_dict={"tasks": {task.name: built}, "groups": {}},
            bootstrap_iters=0,
            confirm_run_unsafe_code=True,
        )
    assert found is not None
    return dict(found)


def _parts(found: Mapping[str, Any], task: SavedTask) -> dict[str, Any]:
    """What of the harness' results is new; shots and decoding stay those of the run."""
    config = {**found["configs"][task.name], "num_fewshot": task.num_fewshot}
    config["generation_kwargs"] = {**config["generation_kwargs"], **task.decoding}
    config["metadata"] = {key: value for key, value in config["metadata"].items() if key != "docs"}
    return {
        "results": found["results"][task.name],
        "configs": config,
        "versions": found["versions"][task.name],
        "higher_is_better": found["higher_is_better"][task.name],
    }


def _numbers(found: Mapping[str, Any], task: SavedTask) -> dict[str, float]:
    """Metric -> value of the whole task."""
    numbers: dict[str, float] = {}
    for key, value in found["results"][task.name].items():
        metric, comma, _ = key.partition(",")
        if comma and not metric.endswith("_stderr") and metric not in LOGGED:
            numbers[metric] = float(value)
    return numbers


def _changes(
    task: str, quirk: str, before: Mapping[str, Any], after: Mapping[str, Any]
) -> Iterator[Change]:
    rows = {str(row["doc"]["id"]): row for row in before["samples"][task]}
    for row in after["samples"][task]:
        item = str(row["doc"]["id"])
        old, new = _item_numbers(rows[item]), _item_numbers(row)
        for metric in sorted(old.keys() | new.keys()):
            if old.get(metric) != new.get(metric):
                yield Change(task, quirk, item, metric, old.get(metric), new.get(metric))


def _item_numbers(row: Mapping[str, Any]) -> dict[str, float]:
    return {
        metric: float(row[metric])
        for metric in row["metrics"]
        if isinstance(row[metric], int | float) and not metric.endswith("_stderr")
    }


def _write_samples(partial: Path, task: SavedTask, found: Mapping[str, Any]) -> None:
    from lm_eval.utils import handle_non_serializable

    with (partial / task.samples_name).open("w", encoding="utf-8") as file:
        for row in found["samples"][task.name]:
            whole = {**row, **task.asked[str(row["doc"]["id"])]}
            text = json.dumps(whole, default=handle_non_serializable, ensure_ascii=False)
            file.write(text + "\n")


def _record(
    saved: SavedRun, partial: Path, name: str, results: Mapping[str, Any]
) -> records.RunRecord:
    if saved.record is None:
        return build_record(
            name,
            partial,
            results,
            saved.model_facts(),
            stamp=saved.stamp,
            adapter_name=saved.adapter.name if saved.adapter else None,
            adapter_sha256=saved.adapter_sha256(),
            card=saved.card(),
            wall_s=0.0,
        )
    old = {task.task: task for task in saved.record.tasks}
    model_args = results["config"].get("model_args")
    given = model_args if isinstance(model_args, dict) else {}
    tasks = []
    for task in saved.tasks:
        before = old[task.name]
        asked = Asked(before.prompt_hash, before.data_sha256, before.custom_data)
        after = task_record(task.name, partial, results, given, stamp=saved.stamp, asked=asked)
        marks = dict.fromkeys((*before.marks, *after.marks))
        tasks.append(replace(after, marks=tuple(marks)))
    return replace(saved.record, name=name, tasks=tuple(tasks))
