"""The web page's explorer: single problems, the answers of some runs, base against adapter.

Its data are JSON inside the page; the script shows them as text and nothing else. So whatever a
model wrote, it is never read as markup, by the page's parser or later.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass

from peft_bench.report.markup import Markup, tag
from peft_bench.report.text import printable, printable_lines


@dataclass(frozen=True)
class Answer:
    """One answer, whether it is right, and what is known of it."""

    text: str
    right: bool
    note: str = ""


@dataclass(frozen=True)
class Problem:
    """One item: ``values`` and ``answers`` have an entry a run, None or empty where not asked."""

    id: str
    prompt: str
    reference: str
    values: tuple[float | None, ...]
    answers: tuple[tuple[Answer, ...], ...]


@dataclass(frozen=True)
class ExploredRun:
    """A run shown; ``baseline`` names another one that is shown."""

    name: str
    model: str
    method: str
    baseline: str | None = None


@dataclass(frozen=True)
class Explored:
    """What the page shows of a task: some of its ``of_runs`` runs and ``of_problems`` problems."""

    task: str
    metric: str
    runs: tuple[ExploredRun, ...]
    problems: tuple[Problem, ...]
    of_runs: int
    of_problems: int


def render_explorer(explored: Sequence[Explored]) -> Markup:
    """The section, hidden until the script fills it; nothing where there is nothing to show."""
    shown = [task for task in explored if task.problems]
    if not shown:
        return Markup("")

    def choice(name: str, label: str) -> Markup:
        return tag("label", f"{label} ", tag("select", id=name))

    return tag(
        "section",
        tag("h2", "Problems and answers"),
        tag("p", "Switch on scripts to look at single problems.", class_="note", id="unscripted"),
        tag(
            "div",
            tag(
                "div",
                choice("explored-task", "Task"),
                choice("explored-left", "Left"),
                choice("explored-right", "Right"),
                choice("explored-show", "Show"),
                class_="controls",
            ),
            tag("p", id="explored-note", class_="note"),
            tag(
                "div",
                tag("ol", id="explored-list", aria_label="Problems", tabindex="0"),
                tag("div", id="explored-problem", aria_live="polite"),
                class_="explorer",
            ),
            id="explorer",
            hidden=True,
        ),
        tag("script", Markup(_json(shown)), type="application/json", id="explored"),
    )


def _json(explored: Sequence[Explored]) -> str:
    """JSON in which no character can end the element that holds it."""
    plain = [
        {
            "task": printable(task.task),
            "metric": printable(task.metric),
            "ofRuns": task.of_runs,
            "ofProblems": task.of_problems,
            "runs": [
                {
                    "name": printable(run.name),
                    "label": printable(f"{run.name} ({run.method})"),
                    "baseline": printable(run.baseline) if run.baseline is not None else None,
                }
                for run in task.runs
            ],
            "problems": [
                {
                    "id": printable(problem.id),
                    "prompt": printable_lines(problem.prompt),
                    "reference": printable_lines(problem.reference),
                    "values": problem.values,
                    "answers": [
                        [
                            [printable_lines(one.text), one.right, printable(one.note)]
                            for one in answers
                        ]
                        for answers in problem.answers
                    ],
                }
                for problem in task.problems
            ],
        }
        for task in explored
    ]
    written = json.dumps(plain, ensure_ascii=True, separators=(",", ":"), allow_nan=False)
    return written.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")
