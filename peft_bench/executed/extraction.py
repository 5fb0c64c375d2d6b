"""From what a model wrote to a program: code out of prose, and a completion behind its prompt.

Pure functions of text. Nothing here parses an answer with Python's own parser, which answers
made for it can exhaust; the one exception is bounded in length.
"""

from __future__ import annotations

import ast
import re
import string
import textwrap
import warnings
from dataclasses import dataclass

_PYTHON = frozenset({"", "python", "python3", "py", "py3", "ipython", "pycon"})
_PARSED_AT_MOST = 20_000  # characters
_INDENT = 4
_MARKS = ("`", "~")
_LEAST_MARKS = 3
_LANGUAGE = string.ascii_letters + string.digits + "_+-#."


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


def extract(answer: str, entry_point: str | None = None) -> Code:
    """The code of an answer.

    What stands before a closing ``</think>`` is a reasoning model's own. Of several fenced blocks
    the first counts that defines the entry point, else the first that is Python or names no
    language, else the first. A fence that only closes (the model went on from an opened block)
    ends the code before it. Without a fence, the answer is the code, blanks included.
    """
    answer = answer.rpartition("</think>")[2]
    found = _blocks(answer)
    if not found:
        return Code(answer)
    first = found[0]
    before = answer[: first.start]
    if not first.language and not first.closed and (not first.code.strip() or _is_code(before)):
        return Code(before, closed=True)
    python = [one for one in found if one.language.lower() in _PYTHON] or found
    defining = [one for one in python if entry_point and defines(one.code, entry_point)]
    chosen = (defining or python)[0]
    return Code(chosen.code, fenced=True, closed=chosen.closed)


@dataclass(frozen=True, slots=True)
class _Block:
    """A fenced block: its language, its code, and where its fence begins in the answer."""

    language: str
    code: str
    closed: bool
    start: int


@dataclass(frozen=True, slots=True)
class _Fence:
    """A fence at the end of a line: text before it, its mark, their number, the language."""

    before: str
    mark: str
    number: int
    language: str


def _blocks(answer: str) -> list[_Block]:
    """The fenced blocks in order, in time linear in the answer's length.

    A fence ends its line but for the language's name. A bare one of the same marks, as many or
    more, closes; one that follows code in its line, too.
    """
    found: list[_Block] = []
    opened: _Fence | None = None
    start = position = 0
    code: list[str] = []
    for line in answer.split("\n"):
        line += "\n"
        fence = _fence(line)
        if opened is None:
            if fence is not None:
                opened, start, code = fence, position + len(fence.before), []
        elif fence is not None and _closes(fence, opened):
            code.append(fence.before if fence.before.strip() else "")
            found.append(_Block(opened.language, "".join(code), True, start))
            opened = None
        else:
            code.append(line)
        position += len(line)
    if opened is not None:
        found.append(_Block(opened.language, "".join(code)[:-1], False, start))
    return found


def _fence(line: str) -> _Fence | None:
    text = line.rstrip()
    rest = text.rstrip(_LANGUAGE)
    language = text[len(rest) :]
    rest = rest.rstrip(" \t")
    mark = rest[-1:]
    if mark not in _MARKS:
        return None
    before = rest.rstrip(mark)
    number = len(rest) - len(before)
    return _Fence(before, mark, number, language) if number >= _LEAST_MARKS else None


def _closes(fence: _Fence, opened: _Fence) -> bool:
    return not fence.language and fence.mark == opened.mark and fence.number >= opened.number


def _is_code(text: str) -> bool:
    """Whether a text before a lone fence is code: prose does not parse, nor does nothing."""
    if not text.strip() or len(text) > _PARSED_AT_MOST:
        return False
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return bool(ast.parse(textwrap.dedent(text)).body)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return False


def defines(code: str, name: str) -> bool:
    """Whether code defines a function or binds a variable of that name at its top level."""
    spelled = re.escape(name)
    pattern = rf"^(?:(?:async[ \t]+)?def[ \t]+{spelled}[ \t]*[(\[]|{spelled}[ \t]*=[^=])"
    return re.search(pattern, code, re.MULTILINE) is not None


def preamble(prompt: str, entry_point: str) -> str:
    """What a prompt defines and imports before the function that is to be completed."""
    found = re.search(
        rf"^(?:async[ \t]+)?def[ \t]+{re.escape(entry_point)}\b", prompt, re.MULTILINE
    )
    return prompt[: found.start()] if found else ""


def complete(prompt: str, code: Code, entry_point: str, *, suffix: str = "") -> str:
    """The program that an answer to a prompt makes: ``prompt + answer + suffix``, in general.

    An answer that defines the entry point itself stands in the function's place, after what the
    prompt has before it. A fenced block that is a body alone is indented to its place. Of a body
    that is not fenced only the first line is mended, where it has one to three blanks: decoding
    with some tokenizers loses the first blank of an answer, and no such line could be right.
    """
    if defines(code.text, entry_point):
        return f"{preamble(prompt, entry_point)}{code.text}\n"
    body = code.text
    if not prompt.endswith("\n"):
        body = _continued(prompt, body)
    elif code.fenced:
        body = textwrap.indent(textwrap.dedent(body), " " * _INDENT)
    else:
        body = _first_line_mended(body)
    return f"{prompt}{body}{suffix}\n"


def _continued(prompt: str, code: str) -> str:
    """The rest of a line: apart from the word before it, which is not said twice."""
    last = re.search(r"\w+\Z", prompt)
    if last is None:
        return code
    said = re.match(rf"[ \t\n]*{re.escape(last[0])}\b", code)
    rest = code[said.end() :] if said else code
    return rest if rest[:1].isspace() else f" {rest}"


def _first_line_mended(code: str) -> str:
    line = re.match(r"(?:[ \t]*\n)*(?P<indent> *)\S", code)
    if line is None or not 0 < len(line["indent"]) < _INDENT:
        return code
    start = line.start("indent")
    return f"{code[:start]}{' ' * (_INDENT - len(line['indent']))}{code[start:]}"
