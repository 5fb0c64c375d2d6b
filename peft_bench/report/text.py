"""How figures and names read: one way for the terminal, Markdown and the web page."""

from __future__ import annotations

import unicodedata
from functools import lru_cache
from pathlib import Path

from peft_bench.report.row import LeaderboardRow

DASH = "\N{EN DASH}"
MINUS = "\N{MINUS SIGN}"
PLUS_MINUS = "\N{PLUS-MINUS SIGN}"


PSCP_NOTE = (
    "PSCP (arXiv 2511.21285) is the score times 1 / (1 + trainable parameters / 5e8) times "
    "1 / (1 + peak memory in training / 94 GB); its factor for inference FLOPs (10 TFLOPs) is "
    "left out, since no record has them. Every exponent is 1."
)


def printable(text: str) -> str:
    """The text on one line, with nothing that steers a terminal or turns the reading direction.

    Control, format and unassigned-surrogate characters become U+FFFD; white space a blank.
    """
    if text.isprintable():
        return text.strip()
    return "".join(
        " " if char.isspace() else "\ufffd" if unicodedata.category(char) in _UNSEEN else char
        for char in text
    ).strip()


def printable_lines(text: str) -> str:
    """As :func:`printable`, but lines and tabs stay, as do blanks at the ends."""
    return "".join(
        char
        if char in "\n\t" or char.isprintable()
        else " "
        if char.isspace()
        else "\ufffd"
        if unicodedata.category(char) in _UNSEEN
        else char
        for char in text.replace("\r\n", "\n")
    )


_UNSEEN = {"Cc", "Cf", "Cs"}


def percent(share: float) -> str:
    """A share out of 100 with one decimal, without the sign of per cent."""
    return _percent(share, ".1f")


def points(share: float) -> str:
    """As :func:`percent`, with the sign of what is added."""
    return _percent(share, "+.1f")


@lru_cache(maxsize=8192)  # of the same questions: there are few shares
def _percent(share: float, form: str) -> str:
    text = format(share * 100, form)
    return "0.0" if text in ("+0.0", "-0.0") else text.replace("-", MINUS)


def score(row: LeaderboardRow) -> str:
    """The primary score and its standard error, out of 100."""
    if row.primary_stderr is None:
        return percent(row.primary_value)
    return f"{percent(row.primary_value)} {PLUS_MINUS} {percent(row.primary_stderr)}"


def difference(row: LeaderboardRow) -> str:
    """The difference that the row's corrected p is of, its 95 % interval, and of how many seeds.

    In points out of 100; the baseline's score is what it is a difference from.
    """
    if row.seeds_difference is not None:
        shown = interval(row.seeds_difference, row.seeds_difference_low, row.seeds_difference_high)
        return f"{shown} ({row.seeds} seeds)"
    if row.difference is None:
        return ""
    return interval(row.difference, row.difference_low, row.difference_high)


def tested_difference(row: LeaderboardRow) -> float | None:
    """That of :func:`difference`, as a share."""
    return row.difference if row.seeds_difference is None else row.seeds_difference


def tested_p(row: LeaderboardRow) -> float | None:
    """The p of :func:`difference`."""
    return row.difference_p if row.seeds_difference is None else row.seeds_p


def compared_with(baseline: str | None, base_model: str = "the base model") -> str:
    """What differences are from."""
    return base_model if baseline is None else f"the run {baseline}"


def interval(value: float, low: float | None, high: float | None) -> str:
    """A difference and its 95 % interval, in points out of 100."""
    text = points(value)
    if low is None or high is None:
        return text
    return f"{text} [{points(low)}, {points(high)}]"


def seeds(row: LeaderboardRow) -> str:
    """Mean and range over the runs that differ in a seed only; empty for a single run."""
    if row.seeds_mean is None or row.seeds_low is None or row.seeds_high is None:
        return ""
    low, high = percent(row.seeds_low), percent(row.seeds_high)
    return f"{percent(row.seeds_mean)} ({low}{DASH}{high}, {row.seeds} seeds)"


def p_value(p: float | None) -> str:
    """p with as many digits as it bears."""
    if p is None:
        return ""
    if p < 0.001:
        return "<0.001"
    return f"{p:.3f}" if p < 0.1 else f"{p:.2f}"


def count(number: int | None) -> str:
    """A number of parameters with three digits: ``1.18 M``."""
    if number is None:
        return ""
    return _scaled(number, 1000, ("", " k", " M", " G", " T"))


def size(number_bytes: int | None) -> str:
    """A size in binary units with three digits: ``21.3 GiB``."""
    if number_bytes is None:
        return ""
    return _scaled(number_bytes, 1024, (" B", " KiB", " MiB", " GiB", " TiB"))


def duration(seconds: float | None) -> str:
    """A time in its two largest units: ``1 h 05 min``."""
    if seconds is None:
        return ""
    if seconds < 59.95:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes} min {rest:02} s"
    return f"{minutes // 60} h {minutes % 60:02} min"


def family(row: LeaderboardRow) -> str:
    """The task that the row's data are: ``conala`` for ``conala_rag``."""
    return row.task.removesuffix("_rag")


def method(row: LeaderboardRow) -> str:
    """The method, or how the base model alone was asked, and how it is quantised."""
    return _method(row.method, row.approach, row.num_fewshot, row.trained_on, row.quantization)


@lru_cache(maxsize=1024)  # asked time and again for thousands of rows
def _method(name: str, approach: str, shots: int, trained_on: str, quantization: str | None) -> str:
    if name == "none":
        asked = {"in-context": "examples", "retrieval": "retrieved examples"}.get(approach)
        name = f"{shots} {asked}" if asked else "base model"
    elif "+" in trained_on:
        name = f"joint {name}"
    return printable(f"{name}, {quantization}" if quantization else name)


def model(name: str) -> str:
    """A model as it is shown: of a folder its name, for where it lay is no reader's matter."""
    return printable(Path(name).name if name.startswith(("/", "./", "../", "~")) else name)


def remarks(row: LeaderboardRow) -> list[str]:
    """All that qualifies the score, most weighty first."""
    found = ["demonstration"] if row.demonstration else []
    if row.status != "complete":
        found.append(row.status)
    marks = row.marks.split("; ")
    if row.custom_data and "custom data" not in marks:
        found.append("custom data")
    return [printable(text) for text in [*found, *marks] if text]


def _scaled(number: int, base: int, units: tuple[str, ...]) -> str:
    value, unit = float(number), 0
    # Compared as it will be shown, so that 999.9 k does not read 1000 k.
    while unit < len(units) - 1 and round(value, 0 if unit == 0 else 1) >= base:
        value, unit = value / base, unit + 1
    if unit == 0:
        return f"{number}{units[0]}"
    decimals = 2 if value < 9.995 else 1 if value < 99.95 else 0
    return f"{value:.{decimals}f}{units[unit]}"
