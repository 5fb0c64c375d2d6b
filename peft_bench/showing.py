"""The verbs ``leaderboard`` and ``report``: runs found, compared, written and printed."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

from peft_bench import findings, importing, leaderboard, method_comparison
from peft_bench.errors import PeftBenchError, writing
from peft_bench.metrics.multiple import PscpConstants
from peft_bench.records import write_text
from peft_bench.report import text


def show(
    runs: Sequence[Path],
    *,
    csv: Path | None = None,
    md: Path | None = None,
    html: Path | None = None,
    comparisons: Path | None = None,
    title: str = "Leaderboard",
    compare: Sequence[tuple[str, str]] = (),
    metric: str | None = None,
    baseline: str | None = None,
    pscp: bool = False,
    strict: bool = False,
) -> int:
    """Writes and prints a leaderboard; returns the exit code.

    1 where no run was found, or with ``strict`` where something could not be read.

    Args:
        runs: Folders and files; see :func:`peft_bench.importing.find_runs`.
        csv: Where to write the rows as CSV.
        md: As Markdown.
        html: As one web page.
        comparisons: A folder for PEFT's ``method_comparison`` form of the tuned runs.
        title: Of the page.
        compare: Pairs of runs to compare besides.
        metric: To compare these by, in place of the primary one.
        baseline: A run to compare every row with in place of its own base model.
        pscp: Adds PSCP.
        strict: See above.

    Raises:
        UsageError: a name that no run, or more than one, has; or a file that cannot be written.
    """
    board, problems = _load(runs, baseline, pscp)
    if csv:
        with writing("--csv", csv):
            leaderboard.write_csv(board.rows, csv)
    if md:
        with writing("--md", md):
            leaderboard.write_markdown(board.rows, md, baseline=board.baseline)
    if html:
        with writing("--html", html):
            leaderboard.write_html(board.rows, html, title=title, board=board)
    if comparisons:
        records = {id(entry.record): entry.record for entry in board.entries}
        with writing("--method-comparison", comparisons):
            written = method_comparison.write_results(list(records.values()), comparisons)
        print(f"peft-bench: {len(written)} results in {comparisons}", file=sys.stderr)
    print(leaderboard.format_table(board.rows), end="")
    if pscp:
        print(text.PSCP_NOTE)
    if compare:
        found = leaderboard.compare_runs(board, compare, metric)
        print(f"\n{leaderboard.format_comparisons(found)}", end="")
    return 1 if not board.rows or (problems and strict) else 0


def tell(runs: Sequence[Path], *, out: Path | None = None, strict: bool = False) -> int:
    """Prints or writes the report on the study's questions; returns the exit code as above.

    Raises:
        UsageError: ``out`` cannot be written.
    """
    board, problems = _load(runs, None, False)
    said = findings.report(board, skipped=len(problems))
    if out:
        with writing("--out", out):
            write_text(out, said)
    else:
        print(said, end="")
    return 1 if not board.rows or (problems and strict) else 0


def _load(
    runs: Sequence[Path], baseline: str | None, pscp: bool
) -> tuple[leaderboard.Board, list[PeftBenchError]]:
    found = importing.find_runs(runs)
    for problem in found.problems:
        print(f"peft-bench: skipped: {problem}", file=sys.stderr)
    if found.problems:
        kept = len(found.records) + len(found.rows)
        print(f"peft-bench: {kept} read, {len(found.problems)} skipped", file=sys.stderr)
    if older := len(found.superseded):
        print(
            f"peft-bench: {older} older result{'s' * (older > 1)} of lm_eval left out: "
            "a newer one of the same task lies in the same folder",
            file=sys.stderr,
        )
    board = leaderboard.build_board(
        found.records,
        baseline=baseline,
        costs=PscpConstants() if pscp else None,
        cache=leaderboard.default_cache(),
        more=found.rows,
    )
    return board, found.problems
