"""What the harness saved of a run, read back: results, documents, answers."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from peft_bench import adapters, cards, records
from peft_bench.answers import Answer
from peft_bench.errors import MissingError, UsageError

# What a task's YAML says, where the run's may be out of date.
_OWN_METADATA = frozenset({"version", "primary_metric", "data", "docs", "demonstration"})
# What a row was asked with; rescoring asks nothing.
_ASKED = ("arguments", "shots", "shots_excluded")
_NAMED = 5  # of several results, in an error
_DECODING = ("num_beams", "num_samples", "max_gen_toks", "do_sample", "temperature", "top_p")


@dataclass(frozen=True, slots=True)
class SavedTask:
    """One task of a run.

    Attributes:
        name: the harness' name.
        data: the data set's name.
        metadata: the run's, without what the task itself says.
        docs: the documents, each with an ``id``.
        answers: by document id, in the order of the requests.
        asked: by document id, what the samples say of its prompt.
        decoding: the generation arguments that count, as the run had them.
        num_fewshot: examples in the prompt.
        samples_name: the samples file's name.
    """

    name: str
    data: str
    metadata: dict[str, Any]
    docs: tuple[dict[str, Any], ...]
    answers: dict[str, tuple[Answer, ...]]
    asked: dict[str, dict[str, Any]]
    decoding: dict[str, Any]
    num_fewshot: int
    samples_name: str


@dataclass(frozen=True, slots=True)
class SavedRun:
    """A run's folder, the harness' results, and its record if it has one."""

    folder: Path
    stamp: str
    results: dict[str, Any]
    tasks: tuple[SavedTask, ...]
    record: records.RunRecord | None

    def results_without_scores(self) -> dict[str, Any]:
        """The results, to be filled with new scores of each task."""
        kept = {key: value for key, value in self.results.items() if key != "groups"}
        kept |= {key: {} for key in ("results", "configs", "versions", "higher_is_better")}
        return kept

    @property
    def _model_args(self) -> dict[str, Any]:
        given = (self.results.get("config") or {}).get("model_args")
        return dict(given) if isinstance(given, dict) else {}

    def model_facts(self) -> dict[str, Any]:
        """What a record says of the model, as far as the harness wrote it down."""
        given = self._model_args
        config = self.results.get("config") or {}
        name = given.get("pretrained") or given.get("model") or config.get("model") or "unknown"
        return {
            "id": str(name),
            "revision": given.get("revision"),
            "dtype": given.get("dtype"),
            "parameters": config.get("model_num_parameters"),
        }

    @property
    def adapter(self) -> Path | None:
        """The adapter's folder as it was typed."""
        named = self._model_args.get("peft")
        return Path(str(named)) if named else None

    def adapter_sha256(self) -> str | None:
        """The adapter's content hash.

        Raises:
            MissingError: its folder is not there.
        """
        if self.adapter is None:
            return None
        if not self.adapter.is_dir():
            raise MissingError(
                place=f"adapter {self.adapter}",
                problem="is not there, so that the record could not cite it",
                remedy="run in the folder where lm_eval ran, or score it by `peft-bench eval`",
            )
        return adapters.content_sha256(self.adapter)

    def card(self) -> cards.AdapterCard | None:
        """The adapter's card, if it has one."""
        return cards.read_card(self.adapter) if self.adapter is not None else None


def read_run(path: Path) -> SavedRun:
    """Reads a run's results and the samples beside them, given its folder or the results.

    Raises:
        MissingError: no results, or no samples of a task.
        UsageError: several results, files that are no JSON, or samples without documents or
            answers.
    """
    found = [path] if path.is_file() else sorted(path.rglob("results_*.json"))
    if not found:
        raise MissingError(
            place=str(path),
            problem="holds no results of lm_eval" if path.is_dir() else "no such folder",
            remedy="give a folder with results_*.json, written with --log_samples",
        )
    if len(found) > 1:
        more = f" and {len(found) - _NAMED} more" if len(found) > _NAMED else ""
        raise UsageError(
            place=str(path),
            problem=f"holds {len(found)} results of lm_eval, and one is rescored at a time",
            remedy=f"name one of them: {', '.join(map(str, found[:_NAMED]))}{more}",
        )
    [file] = found
    results = _json(file, file.read_text(encoding="utf-8"), str(file))
    if not isinstance(results, dict) or not isinstance(results.get("configs"), dict):
        raise UsageError(place=str(file), problem="is no result of lm_eval")
    stamp = records.stamp_of(file)
    tasks = tuple(_read_task(file.parent, name, stamp, results) for name in results["configs"])
    record = None
    if (file.parent / records.RECORD_NAME).is_file():
        record = records.read_record(file.parent)
    return SavedRun(file.parent if path.is_file() else path, stamp, results, tasks, record)


def _read_task(folder: Path, name: str, stamp: str, results: Mapping[str, Any]) -> SavedTask:
    file = records.find_samples(folder, name, stamp)
    if file is None:
        raise MissingError(
            place=f"{folder}: {name}",
            problem="has no samples",
            remedy="evaluate again with --log_samples",
        )
    config = results["configs"][name]
    metadata = dict(config.get("metadata") or {})
    docs: dict[str, dict[str, Any]] = {}
    answers: dict[str, tuple[Answer, ...]] = {}
    asked: dict[str, dict[str, Any]] = {}
    with file.open(encoding="utf-8", newline="\n") as lines:
        for number, line in enumerate(lines, 1):
            if line.strip():
                place = f"{file}: line {number}"
                sample = _json(file, line, place)
                identity = _read_sample(sample, place, docs, answers)
                asked[identity] = {key: sample[key] for key in _ASKED if key in sample}
    given = config.get("generation_kwargs") or {}
    return SavedTask(
        name=name,
        data=str(metadata.get("data", name)),
        metadata={key: value for key, value in metadata.items() if key not in _OWN_METADATA},
        docs=tuple(docs.values()),
        answers=answers,
        asked=asked,
        decoding={key: given[key] for key in _DECODING if key in given},
        num_fewshot=int((results.get("n-shot") or {}).get(name) or 0),
        samples_name=file.name,
    )


def _read_sample(
    sample: Any,
    place: str,
    docs: dict[str, dict[str, Any]],
    answers: dict[str, tuple[Answer, ...]],
) -> str:
    """Takes one line, returns its document's id.

    A task with several filters has a line of each document for each.
    """
    doc = sample.get("doc") if isinstance(sample, dict) else None
    responses = sample.get("resps") if isinstance(sample, dict) else None
    if not isinstance(doc, dict) or "id" not in doc or not isinstance(responses, list):
        raise UsageError(
            place=place,
            problem="has no document with an id, or no answers",
            remedy="rescore what our tasks wrote with --log_samples",
        )
    texts = [
        text for given in responses for text in (given if isinstance(given, list) else [given])
    ]
    if not all(isinstance(text, str) for text in texts):
        raise UsageError(place=place, problem="holds an answer that is no text")
    facts: list[Any] = []
    for key in ("beams", "answers", "verdicts"):
        if isinstance(sample.get(key), list):
            facts = sample[key]
            break
    known = [_facts(fact) for fact in facts] + [{}] * len(texts)
    identity = str(doc["id"])
    docs[identity] = doc
    answers[identity] = tuple(
        Answer(text, **fact) for text, fact in zip(texts, known, strict=False)
    )
    return identity


def _facts(logged: Any) -> dict[str, Any]:
    if not isinstance(logged, dict):
        return {}
    return {key: logged[key] for key in ("score", "tokens", "finished") if key in logged}


def _json(file: Path, text: str, place: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise UsageError(
            place=place, problem=f"is no JSON ({error})", remedy="evaluate again"
        ) from error
