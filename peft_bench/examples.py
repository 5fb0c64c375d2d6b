"""Which examples stand in a prompt, and how: drawn by seed and document, or retrieved.

The harness draws examples with one stream of random numbers, so that a document's depend on the
documents before it, on ``--limit`` and on the number of ranks. Here they are a function of the
seed and the document alone. A document's own duplicates are never shown to it.

The form is the study's (arXiv 2308.10462, its scripts at commit e7971c0): a line that says what
is to be done, then each example and the question in the prompt's form, a blank line between them.
"""

from __future__ import annotations

import hashlib
import json
import random
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from peft_bench.errors import UsageError
from peft_bench.retrieval import Retriever, build_retriever, ranking

INSTRUCTION = "Generate Python code given a natural language instruction."
_STRAY = " " * 32

Doc = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Choice:
    """How examples are chosen and shown; from the task's metadata (see docs/shots.md).

    Attributes:
        shots: ``document``: drawn anew for every document; ``fixed``: one draw a run.
        retriever: None draws at random; else ``bm25`` or a sentence-transformers model.
        order: where the nearest example stands: ``nearest_last``, next to the question, or
            ``nearest_first``.
        header: whether the line that says what is to be done stands before the examples:
            ``shots`` (where there are any), ``always``, ``never``.
        device: where embeddings are computed.
    """

    shots: str = "document"
    retriever: str | None = None
    order: str = "nearest_last"
    header: str = "shots"
    device: str = "cpu"

    @classmethod
    def parse(cls, metadata: Mapping[str, Any], quirks: Collection[str] = ()) -> Choice:
        """From the harness' metadata: ``shots retriever shots_order header retriever_device``.

        Raises:
            UsageError: a value that is not known, or ``fixed`` together with a retriever.
        """
        retriever = metadata.get("retriever")
        if retriever in (None, "", "none", "random"):
            retriever = None
        choice = cls(
            shots=_one_of(metadata, "shots", ("document", "fixed")),
            retriever=None if retriever is None else str(retriever),
            order=_one_of(metadata, "shots_order", ("nearest_last", "nearest_first")),
            header=_one_of(metadata, "header", ("shots", "always", "never")),
            device=str(metadata.get("retriever_device", "cpu")),
        )
        if choice.shots == "fixed" and choice.retriever is not None:
            raise UsageError(
                place="--metadata shots=fixed",
                problem=f"the retriever {choice.retriever} finds other examples for each document",
                remedy='leave one of them out, or say {"retriever": "random"}',
            )
        if choice.retriever is None and "fixed_shots" in quirks:
            return cls("fixed", None, choice.order, choice.header, choice.device)
        return choice


def _one_of(metadata: Mapping[str, Any], key: str, known: tuple[str, ...]) -> str:
    value = metadata.get(key, known[0])
    if value not in known:
        raise UsageError(
            place=f"--metadata {key}={value}",
            problem="is not known",
            remedy=f"known: {', '.join(known)}",
        )
    return str(value)


class Pool:
    """The examples that there are: rows with a code, a pair of intent and code only once.

    Attributes:
        docs: the examples, in the split's order.
        repeats: rows left out because an earlier one has the same intent and code.
        without_code: rows left out because they have no code (APPS problems without solutions).
    """

    def __init__(self, docs: Sequence[Doc]) -> None:
        self.docs: list[Doc] = []
        self.repeats = 0
        self.without_code = 0
        self._holders: dict[tuple[str, str], set[int]] = {}
        seen: set[tuple[str, str]] = set()
        for doc in docs:
            pair = normal_intent(doc["nl"]), normal_code(doc["cmd"])
            if not pair[1]:
                self.without_code += 1
            elif pair in seen:
                self.repeats += 1
            else:
                seen.add(pair)
                for key in _identities(doc):
                    self._holders.setdefault(key, set()).add(len(self.docs))
                self.docs.append(doc)

    def __len__(self) -> int:
        return len(self.docs)

    def duplicates(self, doc: Doc) -> frozenset[int]:
        """The examples that share the document's intent, code or question."""
        return frozenset().union(*(self._holders.get(key, ()) for key in _identities(doc)))

    @property
    def sha256(self) -> str:
        """Hash of the examples' ids, intents and codes, in order."""
        rows = [[doc["id"], doc["nl"], doc["cmd"]] for doc in self.docs]
        return hashlib.sha256(json.dumps(rows).encode()).hexdigest()


def normal_intent(text: str) -> str:
    """An intent in lower case, with runs of white space as one blank."""
    return " ".join(text.casefold().split())


def normal_code(text: str) -> str:
    """A code without any white space."""
    return "".join(text.split())


def _identities(doc: Doc) -> list[tuple[str, str]]:
    found = [("intent", normal_intent(doc["nl"]))]
    if code := normal_code(doc["cmd"]):
        found.append(("code", code))
    # A row that names no question has its own number for one, which says nothing across splits.
    if doc["question_id"] != doc["id"]:
        found.append(("question", doc["question_id"]))
    return found


def draw(size: int, count: int, *, key: str, excluded: Collection[int] = ()) -> list[int]:
    """``count`` distinct numbers below ``size``, none of them excluded: a function of ``key``.

    A smaller count gives the beginning of a greater one.
    """
    numbers = random.Random(key)  # seeded by the text's SHA-512, the same in every process
    found: list[int] = []
    taken = set(excluded)
    while len(found) < count:
        number = numbers.randrange(size)
        if number not in taken:
            taken.add(number)
            found.append(number)
    return found


class Shots:
    """Chooses the examples of a document.

    Args:
        pool: where examples come from.
        choice: how.
        seed: the harness' few-shot seed, the fourth value of ``--seed``.
        queries: the intents of all documents, for retrievers that embed.
    """

    def __init__(self, pool: Pool, choice: Choice, seed: Any, queries: Sequence[str]) -> None:
        self.pool = pool
        self._choice = choice
        self._seed = seed
        self._retriever: Retriever | None = None
        if choice.retriever is not None:
            texts = [doc["nl"] for doc in pool.docs]
            self._retriever = build_retriever(
                choice.retriever, texts, queries, device=choice.device
            )

    def choose(self, doc: Doc, count: int) -> list[Doc]:
        """``count`` examples, in the order in which they are to stand.

        Raises:
            UsageError: there are not so many.
        """
        excluded = self.pool.duplicates(doc)
        if count > len(self.pool) - len(excluded):
            raise UsageError(
                place=f"--num_fewshot {count}",
                problem=f"there are {len(self.pool)} examples, {len(excluded)} of them duplicates "
                f"of document {doc['id']}",
                remedy="ask for fewer",
            )
        if self._retriever is not None:
            ranked = ranking(self._retriever.scores(doc["nl"]))
            numbers = [number for number in ranked if number not in excluded][:count]
            if self._choice.order == "nearest_last":
                numbers.reverse()
        else:
            of = "" if self._choice.shots == "fixed" else doc["id"]
            key = json.dumps([self._seed, of])
            numbers = draw(len(self.pool), count, key=key, excluded=excluded)
        return [self.pool.docs[number] for number in numbers]

    @property
    def about(self) -> str:
        """How examples are chosen, in words."""
        if self._retriever is not None:
            return self._retriever.about
        once = "once a run" if self._choice.shots == "fixed" else "for each document"
        return f"drawn at random {once}"


def plain_prompt(
    question: str,
    shots: Sequence[tuple[str, str]],
    *,
    header: str = INSTRUCTION,
    quirks: Collection[str] = (),
) -> str:
    """Header, examples and question as one text, a blank line between examples.

    Args:
        question: the rendered prompt of the document.
        shots: rendered prompt and code of each example.
        header: the line that says what is to be done; nothing is said where it is empty.
        quirks: ``stray_spaces`` and ``leading_newline`` of :mod:`peft_bench.quirks` act here. The
            latter shows where there is no header: it is the blank line after one.
    """
    blocks = [header] if header else []
    for prompt, code in shots:
        if "stray_spaces" in quirks:
            # A statement broken over two lines in the script: its indentation is in the text.
            before, label, after = prompt.rpartition("\n### Response:")
            prompt = f"{before}{_STRAY}{label}{after}" if label else prompt
        blocks.append(f"{prompt}{code}\n")
    text = "\n".join([*blocks, question])
    return f"\n{text}" if "leading_newline" in quirks and not header else text
