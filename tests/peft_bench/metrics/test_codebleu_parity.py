"""The published scripts' own figures, pair by pair and for the corpus."""

from __future__ import annotations

import dataclasses
import json
import os
from pathlib import Path
from typing import Any

import pytest

from peft_bench.metrics.codebleu import Variant, codebleu, corpus_codebleu

DATA = os.environ.get("PEFT_BENCH_DATA", "")
CORPUS: dict[Variant, str] = {
    "codexglue": "codexglue_corpus_of_single_line_rows_in_order",
    "pypi": "pypi_corpus_of_all_rows_in_order",
}

pytestmark = pytest.mark.skipif(
    not (Path(DATA) / "codebleu" / "pairs.jsonl").is_file(),
    reason="PEFT_BENCH_DATA names no folder with codebleu/pairs.jsonl: no reference figures",
)


def rows(variant: Variant) -> list[dict[str, Any]]:
    text = (Path(DATA) / "codebleu" / "pairs.jsonl").read_text(encoding="utf-8")
    return [row for row in map(json.loads, text.strip().split("\n")) if variant in row]


@pytest.mark.parametrize("variant", CORPUS)
def test_every_row_equals_the_published_one(variant: Variant) -> None:
    found = rows(variant)
    assert len(found) >= 500
    for row in found:
        ours = codebleu(reference=row["reference"], hypothesis=row["hypothesis"], variant=variant)
        assert dataclasses.astuple(ours) == pytest.approx(row[variant], abs=1e-6), row


@pytest.mark.parametrize("variant", CORPUS)
def test_the_corpus_equals_the_published_one(variant: Variant) -> None:
    text = (Path(DATA) / "codebleu" / "corpus.json").read_text(encoding="utf-8")
    expected = json.loads(text)[CORPUS[variant]]
    found = rows(variant)
    ours = corpus_codebleu(
        [row["reference"] for row in found], [row["hypothesis"] for row in found], variant
    )
    assert dataclasses.astuple(ours) == pytest.approx(expected, abs=1e-6)
