"""What of a text is compared: how each variant strips, cuts and frees it of comments."""

from __future__ import annotations

import io
import re
import tokenize

# Answers may be built to hurt. No honest one is this long; what comes after is not looked at.
CHARS_MAX = 20_000
_LINE_MAX = 2_000

_JAVA_COMMENT_OR_STRING = re.compile(
    r"""//.*?$ | /\*.*?\*/ | '(?:\\.|[^\\'])*' | "(?:\\.|[^\\"])*" """,
    re.DOTALL | re.MULTILINE | re.VERBOSE,
)
# Where going by the tokenizer could change more than blanks: comments, continued lines, odd white
# space, triple quotes, and strings at the head of a line, which may be docstrings.
_TOKENIZER_MATTERS = re.compile(
    r"""[#\t\r\f\v] | \\$ | '''|\"\"\" | ^[\x20\t]*[rRbBuUfF]{0,2}['"]""", re.MULTILINE | re.VERBOSE
)


def cut(text: str) -> str:
    """A text without white space at its ends, and of at most ``CHARS_MAX`` characters."""
    return text.strip()[:CHARS_MAX].strip()


def without_java_comments(code: str) -> str:
    """What CodeXGLUE's script compares: it takes every language's comments for Java's.

    So ``//`` and all that follows it in the line is lost, and Python's comments stay. Blank lines
    go too.
    """
    if "//" in code or "/*" in code:
        code = _JAVA_COMMENT_OR_STRING.sub(
            lambda found: " " if found[0].startswith("/") else found[0], code
        )
    return _without_blank_lines(code)


def without_python_comments(code: str) -> str:
    """What PyPI's codebleu 0.7.0 compares: no comments, and no strings where docstrings stand.

    It goes by Python's tokenizer, and takes a text that this refuses as it is; ours also one with
    a line of more than 2,000 characters, on which the tokenizer can take a minute. A string that is
    the first of a line is taken for a docstring, whatever follows it.
    """
    if not _TOKENIZER_MATTERS.search(code):
        return code
    if max(map(len, code.split("\n"))) > _LINE_MAX:
        return code
    try:
        return _without_blank_lines("".join(_kept(code)))
    except (tokenize.TokenError, SyntaxError, ValueError):
        return code


def _kept(code: str) -> list[str]:
    kept: list[str] = []
    before = tokenize.INDENT
    row, column = -1, 0
    for token in tokenize.generate_tokens(io.StringIO(code).readline):
        if token.start[0] > row:
            column = 0
        kept.append(" " * (token.start[1] - column))
        heads_line = before in (tokenize.INDENT, tokenize.NEWLINE) or token.start[1] == 0
        is_docstring = token.type == tokenize.STRING and heads_line
        if token.type != tokenize.COMMENT and not is_docstring:
            kept.append(token.string)
        before = token.type
        row, column = token.end
    return kept


def _without_blank_lines(code: str) -> str:
    if "\n" not in code:
        return code
    return "\n".join(line for line in code.split("\n") if line.strip())
