"""What fits in a GPU's memory, known from a model's configuration alone (docs/fit.md)."""

from peft_bench.fit.command import Question, answer, load_config, run
from peft_bench.fit.plan import TRAINER_HEAD, Length, Plan, plan_of
from peft_bench.fit.search import Case, Estimate, Refused, examine, remedy, sentence, what_fits

__all__ = [
    "TRAINER_HEAD",
    "Case",
    "Estimate",
    "Length",
    "Plan",
    "Question",
    "Refused",
    "answer",
    "examine",
    "load_config",
    "plan_of",
    "remedy",
    "run",
    "sentence",
    "what_fits",
]
