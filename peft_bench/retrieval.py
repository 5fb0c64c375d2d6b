"""The nearest examples to an intent: BM25 by default, sentence embeddings as an option.

A retriever is built once for a pool of texts and gives every text of the pool a score for a
query. Equal scores keep the pool's order, so that the same query finds the same examples on every
machine.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from peft_bench.errors import MissingError, PeftBenchError
from peft_bench.paths import cache_dir

Floats = NDArray[np.float64]
Encode = Callable[[Sequence[str]], NDArray[np.float32]]

BM25_NAME = "bm25"
# Sums of floats may differ in their last places from machine to machine; ties must not.
_DECIMALS = 4
_WORD = re.compile(r"\w+")


class Retriever(Protocol):
    """Scores of a pool's texts for a query; ``about`` says in words how they come about."""

    about: str

    def scores(self, query: str) -> Floats:
        """One score a text, [pool], the nearest the highest; rounded to four decimals."""


def ranking(scores: Floats) -> list[int]:
    """Indices by falling score; of equal scores the first in the pool first."""
    return [int(index) for index in np.argsort(-scores, kind="stable")]


def words(text: str) -> list[str]:
    """The tokens of BM25: runs of letters, digits and underscores, in lower case.

    Neither stop words nor word endings are dropped: ``in``, ``not`` and ``for`` say something of
    code.
    """
    return _WORD.findall(text.lower())


class Bm25:
    """BM25 as the package ``bm25s`` computes it: Lucene's variant, k1 = 1.5, b = 0.75.

    Source: Robertson and Zaragoza 2009, *The Probabilistic Relevance Framework*; Lù 2024
    (arXiv 2407.03618).
    """

    about = "bm25 (lucene, k1 1.5, b 0.75, words in lower case)"

    def __init__(self, texts: Sequence[str]) -> None:
        import bm25s

        self._size = len(texts)
        tokens = [words(text) for text in texts]
        self._vocabulary = {token for text in tokens for token in text}
        self._index = bm25s.BM25(method="lucene", k1=1.5, b=0.75, backend="numpy")
        if self._vocabulary:
            self._index.index(tokens, show_progress=False)

    def scores(self, query: str) -> Floats:
        """See :class:`Retriever`; zeros for a query without a word of the pool."""
        known = [token for token in words(query) if token in self._vocabulary]
        if not known:
            return np.zeros(self._size)
        found: Floats = np.asarray(self._index.get_scores(known), dtype=np.float64)
        return found.round(_DECIMALS)


class Embeddings:
    """Cosine of sentence embeddings. Source: Reimers and Gurevych 2019 (arXiv 1908.10084).

    Args:
        name: the model, for ``about`` and the cache's key.
        encode: texts -> embeddings [texts, width], in any length.
        texts: the pool.
        queries: all queries that will come; they are embedded at once.
        cache: folder of embeddings from earlier runs; None keeps none.
    """

    def __init__(
        self,
        name: str,
        encode: Encode,
        texts: Sequence[str],
        queries: Sequence[str],
        *,
        cache: Path | None = None,
    ) -> None:
        self.about = f"cosine of {name}"
        self._encode = encode
        distinct = sorted({*texts, *queries})
        rows = _cached(name, encode, distinct, cache)
        self._row_of = dict(zip(distinct, _unit(rows), strict=True))
        self._pool = np.stack([self._row_of[text] for text in texts])

    def scores(self, query: str) -> Floats:
        """See :class:`Retriever`."""
        row = self._row_of.get(query)
        if row is None:
            [row] = _unit(self._encode([query]))
        found: Floats = (self._pool @ row).round(_DECIMALS)
        return found


def build_retriever(
    name: str, texts: Sequence[str], queries: Sequence[str], *, device: str = "cpu"
) -> Retriever:
    """``bm25``, or a sentence-transformers model by its hub id or folder.

    Raises:
        MissingError: the package ``sentence-transformers`` or the model is not there.
    """
    if name == BM25_NAME:
        return Bm25(texts)
    encode = sentence_encoder(name, device=device)
    return Embeddings(name, encode, texts, queries, cache=cache_dir() / "embeddings")


def sentence_encoder(name: str, *, device: str = "cpu") -> Encode:
    """The encoder of a sentence-transformers model, loaded when it is first needed.

    Raises:
        MissingError: the package or the model is not there.
    """
    try:
        from sentence_transformers import SentenceTransformer
    except ImportError:
        raise MissingError(
            place=f"--metadata retriever={name}",
            problem="embeddings need the package sentence-transformers",
            remedy="pip install peft-bench[rag], or leave the retriever at bm25",
        ) from None
    try:
        model: Any = SentenceTransformer(name, device=device)
    except (OSError, ValueError) as error:
        raise MissingError(
            place=f"--metadata retriever={name}",
            problem=f"the model cannot be loaded: {str(error).splitlines()[0][:200]}",
            remedy="give a sentence-transformers id or folder, and check the network",
        ) from error

    def encode(texts: Sequence[str]) -> NDArray[np.float32]:
        rows = model.encode(list(texts), batch_size=64, show_progress_bar=False)
        return np.asarray(rows, dtype=np.float32)

    return encode


def _unit(rows: NDArray[np.float32]) -> Floats:
    wide = rows.astype(np.float64)
    if not np.isfinite(wide).all():
        raise PeftBenchError(
            place="retriever",
            problem="the embeddings hold NaN or infinity",
            remedy="choose another model, or bm25",
        )
    lengths = np.linalg.norm(wide, axis=1, keepdims=True)
    unit: Floats = wide / np.where(lengths == 0, 1.0, lengths)
    return unit


def _cached(
    name: str, encode: Encode, texts: Sequence[str], cache: Path | None
) -> NDArray[np.float32]:
    """Embeddings from the cache if the model still gives them, else anew and kept.

    A model's name may come to mean other weights: a few texts are embedded again and compared.
    """
    if cache is None:
        return encode(texts)
    key = hashlib.sha256(json.dumps([name, *texts]).encode()).hexdigest()
    file = cache / f"{key}.npy"
    probes = list(range(0, len(texts), max(1, len(texts) // 4)))
    if file.is_file():
        try:
            kept: NDArray[np.float32] = np.load(file, allow_pickle=False)
        except (OSError, ValueError, EOFError):
            kept = np.zeros((0, 0), dtype=np.float32)
        fresh = encode([texts[probe] for probe in probes])
        if kept.shape == (len(texts), fresh.shape[1]) and np.allclose(
            kept[probes], fresh, rtol=1e-3, atol=1e-4
        ):
            return kept
    rows = encode(texts)
    _write(file, rows)
    return rows


def _write(file: Path, rows: NDArray[np.float32]) -> None:
    """Under a temporary name first: several ranks may write the same file."""
    file.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(dir=file.parent, suffix=".partial")
    try:
        with os.fdopen(handle, "wb") as stream:
            np.save(stream, rows)
        Path(name).replace(file)
    except OSError:
        Path(name).unlink(missing_ok=True)
        raise
