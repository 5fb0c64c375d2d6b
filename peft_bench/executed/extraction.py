"""From the code of an answer to a program: a completion behind its prompt.

Pure functions of text.
"""

from __future__ import annotations

import ast
import re
import textwrap

from peft_bench.fences import Code, code_of, parsed

_INDENT = 4


def extract(answer: str, entry_point: str | None = None) -> Code:
    """The code of an answer (:func:`peft_bench.fences.code_of`): rather a block that defines the
    entry point than another.
    """
    if entry_point is None:
        return code_of(answer)
    return code_of(answer, lambda code: defines(code, entry_point))


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


def headed(head: str, code: str) -> str:
    """Code with a head before it, but behind the ``__future__`` imports that it begins with.

    These have to be a program's first statements (the Python reference, section 7.11.1). Code that
    does not parse is no program, wherever the head stands.
    """
    body = parsed(code) if "__future__" in code else []
    last: ast.stmt | None = None
    for place, node in enumerate(body):
        if isinstance(node, ast.ImportFrom) and node.module == "__future__" and not node.level:
            last = node
        elif place or not (isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)):
            break
    if not head or last is None or last.end_lineno is None or last.end_col_offset is None:
        return head + code
    encoded = code.encode()
    lines = encoded.splitlines(keepends=True)
    end = sum(map(len, lines[: last.end_lineno - 1])) + last.end_col_offset
    rest = re.sub(r"\A[ \t]*;[ \t]*", "", encoded[end:].decode())
    return f"{encoded[:end].decode()}\n{head}{rest}"


def complete(prompt: str, code: Code, entry_point: str, *, suffix: str = "") -> str:
    """The program that an answer to a prompt makes: ``prompt + answer + suffix``, in general.

    An answer that defines the entry point itself stands in the function's place, after what the
    prompt has before it. A fenced block that is a body alone is indented to its place. Of a body
    that is not fenced only the first line is mended, where it has one to three blanks: decoding
    with some tokenizers loses the first blank of an answer, and no such line could be right.
    """
    if defines(code.text, entry_point):
        return headed(preamble(prompt, entry_point), f"{code.text}\n")
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
