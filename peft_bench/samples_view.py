"""Some problems and answers of some runs, read from the samples for the page's explorer."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from peft_bench.entry import Entry
from peft_bench.metrics.exact_match import exact_match
from peft_bench.records import TaskRecord
from peft_bench.report.explorer import Answer, Explored, ExploredRun, Problem
from peft_bench.report.row import LeaderboardRow

RUNS = 8  # a task, so that the page stays small whatever the number of rows
PROBLEMS = 100  # a task
_TASKS = 12
_LONGEST = 3000  # characters of a prompt or an answer
_MOST_ANSWERS = 10
_MOST = 1e300  # beyond are infinity, and integers that no float holds

_Samples = dict[str, dict[str, Any]]


def explore(entries: Iterable[Entry], rows: Sequence[LeaderboardRow]) -> list[Explored]:
    """For each task its best runs and their baselines, on the task's first problems.

    Runs whose samples are absent or broken are left out, and so are tasks without any; the page
    tells how many runs and problems it has of how many.
    """
    by_task: dict[str, dict[str, Entry]] = defaultdict(dict)
    for entry in entries:
        by_task[entry.task.task].setdefault(entry.record.name, entry)
    found = []
    for task in list(dict.fromkeys(row.task for row in rows))[:_TASKS]:
        members = [row for row in rows if row.task == task]
        names = _chosen(members)
        read = {
            name: samples
            for name in names
            if name in by_task[task] and (samples := _read(by_task[task][name]))
        }
        if read:
            found.append(_explored(task, members, read, by_task[task]))
    return found


def _chosen(rows: Sequence[LeaderboardRow]) -> list[str]:
    """The best run and its baseline, the second best and its baseline, and so on."""
    names: dict[str, None] = {}
    for row in sorted(rows, key=lambda row: row.rank or len(rows) + 1):
        if len(names) >= RUNS:
            break
        names[row.run] = None
        if row.baseline_run is not None:
            names[row.baseline_run] = None
    return list(names)[:RUNS]


def _explored(
    task: str,
    rows: Sequence[LeaderboardRow],
    read: dict[str, _Samples],
    entries: dict[str, Entry],
) -> Explored:
    by_name = {row.run: row for row in rows}
    metric = by_name[next(iter(read))].primary_metric
    ids = list(dict.fromkeys(i for samples in read.values() for i in samples))
    problems = []
    for identity in ids[:PROBLEMS]:
        samples = [samples.get(identity) for samples in read.values()]
        known = next(sample for sample in samples if sample is not None)
        reference = _reference(known)
        problems.append(
            Problem(
                identity,
                _question(known),
                reference[:_LONGEST],
                tuple(_value(sample, metric) for sample in samples),
                tuple(_answers(sample, reference) for sample in samples),
            )
        )
    runs = []
    for name in read:
        row = by_name[name]
        adapted = row.adapter is not None
        baseline = row.baseline_run if row.baseline_run in read else None
        runs.append(ExploredRun(name, row.model, row.method if adapted else row.approach, baseline))
    most = max(entries[name].task.n for name in read)
    return Explored(task, metric, tuple(runs), tuple(problems), len(by_name), max(most, len(ids)))


def _read(entry: Entry) -> _Samples:
    """The samples by item; nothing where they cannot be read."""
    file = _samples_file(entry.folder, entry.task)
    if file is None:
        return {}
    found: _Samples = {}
    try:
        with file.open(encoding="utf-8", newline="\n") as lines:
            for line in lines:
                if len(found) > PROBLEMS:
                    break
                sample = json.loads(line, parse_int=_parse_int) if line.strip() else None
                if not isinstance(sample, dict) or not sample.get("metrics", True):
                    continue
                doc = sample.get("doc")
                doc = doc if isinstance(doc, dict) else {}
                found.setdefault(str(doc.get("id", sample.get("doc_id"))), sample)
    except (OSError, ValueError, RecursionError):
        return {}
    return found


def _samples_file(folder: Path, task: TaskRecord) -> Path | None:
    # Reading a record has made sure that the name does not lead out of the folder.
    return folder / task.samples_file if task.samples_file else None


def _question(sample: dict[str, Any]) -> str:
    """The prompt as it was sent, else as the document has it."""
    try:
        asked = sample["arguments"]["gen_args_0"]["arg_0"]
    except (KeyError, TypeError):
        asked = None
    doc = sample.get("doc")
    doc = doc if isinstance(doc, dict) else {}
    for text in (asked, doc.get("prompt"), doc.get("nl")):
        if isinstance(text, str) and text:
            return text[:_LONGEST]
    return ""


def _reference(sample: dict[str, Any]) -> str:
    doc = sample.get("doc")
    if isinstance(doc, dict) and isinstance(doc.get("cmd"), str):
        return str(doc["cmd"])
    return str(sample.get("target") or "")


def _value(sample: dict[str, Any] | None, metric: str) -> float | None:
    """The item's score; of a corpus metric its own, where the task keeps one."""
    if sample is None:
        return None
    for name in (metric, f"{metric}_mean"):
        value = sample.get(name)
        if isinstance(value, int | float) and -_MOST < value < _MOST:  # NaN is neither
            return float(value)
    return None


def _answers(sample: dict[str, Any] | None, reference: str) -> tuple[Answer, ...]:
    if sample is None:
        return ()
    given = sample.get("resps")
    texts = [
        str(text)
        for answers in (given if isinstance(given, list) else [])
        for text in (answers if isinstance(answers, list) else [answers])
    ]
    verdicts = sample.get("verdicts")
    facts: list[Any] = next(
        (sample[k] for k in ("verdicts", "beams", "answers") if isinstance(sample.get(k), list)), []
    )
    found = []
    for i, text in enumerate(texts[:_MOST_ANSWERS]):
        fact = facts[i] if i < len(facts) and isinstance(facts[i], dict) else {}
        if isinstance(verdicts, list):
            right = fact.get("status") == "passed"
            said = [str(fact.get("status", "not run")), str(fact.get("message") or "")[:200]]
            if fact.get("total"):
                said.insert(1, f"{fact.get('passed')} of {fact['total']} tests")
        else:
            right = bool(reference) and exact_match(reference, text)
            said = ["exact match"] if right else []
            if not right and reference and exact_match(reference, text, mode="whitespace"):
                said = ["but for white space"]
        if fact.get("finished") is False:
            said.append("cut at the most tokens")
        if isinstance(fact.get("score"), float):
            said.append(f"score {fact['score']:.3f}")
        found.append(Answer(text[:_LONGEST], right, ", ".join(filter(None, said))))
    return tuple(found)


def _parse_int(digits: str) -> int | str:
    return int(digits) if len(digits) < 4000 else digits
