"""The web page's table of all runs, with the controls that sort and filter it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from peft_bench.report import text
from peft_bench.report.markup import Markup, join, tag, tags
from peft_bench.report.row import FIXED_COLUMNS, Cell, LeaderboardRow, cells, columns

Rows = Sequence[LeaderboardRow]


@dataclass(frozen=True)
class _Column:
    """A column of the table: what it shows, and the value it is sorted by."""

    title: str
    show: Callable[[LeaderboardRow], str | Markup]
    value: Callable[[LeaderboardRow], Cell]
    number: bool = False
    extra: bool = False


def render_table(rows: Rows, *, left_out: int = 0) -> Markup:
    """The controls, hidden until the script shows them, and the table.

    ``left_out`` rows are told to be in the CSV file only.
    """
    shown = [*_main_columns(rows), *_extra_columns(rows)]
    tasks = list(dict.fromkeys(row.task for row in rows))
    controls = [
        tag("label", "Filter ", tag("input", type="search", id="filter", autocomplete="off")),
        tag(
            "label",
            "Task ",
            tag(
                "select",
                tag("option", "all", value=""),
                *(tag("option", task, value=task) for task in tasks),
                id="task",
            ),
        ),
        tag("label", tag("input", type="checkbox", id="all"), " All columns"),
    ]
    if any(row.demonstration for row in rows):
        controls.append(
            tag("label", tag("input", type="checkbox", id="measured"), " Hide demonstrations")
        )
    head = tag("tr", *(_head(i, column) for i, column in enumerate(shown)))
    made = [(column, _cells_of(i, column)) for i, column in enumerate(shown)]
    body = [
        tag(
            "tr",
            *(_cell(column, make, row) for column, make in made),
            data_task=row.task,
            data_odd=not row.comparable,
            data_demonstration=row.demonstration,
        )
        for row in rows
    ]
    return tag(
        "section",
        tag("h2", "All runs"),
        tag("p", f"{left_out} more are in the CSV file.", class_="note") if left_out else "",
        tag(
            "div",
            *controls,
            tag("output", id="count"),
            id="controls",
            class_="controls",
            hidden=True,
        ),
        tag(
            "div",
            tag("table", tag("thead", head), tag("tbody", *body), id="runs"),
            class_="scroll",
            tabindex="0",
            role="region",
            aria_label="All runs",
        ),
    )


def _main_columns(rows: Rows) -> list[_Column]:
    several = any(row.seeds > 1 for row in rows)
    return [
        _Column("Run", _run, lambda row: row.run),
        _Column(
            "#",
            lambda row: "" if row.rank is None else str(row.rank),
            lambda row: row.rank,
            number=True,
        ),
        _Column("Task", _task, lambda row: row.task),
        _Column("Method", text.method, lambda row: row.method),
        _Column("Score", text.score, lambda row: row.primary_value, number=True),
        _Column(
            "Over seeds", text.seeds, lambda row: row.seeds_mean, number=True, extra=not several
        ),
        _Column("Difference [95 %]", text.difference, text.tested_difference, number=True),
        _Column(
            "p",
            lambda row: text.p_value(text.tested_p(row)),
            text.tested_p,
            number=True,
        ),
        _Column(
            "p (Holm)",
            lambda row: text.p_value(row.difference_p_holm),
            lambda row: row.difference_p_holm,
            number=True,
        ),
        _Column(
            "n", lambda row: "" if row.n is None else str(row.n), lambda row: row.n, number=True
        ),
        _Column(
            "Trainable",
            lambda row: text.count(row.trainable_parameters),
            lambda row: row.trainable_parameters,
            number=True,
        ),
        _Column(
            "Training",
            lambda row: text.duration(row.train_wall_s),
            lambda row: row.train_wall_s,
            number=True,
        ),
        _Column(
            "Peak memory",
            lambda row: text.size(row.train_peak_bytes),
            lambda row: row.train_peak_bytes,
            number=True,
        ),
    ]


_IN_MAIN = {
    *("run", "task", "task_version", "model", "method", "n", "primary_metric", "marks"),
    *("demonstration", "trainable_parameters", "train_wall_s", "train_peak_bytes"),
    *("primary_value", "primary_stderr"),
    *("difference", "difference_low", "difference_high", "difference_p", "difference_p_holm"),
    *("rank", "comparable", "seeds", "seeds_mean", "seeds_low", "seeds_high"),
    *("seeds_difference", "seeds_difference_low", "seeds_difference_high", "seeds_p"),
}


def _extra_columns(rows: Rows) -> list[_Column]:
    """The CSV file's columns that the main ones do not show, as they stand there."""
    header = columns(rows)
    all_cells = {id(row): cells(row, header) for row in rows}
    found = []
    for i, name in enumerate(header):
        empty = all(line[i] is None for line in all_cells.values())
        if name in _IN_MAIN or (empty and name not in FIXED_COLUMNS):
            continue

        def value(row: LeaderboardRow, i: int = i) -> Cell:
            return all_cells[id(row)][i]

        def show(row: LeaderboardRow, i: int = i, share: bool = _is_share(name)) -> str:
            return _plain(all_cells[id(row)][i], share)

        number = any(type(value(row)) in (int, float) for row in rows)
        found.append(_Column(name, show, value, number=number, extra=True))
    return found


def _is_share(name: str) -> bool:
    return name not in FIXED_COLUMNS or name in ("seeds_stderr", "pscp")


def _plain(value: Cell, share: bool) -> str:
    if value is None:
        return ""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return text.percent(value) if share else f"{value:,.1f}"
    return f"{value:,}" if isinstance(value, int) else value


def _head(i: int, column: _Column) -> Markup:
    return tag(
        "th",
        tag("button", column.title, type="button"),
        scope="col",
        aria_sort="none",
        class_=_classes(i, column),
        data_number=column.number,
    )


def _cells_of(i: int, column: _Column) -> Callable[..., Markup]:
    """What makes the cells of a column."""
    classes = _classes(i, column)
    return tags("th", scope="row", class_=classes) if i == 0 else tags("td", class_=classes)


def _cell(column: _Column, make: Callable[..., Markup], row: LeaderboardRow) -> Markup:
    value = column.value(row)
    known = None if value is None else str(float(value)) if column.number else str(value)
    return make(column.show(row), data_value=known)


def _classes(i: int, column: _Column) -> str | None:
    names = {"run": i == 0, "number": column.number, "extra": column.extra}
    return " ".join(name for name, applies in names.items() if applies) or None


def _run(row: LeaderboardRow) -> Markup:
    # A score must not be read without what qualifies it, so this stands in the column that stays
    # in sight when the table is scrolled.
    remarks = [tag("small", remark, class_="remark") for remark in text.remarks(row)]
    return join(tag("span", row.run), tag("small", text.model(row.model)), *remarks)


def _task(row: LeaderboardRow) -> Markup:
    return join(tag("span", row.task), tag("small", row.primary_metric))
