"""Nearest examples: BM25 against its formula, embeddings against cosine."""

from __future__ import annotations

import importlib.util
import math
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from peft_bench.errors import MissingError, PeftBenchError
from peft_bench.retrieval import (
    Bm25,
    Embeddings,
    build_retriever,
    ranking,
    sentence_encoder,
    words,
)

TEXTS = [
    "sort list `xs`",
    "sort a list of lists by the second item",
    "open file `name` and read it",
    "read the lines of a file",
    "sort list `xs`",
    "",
]


def test_words() -> None:
    assert words("Sort `my_list` NOT by x2, é!") == ["sort", "my_list", "not", "by", "x2", "é"]


def test_bm25_is_lucenes_formula() -> None:
    query = "sort the list, sort it"
    documents = [words(text) for text in TEXTS]
    mean = sum(map(len, documents)) / len(documents)
    for found, document in zip(Bm25(TEXTS).scores(query), documents, strict=True):
        expected = 0.0
        for word in words(query):
            holders = sum(word in other for other in documents)
            idf = math.log(1 + (len(documents) - holders + 0.5) / (holders + 0.5))
            count = document.count(word)
            expected += idf * count / (count + 1.5 * (1 - 0.75 + 0.75 * len(document) / mean))
        assert found == pytest.approx(expected, abs=1e-3)


@pytest.mark.parametrize("query", ["", "!!", "zebra"])
def test_a_query_without_a_known_word_keeps_the_pools_order(query: str) -> None:
    assert ranking(Bm25(TEXTS).scores(query)) == list(range(len(TEXTS)))


def test_a_pool_without_a_word() -> None:
    assert ranking(Bm25(["", "?"]).scores("sort")) == [0, 1]


def test_equal_scores_keep_the_pools_order() -> None:
    order = ranking(Bm25(TEXTS).scores("sort xs"))
    assert order[:2] == [0, 4]
    assert ranking(np.array([0.5, 2.0, 0.5, 2.0])) == [1, 3, 0, 2]
    assert ranking(np.tile([0.0, 1.0], 1000)) == [*range(1, 2000, 2), *range(0, 2000, 2)]


def test_sums_that_differ_in_their_last_places_are_equal() -> None:
    def nearly(texts: Sequence[str]) -> Any:
        # What another machine may make of one and the same text.
        return np.array([[1.0, 1e-4 * int(text)] for text in texts], np.float32)

    assert ranking(Embeddings("m", nearly, ["3", "0", "2"], ["0"]).scores("0")) == [0, 1, 2]


def letters(texts: Sequence[str]) -> np.ndarray[Any, np.dtype[np.float32]]:
    """An embedding: how often each letter occurs."""
    alphabet = "abcdefghijklmnopqrstuvwxyz"
    return np.array([[text.count(letter) for letter in alphabet] for text in texts], np.float32)


def test_embeddings_are_compared_by_cosine() -> None:
    found = Embeddings("letters", letters, ["aab", "abc", "zz", ""], ["ab"]).scores("ab")
    expected = [3 / math.sqrt(5 * 2), 2 / math.sqrt(3 * 2), 0, 0]
    assert found == pytest.approx(expected, abs=1e-4)
    unseen = Embeddings("letters", letters, ["aab", "zz"], []).scores("z")
    assert unseen.tolist() == [0.0, 1.0]


def test_embeddings_are_kept_until_the_model_or_the_texts_change(tmp_path: Path) -> None:
    asked: list[int] = []

    def counting(factor: float) -> Callable[[Sequence[str]], Any]:
        def encode(texts: Sequence[str]) -> Any:
            asked.append(len(texts))
            return letters(texts) + np.float32(factor)

        return encode

    pool = [f"text {'ab' * n}" for n in range(40)]

    def scores(factor: float, texts: list[str]) -> list[float]:
        del asked[:]
        found = Embeddings("m", counting(factor), texts, ["ab"], cache=tmp_path).scores("ab")
        return [float(score) for score in found]

    fresh = scores(0, pool)
    assert asked == [41]
    assert scores(0, pool) == fresh
    assert sum(asked) <= 6, "only a few probes are embedded again"
    changed = scores(3, pool)
    assert changed != fresh and asked[-1] == 41
    assert scores(3, pool[:-1]) == changed[:-1]
    assert asked == [40]
    [broken, *_] = tmp_path.glob("*.npy")
    for file in tmp_path.glob("*.npy"):
        file.write_bytes(broken.read_bytes()[:50])
    assert scores(3, pool) == changed


def test_embeddings_that_are_no_numbers_are_refused() -> None:
    def broken(texts: Sequence[str]) -> Any:
        return np.full((len(texts), 3), np.nan, np.float32)

    with pytest.raises(PeftBenchError, match="NaN"):
        Embeddings("m", broken, ["a"], [])


def test_the_package_for_embeddings_is_named_when_it_is_missing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(sys.modules, "sentence_transformers", None)
    with pytest.raises(MissingError, match=r"pip install peft-bench\[rag\]") as caught:
        build_retriever("thenlper/gte-small", TEXTS, [])
    assert caught.value.exit_code == 3


needs_package = pytest.mark.skipif(
    importlib.util.find_spec("sentence_transformers") is None,
    reason="needs sentence-transformers (peft-bench[rag])",
)


@pytest.fixture(scope="module")
def tiny_sentence_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A random BERT of one layer; the package adds mean pooling by itself."""
    import torch
    from transformers import BertConfig, BertModel, BertTokenizer

    folder = tmp_path_factory.mktemp("tiny-bert")
    known = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", *sorted({w for t in TEXTS for w in words(t)})]
    (folder / "vocab.txt").write_text("\n".join(known), encoding="utf-8")
    torch.manual_seed(0)
    config = BertConfig(
        vocab_size=len(known),
        hidden_size=16,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=16,
    )
    BertModel(config).save_pretrained(folder / "bert")
    BertTokenizer(str(folder / "vocab.txt")).save_pretrained(folder / "bert")
    return folder / "bert"


@needs_package
def test_a_sentence_transformers_model(
    tiny_sentence_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PEFT_BENCH_CACHE", str(tmp_path))
    retriever = build_retriever(str(tiny_sentence_model), TEXTS, TEXTS)
    scores = retriever.scores(TEXTS[3])
    assert ranking(scores)[0] == 3 and scores[3] == pytest.approx(1.0, abs=1e-4)
    rows = sentence_encoder(str(tiny_sentence_model))(TEXTS).astype(np.float64)
    cosine = rows @ rows[3] / (np.linalg.norm(rows, axis=1) * np.linalg.norm(rows[3]))
    assert scores == pytest.approx(cosine, abs=1e-3)
    assert len(list((tmp_path / "embeddings").glob("*.npy"))) == 1


@needs_package
def test_a_model_that_is_nowhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with pytest.raises(MissingError, match="the model cannot be loaded"):
        build_retriever(str(tmp_path / "nothing"), TEXTS, [])


@pytest.mark.skipif(
    "PEFT_BENCH_DATA" not in os.environ, reason="needs real rows: set PEFT_BENCH_DATA"
)
def test_real_rows_never_show_their_own_answer() -> None:
    from peft_bench.data import load_split
    from peft_bench.examples import Choice, Pool, Shots, normal_code, normal_intent

    def docs(split: str) -> list[dict[str, str]]:
        return [
            {"id": row.id, "nl": row.nl, "cmd": row.cmd, "question_id": row.question_id}
            for row in load_split("conala", split).rows
        ]

    pool = Pool(docs("train"))
    chooser = Shots(pool, Choice(retriever="bm25"), 0, [])
    asked = docs("test")
    for row in asked:
        for shot in chooser.choose(row, 3):
            assert normal_code(shot["cmd"]) != normal_code(row["cmd"])
            assert normal_intent(shot["nl"]) != normal_intent(row["nl"])
            assert shot["question_id"] != row["question_id"]
    assert chooser.choose(asked[0], 3) == chooser.choose(asked[0], 3)
