"""Which examples a document is shown, and the prompt made of them."""

from __future__ import annotations

import subprocess
import sys
from collections import Counter
from typing import Any

import pytest

from peft_bench.errors import UsageError
from peft_bench.examples import Choice, Pool, Shots, draw, plain_prompt

INSTRUCTION = "Generate Python code given a natural language instruction."


def doc(number: int, nl: str, cmd: str, question: str | None = None) -> dict[str, Any]:
    identity = f"r{number}"
    return {"id": identity, "nl": nl, "cmd": cmd, "question_id": question or identity}


POOL = [doc(n, f"intent number {n}", f"f({n})", f"q{n // 2}") for n in range(20)]


def shots(seed: Any = 0, docs: list[dict[str, Any]] | None = None, **choice: Any) -> Shots:
    return Shots(Pool(docs or POOL), Choice(**choice), seed, [])


def ids(chosen: list[Any]) -> list[str]:
    return [row["id"] for row in chosen]


def test_a_draw_is_a_function_of_its_key_in_every_process() -> None:
    here = draw(1000, 5, key='[42, "r1"]')
    code = "from peft_bench.examples import draw; print(draw(1000, 5, key='[42, \"r1\"]'))"
    there = subprocess.run(
        [sys.executable, "-c", code], check=True, capture_output=True, text=True, timeout=60
    )
    assert there.stdout.strip() == str(here)
    assert draw(1000, 3, key='[42, "r1"]') == here[:3]
    assert len(set(draw(1000, 1000, key="all"))) == 1000
    assert draw(3, 2, key="k", excluded={0}) in ([1, 2], [2, 1])


def test_all_examples_are_drawn_equally_often() -> None:
    counts = Counter(n for key in range(2000) for n in draw(10, 3, key=str(key)))
    expected = 2000 * 3 / 10
    # Chi-square with 9 degrees of freedom: 27.9 is passed by chance once in a thousand.
    assert sum((counts[n] - expected) ** 2 / expected for n in range(10)) < 27.9


def test_each_document_has_its_own_draw_unless_it_is_fixed() -> None:
    one, other = doc(100, "something else", "g()"), doc(101, "and another", "h()")
    drawn = shots()
    assert ids(drawn.choose(one, 5)) != ids(drawn.choose(other, 5))
    assert ids(drawn.choose(one, 5)) == ids(shots().choose(one, 5))
    assert ids(drawn.choose(one, 5)) != ids(shots(seed=1).choose(one, 5))
    fixed = shots(shots="fixed")
    assert ids(fixed.choose(one, 5)) == ids(fixed.choose(other, 5))
    assert ids(fixed.choose(one, 5)) != ids(shots(seed=1, shots="fixed").choose(one, 5))


@pytest.mark.parametrize("choice", [{}, {"shots": "fixed"}, {"retriever": "bm25"}])
@pytest.mark.parametrize(
    ("asked", "own"),
    [
        (doc(100, " Intent  NUMBER 3", "other()"), {3}),
        (doc(100, "another", "f( 3 )\n"), {3}),
        (doc(100, "another", "g()", "q1"), {2, 3}),
        (doc(100, "intent number 3", "f(7)", "q9"), {3, 7, 18, 19}),
    ],
)
def test_a_documents_own_duplicates_are_never_shown(
    asked: dict[str, Any], own: set[int], choice: dict[str, Any]
) -> None:
    chooser = shots(**choice)
    assert chooser.pool.duplicates(asked) == own
    shown = ids(chooser.choose(asked, 20 - len(own)))
    assert sorted(shown) == sorted({f"r{n}" for n in range(20)} - {f"r{n}" for n in own})
    with pytest.raises(UsageError, match=rf"20 examples, {len(own)} of them duplicates"):
        chooser.choose(asked, 21 - len(own))


def test_a_row_number_is_no_question() -> None:
    # Rows that name no question carry their own id for one, and splits number theirs alike.
    assert Pool([doc(0, "a", "x")]).duplicates(doc(0, "b", "y")) == set()
    assert Pool([doc(0, "a", "x", "q")]).duplicates(doc(0, "b", "y", "q")) == {0}


def test_the_pool_holds_each_pair_once_and_only_rows_with_code() -> None:
    rows = [doc(0, "a", "x"), doc(1, " A ", "x\n"), doc(2, "a", "y"), doc(3, "b", " ")]
    pool = Pool(rows)
    assert (ids(pool.docs), pool.repeats, pool.without_code) == (["r0", "r2"], 1, 1)
    assert pool.sha256 == Pool([rows[0], rows[2]]).sha256 != Pool(rows[:1]).sha256


def test_retrieved_examples_stand_with_the_nearest_last() -> None:
    rows = [
        doc(0, "sort a list", "a"),
        doc(1, "sort a list of numbers", "b"),
        doc(2, "open a file", "c"),
    ]
    asked = doc(9, "sort a list of numbers backwards", "z")
    last = shots(docs=rows, retriever="bm25")
    first = shots(docs=rows, retriever="bm25", order="nearest_first")
    assert ids(last.choose(asked, 2)) == ["r0", "r1"]
    assert ids(first.choose(asked, 3)) == ["r1", "r0", "r2"]


BLOCK = "### Instruction:\n{}\n### Response:\n"


def test_the_prompts_form() -> None:
    question, shown = BLOCK.format("q"), [(BLOCK.format("a"), "x"), (BLOCK.format("b"), "y\nz")]
    assert plain_prompt(question, [], header="") == question
    assert plain_prompt(question, shown) == (
        f"{INSTRUCTION}\n"
        "### Instruction:\na\n### Response:\nx\n"
        "\n### Instruction:\nb\n### Response:\ny\nz\n"
        "\n### Instruction:\nq\n### Response:\n"
    )
    assert plain_prompt(question, shown, header="") == (
        plain_prompt(question, shown).removeprefix(f"{INSTRUCTION}\n")
    )
    assert plain_prompt(question, []) == f"{INSTRUCTION}\n{question}"


def test_the_studys_prompt_is_reproduced_letter_by_letter() -> None:
    # As the script of commit e7971c0 puts it together, worked out by hand.
    study = {"stray_spaces", "leading_newline"}
    expected = (
        f"{INSTRUCTION}"
        f"\n### Instruction:\na{' ' * 32}\n### Response:\nx\n"
        f"\n### Instruction:\nb{' ' * 32}\n### Response:\ny\n"
        "\n### Instruction:\nq\n### Response:\n"
    )
    shown = [(BLOCK.format("a"), "x"), (BLOCK.format("b"), "y")]
    assert plain_prompt(BLOCK.format("q"), shown, quirks=study) == expected
    assert plain_prompt(BLOCK.format("q"), [], header="", quirks=study) == (
        "\n### Instruction:\nq\n### Response:\n"
    )


@pytest.mark.parametrize(
    ("metadata", "expected"),
    [
        ({}, Choice()),
        ({"retriever": "random"}, Choice()),
        ({"shots": "fixed"}, Choice(shots="fixed")),
        (
            {"retriever": "bm25", "shots_order": "nearest_first"},
            Choice(retriever="bm25", order="nearest_first"),
        ),
        (
            {"retriever": "some/model", "retriever_device": "cuda"},
            Choice(retriever="some/model", device="cuda"),
        ),
    ],
)
def test_metadata(metadata: dict[str, Any], expected: Choice) -> None:
    assert Choice.parse(metadata) == expected


def test_the_study_draws_once_but_retrieves_for_each() -> None:
    assert Choice.parse({}, {"fixed_shots"}).shots == "fixed"
    assert Choice.parse({"retriever": "bm25"}, {"fixed_shots"}).shots == "document"


@pytest.mark.parametrize(
    ("metadata", "said"),
    [
        ({"shots": "sometimes"}, "known: document, fixed"),
        ({"shots_order": "up"}, "known: nearest_last, nearest_first"),
        ({"header": True}, "known: shots, always, never"),
        ({"shots": "fixed", "retriever": "bm25"}, "bm25 finds other examples for each document"),
    ],
)
def test_faulty_metadata(metadata: dict[str, Any], said: str) -> None:
    with pytest.raises(UsageError, match=said):
        Choice.parse(metadata)
