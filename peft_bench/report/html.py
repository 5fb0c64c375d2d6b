"""The leaderboard as one web page that needs nothing but itself.

No network, no other file: style, script and plots are inside, and a content security policy
forbids the page to load or run anything else. Without script the whole table shows.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Sequence
from importlib.resources import files
from itertools import groupby

from peft_bench.report import text
from peft_bench.report.bars import (
    approach_bars,
    comparable_rows,
    memory_bars,
    method_bars,
    methods_of,
)
from peft_bench.report.cost_plots import COSTS, cost_plot
from peft_bench.report.drawing import SERIES
from peft_bench.report.explorer import Explored, render_explorer
from peft_bench.report.html_costs import render_costs
from peft_bench.report.html_table import render_table
from peft_bench.report.markup import Markup, tag
from peft_bench.report.plots import score_plot
from peft_bench.report.row import LEADERBOARD_SCHEMA_VERSION, LeaderboardRow

Rows = Sequence[LeaderboardRow]

_PLOTTED = 40  # runs of a task in its first plot
_LISTED = 500  # rows of the table


def render_html(
    rows: Rows, *, title: str, explored: Sequence[Explored] = (), baseline: str | None = None
) -> str:
    """The page as text.

    Of more than 500 rows the table has the first of each task, and says so.

    Args:
        rows: In the order the table first shows; runs of one task next to each other.
        title: The page's heading.
        explored: Problems and answers, a task each.
        baseline: The run that differences are from, if it is not each row's base model.
    """
    style = Markup(_resource("page.css"))
    script = Markup(_resource("page.js"))
    page = tag(
        "html",
        tag(
            "head",
            tag("meta", charset="utf-8"),
            tag("meta", http_equiv="Content-Security-Policy", content=_policy(style, script)),
            tag("meta", name="viewport", content="width=device-width, initial-scale=1"),
            tag("meta", name="referrer", content="no-referrer"),
            tag("meta", name="color-scheme", content="light dark"),
            tag("title", title),
            tag("style", style),
        ),
        tag(
            "body",
            tag("header", tag("h1", title), tag("p", _summary(rows))),
            tag(
                "main",
                *_tasks(rows),
                render_table(_first(rows), left_out=len(rows) - len(_first(rows))),
                render_costs(rows),
                render_explorer(explored),
            ),
            _footer(rows, baseline),
            tag("script", script),
        ),
        lang="en",
    )
    return f"<!DOCTYPE html>\n{page}\n"


def _policy(style: str, script: str) -> str:
    """Forbids everything but the page's own style and script, told by their hashes."""
    digests = [
        base64.b64encode(hashlib.sha256(source.encode()).digest()).decode()
        for source in (style, script)
    ]
    return (
        f"default-src 'none'; style-src 'sha256-{digests[0]}'; script-src 'sha256-{digests[1]}'; "
        "base-uri 'none'; form-action 'none'"
    )


def _summary(rows: Rows) -> str:
    runs, tasks = len({row.run for row in rows}), len({row.task for row in rows})
    return (
        f"{runs} {'run' if runs == 1 else 'runs'} on {tasks} {'task' if tasks == 1 else 'tasks'}. "
        "Scores are out of 100."
    )


def _first(rows: Rows) -> Rows:
    """As many rows as a page bears, the first ones of every task."""
    if len(rows) <= _LISTED:
        return rows
    tasks = len({row.task for row in rows})
    each, seen, kept = max(1, _LISTED // tasks), dict[str, int](), []
    for row in rows:
        seen[row.task] = seen.get(row.task, 0) + 1
        if seen[row.task] <= each:
            kept.append(row)
    return kept


def _tasks(rows: Rows) -> list[Markup]:
    """A section a task: the scores, bars by model and method, scores against known costs."""
    sections = []
    # More than there are colours: then each plot has its own.
    methods = methods_of(rows)
    page = methods if len(methods) <= SERIES else []
    families: dict[str, list[LeaderboardRow]] = {}
    for row in rows:
        families.setdefault(text.family(row), []).append(row)
    for (task, metric), group in groupby(rows, key=lambda row: (row.task, row.primary_metric)):
        members = list(group)
        # Where every score is 0, plots of them say no more than the list does.
        scored = any(row.primary_value for row in members)
        costs = [plot for cost in COSTS if scored and (plot := cost_plot(members, cost))]
        versions = ", ".join(dict.fromkeys(row.task_version for row in members))
        left_out = len(members) - _PLOTTED
        related = comparable_rows(
            row for row in families[text.family(members[0])] if row.primary_metric == metric
        )
        sections.append(
            tag(
                "section",
                tag("h2", task, " ", tag("small", f"{metric}, version {versions}")),
                _legend(members, bool(costs)),
                tag("figure", score_plot(members[:_PLOTTED]), class_="scores"),
                tag("p", f"{left_out} more runs are not drawn.", class_="note")
                if left_out > 0
                else "",
                _figures(task, related, page),
                tag("div", *costs, class_="costs") if costs else "",
            )
        )
    return sections


def _figures(task: str, related: Rows, page: Sequence[str]) -> Markup | str:
    """Bars of the task's rows and those of its like with retrieval, under the task itself."""
    if not related or related[0].task.removesuffix("_rag") != task:
        return ""
    drawn = [memory_bars(related, page)]
    if any(row.primary_value for row in related):
        drawn = [method_bars(related, page), approach_bars(related), *drawn]
    figures = [figure for figure in drawn if figure is not None]
    return tag("div", *figures, class_="figures") if figures else ""


def _legend(rows: Rows, costs: bool) -> Markup:
    entries = [("base", "base model"), ("adapter", "with adapter")]
    shown = [(kind, name) for kind, name in entries if any(_is(row, kind) for row in rows)]
    items = [tag("li", tag("i", class_=f"key {kind}"), name) for kind, name in shown]
    if any(row.demonstration for row in rows):
        items.append(
            tag("li", tag("i", class_="key demonstration"), "demonstration: measures nothing")
        )
    if any(row.primary_stderr for row in rows):
        items.append(tag("li", tag("i", class_="key interval"), "95 % interval"))
    if any(not row.comparable for row in rows):
        items.append(tag("li", tag("i", class_="key odd"), "not comparable with the others"))
    if costs:
        items.append(tag("li", tag("i", class_="key front"), "no other run beats these"))
    return tag("ul", *items, class_="legend")


def _is(row: LeaderboardRow, kind: str) -> bool:
    return (row.method == "none") == (kind == "base")


def _footer(rows: Rows, baseline: str | None) -> Markup:
    alone = "the base model alone (for adapters with as many examples in the prompt)"
    absent = "no comparable run of the base model is among the runs"
    if baseline is not None:
        absent = "a row is not on that run's scale"
    said = [
        f"A score is shown with {text.PLUS_MINUS} one standard error; bars in the plots are the "
        "score with 1.96 standard errors either way, or the range over seeds where there are "
        f"several. A difference is from {text.compared_with(baseline, alone)} on the same items, "
        "in points, with its 95 % interval and p by paired bootstrap over questions, Holm's p "
        "corrected for all differences on the board; that of several seeds is of their mean, over "
        f"questions and seeds. It is empty where {absent}.",
        "A row is not comparable, and not ranked, if it differs from most rows of its task in "
        "task version, profile, sandbox level, data or scored items.",
    ]
    if any(row.pscp is not None for row in rows):
        said.append(text.PSCP_NOTE)
    said.append(f"Leaderboard schema {LEADERBOARD_SCHEMA_VERSION}.")
    return tag("footer", *(tag("p", paragraph) for paragraph in said))


def _resource(name: str) -> str:
    return files("peft_bench.report").joinpath(name).read_text(encoding="utf-8")
