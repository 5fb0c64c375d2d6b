"""From runs and their comparisons to the leaderboard's rows, in order and ranked."""

from __future__ import annotations

import dataclasses
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

from peft_bench.comparison import Outcome
from peft_bench.entry import Entry
from peft_bench.metrics.multiple import PscpConstants, holm, pscp
from peft_bench.metrics.seeds import Band
from peft_bench.report.row import LeaderboardRow, natural_key


@dataclass(frozen=True)
class Difference:
    """What is known of a run, or of its seeds, against the baseline."""

    base: Entry | None
    outcome: Outcome
    marks: tuple[str, ...]


@dataclass(frozen=True)
class Seeds:
    """Runs that differ in a seed only: their band, and together against the baseline."""

    runs: tuple[Entry, ...]
    band: Band | None
    difference: Difference


def corrected(
    entries: Sequence[Entry], found: dict[int, Difference], seeds: dict[int, Seeds]
) -> dict[int, float]:
    """Each entry's corrected p: one test for a configuration, demonstrations apart.

    Where seeds could not be compared together, each has its own.
    """
    tests: dict[bool, dict[int, tuple[float, list[int]]]] = {False: {}, True: {}}
    for entry in entries:
        together = seeds.get(id(entry))
        key, test = id(together), together.difference.outcome.found if together else None
        if test is None:
            key, test = id(entry), found[id(entry)].outcome.found
        if test is None:
            continue
        family = tests[entry.task.demonstration]
        family.setdefault(key, (test.p_value, []))[1].append(id(entry))
    corrected: dict[int, float] = {}
    for family in tests.values():
        adjusted = holm([p for p, _ in family.values()])
        for p, (_, members) in zip(adjusted, family.values(), strict=True):
            corrected |= dict.fromkeys(members, p)
    return corrected


def make_row(
    entry: Entry,
    difference: Difference,
    together: Seeds | None,
    odd: str | None,
    corrected: float | None,
    costs: PscpConstants | None,
) -> LeaderboardRow:
    record, task, adapter = entry.record, entry.task, entry.record.adapter
    primary, found = task.scores[task.primary_metric], difference.outcome.found
    band = together.band if together else None
    both = together.difference.outcome.found if together else None
    marks = [*([odd] if odd else []), *task.marks, *difference.marks]
    if together and found and not both:
        marks.append(f"not tested over seeds: {_why_not(together)}")
    row = LeaderboardRow(
        run=record.name,
        task=task.task,
        task_version=task.version,
        demonstration=task.demonstration,
        model=record.model.id,
        model_revision=record.model.revision,
        dtype=record.model.dtype,
        quantization=record.model.quantization,
        method=adapter.method if adapter else "none",
        adapter=adapter.name if adapter else None,
        adapter_sha256=adapter.sha256 if adapter else None,
        recipe_sha256=adapter.recipe_sha256 if adapter else None,
        trainable_parameters=adapter.trainable_parameters if adapter else None,
        total_parameters=record.model.parameters,
        adapter_bytes=adapter.size_bytes if adapter else None,
        train_wall_s=adapter.train_wall_s if adapter else None,
        train_tokens_per_s=adapter.train_tokens_per_s if adapter else None,
        train_peak_bytes=adapter.train_peak_bytes if adapter else None,
        eval_wall_s=record.eval_wall_s,
        num_fewshot=task.num_fewshot,
        profile=task.profile,
        sandbox_level=task.sandbox_level,
        custom_data=task.custom_data,
        n=task.n,
        primary_metric=task.primary_metric,
        primary_value=primary.value,
        primary_stderr=primary.stderr,
        baseline_run=difference.base.record.name if difference.base else None,
        difference=found.difference if found else None,
        difference_low=found.low if found else None,
        difference_high=found.high if found else None,
        difference_p=found.p_value if found else None,
        marks="; ".join(marks),
        status=record.status,
        created=record.created,
        approach=entry.approach,
        comparable=odd is None,
        difference_p_holm=corrected,
        seed=next((seed for seed in entry.seed if seed is not None), None),
        seeds=len(together.runs) if together else 1,
        seeds_mean=band.mean if band else None,
        seeds_low=band.low if band else None,
        seeds_high=band.high if band else None,
        seeds_stderr=band.stderr if band and band.stderr == band.stderr else None,
        seeds_difference=both.difference if both else None,
        seeds_difference_low=both.low if both else None,
        seeds_difference_high=both.high if both else None,
        seeds_p=both.p_value if both else None,
        trained_on="+".join(adapter.trained_on) if adapter else "",
        kept_apart=task.kept_apart,
        reserved_peak_bytes=adapter.reserved_peak_bytes if adapter else None,
        eval_peak_bytes=record.eval_peak_bytes,
        metrics=dict(task.scores),
    )
    return dataclasses.replace(row, pscp=_pscp(row, costs)) if costs else row


def _why_not(seeds: Seeds) -> str:
    told = seeds.difference.marks
    return told[0].removeprefix("no difference: ") if told else "they have no baseline in common"


def _pscp(row: LeaderboardRow, costs: PscpConstants) -> float | None:
    """Where both costs are known. Inference FLOPs are in no record: their factor is left out."""
    if row.trainable_parameters is None or row.train_peak_bytes is None:
        return None
    return pscp(
        row.primary_value,
        trainable_parameters=row.trainable_parameters,
        memory_bytes=row.train_peak_bytes,
        constants=costs,
    )


def ranked(rows: list[LeaderboardRow]) -> list[LeaderboardRow]:
    """The rows in order, with the ranks of those that are on one scale and complete."""
    boards: dict[tuple[str, str], list[LeaderboardRow]] = defaultdict(list)
    for row in rows:
        boards[row.task, row.primary_metric].append(row)
    ordered = []
    for key in sorted(boards):
        board = sorted(boards[key], key=_order)
        rank, last = 0, None
        for place, row in enumerate(board, 1):
            if row.comparable and row.status == "complete":
                rank = rank if row.primary_value == last else place
                last = row.primary_value
                object.__setattr__(row, "rank", rank)  # nobody has it yet; a copy costs more
            ordered.append(row)
    return ordered


def _order(row: LeaderboardRow) -> tuple[object, ...]:
    stands = row.comparable and row.status == "complete"
    version = natural_key(row.task_version)
    return not stands, -row.primary_value, version, row.run, row.created
