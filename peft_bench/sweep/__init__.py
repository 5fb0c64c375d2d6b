"""``peft-bench sweep``: a whole study as one file, gone on with after anything (docs/sweep.md)."""

from peft_bench.sweep.driver import run

__all__ = ["run"]
