"""Code out of a chat model's answer: such models fence their code, and talk around it."""

from __future__ import annotations

import re

from peft_bench.answers import Answer

# Possessive, and no fence within what follows one: linear in hostile answers, too.
_OPENING = re.compile(r"(?<![`~])(`{3,}+|~{3,}+)[ \t]*+([\w+.-]*+)[^\n`~]*+\n")
_ONE_LINE = re.compile(r"(?<!`)```([^\n`]++)```")
_INLINE = re.compile(r"`([^`\n]+)`")
_PYTHON = frozenset({"", "python", "python3", "py"})
# Blocks looked at for one that is Python.
_MOST_BLOCKS = 16


def first_block(answer: str) -> str:
    """The first fenced block that is Python or says no language, else the first of any.

    A block that is never closed goes to the end. Without a block: what a whole answer in
    backticks holds, else the answer as it is. Facts of an :class:`peft_bench.answers.Answer` are
    kept. The time is linear in the answer's length.
    """
    code = _first_block(str(answer))
    return Answer(code, **answer.facts()) if isinstance(answer, Answer) else code


def _first_block(answer: str) -> str:
    other: str | None = None
    position = 0
    for _ in range(_MOST_BLOCKS):
        opening = _OPENING.search(answer, position)
        if opening is None:
            break
        code, position = _block(answer, opening[1], opening.end())
        if opening[2].lower() in _PYTHON:
            return code
        other = code if other is None else other
    if other is not None:
        return other
    # A short snippet may be fenced within its line.
    if one_line := _ONE_LINE.search(answer):
        return one_line[1].removeprefix("python ").strip(" \t")
    if inline := _INLINE.fullmatch(answer.strip()):
        return inline[1]
    return answer


def _block(answer: str, fence: str, start: int) -> tuple[str, int]:
    """A block's text and where the search goes on."""
    # At the start of a line first: a text within the code may hold backticks.
    if answer.startswith(fence, start):
        return "", start + len(fence)
    closing = re.compile(rf"\n[ ]{{0,3}}{fence}").search(answer, start)
    if closing is not None:
        return answer[start : closing.start()], closing.end()
    end = answer.find(fence, start)
    if end >= 0:
        return answer[start:end], end + len(fence)
    return answer[start:], len(answer)
