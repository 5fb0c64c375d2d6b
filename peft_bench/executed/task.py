"""Harness tasks whose answers are executed: the gold check before, the sandbox after."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import partial
from typing import Any, ClassVar

from lm_eval.api.filter import FilterEnsemble
from lm_eval.api.instance import Instance
from peft_bench_sandbox.profiles import PROFILES

from peft_bench import data, gold, harness
from peft_bench.errors import MissingError, UsageError
from peft_bench.executed.problems import Problem
from peft_bench.executed.running import RunPrograms, workers
from peft_bench.executed.scores import METRICS, score
from peft_bench.gold import Gold, Sandbox
from peft_bench.sampling import SampledTask
from peft_bench.scoring import Metric, metric_list


class ExecutedTask(SampledTask):
    """A sampled task whose answers are programs; subclasses say how a row becomes a problem.

    A test split without rows is scored with n = 0: no request is made, no metric is given.
    ``--metadata``: ``sandbox`` (a level; less than ``strong`` only by name), ``sandbox_profile``
    (``scientific``: numpy and pandas can be imported), ``gold: false`` (references are not run).

    Attributes:
        data: the data set's name.
        metrics: what there is besides errors.
        unlogged: columns that the samples log would only grow by.
    """

    data: ClassVar[str]
    metrics: ClassVar[tuple[Metric, ...]] = METRICS
    unlogged: ClassVar[tuple[str, ...]] = ()
    chat_instruction: ClassVar[str] = (
        "Solve this problem in Python. Answer with the program in one fenced block (```python)."
    )

    # The harness' own, which come without types.
    dataset: dict[str, Any]
    _instances: list[Instance]

    def __init__(self, config: dict[str, Any] | None = None) -> None:
        settings = dict(config or {})
        settings["metric_list"] = metric_list(self.metrics, logged=("verdicts",))
        settings["process_results"] = score  # spares metric functions; see process_results
        self._problems: dict[str, Problem] = {}
        self._gold: dict[str, Gold] = {}
        self._sandbox: Sandbox | None = None
        self._built = False
        super().__init__(config=settings)
        self._built = True

    def problem(self, row: Mapping[str, Any]) -> Problem:
        """The problem of a row of the data set."""
        raise NotImplementedError

    def download(self, dataset_kwargs: dict[str, Any] | None = None, **kwargs: Any) -> None:
        """As the harness'; large columns are kept apart from the documents that it logs."""
        super().download(dataset_kwargs, **kwargs)
        self._rows = self.dataset[self.config.test_split]
        self.dataset = {
            name: split.remove_columns([one for one in self.unlogged if one in split.column_names])
            for name, split in self.dataset.items()
        }

    @property
    def eval_docs(self) -> Any:
        """The documents asked. The harness' constructor reads the first: it must find one."""
        docs = super().eval_docs
        if len(docs) or self._built:
            return docs
        from datasets import Dataset

        names = {"id", "question_id", "nl", "cmd", "prompt", *docs.column_names}
        return Dataset.from_dict({name: [""] for name in sorted(names)})

    def build_all_requests(self, **kwargs: Any) -> None:
        """As the harness', with the references of the problems asked checked before.

        Raises:
            MissingError: there is no sandbox of the level asked for.
            UsageError: no such profile, or a row that cannot be made a problem.
        """
        if not len(self.eval_docs):
            self._instances = []
            return
        super().build_all_requests(**kwargs)
        if "bypass" not in self._metric_fn_list:
            self._prepare({str(instance.doc["id"]) for instance in self._instances})

    def _prepare(self, asked: set[str]) -> None:
        metadata = self.config.metadata or {}
        self._sandbox = choose_sandbox(metadata)
        self._problems = {str(row["id"]): self.problem(row) for row in self._whole_rows(asked)}
        if metadata.get("gold", True) in (False, "false"):
            self._gold = dict.fromkeys(self._problems, Gold("unchecked"))
            return
        references = {
            name: [problem.program(source) for source in problem.solutions]
            for name, problem in self._problems.items()
        }
        self._gold = gold.check(references, self._sandbox, workers=workers())
        gold.report(str(self.config.task), self._gold)

    def _whole_rows(self, asked: set[str]) -> Iterator[Mapping[str, Any]]:
        """The rows asked; saved documents lack the columns that are not logged."""
        lacking = [name for name in self.unlogged if name not in self._rows.column_names]
        known: dict[str, Mapping[str, str]] = {}
        if lacking:
            folder = (self.config.metadata or {}).get("data_dir")
            rows = data.load_split(self.data, "test", data_dir=folder).rows
            known = {row.id: row.extra for row in rows if row.id in asked}
        for place, name in enumerate(self._rows["id"]):
            if name not in asked:
                continue
            if lacking and name not in known:
                raise MissingError(
                    place=f"row {name}",
                    problem=f"is not among the rows of {self.data} here, which hold its tests",
                    remedy="name the folder with the rows that were scored: --metadata data_dir",
                )
            more = {key: known[name][key] for key in lacking}
            yield {**self._rows[place], **more}

    def apply_filters(self) -> Any:
        """As the harness', with the answers run."""
        if not self._instances:
            # The harness looks for the filters' names in a first request.
            self._instances = [
                Instance("generate_until", {}, ("", {}), 0, (str(self.config.task), None, 1))
            ]
            return self._instances
        if self._sandbox is not None:
            run = partial(RunPrograms, self._problems, self._gold, self._sandbox)
            self._filters = [FilterEnsemble("executed", [run])]
        return super().apply_filters()

    def dump_config(self) -> dict[str, Any]:
        """As the harness', with what was found on this machine."""
        config: dict[str, Any] = super().dump_config()
        if not len(self.eval_docs):
            config["task_alias"] = f"{config.get('task_alias') or self.config.task} (n = 0)"
        facts: dict[str, Any] = {}
        if self._sandbox is not None:
            outcomes = [one.outcome for one in self._gold.values()]
            facts["sandbox"] = self._sandbox.level
            facts["sandbox_profile"] = self._sandbox.profile
            facts["references"] = {name: outcomes.count(name) for name in sorted(set(outcomes))}
            failed = [name for name, one in self._gold.items() if one.outcome == "failed"]
            facts["references_failed"] = failed
        config["metadata"] = {**(config.get("metadata") or {}), **facts}
        return config


class CompletionTask(ExecutedTask):
    """An executed task whose plain prompt is the beginning of a function, to be gone on with."""

    chat_instruction: ClassVar[str] = (
        "Complete this Python function. Answer with the whole function in one fenced block "
        "(```python)."
    )

    def chat_question(self, doc: Mapping[str, Any]) -> str:
        """The user's turn: the instruction, and the prompt in a fenced block."""
        return f"{self.chat_instruction}\n\n```python\n{str(doc['prompt']).strip()}\n```"


def choose_sandbox(metadata: Mapping[str, Any]) -> Sandbox:
    """Where answers run: ``strong``, or less if the harness' metadata names it.

    Raises:
        MissingError: the level is not to be had here, or holds nothing back.
        UsageError: no such profile.
    """
    level = harness.sandbox_level(**{"sandbox": "strong", **metadata})
    if level is None:
        raise MissingError(
            place="--metadata sandbox=none",
            problem="holds back nothing that a model writes",
            remedy="ask for limits, or only generate: --predict_only",
        )
    profile = str(metadata.get("sandbox_profile", "stdlib"))
    if profile not in PROFILES:
        raise UsageError(
            place=f"--metadata sandbox_profile={profile}",
            problem="no such profile",
            remedy=f"known: {', '.join(PROFILES)}",
        )
    return Sandbox(level, profile)


def completion_dataset(name: str, metadata: Mapping[str, Any], **select: Any) -> dict[str, Any]:
    """The splits of a task whose prompts are completed, whatever prompt an adapter was trained on.

    That difference is no fault here (the data set's prompt is what is asked), so the agreement
    with training is not checked.
    """
    given = {**metadata, "prompt": "completion", "peft": None}
    return harness.dataset(name, **select, **given)
