"""CodeBLEU: values worked out by hand, properties, and texts that are built to hurt."""

from __future__ import annotations

import dataclasses
import os
import random
import subprocess
import sys
from collections import Counter
from functools import partial

import numpy as np
import pytest

from peft_bench.metrics.bootstrap import bootstrap_corpus_stderr
from peft_bench.metrics.codebleu import (
    STATISTICS,
    CodeBleu,
    Variant,
    codebleu,
    combine,
    corpus_codebleu,
    has_dataflow,
    statistics,
)
from peft_bench.metrics.codebleu.bags import Bag
from peft_bench.metrics.codebleu.counts import Parsed
from peft_bench.metrics.codebleu.shapes import shapes
from peft_bench.metrics.codebleu.trees import parse

VARIANTS: tuple[Variant, ...] = ("python", "codexglue", "pypi")
SNIPPETS = [
    "sorted(xs, key=lambda x: x[1])",
    "x",
    "d = {k: v for k, v in zip(ks, vs) if k not in seen}",
    "def f(a, b=1):\n    total = a\n    for i in range(b):\n        total += i\n    return total",
    "with open(path) as file:\n    text = file.read()",
    "while n > 0:\n    n, m = n - 1, n\nelse:\n    m = None",
    "if a is not b:\n    c = 1\nelif a:\n    c = 2\nprint(c, 'naïve')",
    "self.value = other.value + 1",
    "re.sub(r'\\w+', '', text)",
    "class A:\n    def __init__(self):\n        self.type = 'a'",
    "print 'old' % (x,)",
    "for x in xs: f(x",
]
Parts = tuple[float, float, float, float | None]


def parts(found: CodeBleu) -> Parts:
    return found.ngram, found.weighted_ngram, found.syntax, found.dataflow


@pytest.mark.parametrize(
    ("variant", "reference", "hypothesis", "expected"),
    [
        # Of `a` `=` `c`, two tokens match and one pair, no triple (0.1 of 1); four in a row there
        # are none: 0.1 of 1 for the scripts, left out by ours. Weights: 0.2 each, 0.4 of 0.6, in
        # the scripts of at least 1. Trees and data flow do not look at names.
        ("codexglue", "a = b", "a = c", ((1 / 300) ** 0.25, 0.002**0.25, 1.0, 1.0)),
        ("pypi", "a = b", "a = c", ((1 / 300) ** 0.25, 0.002**0.25, 1.0, 1.0)),
        ("python", "a = b", "a = c", ((1 / 30) ** (1 / 3), (1 / 30) ** (1 / 3), 1.0, 1.0)),
        # A keyword has the weight 1: 1 of 1.2.
        ("python", "return x", "return y", (0.05**0.5, (0.1 / 1.2) ** 0.5, 1.0, None)),
        # Half of the tokens, all of which match: the brevity penalty alone, exp(1 - 4/2), in
        # ours; the scripts' weighted match is a recall whose brevity penalty expects two tokens:
        # 0.4 of 1, 1 of 3, 0.1 of 2, 0.1 of 1.
        ("python", "f ( x )", "f (", (np.exp(-1), np.exp(-1), 0.0, None)),
        (
            "codexglue",
            "f ( x )",
            "f (",
            (np.exp(-1) * 0.01**0.25, (0.4 / 3 * 0.05 * 0.1) ** 0.25, 0.0, 0.0),
        ),
        # The tree of g(x) is in that of f(g(x)): call and arguments, of module, statement, two
        # calls and two arguments. Tokens 4 of 4, 3 of 3, 2 of 2, 1 of 1; 4 against 7.
        ("python", "f(g(x))", "g(x)", (np.exp(-3 / 4), np.exp(-3 / 4), 2 / 6, None)),
    ],
)
def test_values_worked_out_by_hand(
    variant: Variant, reference: str, hypothesis: str, expected: Parts
) -> None:
    found = codebleu(reference=reference, hypothesis=hypothesis, variant=variant)
    assert parts(found) == pytest.approx(expected, abs=1e-12)
    defined = [part for part in expected if part is not None]
    assert found.score == pytest.approx(sum(defined) / len(defined), abs=1e-12)


def test_a_subtree_counts_as_often_as_it_is_in_both() -> None:
    # Of the module and twice statement, call, arguments, one f(x) has three.
    twice, once = "f(x)\ng(y)", "f(x)"
    ours = codebleu(reference=twice, hypothesis=once)
    theirs = codebleu(reference=twice, hypothesis=once, variant="codexglue")
    assert (ours.syntax, theirs.syntax) == (3 / 7, 6 / 7)


def test_data_flow_counts_links_and_their_shape() -> None:
    # b gets its value from a, and so does c; in the answer c gets it from b.
    reference = "a = 1\nb = a\nc = a"
    assert codebleu(reference=reference, hypothesis="x = 1\ny = x\nz = x").dataflow == 1.0
    other = codebleu(reference=reference, hypothesis="a = 1\nb = a\nc = b").dataflow
    assert other is not None and 0 < other < 1


def test_undefined_data_flow_is_left_out_zero_or_one() -> None:
    pair = {"reference": "f(x)", "hypothesis": "f(y)"}
    ours, script, pypi = (codebleu(**pair, variant=variant) for variant in VARIANTS)
    assert (ours.dataflow, script.dataflow, pypi.dataflow) == (None, 0.0, 0.0)
    assert ours.score == pytest.approx((ours.ngram + ours.weighted_ngram + ours.syntax) / 3)
    assert pypi.score == pytest.approx(script.score + 0.25)
    assert not has_dataflow("f(x)") and has_dataflow("x = f(x)")


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("empty", ["", " \n\t", "\0"])
def test_an_empty_answer_is_worth_nothing_but_in_pypi(variant: Variant, empty: str) -> None:
    for reference in ("x = y", "f(x)"):
        found = codebleu(reference=reference, hypothesis=empty, variant=variant)
        assert found.score == (0.25 if variant == "pypi" else 0.0)


def test_comments_alone_are_no_answer_and_cannot_be_matched() -> None:
    assert codebleu(reference="x = y", hypothesis="# x = y").score == 0.0
    assert codebleu(reference="# x", hypothesis="# x").score == 0.0


def test_comments_layout_and_docstrings_count_nowhere_in_ours() -> None:
    plain = "def f(a,\n      b):\n    return a + b"
    dressed = 'def f(a, b):  # adds\n    """Adds."""\n    # so:\n    return a +\\\n b'
    assert codebleu(reference=plain, hypothesis=dressed).score == pytest.approx(1.0)
    assert codebleu(reference=dressed, hypothesis=plain).score == pytest.approx(1.0)
    # Java's rule loses what follows a floor division, and keeps Python's comments.
    floor = codebleu(reference="x = y // z", hypothesis="x = y", variant="codexglue")
    assert floor.syntax == 1.0
    assert codebleu(reference="x = y // z", hypothesis="x = y").syntax < 1.0
    noted = {"reference": "x = 1  # one", "hypothesis": "x = 1"}
    assert codebleu(**noted, variant="codexglue").syntax == 2 / 3
    assert codebleu(**noted, variant="pypi").syntax == 1.0


def test_pypi_drops_strings_that_begin_a_line() -> None:
    shouted = codebleu(reference="'a'.upper()", hypothesis="'a'", variant="pypi")
    assert shouted.syntax == 0.0
    assert codebleu(reference="'a'.upper()", hypothesis="'a'").syntax > 0.0


@pytest.mark.parametrize("code", SNIPPETS)
def test_a_copy_scores_one_and_blanks_do_not_matter(code: str) -> None:
    assert codebleu(reference=code, hypothesis=code).score == pytest.approx(1.0, abs=1e-12)
    assert codebleu(reference=code, hypothesis=f"\n{code}\n").score == pytest.approx(1.0)


@pytest.mark.parametrize("variant", VARIANTS)
def test_shares_are_bounded_and_a_corpus_of_one_row_is_the_row(variant: Variant) -> None:
    for reference in SNIPPETS:
        for hypothesis in SNIPPETS:
            found = codebleu(reference=reference, hypothesis=hypothesis, variant=variant)
            for part in (found.score, *parts(found)):
                assert part is None or 0.0 <= part <= 1.0 + 1e-12
            assert corpus_codebleu([reference], [hypothesis], variant) == found
            sums = statistics(reference, hypothesis, variant)
            assert len(sums) == STATISTICS
            assert float(combine(sums, variant)) == pytest.approx(found.score, abs=1e-12)


@pytest.mark.parametrize("variant", VARIANTS)
def test_combining_many_sums_equals_each_corpus(variant: Variant) -> None:
    rng = np.random.default_rng(3)
    pairs = [(a, b) for a in SNIPPETS for b in [*SNIPPETS[:3], ""]]
    rows = np.array([statistics(*pair, variant) for pair in pairs])
    times = rng.multinomial(3, np.full(len(pairs), 1 / len(pairs)), size=20)
    scores = combine(times @ rows, variant)
    for drawn, score in zip(times, scores, strict=True):
        chosen = [pair for pair, n in zip(pairs, drawn, strict=True) for _ in range(n)]
        corpus = corpus_codebleu([a for a, _ in chosen], [b for _, b in chosen], variant)
        assert score == pytest.approx(corpus.score, abs=1e-12)
    error = bootstrap_corpus_stderr(rows, partial(combine, variant=variant), iterations=50)
    assert 0 < error < 0.2


def test_a_corpus_is_not_the_mean_of_its_rows() -> None:
    references, hypotheses = ["x = 1", "f(a, b, c, d, e)"], ["x = 1", "g()"]
    rows = [
        codebleu(reference=r, hypothesis=h).score
        for r, h in zip(references, hypotheses, strict=True)
    ]
    corpus = corpus_codebleu(references, hypotheses)
    assert corpus.score < sum(rows) / 2
    assert corpus.dataflow == 1.0  # of the one row that has any


def damaged(code: str, rng: random.Random) -> str:
    signs = list(code)
    for _ in range(3):
        place = rng.randrange(len(signs))
        signs[place] = rng.choice(["", "(", "]", ":", "$", "é", '"', "\\", "\n", " ", "!"])
        signs = signs or ["x"]
    return "".join(signs)


def test_subtrees_are_equal_where_tree_sitter_writes_them_alike() -> None:
    rng = random.Random(5)
    flat = "class A:     x = 'a'  class B:     def f(self):         self.x = 1"
    texts = [*SNIPPETS, flat, *(damaged(code, rng) for code in SNIPPETS * 12)]
    written, hashed = [], []
    for text in texts:
        tree = parse(text, bare=False)
        inner = [node for node in tree.nodes if node.children or node == tree.nodes[0]]
        written.append(Counter(str(node) for node in inner))
        hashed.append(Counter(shapes(tree)))
    assert sum("MISSING _" in sexp for counts in written for sexp in counts) > 0
    for _ in range(4000):
        one, other = rng.randrange(len(texts)), rng.randrange(len(texts))
        common = (written[one] & written[other]).total()
        assert (hashed[one] & hashed[other]).total() == common, (texts[one], texts[other])


def test_bags_count_what_is_in_both() -> None:
    rng = random.Random(7)
    for _ in range(300):
        one, other = (rng.choices("abcde", k=rng.randrange(7)) for _ in range(2))
        bag, answer = Bag(one, len(one)), Bag(other, len(other))
        assert bag.shared(answer) == (Counter(one) & Counter(other)).total(), (one, other)
        assert bag.found_in(answer) == sum(item in other for item in one), (one, other)


def flow(code: str, *, as_published: bool) -> Counter[tuple[int, str, tuple[int, ...]]]:
    return Counter(Parsed(code, as_published=as_published).flow().items)


def test_faults_of_the_published_data_flow_are_in_the_published_variants_alone() -> None:
    attribute = "a.b = x + y"
    assert flow(attribute, as_published=True) == flow("a = x\nb = y", as_published=True)
    assert flow(attribute, as_published=False) == flow("a, b = x * y", as_published=False)
    assert flow("self.type = 'c'", as_published=True) == Counter()
    assert flow("self.type = 'c'", as_published=False)
    assert flow("identifier = x", as_published=True) == Counter()
    assert flow("identifier = x", as_published=False) == flow("a = x", as_published=False)
    looped = "for i in xs:\n    a = i\nelse:\n    b = 1"
    assert flow(looped, as_published=False).total() > flow(looped, as_published=True).total()
    accented = "é = a\nb = é"
    assert flow(accented, as_published=False) == flow("e = a\nb = e", as_published=False)


def test_after_an_if_a_name_has_the_values_of_all_branches() -> None:
    both = flow("if a:\n    x = b\nelse:\n    x = c\nprint(x)", as_published=False)
    # x in print comes from itself; each branch gives it one source.
    assert both[(1, "computedFrom", (0,))] + both[(1, "computedFrom", (2,))] == 2
    looped = flow("while a:\n    a = b\n    b = a", as_published=False)
    assert sum(n for (_, how, sources), n in looped.items() if len(sources) >= 1) == looped.total()


HOSTILE = {
    "open brackets": "(" * 1_000_000,
    "nested": "[" * 500_000 + "]" * 500_000,
    "deep with errors": "/*" * 500_000,
    "loops to the power": "".join(" " * d + "for a in b:\n" for d in range(30)) + " " * 30 + "c=a",
    "chained": "a=" * 500_000 + "1",
    "wide": ",".join(f"a{i}" for i in range(2000)) + "=" + "+".join(f"a{i}" for i in range(2000)),
    "null bytes": "\0" * 1_000_000,
    "surrogates": "\ud800 = \udfff" * 100,
    "quotes": '"\\' * 500_000,
    "missing": "class A:" * 10_000,
}


@pytest.mark.parametrize("text", HOSTILE.values(), ids=HOSTILE)
def test_any_text_has_a_score(text: str) -> None:
    for variant in VARIANTS:
        for pair in (("x = f(x)", text), (text, "x = f(x)")):
            found = codebleu(reference=pair[0], hypothesis=pair[1], variant=variant)
            assert 0.0 <= found.score <= 1.0 + 1e-12
    assert codebleu(reference=text, hypothesis=text).score == pytest.approx(1.0) or "\0" in text


def test_what_comes_after_the_limit_is_not_looked_at() -> None:
    long = "x = 1\n" * 4000
    cut = codebleu(reference=long, hypothesis=long + "y = f(2)\n" * 100_000)
    assert cut.score == pytest.approx(1.0)


def test_scores_do_not_depend_on_the_interpreters_hash_seed() -> None:
    code = (
        "from peft_bench.metrics.codebleu import codebleu\n"
        "r, h = 'for i in range(0, 101, 5): print(i)', 'for i in range(0, 5): print(i)'\n"
        "print([codebleu(reference=r, hypothesis=h, variant=v)"
        " for v in ('python', 'codexglue', 'pypi')])"
    )
    said = {
        subprocess.run(
            [sys.executable, "-c", code],
            env={**os.environ, "PYTHONHASHSEED": seed},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for seed in ("1", "9")  # whose sets order these names differently
    }
    assert len(said) == 1 and "CodeBleu" in said.pop()


def test_faulty_calls_are_refused() -> None:
    wrong: Variant = "java"  # type: ignore[assignment]
    with pytest.raises(ValueError, match="variant is 'java'; it must be one of python, codexglue"):
        codebleu(reference="x", hypothesis="x", variant=wrong)
    with pytest.raises(ValueError, match="1 references and 2 hypotheses"):
        corpus_codebleu(["x"], ["x", "y"])
    with pytest.raises(ValueError, match="at least one"):
        corpus_codebleu([], [])
    with pytest.raises(ValueError, match=r"the shape \(2,\); the last must be 23"):
        combine([1.0, 2.0])
    with pytest.raises(dataclasses.FrozenInstanceError):
        codebleu(reference="x", hypothesis="x").score = 2.0  # type: ignore[misc]
