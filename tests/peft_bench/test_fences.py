"""Code out of chat answers."""

from __future__ import annotations

import pytest

from peft_bench.answers import Answer
from peft_bench.executed.extraction import extract
from peft_bench.fences import first_block

F = "```"
ADD = "def add(a, b):\n    return a + b\n"
# Functions that hold fences themselves: a fence in a docstring, a banner, underlined headings.
DOCUMENTED = f'''def add(a, b):
    """Add.

    {F}
    add(1, 2)
    {F}
    """
    return a + b
'''
NARROW = DOCUMENTED.replace("    ", "  ")
BANNER = "def add(a, b):\n    # ~~~~~~~~\n    return a + b\n"
UNDERLINED = 'def add(a, b):\n    """Add\n    ~~~~\n    """\n    return a + b\n'
MODULE = f'"""Adding\n~~~~~~\n\nMore\n~~~~~~\n"""\n{ADD}'


def indented(text: str, by: str = "   ") -> str:
    return "".join(by + line if line.strip() else line for line in text.splitlines(True))


BLOCK = f"{F}python\n{ADD}{F}"


@pytest.mark.parametrize(
    ("answer", "code"),
    [
        # What blocks look like, and where they stand.
        (BLOCK, ADD),
        (f"1. So:\n\n{indented(BLOCK)}\n", ADD),
        (f"1.  So:\n\n{indented(BLOCK, ' ' * 6)}\n2. Next", ADD),
        (f"\t{F}python\n{indented(ADD, chr(9))}\t{F}", ADD),
        (f"- {F}python\n{indented(ADD, '  ')}  {F}", ADD),
        (f"   {F}python\n{ADD}   {F}", ADD),
        (f"   {F}python\n{indented(ADD)}{F}", ADD),
        (f"Here: {F}python\n{ADD}{F}", ADD),
        (f"The {F}add{F} function\n\n{F}python\n{ADD}{F}\n", ADD),
        (f"Use {F}add{F}:\n{F}\n{ADD}{F}\n", ADD),
        (f"~~~\n{ADD}~~~", ADD),
        (f"~~~python\n{ADD}", ADD),
        (f"   ~~~python\n{indented(ADD)}   ~~~\n", ADD),
        (f"~~~python\n{UNDERLINED}~~~", UNDERLINED),
        # Info strings.
        (f'{F}python title="a.py"\n{ADD}{F}', ADD),
        (f"{F}python {{.line}}\n{ADD}{F}", ADD),
        (f"{F}{{.python}}\n{ADD}{F}", ADD),
        (f"{F}python:a.py\n{ADD}{F}", ADD),
        (f"{F} Python3.11 \n{ADD}{F}", ADD),
        (f"{F}bash -x\nls\n{F}\n{F}python title=a\n{ADD}{F}", ADD),
        # How they end.
        (f"{F}python\n{ADD}{F} This works.\n", ADD),
        (f"{F}python\n{ADD}{F}This works.\n", ADD),
        (f"{F}python\n{ADD}    {F}\nThis works.\n", ADD),
        (f"{F}python\n{ADD.strip()}{F}\nThis works.\n", ADD.strip()),
        (f"{F}python\n{ADD}", ADD),
        (f"{F}python\n{ADD}{F}python\nadd(1, 2)\n{F}", ADD),
        (f"{F}python\r\n{ADD}{F} Done\r\n", ADD),
        (f"{F}markdown\n# Title\n{F}python\n{ADD}{F}\n{F}\n", ADD),
        # Fences within the code.
        (f"{F}python\n{DOCUMENTED}{F}\nThis isn't all.\n", DOCUMENTED),
        (f"{F}python\n{NARROW}{F}\n", NARROW),
        (f"{F}python\n{DOCUMENTED}", DOCUMENTED),
        ("1. So:\n\n" + indented(f"{F}python\n{DOCUMENTED}{F}\n"), DOCUMENTED),
        (f"{F}python\n# {F}\n{ADD}{F}\n", f"# {F}\n{ADD}"),
        (f"{F}python\n{UNDERLINED}{F}\n", UNDERLINED),
        # A string that never ends hides no closing fence.
        (f'{F}python\n"""Add\n{F}\nSo.\n', '"""Add\n'),
        # No block at all.
        (ADD, ADD),
        (DOCUMENTED, DOCUMENTED),
        (BANNER, BANNER),
        (UNDERLINED, UNDERLINED),
        (MODULE, MODULE),
        (f"{UNDERLINED}~~~~\nand not Python\n", f"{UNDERLINED}~~~~\nand not Python\n"),
        (f'add = lambda a, b: "{F}a{F}" and a + b', f'add = lambda a, b: "{F}a{F}" and a + b'),
        # Code in a line.
        (f"{F}add = lambda a, b: a + b{F}", "add = lambda a, b: a + b"),
        (f"{F}python add = lambda a, b: a + b{F}\n", "add = lambda a, b: a + b"),
        (f"Use {F}sorted(xs){F} here", "sorted(xs)"),
        ("`add = max`", "add = max"),
        # The model went on from an opened block.
        (f"{ADD}{F}\nThis adds.\n", ADD),
        (f"{ADD}{F} This adds.\n", ADD),
        (f"{DOCUMENTED}{F}\nThis adds.\n", DOCUMENTED),
        (f"import os\n{F}\nThis imports os.\n", "import os\n"),
        # A model's own thoughts.
        (f"<think>\n{F}python\nno()\n{F}\n</think>\n{F}python\n{ADD}{F}", ADD),
        (f"<think>no</think>{ADD}", ADD),
    ],
)
def test_code_of_an_answer(answer: str, code: str) -> None:
    found = extract(answer, "add")
    assert found.text.replace("\r\n", "\n") == code
    # As a snippet, a block is without its last line's end.
    one = first_block(answer).replace("\r\n", "\n")
    assert one == (code.removesuffix("\n") if found.closed or found.fenced else code)


@pytest.mark.parametrize(
    ("answer", "code"),
    [
        ("sorted(xs)", "sorted(xs)"),
        ("  x = 1\n", "  x = 1\n"),
        ("```python\nsorted(xs)\n```", "sorted(xs)"),
        ("Sure!\n```\na = 1\nb = 2\n```\nThis sorts.", "a = 1\nb = 2"),
        ("```py\nx\n```\n```python\ny\n```", "x"),
        ("```bash\npip install x\n```\nthen\n```python\nimport x\n```", "import x"),
        ("```bash\nls\n```", "ls"),
        ("~~~python\nx\n~~~", "x"),
        ("````python\ns = '''\n```\n'''\n````", "s = '''\n```\n'''"),
        ("```python\nprint('```')\n```", "print('```')"),
        ("```python\nx = 1", "x = 1"),
        ("```python\nx = 1```", "x = 1"),
        ("```python\n```", ""),
        ("Use ```sorted(xs)``` here", "sorted(xs)"),
        ("`sorted(xs)`", "sorted(xs)"),
        ("use `sorted`, or `sort`", "use `sorted`, or `sort`"),
        ("", ""),
        ("```", ""),
    ],
)
def test_first_block(answer: str, code: str) -> None:
    assert first_block(answer) == code


def test_what_is_known_of_an_answer_is_kept() -> None:
    answer = first_block(Answer("```\nx\n```", score=-0.5, tokens=7, finished=True))
    assert isinstance(answer, Answer)
    assert (str(answer), answer.facts()) == ("x", {"score": -0.5, "tokens": 7, "finished": True})


@pytest.mark.parametrize(
    "unit",
    [
        *("`", "~", "```", "``` ", "~~~ ", "```a\nx```b ", "```a\n", "``` a ", "~~~a\n"),
        *("~~~\n", "```\n\\'''\n```\n", '```\n\\"""', "\\'", "```'\n", "`` ", "```#", "~~~\n'''"),
    ],
)
def test_a_hostile_megabyte_is_linear(unit: str) -> None:
    # Quadratic time would be hours here, and end by the suite's own limit.
    text = unit * (1_000_000 // len(unit))
    assert len(first_block(text)) <= len(text)
