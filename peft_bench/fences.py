"""Code out of a model's answer: models fence their code, and talk around it.

Fences are those of CommonMark 0.31.2, section 4.5 (https://spec.commonmark.org/0.31.2/), but for
what models do and Markdown's renderers have no use for:

* A fence may be indented by any number of blanks, for list items nest.
* An opening fence of backticks may end a line of prose, with one word behind it or none.
* Code loses the fence's indentation as the specification says, but no more than its first line has.
* The first backticks outside Python's strings and comments end a block, wherever in their line
  they stand and whatever follows: they cannot be code. Those within are the code's own. If a word
  touches them at a line's beginning, they open the next block, too.
* Bare tildes underline headings, and open a block only if a line closes it.

Times are linear in an answer's length. Python's own parser, which answers made for it can exhaust,
reads a bounded length.
"""

from __future__ import annotations

import ast
import re
import textwrap
import warnings
from collections.abc import Callable
from dataclasses import dataclass

from peft_bench.answers import Answer

_PARSED_AT_MOST = 20_000  # characters
_RUN = re.compile(r"`{3,}|~{3,}")
# What may stand before a fence at the beginning of its line.
_MARKERS = re.compile(r"[ \t]*(?:(?:[-*+]|\d{1,9}[.)])[ \t]+)*")
_WORD = re.compile(r"[\w+#.-]*")
_LANGUAGE = re.compile(r"[{.\s]*([\w+#.-]*)")
_PYTHON = re.compile(r"(?:i?python|py|pycon)?[\d.]*", re.IGNORECASE)
_ONE_LINE = re.compile(r"(?<!`)```(?:(?:python|py)3?[ \t]+)?([^\n`]++)```(?!`)")
_INLINE = re.compile(r"(`{1,2})([^`\n]+)\1")
# Strings and comments, and the backticks outside of them. After other text in its line a comment
# ends before the backticks that end the line, too.
_TOKEN = re.compile(
    r"""
    (?P<marks>`{3,}+)
    | (?P<quotes>\"{3}|'{3}) (?: [^\\"']++ | \\. | (?!(?P=quotes)). )*+ (?P<end>(?P=quotes))?
    | " (?: [^"\\\n]++ | \\. )*+ "?
    | ' (?: [^'\\\n]++ | \\. )*+ '?
    | \# [ \t]*+ `*+ (?: [^\n`]++ | `{1,2}+(?!`) | `++(?=[ \t]*+[^\s`]) )*+
    """,
    re.VERBOSE | re.DOTALL,
)


@dataclass(frozen=True, slots=True)
class Code:
    """Code taken from an answer.

    Attributes:
        text: the code; of an answer without a fenced block, all of it as it is.
        fenced: whether it stood in a fenced block.
        closed: whether more of the answer follows it, so that cutting the answer's end off
            did not cut the code.
    """

    text: str
    fenced: bool = False
    closed: bool = False


def code_of(answer: str, wanted: Callable[[str], bool] | None = None) -> Code:
    """The code of an answer.

    What stands before a closing ``</think>`` is a reasoning model's own. Of several fenced blocks
    the first counts that is ``wanted``, else the first that is Python or names no language, else
    the first. A block that is never closed goes to the end. A fence that only closes (the model
    went on from an opened block) ends the code before it. Without a block: what the answer holds
    between backticks in a line, else the answer, blanks included. An answer that is Python as it
    stands is the code, whatever its strings and comments hold.
    """
    answer = answer.rpartition("</think>")[2]
    found = _blocks(answer)
    if not found:
        return _in_a_line(answer) or Code(answer)
    first, last = found[0], found[-1]
    if answer[: first.start].strip() and _is_code(answer):
        return Code(answer)
    before = answer[: last.start]
    if last.lone and ((last is first and not last.code.strip()) or _is_code(before)):
        return Code(before, closed=True)
    python = [one for one in found if _PYTHON.fullmatch(one.language)] or found
    chosen = next(filter(lambda one: wanted is not None and wanted(one.code), python), python[0])
    return Code(chosen.code, fenced=True, closed=chosen.closed)


def first_block(answer: str) -> str:
    """The code of a snippet, as :func:`code_of` finds it; of a block, without its last line's end.

    Facts of an :class:`peft_bench.answers.Answer` are kept.
    """
    code = code_of(str(answer))
    text = code.text
    if code.fenced or code.closed:
        text = text.removesuffix("\n").removesuffix("\r")
    return Answer(text, **answer.facts()) if isinstance(answer, Answer) else text


@dataclass(frozen=True, slots=True)
class _Opening:
    """An opening fence: its marks, where in its line they stand, and what follows them."""

    marks: str
    column: int
    info: str


@dataclass(frozen=True, slots=True)
class _Block:
    """A fenced block: where its fence begins in the answer, what stands behind it, its code."""

    start: int
    info: str
    code: str
    closed: bool

    @property
    def language(self) -> str:
        found = _LANGUAGE.match(self.info)
        return found[1] if found else ""

    @property
    def lone(self) -> bool:
        """Whether the fence may be one that closes: nothing closes it, and no word touches it."""
        return not self.closed and not self.info[:1].strip()


def _blocks(text: str) -> list[_Block]:
    """The fenced blocks in order."""
    found: list[_Block] = []
    position, strings_end = 0, True
    while run := _RUN.search(text, position):
        line = text.rfind("\n", position, run.start()) + 1 or position
        position = _next_line(text, run.end())
        opening = _opening(text[line:position].rstrip("\r\n"))
        if opening is None:
            continue
        closing = None
        if strings_end and opening.marks[0] == "`":
            closing, strings_end = _closing(text, position, opening)
        if not strings_end or opening.marks[0] == "~":
            closing = _closing_line(text, position, opening)
        if closing is None and opening.marks[0] == "~" and not opening.info.strip():
            continue
        end, after = closing or (len(text), len(text))
        code = _outdented(text[position:end], opening.column)
        start = line + opening.column
        found.append(_Block(start, opening.info, code, closing is not None))
        position = after
    return found


def _opening(line: str) -> _Opening | None:
    run = _RUN.search(line)
    if run is None:
        return None
    before, marks, info = line[: run.start()], run[0], line[run.end() :]
    opens = marks[0] not in info
    if not _MARKERS.fullmatch(before):
        opens = opens and marks[0] == "`" and _WORD.fullmatch(info.strip()) is not None
    elif marks[0] == "~" and not info.strip():
        opens = opens and len(before) <= 3
    return _Opening(marks, len(before), info) if opens else None


def _closing(text: str, start: int, opening: _Opening) -> tuple[tuple[int, int] | None, bool]:
    """Where a block's code ends and what follows it begins; False: a string never ended before."""
    for token in _TOKEN.finditer(text, start):
        if token["quotes"] and token["end"] is None:
            return None, False
        if len(token["marks"] or "") < len(opening.marks):
            continue
        line = max(text.rfind("\n", start, token.start()) + 1, start)
        if text[line : token.start()].strip():
            return (token.start(), _next_line(text, token.end())), True
        reopens = text[token.end() : token.end() + 1].strip()
        return (line, line if reopens else _next_line(text, token.end())), True
    return None, True


def _closing_line(text: str, start: int, opening: _Opening) -> tuple[int, int] | None:
    """The same by the specification: a line that holds marks alone."""
    mark, least = opening.marks[0], len(opening.marks)
    line = rf"^[ \t]{{0,{opening.column + 3}}}{mark}{{{least},}}+[ \t]*+\r?$"
    found = re.compile(line, re.MULTILINE).search(text, start)
    return (found.start(), _next_line(text, found.end())) if found else None


def _next_line(text: str, position: int) -> int:
    return text.find("\n", position) + 1 or len(text)


def _outdented(code: str, column: int) -> str:
    first = code.lstrip("\r\n")[: column + 1]
    width = min(column, len(first) - len(first.lstrip(" \t")))
    return re.sub(rf"^[ \t]{{1,{width}}}", "", code, flags=re.MULTILINE) if width else code


def _in_a_line(answer: str) -> Code | None:
    """What triple backticks hold within a line, or a whole answer's backticks."""
    found = _ONE_LINE.search(answer)
    if found is not None:
        code = found[1].strip(" \t")
    elif whole := _INLINE.fullmatch(answer.strip()):
        code = whole[2]
    else:
        return None
    return None if _is_code(answer) else Code(code, fenced=True, closed=True)


def _is_code(text: str) -> bool:
    """Whether a text is Python, as it is or in a function's body, whose first blanks may lack."""
    return bool(parsed(textwrap.dedent(text)) or parsed(f"if True:\n    {text.lstrip()}"))


def parsed(code: str) -> list[ast.stmt]:
    """The statements of a code; none for what is no Python, or too long to be parsed safely."""
    if len(code) > _PARSED_AT_MOST:
        return []
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return ast.parse(code).body
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return []
