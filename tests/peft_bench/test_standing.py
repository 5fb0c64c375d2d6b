"""Ranks, baselines, seeds and comparisons on request."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from peft_bench.comparison import Comparer
from peft_bench.errors import UsageError
from peft_bench.leaderboard import (
    LeaderboardRow,
    build_board,
    build_rows,
    compare_runs,
    format_comparisons,
    format_table,
    to_markdown,
    write_html,
    write_markdown,
)
from peft_bench.metrics.corpus import COMBINE
from peft_bench.metrics.multiple import PscpConstants, holm
from peft_bench.metrics.paired import paired_bootstrap
from peft_bench.metrics.seeds import as_sums, compare_systems
from peft_bench.metrics.text import bleu_statistics
from peft_bench.records import (
    AdapterRecord,
    ModelRecord,
    StoredRecord,
    variant_sha256,
)
from peft_bench.report import text

MakeRun = Callable[..., StoredRecord]

N = 20
GROUPS = [i // 2 for i in range(N)]
BASE = [float(i % 4 == 0) for i in range(N)]
GOOD = [float(i % 4 != 1) for i in range(N)]
SAME = [float(i % 4 == 1) for i in range(N)]
LORA = AdapterRecord("lora", "a" * 64, "lora", trainable_parameters=1000, train_peak_bytes=1 << 30)


def rows_of(records: list[StoredRecord], **options: Any) -> dict[str, LeaderboardRow]:
    return {row.run: row for row in build_board(records, **options).rows}


ODD: list[tuple[dict[str, Any], str]] = [
    ({"version": "1.0"}, "task version 1.0, not 2.0"),
    ({"profile": "study"}, "profile study, not default"),
    ({"sandbox_level": "limits"}, "sandbox limits, not none"),
    ({"data_sha256": {"test": "1" * 64}}, "other data"),
    ({"ids_sha256": "2" * 64}, "other items"),
]


@pytest.mark.parametrize(("change", "why"), ODD)
def test_a_row_of_another_scale_is_marked_and_not_ranked(
    change: dict[str, Any], why: str, make_run: MakeRun
) -> None:
    runs = [make_run("a", BASE), make_run("b", GOOD), make_run("odd", [1.0] * N, **change)]
    rows = build_rows(runs)
    assert [(row.run, row.rank, row.comparable) for row in rows] == [
        ("b", 1, True),
        ("a", 2, True),
        ("odd", None, False),
    ]
    assert rows[2].marks == f"not comparable: {why}"


def test_fewer_items_are_told_by_their_number(make_run: MakeRun) -> None:
    runs = [make_run("a", BASE), make_run("b", GOOD), make_run("short", [1.0] * 4)]
    assert rows_of(runs)["short"].marks == "not comparable: 4 items, not 20"


def test_equal_scores_share_a_rank_and_unfinished_runs_have_none(make_run: MakeRun) -> None:
    runs = [
        make_run("a", GOOD),
        make_run("b", GOOD),
        make_run("c", BASE),
        make_run("d", GOOD, run={"status": "failed"}),
    ]
    ranks = {name: row.rank for name, row in rows_of(runs).items()}
    assert ranks == {"a": 1, "b": 1, "c": 3, "d": None}


def test_examples_in_the_prompt_are_compared_with_none(make_run: MakeRun) -> None:
    runs = [
        make_run("zero", BASE),
        make_run("three", GOOD, num_fewshot=3, decoding={"num_beams": 10, "until": ["###"]}),
        make_run("rag", GOOD, num_fewshot=3, task="conala_rag", version="1.0"),
        make_run("adapter", GOOD, adapter=LORA),
    ]
    rows = rows_of(runs)
    assert {name: row.approach for name, row in rows.items()} == {
        "zero": "zero-shot",
        "three": "in-context",
        "rag": "retrieval",
        "adapter": "adapter",
    }
    assert {row.baseline_run for row in rows.values()} == {"zero", None}
    assert rows["zero"].baseline_run is None
    assert rows["three"].marks == ""  # one more end of an answer is no other decoding


@pytest.mark.parametrize(
    ("one", "other", "seeds"),
    [
        ({"a": 1, "b": 2}, {"b": 2, "a": 1}, 2),
        ({"a": {"x": 1, "y": [2]}}, {"a": {"y": [2], "x": 1}}, 2),
        ({"a": 1}, {"a": True}, 1),
        ({"a": 1}, {"a": "1"}, 1),
        ({"a": {"x": 1}}, {"a": {"x": 2}}, 1),
    ],
)
def test_runs_of_other_settings_are_no_seeds_of_one_another(
    one: dict[str, Any], other: dict[str, Any], seeds: int, make_run: MakeRun
) -> None:
    runs = [
        seeded(make_run, seed, GOOD, decoding=decoding)
        for seed, decoding in enumerate((one, other))
    ]
    assert {row.seeds for row in build_rows(runs)} == {seeds}


def test_any_run_can_be_the_baseline(make_run: MakeRun) -> None:
    other = make_run("other", BASE, run={"model": ModelRecord("org/other")})
    rows = rows_of([other, make_run("lora", GOOD, adapter=LORA)], baseline="other")
    assert rows["lora"].baseline_run == "other"
    assert rows["other"].baseline_run is None
    with pytest.raises(UsageError, match=r"no run has that name\. the runs are: other\."):
        build_board([other], baseline="nobody")


def test_p_values_are_corrected_over_the_board(make_run: MakeRun) -> None:
    runs = [make_run("zero", BASE)]
    for i, values in enumerate((GOOD, SAME, [1.0] * N)):
        digest = str(i) * 64
        adapter = dataclasses.replace(LORA, sha256=digest)
        runs.append(make_run(f"run{i}", values, adapter=adapter))
    demo = {"task": "quickstart", "demonstration": True}
    runs += [make_run("demo0", BASE, **demo), make_run("demo1", GOOD, adapter=LORA, **demo)]
    rows = rows_of(runs)
    tested = [rows[f"run{i}"] for i in range(3)]
    expected = holm([row.difference_p or 0.0 for row in tested])
    assert [row.difference_p_holm for row in tested] == expected
    assert rows["demo1"].difference_p_holm == rows["demo1"].difference_p  # a family of its own


def bleu_run(make_run: MakeRun, name: str, answers: list[str], **changes: Any) -> StoredRecord:
    statistics = [list(map(float, bleu_statistics("a b c d e f", each))) for each in answers]
    score = float(COMBINE["bleu"](np.sum(statistics, axis=0)))
    run = {"metric": "bleu", "score": score, **changes}
    return make_run(name, statistics, **run)


def test_corpus_metrics_are_compared_as_a_whole(make_run: MakeRun) -> None:
    mixed = ["a b c d e f", "a b c x e f", "x y z", "a b c d"] * 5
    poor = ["a b c d x", "x y", "b c d e x x x", "z"] * 5
    runs = [
        bleu_run(make_run, "zero", poor),
        bleu_run(make_run, "lora", mixed, adapter=LORA),
    ]
    row = rows_of(runs)["lora"]
    scores = [run.record.tasks[0].scores["bleu"].value for run in runs]
    assert row.difference == pytest.approx(scores[1] - scores[0])
    assert row.difference_low is not None
    assert 0 < row.difference_low < (row.difference or 0)
    assert row.marks == ""


def test_statistics_that_do_not_make_the_score_are_not_compared(make_run: MakeRun) -> None:
    answers = ["a b c d e f", "x"] * 10
    runs = [
        bleu_run(make_run, "zero", answers),
        bleu_run(make_run, "lora", answers, adapter=LORA, score=0.9),
    ]
    assert rows_of(runs)["lora"].marks == (
        "no difference: bleu is not the corpus score of its items"
    )


def seeded(make_run: MakeRun, seed: int, values: list[float], **task: Any) -> StoredRecord:
    recipe = {"name": f"s{seed}", "training": {"seed": seed, "epochs": 5}}
    adapter = dataclasses.replace(
        LORA, sha256=f"{seed:064x}", seed=seed, variant_sha256=variant_sha256(recipe)
    )
    return make_run(f"seed{seed}", values, adapter=adapter, **task)


def test_runs_that_differ_in_the_seed_are_compared_together(make_run: MakeRun) -> None:
    values = [GOOD, [1.0] * N, BASE]
    runs = [make_run("zero", BASE), *(seeded(make_run, i, v) for i, v in enumerate(values))]
    rows = rows_of([*runs, make_run("alone", GOOD, adapter=LORA)])
    row = rows["seed0"]
    means = [sum(each) / N for each in values]
    assert (row.seed, row.seeds) == (0, 3)
    assert row.seeds_mean == pytest.approx(sum(means) / 3)
    assert (row.seeds_low, row.seeds_high) == (min(means), max(means))
    found = compare_systems([as_sums(BASE)], [as_sums(v) for v in values], groups=GROUPS)
    assert row.seeds_difference == pytest.approx(found.difference)
    assert row.seeds_p == found.p_value
    assert len({rows[f"seed{i}"].difference_p_holm for i in range(3)}) == 1
    assert (rows["alone"].seeds, rows["alone"].seeds_mean) == (1, None)


def test_a_corrected_p_stands_beside_the_difference_it_belongs_to(
    make_run: MakeRun, tmp_path: Path
) -> None:
    values = [GOOD, [1.0] * N, BASE]
    runs = [make_run("zero", BASE), *(seeded(make_run, i, v) for i, v in enumerate(values))]
    rows = build_board(runs).rows
    together = compare_systems([as_sums(BASE)], [as_sums(v) for v in values], groups=GROUPS)
    shown = text.interval(together.difference, together.low, together.high) + " (3 seeds)"
    own = rows_of(runs)["seed1"]
    assert own.difference is not None
    alone = text.interval(own.difference, own.difference_low, own.difference_high)
    write_html(rows, tmp_path / "b.html")
    for view in (
        format_table(rows),
        to_markdown(rows).replace("\\", ""),
        (tmp_path / "b.html").read_text(encoding="utf-8"),
    ):
        assert view.count(shown) == 3
        assert alone not in view
    assert [text.tested_p(rows_of(runs)[f"seed{i}"]) for i in range(3)] == [together.p_value] * 3
    assert (own.difference_p, own.difference_p_holm) != (own.seeds_p, own.seeds_p)  # CSV has both


def test_a_seed_without_samples_leaves_the_others_their_own_test(make_run: MakeRun) -> None:
    runs = [make_run("zero", BASE), make_run("alone", GOOD, adapter=LORA)]
    runs += [seeded(make_run, i, GOOD) for i in range(3)]
    (runs[-1].folder / "samples.jsonl").unlink()
    rows = rows_of(runs)
    tested = [rows[name] for name in ("alone", "seed0", "seed1")]
    assert [row.difference_p_holm for row in tested] == holm(
        [row.difference_p or 0.0 for row in tested]
    )
    for row in tested[1:]:
        assert row.marks.startswith("not tested over seeds: samples cannot be read")
        assert text.difference(row) == text.difference(tested[0])
    assert rows["seed2"].marks.startswith("no difference: samples cannot be read")
    assert "over seeds" not in rows["seed2"].marks
    assert rows["alone"].marks == ""


@pytest.mark.parametrize("name", ["seed0", "seed1", "seed2"])
def test_seeds_are_not_compared_with_one_of_them(name: str, make_run: MakeRun) -> None:
    runs = [seeded(make_run, i, values) for i, values in enumerate((BASE, GOOD, SAME))]
    rows = rows_of([*runs, make_run("alone", GOOD, adapter=LORA)], baseline=name)
    baseline = rows.pop(name)
    assert (baseline.difference_p, baseline.difference_p_holm, baseline.seeds_p) == (None,) * 3
    assert baseline.marks == ""
    assert [row.seeds_p for row in rows.values()] == [None] * 3
    assert [row.difference_p_holm for row in rows.values()] == holm(
        [row.difference_p or 0.0 for row in rows.values()]
    )
    assert rows.pop("alone").marks == ""
    for row in rows.values():
        assert row.marks == "not tested over seeds: the baseline is one of them"


def test_pages_name_the_baseline_that_was_asked_for(make_run: MakeRun, tmp_path: Path) -> None:
    runs = [make_run("a_b", BASE), make_run("lora", GOOD, adapter=LORA)]
    for name in (None, "a_b"):
        board = build_board(runs, baseline=name)
        write_markdown(board.rows, tmp_path / "b.md", baseline=board.baseline)
        write_html(board.rows, tmp_path / "b.html", board=board)
        for file, shown in (("b.md", "a\\_b"), ("b.html", "a_b")):
            said = (tmp_path / file).read_text(encoding="utf-8")
            assert (f"A difference is from the run {shown} on the same items" in said) == bool(name)
            assert ("A difference is from the base model" in said) == (name is None)


def test_variants_are_told_by_everything_but_name_and_seed() -> None:
    recipe = {"name": "a", "method": {"name": "lora"}, "training": {"seed": 1, "epochs": 5}}
    same = {**recipe, "name": "b", "training": {"seed": 2, "epochs": 5}}
    other = {**recipe, "training": {"seed": 1, "epochs": 6}}
    assert variant_sha256(recipe) == variant_sha256(same) != variant_sha256(other)


def test_any_two_rows_are_compared_on_request(make_run: MakeRun) -> None:
    board = build_board(
        [
            make_run("a", BASE),
            make_run("b", GOOD, run={"model": ModelRecord("org/other")}),
            make_run("c", [1.0] * N, profile="study"),
        ]
    )
    first, second = compare_runs(board, [("a", "b"), ("a", "c")])
    known = paired_bootstrap(BASE, GOOD, groups=GROUPS)
    assert first.found is not None
    assert first.found.difference == known.difference
    assert (first.found.p_value, first.marks) == (known.p_value, ())
    assert second.found is not None
    assert [first.p_holm, second.p_holm] == holm([first.found.p_value, second.found.p_value])
    assert second.marks == ("not comparable: profile study, not default",)
    assert "not comparable" in format_comparisons([first, second])
    with pytest.raises(UsageError, match=r"no run has that name\. the runs are: a, b, c\."):
        compare_runs(board, [("a", "nobody")])


def test_names_that_no_run_has_are_answered_with_those_near(make_run: MakeRun) -> None:
    names = [f"tiny-lora-s{seed}" for seed in range(9)] + ["base\n"]
    records = [make_run(f"r{i}", BASE).record for i in range(10)]
    runs = [
        StoredRecord(dataclasses.replace(record, name=name), Path(f"r{i}"))
        for i, (name, record) in enumerate(zip(names, records, strict=True))
    ]
    with pytest.raises(UsageError, match=r"did you mean tiny-lora-s1, tiny-lora-s\d"):
        build_board(runs, baseline="tiny-lora-s1x")
    with pytest.raises(UsageError, match=r"the runs are: base, tiny-lora-s0, .* and 2 more\."):
        build_board(runs, baseline="q")


def test_comparisons_are_kept_until_the_samples_change(
    make_run: MakeRun, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    runs = [make_run("zero", BASE), make_run("lora", GOOD, adapter=LORA)]
    cache = tmp_path / "cache" / "kept.json"
    once = rows_of(runs, cache=cache)
    reads = []
    from peft_bench import comparison

    real = comparison.per_item_statistics
    monkeypatch.setattr(
        comparison, "per_item_statistics", lambda *args: reads.append(args) or real(*args)
    )
    assert rows_of(runs, cache=cache) == once
    assert reads == []
    samples = runs[1].folder / "samples.jsonl"
    changed = samples.read_text(encoding="utf-8").replace('"em@10": 1.0', '"em@10": 0.0', 1)
    samples.write_text(changed + "\n", encoding="utf-8")
    assert "not the mean" in rows_of(runs, cache=cache)["lora"].marks
    assert len(reads) == 2 - 1  # the problem is found before the baseline is read
    cache.write_text("{broken", encoding="utf-8")
    assert "not the mean" in rows_of(runs, cache=cache)["lora"].marks
    assert json.loads(cache.read_text(encoding="utf-8"))["version"] == 3


def test_pscp_is_there_on_request(make_run: MakeRun) -> None:
    runs = [make_run("zero", BASE), make_run("lora", GOOD, adapter=LORA)]
    assert rows_of(runs)["lora"].pscp is None
    rows = rows_of(runs, costs=PscpConstants())
    row = rows["lora"]
    assert row.pscp == pytest.approx(row.primary_value / (1 + 1000 / 5e8) / (1 + (1 << 30) / 94e9))
    assert rows["zero"].pscp is None


def test_rows_without_a_record_stand_beside_the_others(make_run: MakeRun) -> None:
    (row,) = build_rows([make_run("zero", BASE)])
    other = dataclasses.replace(row, run="other", n=None, primary_value=1.0, rank=None)
    board = build_board([make_run("zero", BASE)], more=[other])
    assert [(each.run, each.rank) for each in board.rows] == [("other", 1), ("zero", 2)]


def test_differences_of_a_board_are_those_found_one_by_one(make_run: MakeRun) -> None:
    """A board compares all pairs at once; here are right and wrong, shares, and another order."""
    shares = [round(0.1 * (i % 7), 1) for i in range(N)]
    runs = [make_run("base", BASE)]
    for i, values in enumerate((GOOD, SAME, shares, [1.0] * N)):
        runs.append(
            make_run(f"run{i}", values, adapter=dataclasses.replace(LORA, sha256=str(i) * 64))
        )
    turned = runs[1].folder / "samples.jsonl"
    lines = turned.read_text(encoding="utf-8").splitlines(keepends=True)
    turned.write_text("".join(reversed(lines)), encoding="utf-8")
    board = build_board(runs)
    base = board.entries[0]
    for entry in board.entries[1:]:
        [row] = [row for row in board.rows if row.run == entry.record.name]
        alone = Comparer().pair(base, entry).found
        assert alone is not None
        assert (row.difference, row.difference_low, row.difference_high, row.difference_p) == (
            alone.difference,
            alone.low,
            alone.high,
            alone.p_value,
        )
