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
from peft_bench.report.html_table import render_table
from peft_bench.report.markup import Markup, tag
from peft_bench.report.plots import COSTS, cost_plot, score_plot
from peft_bench.report.row import LEADERBOARD_SCHEMA_VERSION, LeaderboardRow

Rows = Sequence[LeaderboardRow]


def render_html(rows: Rows, *, title: str) -> str:
    """The page as text.

    Args:
        rows: In the order the table first shows; runs of one task next to each other.
        title: The page's heading.
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
            tag("main", *_tasks(rows), render_table(rows)),
            _footer(),
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


def _tasks(rows: Rows) -> list[Markup]:
    """A section a task: the scores, then scores against cost where it is known."""
    sections = []
    for (task, version, metric), group in groupby(
        rows, key=lambda row: (row.task, row.task_version, row.primary_metric)
    ):
        members = list(group)
        costs = [plot for cost in COSTS if (plot := cost_plot(members, cost)) is not None]
        sections.append(
            tag(
                "section",
                tag("h2", task, " ", tag("small", f"{metric}, version {version}")),
                _legend(members),
                tag("figure", score_plot(members), class_="scores"),
                tag("div", *costs, class_="costs") if costs else "",
            )
        )
    return sections


def _legend(rows: Rows) -> Markup:
    entries = [("base", "base model"), ("adapter", "with adapter")]
    shown = [(kind, name) for kind, name in entries if any(_is(row, kind) for row in rows)]
    items = [tag("li", tag("i", class_=f"key {kind}"), name) for kind, name in shown]
    if any(row.demonstration for row in rows):
        items.append(
            tag("li", tag("i", class_="key demonstration"), "demonstration: measures nothing")
        )
    if any(row.primary_stderr for row in rows):
        items.append(tag("li", tag("i", class_="key interval"), "95 % interval"))
    return tag("ul", *items, class_="legend")


def _is(row: LeaderboardRow, kind: str) -> bool:
    return (row.method == "none") == (kind == "base")


def _footer() -> Markup:
    return tag(
        "footer",
        tag(
            "p",
            f"A score is shown with {text.PLUS_MINUS} one standard error; bars in the plots are "
            "the score with 1.96 standard errors either way. A difference is from the base model "
            "alone on the same items, in points, with its 95 % interval and p by paired "
            "bootstrap over questions; it is empty where no comparable run of the base model is "
            "among the runs.",
        ),
        tag("p", f"Leaderboard schema {LEADERBOARD_SCHEMA_VERSION}."),
    )


def _resource(name: str) -> str:
    return files("peft_bench.report").joinpath(name).read_text(encoding="utf-8")
