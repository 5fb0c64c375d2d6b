"""How CoNaLa and CodeAlpacaPy are scored, on answers made by hand."""

from __future__ import annotations

from typing import Any

import pytest

from peft_bench.answers import Answer
from peft_bench.metrics.codebleu import codebleu
from peft_bench.metrics.text import corpus_bleu, corpus_chrf
from peft_bench.scoring import metric_list
from peft_bench.snippets import METRICS, score, score_samples

ROW = {"cmd": "sorted(xs)", "nl": "sort list `xs`", "question_id": "q"}
WRONG = "xs.sort()"


def em(scores: dict[str, float], suffix: str = "") -> list[float]:
    return [scores[f"em@{k}{suffix}"] for k in (1, 2, 5, 10)]


@pytest.mark.parametrize(
    ("rank", "expected"),
    [
        (0, [1, 1, 1, 1]),
        (1, [0, 1, 1, 1]),
        (2, [0, 0, 1, 1]),
        (4, [0, 0, 1, 1]),
        (5, [0, 0, 0, 1]),
        (9, [0, 0, 0, 1]),
        (None, [0, 0, 0, 0]),
    ],
)
def test_the_reference_counts_from_its_rank_on(rank: int | None, expected: list[int]) -> None:
    answers = [WRONG] * 10
    if rank is not None:
        answers[rank] = ROW["cmd"]
    scores = score(ROW, answers)
    for suffix in ("", "_whitespace", "_ast"):
        assert em(scores, suffix) == expected
    assert set(scores) == {one["metric"] for one in metric_list(METRICS, logged=("beams",))}


@pytest.mark.parametrize(
    ("answer", "raw", "whitespace", "ast"),
    [
        ("sorted(xs)", 1, 1, 1),
        (" sorted(xs) ", 1, 1, 1),
        ("sorted( xs )", 0, 0, 1),
        ("sorted(xs) # done", 0, 0, 1),
        ("(sorted(xs))", 0, 0, 1),
        ("sorted(ys)", 0, 0, 0),
        ("sorted(xs", 0, 0, 0),
        ("", 0, 0, 0),
    ],
)
def test_modes(answer: str, raw: int, whitespace: int, ast: int) -> None:
    scores = score(ROW, [answer] * 10)
    assert (scores["em@1"], scores["em@1_whitespace"], scores["em@1_ast"]) == (
        raw,
        whitespace,
        ast,
    )


def test_whitespace_mode_forgives_runs_of_blanks() -> None:
    row: dict[str, Any] = {"cmd": "a = b", "question_id": "q"}
    scores = score(row, ["a  =  b"] * 10)
    assert (scores["em@1"], scores["em@1_whitespace"]) == (0, 1)


@pytest.mark.parametrize(("beams", "ks"), [(1, {1}), (2, {1, 2}), (5, {1, 2, 5}), (7, {1, 2, 5})])
def test_no_score_for_more_answers_than_there_are(beams: int, ks: set[int]) -> None:
    scores = score(ROW, [ROW["cmd"]] * beams)
    found = {name: value for name, value in scores.items() if name.startswith("em@")}
    assert {int(name.split("@")[1].split("_")[0]) for name in found} == ks
    assert {value for value in found.values() if isinstance(value, float)} == {1.0}


def test_similarity_is_that_of_the_first_answer() -> None:
    row = {"cmd": "total = sum(xs)\nprint(total)", "question_id": "q"}
    answers = ["total = 0\nprint(total)", row["cmd"]]
    found = aggregated([score(row, answers)])
    for name, variant in (
        ("codebleu", "python"),
        ("codebleu_codexglue", "codexglue"),
        ("codebleu_pypi", "pypi"),
    ):
        alone = codebleu(reference=row["cmd"], hypothesis=answers[0], variant=variant).score
        assert found[name] == pytest.approx(alone)
        assert found[f"{name}_mean"] == pytest.approx(alone)
    assert found["bleu"] == pytest.approx(corpus_bleu([row["cmd"]], answers[:1]))
    assert found["chrf++"] == pytest.approx(corpus_chrf([row["cmd"]], answers[:1]))
    assert found["no_dataflow"] == 0.0


def aggregated(rows: list[dict[str, Any]]) -> dict[str, Any]:
    return {
        entry["metric"]: entry["aggregation"]([row[entry["metric"]] for row in rows])
        for entry in metric_list(METRICS)
        if entry["metric"] in rows[0]
    }


def test_corpus_and_mean_are_two_figures() -> None:
    rows = [
        score({"cmd": "a = b + c", "question_id": "1"}, ["a = b + c"]),
        score({"cmd": "for x in xs:\n    print(x, y, z)", "question_id": "2"}, ["print(1)"]),
    ]
    found = aggregated(rows)
    assert found["codebleu"] != pytest.approx(found["codebleu_mean"], abs=0.01)
    assert found["codebleu_stderr"] > 0


def test_kinds_of_answers_are_counted() -> None:
    def kinds(answer: str) -> tuple[float, float]:
        found = score(ROW, [answer])
        return found["empty_answers"], found["truncated_answers"]

    assert kinds(Answer("", finished=True)) == (1.0, 0.0)
    assert kinds(Answer("xs.so", finished=False)) == (0.0, 1.0)
    assert kinds("sorted(xs)") == (0.0, 0.0)


def test_beams_are_logged_with_what_is_known_of_them() -> None:
    scores = score(ROW, [Answer("x", score=-0.5, tokens=1, finished=True), "y"])
    assert scores["beams"] == [
        {"rank": 0, "score": -0.5, "tokens": 1, "finished": True},
        {"rank": 1, "score": None, "tokens": None, "finished": None},
    ]


def test_a_reference_of_two_lines_is_out_of_reach_of_one() -> None:
    row = {"cmd": "a = 1\nb = 2", "question_id": "q"}
    assert score(row, ["a = 1"], one_line=True)["em_ceiling"] == 0.0
    assert score(row, ["a = 1"])["em_ceiling"] == 1.0
    assert score(ROW, ["a = 1"], one_line=True)["em_ceiling"] == 1.0


@pytest.mark.parametrize("answer", ["x" * 1_000_000, "(" * 200_000, "\x00", "\ud800", "[" * 50])
def test_hostile_answers_are_wrong_and_do_no_harm(answer: str) -> None:
    found = aggregated([score(ROW, [answer])])
    assert found["em@1"] == 0.0 and 0.0 <= found["codebleu"] <= 1.0


def test_samples_are_an_unbiased_estimate() -> None:
    answers = ["sorted(xs)", WRONG, WRONG, "sorted( xs )", WRONG]
    found = score_samples(ROW, answers)
    assert found["em@1"] == pytest.approx(1 / 5) and found["em@1_ast"] == pytest.approx(2 / 5)
    assert found["em@2"] == pytest.approx(1 - (4 / 5) * (3 / 4))
    assert found["em@5"] == 1.0 and "em@10" not in found
    means = [score(ROW, [answer])["codebleu_mean"] for answer in answers]
    assert found["codebleu_mean"] == pytest.approx(sum(means) / 5)
    assert len(found["answers"]) == 5


@pytest.mark.parametrize(
    ("quirk", "reference", "answer", "default", "quirky"),
    [
        ("cut_at_angle", "a", "a < b", 0.0, 1.0),
        ("flatten", "a\tb", "a b", 0.0, 1.0),
        ("tokenizer_references", "a  b", "a b", 0.0, 1.0),
    ],
)
def test_quirks_of_scoring(
    quirk: str, reference: str, answer: str, default: float, quirky: float
) -> None:
    row = {"cmd": reference, "question_id": "q"}

    def through(text: str) -> str:
        return " ".join(text.split())

    assert score(row, [answer], through_tokenizer=through)["em@1"] == default
    found = score(row, [answer], quirks=frozenset({quirk}), through_tokenizer=through)
    assert found["em@1"] == quirky


def test_codexglue_s_codebleu_takes_the_place_of_ours() -> None:
    row = {"cmd": "a = 1  # /* not a comment in Python", "question_id": "q"}
    plain = score(row, ["a = 2"])
    found = score(row, ["a = 2"], quirks=frozenset({"codexglue"}))
    assert found["codebleu_mean"] == plain["codebleu_codexglue_mean"] != plain["codebleu_mean"]
