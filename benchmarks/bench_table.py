"""Figures as Markdown, and the machine they were measured on."""

from __future__ import annotations

import os
import platform
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median


@dataclass(frozen=True, slots=True)
class Table:
    """A title, column heads, rows of cells, and a sentence under it."""

    title: str
    heads: Sequence[str]
    rows: Sequence[Sequence[object]]
    note: str = ""

    def markdown(self) -> str:
        """The table with its title, ready to print."""
        lines = [f"### {self.title}", "", _line(self.heads), _line(["---"] * len(self.heads))]
        lines += [_line(row) for row in self.rows]
        return "\n".join([*lines, "", *([self.note, ""] if self.note else [])])


def spread(values: Sequence[float]) -> str:
    """The median, with the least and the most."""
    if len(values) == 1:
        return f"{values[0]:.2f}"
    return f"{median(values):.2f} ({min(values):.2f} to {max(values):.2f})"


def machine() -> dict[str, str]:
    """What a figure depends on."""
    return {
        "CPUs": f"{len(os.sched_getaffinity(0))}, {_cpu_name()}",
        "kernel": platform.release(),
        "Python": platform.python_version(),
        "load when begun": f"{os.getloadavg()[0]:.1f}",
    }


def _cpu_name() -> str:
    for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.machine()


def _line(cells: Sequence[object]) -> str:
    return "| " + " | ".join(str(cell).replace("|", "\\|") for cell in cells) + " |"
