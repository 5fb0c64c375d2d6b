"""``peft-bench audit``: what two data sets, or a test set and its retrieval pool, have in common.

Compared are Stack Overflow questions, intents and codes, each apart. Intents are compared by their
words and signs, in lower case; codes by their tokens, without comments, line breaks and
indentation. Exact duplicates have the same ones; near duplicates have sets of runs of
:data:`SHINGLE` tokens whose Jaccard similarity is at least the threshold.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any

from peft_bench.audited import AuditRow, AuditSet, read_sets
from peft_bench.errors import UsageError, writing
from peft_bench.jsonl import dump_json
from peft_bench.overlap import Match, Tokens, code_tokens, intent_tokens, matches

THRESHOLD = 0.8
SHINGLE = 2
KINDS = ("question", "exact", "near")
_EXAMPLES = 3


@dataclass(frozen=True, slots=True)
class Finding:
    """What two sets share in one respect; a match's numbers are positions in the sets' rows."""

    of: str
    kind: str
    matches: tuple[Match, ...]

    @property
    def left_rows(self) -> int:
        """How many rows of the first set have a match."""
        return len({row for match in self.matches for row in match.left})

    @property
    def right_rows(self) -> int:
        """How many rows of the second set have a match."""
        return len({row for match in self.matches for row in match.right})


@dataclass(frozen=True, slots=True)
class Comparison:
    """Two sets and what they share; ``right`` is None for a set and itself."""

    left: AuditSet
    right: AuditSet | None
    findings: tuple[Finding, ...]


def run(
    left: str,
    right: str | None = None,
    *,
    pool: str | None = None,
    threshold: float = THRESHOLD,
    json_file: Path | None = None,
    fail_on: Sequence[str] = (),
    data_dir: str | Path | None = None,
    say: Callable[[str], None] = print,
) -> int:
    """Compares every split of ``left`` with every one of ``right``, and the pool with them all.

    Args:
        left: ``TASK``, ``TASK:SPLIT`` or a file of JSON lines.
        right: another, or None for ``left`` again: its splits with each other and with themselves.
        pool: the rows that examples are retrieved from.
        threshold: least similarity of near duplicates, in (0, 1].
        json_file: where all matches are written.
        fail_on: of :data:`KINDS`, what must not be found between different sets; ``near`` means
            exact ones as well.
        data_dir: see :func:`peft_bench.data.load_split`.
        say: prints a line.

    Returns:
        The exit code: 1 where something in ``fail_on`` was found, else 0.

    Raises:
        UsageError: no such data set, split or kind, a threshold out of range, or a ``json_file``
            that cannot be written.
        MissingError: rows that are not to be had.
    """
    _check(threshold, fail_on)
    lefts = read_sets(left, data_dir=data_dir)
    rights = lefts if right is None else read_sets(right, data_dir=data_dir)
    pools = [] if pool is None else read_sets(pool, data_dir=data_dir)
    comparisons = [
        compare(one, other, threshold=threshold) for one, other in _pairs(lefts, rights, pools)
    ]
    for line in format_report(comparisons, threshold):
        say(line)
    if json_file is not None:
        with writing("--json", json_file):
            json_file.parent.mkdir(parents=True, exist_ok=True)
            content = dump_json(to_json(comparisons, threshold)) + "\n"
            json_file.write_text(content, encoding="utf-8")
    unwanted = {*fail_on, *(["exact"] if "near" in fail_on else [])}
    found = {
        finding.kind
        for comparison in comparisons
        if comparison.right is not None
        for finding in comparison.findings
        if finding.matches
    }
    return 1 if unwanted & found else 0


def _check(threshold: float, fail_on: Sequence[str]) -> None:
    if not 0 < threshold <= 1:
        raise UsageError(
            place="--threshold", problem=f"is {threshold}", remedy="give a number in (0, 1]"
        )
    for kind in fail_on:
        if kind not in KINDS:
            raise UsageError(
                place="--fail-on", problem=f"no {kind!r}", remedy=f"known: {', '.join(KINDS)}"
            )


def _pairs(
    lefts: Sequence[AuditSet], rights: Sequence[AuditSet], pools: Sequence[AuditSet]
) -> Iterable[tuple[AuditSet, AuditSet | None]]:
    """Each two sets once, whichever side they are named on."""
    seen: set[frozenset[str]] = set()
    for one, other in [*product(lefts, rights), *product(pools, [*lefts, *rights])]:
        names = frozenset([one.name, other.name])
        if names not in seen:
            seen.add(names)
            yield one, None if one.name == other.name else other


def compare(left: AuditSet, right: AuditSet | None, *, threshold: float = THRESHOLD) -> Comparison:
    """What two sets have in common, or what is repeated in one."""
    findings = [] if right is None else list(_questions(left, right))
    for of, tokens in (("intent", _intents), ("code", _codes)):
        found = matches(
            tokens(left.rows),
            None if right is None else tokens(right.rows),
            threshold=threshold,
            size=SHINGLE,
        )
        for kind, exact in (("exact", True), ("near", False)):
            of_kind = [match for match in found if match.exact is exact]
            if right is None:
                # Two solutions of one problem are no repetition.
                of_kind = [match for match in of_kind if len({*match.left, *match.right}) > 1]
            findings.append(Finding(of, kind, tuple(of_kind)))
    return Comparison(left, right, tuple(findings))


def _intents(rows: Sequence[AuditRow]) -> Iterable[tuple[int, Tokens]]:
    return ((number, intent_tokens(row.intent)) for number, row in enumerate(rows))


def _codes(rows: Sequence[AuditRow]) -> Iterable[tuple[int, Tokens]]:
    return ((number, code_tokens(code)) for number, row in enumerate(rows) for code in row.codes)


def _questions(left: AuditSet, right: AuditSet) -> Iterator[Finding]:
    """Nothing where one of the sets does not number its questions."""
    ours, theirs = _by_question(left.rows), _by_question(right.rows)
    if ours and theirs:
        found = [Match(ours[one], theirs[one], 1.0, True) for one in ours if one in theirs]
        yield Finding("question", "question", tuple(found))


def _by_question(rows: Sequence[AuditRow]) -> dict[str, tuple[int, ...]]:
    places: defaultdict[str, list[int]] = defaultdict(list)
    for number, row in enumerate(rows):
        if row.question:
            places[row.question].append(number)
    return {question: tuple(numbers) for question, numbers in places.items()}


def format_report(comparisons: Sequence[Comparison], threshold: float) -> Iterable[str]:
    """The report for people: what counts as a duplicate, then a small table for each two sets."""
    yield (
        "Intents: words and signs, case and white space aside. "
        "Codes: tokens, comments and layout aside."
    )
    yield (
        f"Exact: the same ones. Near: not the same, runs of {SHINGLE} with a Jaccard similarity "
        f">= {threshold:g}."
    )
    for comparison in comparisons:
        left, right = comparison.left, comparison.right or comparison.left
        within = comparison.right is None
        show = _repetition if within else _resemblance
        yield ""
        title = f"{left.name} ({len(left.rows)} rows)"
        yield f"{title}, within" if within else f"{title} | {right.name} ({len(right.rows)} rows)"
        for finding in comparison.findings:
            name = finding.of if finding.kind == "question" else f"{finding.of}, {finding.kind}"
            counts = (
                f"{_repeated(finding):>6} rows"
                if within
                else f"{finding.left_rows:>6} | {finding.right_rows:<6} rows"
            )
            shown = [show(match, left, right) for match in finding.matches[:_EXAMPLES]]
            more = ", ..." if len(finding.matches) > _EXAMPLES else ""
            yield f"  {name:<14}{counts}  {', '.join(shown)}{more}".rstrip()


def _repeated(finding: Finding) -> int:
    return len({row for match in finding.matches for row in (*match.left, *match.right)})


def _resemblance(match: Match, left: AuditSet, right: AuditSet) -> str:
    sign = "=" if match.exact else f"~{match.similarity:.2f}"
    return f"{left.rows[match.left[0]].id} {sign} {right.rows[match.right[0]].id}"


def _repetition(match: Match, left: AuditSet, right: AuditSet) -> str:
    if match.exact:
        return " = ".join(left.rows[row].id for row in match.left[:2])
    return _resemblance(match, left, right)


def to_json(comparisons: Sequence[Comparison], threshold: float) -> dict[str, Any]:
    """Every match, rows by id; rows of equal text are one match."""
    sets = {
        one.name: dict(one.facts)
        for comparison in comparisons
        for one in (comparison.left, comparison.right)
        if one is not None
    }
    return {
        "threshold": threshold,
        "shingle": SHINGLE,
        "sets": sets,
        "comparisons": [_comparison_json(comparison) for comparison in comparisons],
    }


def _comparison_json(comparison: Comparison) -> dict[str, Any]:
    left, right = comparison.left, comparison.right or comparison.left
    return {
        "left": left.name,
        "right": right.name,
        "findings": [
            {
                "of": finding.of,
                "kind": finding.kind,
                "left_rows": finding.left_rows,
                "right_rows": finding.right_rows,
                "matches": [
                    {
                        "left": [left.rows[row].id for row in match.left],
                        "right": [right.rows[row].id for row in match.right],
                        "similarity": round(match.similarity, 4),
                    }
                    for match in finding.matches
                ],
            }
            for finding in comparison.findings
        ],
    }
