from __future__ import annotations

import random

import pytest

from peft_bench.overlap import Match, code_tokens, intent_tokens, matches, shingles


def test_intents_without_case_and_white_space() -> None:
    assert intent_tokens("  Sort\tthe list `xs`\n") == ("sort", "the", "list", "`", "xs", "`")
    assert intent_tokens("STRASSE ﬁ") == intent_tokens("straße fi")
    assert intent_tokens(" \n") == ()


def test_codes_without_comments_and_layout() -> None:
    code = 'def f(x):  # adds one\n    return x+1  # "not a string\n'
    assert code_tokens(code) == code_tokens("def f(x): return x + 1")
    assert code_tokens("x = '# no comment' # one") == ("x", "=", "'# no comment'")
    assert code_tokens('"""a # b\n"c" """ + 1') == ('"""a # b\n"c" """', "+", "1")
    assert code_tokens(r"rb'\' #' + x") == (r"rb'\' #'", "+", "x")
    assert code_tokens("f(X)") != code_tokens("f(x)")  # case tells names apart
    assert code_tokens("print 'unfinished # and on") == code_tokens("print 'unfinished")
    assert code_tokens("# nothing else") == ()


def test_shingles_worked_out_by_hand() -> None:
    assert list(shingles(("a", "b", "c"), 2)) == [("a", "b"), ("b", "c")]
    assert list(shingles(("a",), 2)) == [("a",)]


def test_similarity_worked_out_by_hand() -> None:
    left = [(0, ("a", "b", "c", "d", "e"))]  # ab bc cd de
    right = [(0, ("a", "b", "c", "d", "x")), (1, ("q",)), (2, ("a", "b", "c", "d", "e"))]
    found = matches(left, right, threshold=0.6, size=2)
    assert found == [Match((0,), (2,), 1.0, True), Match((0,), (0,), 3 / 5, False)]
    assert len(matches(left, right, threshold=0.61, size=2)) == 1


def test_groups_of_equal_texts_are_one_match() -> None:
    left = [(n, ("a", "b")) for n in range(300)]
    [match] = matches(left, left[:200], threshold=0.8, size=2)
    assert (len(match.left), len(match.right)) == (300, 200)


def test_within_one_list_each_two_texts_are_matched_once() -> None:
    texts = [(0, tuple("abcdef")), (1, tuple("abcdef")), (2, tuple("abcdeg")), (3, tuple("xyz"))]
    found = matches(texts, None, threshold=0.6, size=2)
    assert found == [Match((0, 1), (0, 1), 1.0, True), Match((0, 1), (2,), 4 / 6, False)]


def test_rows_of_several_texts_and_rows_of_none() -> None:
    left = [(0, ("a", "b")), (0, ("c", "d")), (1, ()), (2, ("c", "d"))]
    right = [(7, ("c", "d")), (8, ())]
    assert matches(left, right, threshold=0.5, size=2) == [Match((0, 2), (7,), 1.0, True)]


@pytest.mark.parametrize("size", [1, 2, 3])
@pytest.mark.parametrize("threshold", [0.1, 0.3, 0.5, 0.8, 1.0])
def test_no_near_duplicate_is_missed(size: int, threshold: float) -> None:
    """Against the comparison of every text with every other."""
    draw = random.Random(f"{size} {threshold}")
    base = [draw.choices("abcdefgh", k=draw.randint(1, 12)) for _ in range(12)]

    def changed(text: list[str]) -> tuple[str, ...]:
        return tuple(draw.choice("abcdefgh") if draw.random() < 0.15 else one for one in text)

    left = [(n, changed(draw.choice(base))) for n in range(60)]
    right = [(n, changed(draw.choice(base))) for n in range(60)]
    expected = {
        (a, b)
        for a, one in left
        for b, other in right
        if one == other or similarity(one, other, size) >= threshold
    }
    found = [
        (a, b)
        for match in matches(left, right, threshold=threshold, size=size)
        for a in match.left
        for b in match.right
    ]
    assert sorted(found) == sorted(expected)
    assert 0 < len(expected) < 3600


def similarity(one: tuple[str, ...], other: tuple[str, ...], size: int) -> float:
    ours, theirs = set(shingles(one, size)), set(shingles(other, size))
    return len(ours & theirs) / len(ours | theirs)


@pytest.mark.parametrize(("threshold", "size"), [(0.0, 2), (1.1, 2), (float("nan"), 2), (0.5, 0)])
def test_what_makes_no_sense_is_refused(threshold: float, size: int) -> None:
    with pytest.raises(ValueError):
        matches([], [], threshold=threshold, size=size)
