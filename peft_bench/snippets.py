"""How CoNaLa and CodeAlpacaPy are scored: exact match among the beams, similarity of the best.

Source of the protocol: Weyssow et al., arXiv 2308.10462: EM@k over ten beams, CodeBLEU of the
first. What the study's scripts do otherwise is in :mod:`peft_bench.quirks`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, ClassVar

import numpy as np

from peft_bench.answers import Answer
from peft_bench.beams import BeamTask
from peft_bench.errors import UsageError
from peft_bench.generation.task import GeneratedTask
from peft_bench.metrics import codebleu, text
from peft_bench.metrics.exact_match import Mode, em_at_k
from peft_bench.metrics.pass_at_k import pass_at_k
from peft_bench.model_source import ModelSource
from peft_bench.quirks import active_quirks, cut_at_angle, flatten
from peft_bench.sampling import SampledTask
from peft_bench.scoring import Metric, metric_list, row_scores
from peft_bench.shots import stop_strings

KS = (1, 2, 5, 10)
_MODES: tuple[tuple[str, Mode], ...] = (("", "raw"), ("_whitespace", "whitespace"), ("_ast", "ast"))
_VARIANTS: dict[str, codebleu.Variant] = {
    "codebleu": "python",
    "codebleu_codexglue": "codexglue",
    "codebleu_pypi": "pypi",
}

#: ``codebleu*``, ``bleu`` and ``chrf++`` are of the whole corpus, ``*_mean`` the mean of the rows.
METRICS = (
    *(Metric(f"em@{k}{suffix}") for suffix, _ in _MODES for k in KS),
    *(Metric(name, partial(codebleu.combine, variant=v)) for name, v in _VARIANTS.items()),
    *(Metric(f"{name}_mean") for name in _VARIANTS),
    Metric("bleu", text.combine_bleu),
    Metric("chrf++", text.combine_chrf),
    Metric("no_dataflow", higher_is_better=False),
    Metric("em_ceiling"),
    Metric("empty_answers", higher_is_better=False),
    Metric("truncated_answers", higher_is_better=False),
)


def score(
    doc: dict[str, Any],
    answers: Sequence[str],
    *,
    quirks: frozenset[str] = frozenset(),
    one_line: bool = False,
    through_tokenizer: Callable[[str], str] | None = None,
) -> dict[str, Any]:
    """The scores of one row, as ``process_results`` returns them.

    Args:
        doc: with ``cmd`` (the reference) and ``question_id``.
        answers: the beams, best first; there are scores for as many as there are.
        quirks: of those in :data:`peft_bench.quirks.QUIRKS`, the ones that act on scoring.
        one_line: a newline ends an answer, so that references with one cannot be matched.
        through_tokenizer: what ``tokenizer_references`` does to a reference.
    """
    reference, texts = doc["cmd"], [str(answer) for answer in answers]
    if "tokenizer_references" in quirks and through_tokenizer is not None:
        reference = through_tokenizer(reference)
    if "cut_at_angle" in quirks:
        texts = [cut_at_angle(text) for text in texts]
    if "flatten" in quirks:
        reference, texts = flatten(reference), [flatten(text) for text in texts]
    values: dict[str, Any] = {
        f"em@{k}{suffix}": float(em_at_k(reference, texts, k, mode=mode))
        for suffix, mode in _MODES
        for k in KS
        if k <= len(texts)
    }
    values |= _similarity(reference, texts[0], quirks)
    values["em_ceiling"] = float(not one_line or "\n" not in reference.strip())
    best = Answer.of(answers[0])
    values["empty_answers"] = float(not best.strip())
    # Unknown after the harness' response cache; a cut answer is then counted as any other.
    values["truncated_answers"] = float(best.finished is False)
    scores = row_scores(str(doc["question_id"]), values)
    scores["beams"] = [
        {"rank": rank, **Answer.of(answer).facts()} for rank, answer in enumerate(answers)
    ]
    return scores


def _similarity(reference: str, answer: str, quirks: frozenset[str]) -> dict[str, Any]:
    values: dict[str, Any] = {}
    for name, variant in _VARIANTS.items():
        if name == "codebleu" and "codexglue" in quirks:
            variant = "codexglue"
        sums = codebleu.statistics(reference, answer, variant)
        values[name] = list(sums)
        values[f"{name}_mean"] = float(codebleu.combine(sums, variant=variant))
    values["bleu"] = list(text.bleu_statistics(reference, answer))
    values["chrf++"] = list(text.chrf_statistics(reference, answer))
    values["no_dataflow"] = float(not codebleu.has_dataflow(reference))
    return values


def score_samples(
    doc: dict[str, Any],
    answers: Sequence[str],
    *,
    quirks: frozenset[str] = frozenset(),
    one_line: bool = False,
    through_tokenizer: Callable[[str], str] | None = None,
) -> dict[str, Any]:
    """The scores of one row by samples drawn independently, for models that cannot give beams.

    ``em@k`` is the unbiased estimate of pass@k over exact matches; everything else is the mean
    over the samples. See :func:`score`.
    """
    alone = [
        score(doc, [one], quirks=quirks, one_line=one_line, through_tokenizer=through_tokenizer)
        for one in answers
    ]
    values: dict[str, Any] = {}
    for suffix, _ in _MODES:
        matches = int(sum(row[f"em@1{suffix}"] for row in alone))
        for k in KS:
            if k <= len(answers):
                values[f"em@{k}{suffix}"] = pass_at_k(len(answers), matches, k)
    for metric in METRICS:
        if not metric.name.startswith("em@"):
            values[metric.name] = np.mean([row[metric.name] for row in alone], axis=0).tolist()
    scores = row_scores(str(doc["question_id"]), values)
    scores["answers"] = [Answer.of(answer).facts() for answer in answers]
    return scores


class _Scored(GeneratedTask):
    """Rows of intents and code; ``data`` names them.

    ``--metadata '{"profile": "study"}'`` and ``{"quirks": [...]}`` choose how they are scored.
    """

    data: ClassVar[str]
    logged: ClassVar[str]
    scorer: ClassVar[Callable[..., dict[str, Any]]]

    def __init__(self, config: dict[str, Any] | None = None) -> None:
        settings = dict(config or {})
        metadata = settings.get("metadata") or {}
        self._quirks = active_quirks(self.data, **metadata)
        self._source = ModelSource.of(metadata)
        self._tokenizer: Any = None
        settings["metric_list"] = metric_list(METRICS, logged=(self.logged,))
        settings["process_results"] = score  # spares metric functions; the method below counts
        super().__init__(config=settings)

    def process_results(self, doc: dict[str, Any], results: Any) -> dict[str, Any]:
        """The scores of one row; see :func:`score`."""
        if "bypass" in self._metric_fn_list:
            return super().process_results(doc, results)
        scores = type(self).scorer(
            doc,
            results,
            quirks=self._quirks,
            one_line="\n" in stop_strings(self.config.generation_kwargs),
            through_tokenizer=self._through_tokenizer,
        )
        return {**scores, **self.shots_shown(doc)}

    def _through_tokenizer(self, text: str) -> str:
        if self._tokenizer is None:
            if not self._source.named:
                raise UsageError(
                    place="quirk tokenizer_references",
                    problem="no tokenizer is named",
                    remedy="name it: --metadata '{\"tokenizer\": ID}'",
                )
            self._tokenizer = self._source.load_tokenizer()
        ids = self._tokenizer(text).input_ids
        return str(self._tokenizer.decode(ids, skip_special_tokens=True))


class SnippetTask(_Scored, BeamTask):
    """Beams, the best first."""

    logged = "beams"
    scorer = staticmethod(score)

    def ends_at_newline(self) -> bool:
        """As a beam task, unless beams are to be cut after the search."""
        return super().ends_at_newline() and "newline_after_search" not in self._quirks


class SampledSnippetTask(_Scored, SampledTask):
    """Samples, for models that cannot give beams."""

    logged = "answers"
    scorer = staticmethod(score_samples)
