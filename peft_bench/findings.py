"""The study's four questions answered in words, from the records of a board and nothing else.

Source of the questions: Weyssow et al., arXiv 2308.10462. Every sentence is a template filled with
figures of records; where the records lack a side of a comparison, that is what is said.
"""

from __future__ import annotations

from collections.abc import Sequence

from peft_bench.leaderboard import Board
from peft_bench.metrics.multiple import holm
from peft_bench.questions import (
    SMALL,
    Sentence,
    Side,
    Tests,
    against_examples,
    joint,
    large_against_small,
    many,
    quantised,
)
from peft_bench.report import text
from peft_bench.report.markdown import escape
from peft_bench.report.row import LeaderboardRow
from peft_bench.standing import seed_groups

Rows = Sequence[LeaderboardRow]


def report(board: Board, *, skipped: int = 0) -> str:
    """The report as Markdown.

    Left out are demonstrations, unfinished runs, rows that are not comparable with the others of
    their task, and rows without a record, whose items are not known. Where a configuration was run
    under several seeds, all of them are compared.

    Args:
        board: Of the runs.
        skipped: Records that could not be read, to be told.
    """
    rows = [
        row
        for row in board.rows
        if row.rank is not None and not row.demonstration and id(row) in board.runs
    ]
    tests = Tests(board)
    sides = _sides(board, rows)
    questions = (
        (
            "RQ1. Do large models tuned with PEFT beat small tuned ones, within 24 GB?",
            large_against_small,
        ),
        ("RQ2. Does PEFT beat examples in the prompt, drawn or retrieved?", against_examples),
        ("RQ3. Is one joint adapter as good as one for each data set?", joint),
        ("RQ4. What does quantisation save, and what does it cost?", quantised),
    )
    answers = [(title, answer(sides, tests)) for title, answer in questions]
    board.comparer.save()
    corrected = holm([found.p_value for found in tests.found])
    parts = ["# What the runs say\n", _head(board, rows, skipped, len(tests.found))]
    for title, sentences in answers:
        parts.append(f"## {title}\n")
        lines = [f"- {_filled(sentence, tests, corrected)}" for sentence in sentences]
        parts.append("\n".join(lines) + "\n")
    parts.append(_foot())
    return "\n".join(parts)


def _head(board: Board, rows: Rows, skipped: int, tests: int) -> str:
    runs, models = len({row.run for row in rows}), len({row.model for row in rows})
    demonstrations = sum(row.demonstration for row in board.rows)
    odd = sum(not row.comparable for row in board.rows)
    unfinished = sum(row.status != "complete" for row in board.rows)
    left = [
        f"{count} {name}"
        for count, name in (
            (demonstrations, "rows of demonstrations"),
            (odd, "rows not comparable with the others of their task"),
            (unfinished, "rows of unfinished runs"),
            (len(board.rows) - len(board.runs), "rows without a record"),
            (skipped, "records that could not be read"),
        )
        if count
    ]
    tasks = ", ".join(sorted({escape(row.task) for row in rows})) or "none"
    said = f"{many(runs, 'run')} of {many(models, 'model')} on: {tasks}."
    if left:
        said += f" Left out: {', '.join(left)}."
    custom = sorted({escape(row.task) for row in rows if row.custom_data})
    if custom:
        said += f" Rows other than the pinned data sets' were scored in: {', '.join(custom)}."
    return f"{said} {many(tests, 'test')} made, p-values corrected together (Holm).\n"


def _foot() -> str:
    return (
        "Scores are the tasks' primary metrics, in %. A difference is in points, with its 95 % "
        "interval and p by paired bootstrap over questions (and over seeds where there are "
        "several). Where the best of several runs is named, it was chosen by the same scores, so "
        f"its lead is somewhat too good. Small means below {SMALL / 1e9:g} billion parameters, "
        "24 GB are 24 GiB of peak memory in training as recorded.\n"
    )


def _sides(board: Board, rows: Rows) -> list[Side]:
    """A side a configuration."""
    groups = {id(run): tuple(group) for group in seed_groups(board.entries) for run in group}
    sides: dict[object, Side] = {}
    for row in rows:
        entry = board.runs[id(row)]
        runs = groups.get(id(entry), (entry,))
        sides.setdefault(id(runs[0]), Side(row, runs))
    return list(sides.values())


def _filled(sentence: Sentence, tests: Tests, corrected: Sequence[float]) -> str:
    if sentence.test is None:
        return sentence.said
    if isinstance(sentence.test, str):
        return sentence.said.replace("{0}", f"not to be tested ({escape(sentence.test)})", 1)
    found, p = tests.found[sentence.test], corrected[sentence.test]
    sure = "" if p < 0.05 else ", which may be chance"
    shown = text.interval(found.difference, found.low, found.high)
    return sentence.said.replace("{0}", f"{escape(shown)} points, p {escape(_p(p))}{sure}", 1)


def _p(p: float) -> str:
    shown = text.p_value(p)
    return shown if shown.startswith("<") else f"= {shown}"
