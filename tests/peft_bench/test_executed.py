"""Code out of answers, programs out of code, runs and their scores: the parts by themselves."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from peft_bench_sandbox import AssertTest, CallTest, Level, StdinTest, Verdict, best_level

from peft_bench.answers import Answer
from peft_bench.errors import PeftBenchError
from peft_bench.executed import problems, running
from peft_bench.executed.extraction import complete, defines, extract, headed, preamble
from peft_bench.executed.kept import VERDICT_FILES, KeptVerdicts
from peft_bench.executed.running import Run, RunPrograms
from peft_bench.executed.scores import test_shares as shares_of_tests
from peft_bench.executed.scores import values
from peft_bench.fences import Code
from peft_bench.generation.made import KEPT_IN
from peft_bench.gold import Gold, Sandbox

EXECUTES = pytest.mark.skipif(
    best_level() < Level.STRONG, reason="this machine gives no strong sandbox level"
)
PROMPT = 'import re\n\n\ndef other():\n    return 1\n\n\ndef f(x):\n    """Twice."""\n'


@pytest.mark.parametrize(
    ("answer", "text", "fenced", "closed"),
    [
        ("    return x\n", "    return x\n", False, False),
        ("", "", False, False),
        ("A:\n```python\nx = 1\n```\nB", "x = 1\n", True, True),
        ("A: ```py\nx = 1\n```", "x = 1\n", True, True),
        ("~~~\nx = 1\n~~~", "x = 1\n", True, True),
        ("```python\nx = 1\n", "x = 1\n", True, False),
        ("```python\nx = '''\n```py\n'''\n```\n", "x = '''\n```py\n'''\n", True, True),
        ("```sh\nls\n```\n```Python3\nx = 1\n```", "x = 1\n", True, True),
        ("```json\n{}\n```", "{}\n", True, True),
        ("```python\none()\n```\n```python\ndef f(x): ...\n```", "def f(x): ...\n", True, True),
        ("```python\none()\n```\n```python\ntwo()\n```", "one()\n", True, True),
        ("    return x\n```\n\nWhich returns x", "    return x\n", False, True),
        ("    return x\n```\n", "    return x\n", False, True),
        ("Here is the code\n```\nx = 1", "x = 1", True, False),
        ("<think>```python\nno\n```</think>x = 1", "x = 1", False, False),
        ("s = '```'\n", "s = '```'\n", False, False),
        ("```python\r\nx = 1\r\n```\r\n", "x = 1\r\n", True, True),
    ],
)
def test_extract(answer: str, text: str, fenced: bool, closed: bool) -> None:
    assert extract(answer, "f") == Code(text, fenced, closed)


@pytest.mark.parametrize(
    ("answer", "length"),
    [
        ("`" * 1_000_000, 0),
        ("```\n" * 250_001, 0),
        ("```python\n" + "x" * 1_000_000, 1_000_000),
        ("```a b\n" * 140_000, 0),
        ("``" * 500_000 + "x\n", 0),
    ],
)
def test_extract_takes_an_answer_of_a_megabyte(answer: str, length: int) -> None:
    """A search whose time is the square of the length would not end."""
    assert len(extract(answer, "f").text) == length


@pytest.mark.parametrize(
    ("code", "yes"),
    [
        ("def f(x):\n    pass", True),
        ("import re\n\nasync  def f (x): ...", True),
        ("def f[T](x: T): ...", True),
        ("f = lambda x: x", True),
        ("    def f(x): ...", False),
        ("def ff(x): ...", False),
        ("f == 1", False),
        ("return f(x)", False),
    ],
)
def test_defines(code: str, yes: bool) -> None:
    assert defines(code, "f") is yes


@pytest.mark.parametrize(
    ("answer", "program"),
    [
        ("    return 2 * x\n", f"{PROMPT}    return 2 * x\n\n"),
        ("  return 2 * x\n", f"{PROMPT}    return 2 * x\n\n"),
        ("\n   y = x\n    return y + x\n", f"{PROMPT}\n    y = x\n    return y + x\n\n"),
        ("return 2 * x\n", f"{PROMPT}return 2 * x\n\n"),
        ("```\nreturn 2 * x\n```", f"{PROMPT}    return 2 * x\n\n"),
        ("```\n    return 2 * x\n```", f"{PROMPT}    return 2 * x\n\n"),
        ("```\ndef f(x):\n    return 2 * x\n```", f"{PROMPT[:40]}def f(x):\n    return 2 * x\n\n"),
    ],
)
def test_complete(answer: str, program: str) -> None:
    assert PROMPT[:40] == preamble(PROMPT, "f")
    assert complete(PROMPT, extract(answer, "f"), "f") == program


@pytest.mark.parametrize(
    "answer", ["x + 1", " x + 1", "return x + 1", " return x + 1", "\treturn x + 1"]
)
def test_complete_goes_on_in_the_line(answer: str) -> None:
    assert complete("def f(x):\n    return", Code(answer), "f") == "def f(x):\n    return x + 1\n"


def test_complete_puts_the_suffix_behind_a_body_alone() -> None:
    prompt = "def f(x):\n"
    assert complete(prompt, Code("    x += 1"), "f", suffix="\n    return x") == (
        "def f(x):\n    x += 1\n    return x\n"
    )
    whole = "def f(x):\n    return 1\n"
    assert complete(prompt, Code(whole), "f", suffix="\n    return x") == f"{whole}\n"


FUTURE = "from __future__ import annotations\n"


@pytest.mark.parametrize(
    "code",
    [
        f"{FUTURE}import os\n",
        f"\n# A comment.\n\n{FUTURE}",
        f'"""Two\nlines, and an é."""\n{FUTURE}from __future__ import division\nimport os\n',
        "from __future__ import (\n    annotations,\n    division,  # both\n)\nimport os\n",
        "from __future__ import annotations; from __future__ import division; import os\n",
        "from __future__ import \\\n    annotations  # why\r\nimport os\r\n",
        "'é'; from __future__ import annotations; import os\n",
        FUTURE.strip(),
    ],
)
def test_a_head_stands_behind_the_imports_that_have_to_be_first(code: str) -> None:
    program = headed("import re\nx: unknown = 1\n", f"{code}\ny: unknown = x\n")
    names: dict[str, Any] = {}
    exec(compile(program, "program", "exec", dont_inherit=True), names)
    assert (names["y"], names["__annotations__"]) == (1, {"x": "unknown", "y": "unknown"})


@pytest.mark.parametrize(
    "code",
    [
        "import os\n",
        # These are errors by themselves, and have to stay errors.
        f"import os\n{FUTURE}",
        f"if True:\n    {FUTURE}",
        f"{FUTURE}def f(:\n",
        f"s = '''\n{FUTURE}'''\n",
        FUTURE + "(" * 100_000,
        f"{FUTURE}\0",
    ],
)
def test_a_head_stands_before_all_other_code(code: str) -> None:
    assert headed("import re\n", code) == f"import re\n{code}"


def test_every_problem_takes_an_answer_that_begins_with_a_future_import() -> None:
    answer = f"```python\n{FUTURE}def f(x):\n    return x\n```"
    humaneval = problems.humaneval(
        {"id": "1", "source_prompt": PROMPT, "entry_point": "f", "test": "", "cmd": ""}
    )
    odex = problems.odex(
        {
            **{"id": "1", "source_prompt": "def f(x):\n    return ", "cmd": "x", "suffix": ""},
            **{"intent": "", "entry_point": "f", "test": "[]"},
            "test_start": "\nimport re\ndef check(candidate):",
        }
    )
    told = '{"fn_name": "f", "inputs": [[1]], "outputs": [3]}'
    leetcode = problems.apps(apps_row(told, "class Solution:\n    def f(self, n):\n"))
    for problem in (humaneval, odex, leetcode):
        program = problem.assemble(problem.code(answer))
        compile(program, "program", "exec", dont_inherit=True)
        assert program.startswith(FUTURE)
        assert "import " in program.removeprefix(FUTURE)


def test_completion_is_a_prompt_that_keeps_its_blanks() -> None:
    from peft_bench.prompts import PROMPTS

    assert PROMPTS["completion"].render("\n  def f():\n") == "\n  def f():\n"
    assert PROMPTS["instruction"].render(" a ") == "### Instruction:\na\n### Response:\n"
    assert len({one.sha256 for one in PROMPTS.values()}) == len(PROMPTS)


def apps_row(told: str, starter: str = "", solutions: str = "[]") -> dict[str, str]:
    return {"id": "1", "input_output": told, "starter_code": starter, "solutions": solutions}


def test_apps_tests() -> None:
    script = problems.apps(
        apps_row('{"inputs": ["1\\n", ["2", "3"]], "outputs": ["1", ["a", "b"]]}')
    )
    assert script.tests("") == (StdinTest("1\n", "1"), StdinTest("2\n3", "a\nb"))
    calls = '{"fn_name": "f", "inputs": [[1], [2]], "outputs": [[3], [4]]}'
    codewars = problems.apps(apps_row(calls, "def f(n):\n\t"))
    assert codewars.tests("def f(n): ...") == (CallTest("f", [1], 3), CallTest("f", [2], 4))
    leetcode = problems.apps(apps_row(calls, "class Solution:\n    def f(self, n):\n"), legacy=True)
    [first, _] = leetcode.tests("class Solution: ...")
    assert first == CallTest("Solution.f", [1], [3], "legacy")
    assert leetcode.program("class Solution: ...").tests[0] == first
    assert leetcode.assemble(Code("x = 1")).endswith("from typing import *\nx = 1")
    mixed = '{"fn_name": "f", "inputs": [[1], [2]], "outputs": [[3], [4, 5]]}'
    assert problems.apps(apps_row(mixed, "def f(n):\n\t")).tests("")[0] == CallTest("f", [1], [3])


def test_apps_tries_so_many_solutions() -> None:
    row = apps_row('{"inputs": ["1"], "outputs": ["1"]}', solutions='["a", "b", "c"]')
    assert problems.apps(row, tried=2).solutions == ("a", "b")
    assert problems.apps({**row, "solutions": "[]"}).solutions == ()


def verdict(status: Any, passed: int = 0, total: int = 4, judge: Any = "split") -> Verdict:
    return Verdict("p", running.Status(status), passed, total, "m" * 5000, 0.0, 0.0, 0, judge)


def test_values_of_a_problem() -> None:
    gold = Gold("passed", "shared")
    runs = [
        Run("code", gold, 4, verdict("passed", 4, judge="shared")),
        Run("code", gold, 4, verdict("wrong", 2)),
        Run("empty", gold, 4),
        Run("truncated", gold, 4),
        Run("missing", gold, 4),
    ]
    found = values(runs)
    assert found["pass@1"] == 0.2
    assert found["pass@2"] == pytest.approx(1 - math.comb(4, 2) / math.comb(5, 2))
    assert found["pass@5"] == 1.0
    assert "pass@10" not in found
    assert [found[f"{kind}_answers"] for kind in ("empty", "truncated", "missing")] == [0.2] * 3
    assert found["shared_passes"] == 0.2
    assert found["reference_fails"] == 0.0
    assert shares_of_tests(runs) == {"avg_tests_passed": 0.3, "strict_accuracy": 0.2}


@pytest.mark.parametrize(
    ("outcome", "names"),
    [
        ("failed", {"reference_fails"}),
        ("unchecked", {"pass@1"}),
        ("none", {"pass@1", "reference_fails"}),
    ],
)
def test_values_by_what_is_known_of_the_reference(outcome: Any, names: set[str]) -> None:
    found = values([Run("code", Gold(outcome), 1, verdict("passed", 1, 1))])
    assert {"pass@1", "reference_fails"} & set(found) == names
    assert found.get("reference_fails", 0.0) == float(outcome == "failed")


def test_what_is_logged_is_plain_and_short() -> None:
    import json

    [done] = [
        Run("code", Gold("passed"), 4, verdict(running.Status.WRONG, 2), "src", {"tokens": 7})
    ]
    logged = done.logged()
    json.dumps(logged)
    assert (logged["status"], logged["passed"], logged["total"], logged["tokens"]) == (
        "wrong",
        2,
        4,
        7,
    )
    assert len(logged["message"]) == 1000
    assert str(done) == "src"
    assert Run("missing", Gold("passed"), 3).logged()["total"] == 3


TEST = "assert f(2) == 4"


def doubling(name: str, test: str) -> problems.Problem:
    return problems.Problem(
        name,
        (),
        lambda code: code.text,
        lambda source: (AssertTest(test, "f"),),
        "f",
    )


def filtered(answers: list[tuple[str, Any]], *, test: str = TEST) -> list[Run]:
    names = {name for name, _ in answers}
    run = RunPrograms(
        {name: doubling(name, test) for name in names},
        {name: Gold("passed") for name in names},
        Sandbox("strong"),
    )
    docs = [{"id": name} for name, _ in answers]
    return list(run.apply([[one] if one != "lost" else [] for _, one in answers], docs))


GOOD, BAD, WORSE = (f"def f(x):\n    return {value}\n" for value in ("2 * x", "0", "1 / 0"))
ANSWERS = [("a", GOOD), ("a", BAD), ("b", GOOD), ("b", WORSE)]


@pytest.fixture()
def folder(tmp_path: Path) -> Iterator[Path]:
    """Where an evaluation keeps what it has done."""
    token = KEPT_IN.set(tmp_path)
    yield tmp_path
    KEPT_IN.reset(token)


@pytest.fixture()
def ran(monkeypatch: pytest.MonkeyPatch) -> list[list[tuple[str, str]]]:
    """The programs of each call of the sandbox."""
    calls: list[list[tuple[str, str]]] = []
    run_all = running.run_all

    def count(programs: Any, **named: Any) -> Any:
        calls.append([(one.id, one.source) for one in programs])
        return run_all(programs, **named)

    monkeypatch.setattr(running, "run_all", count)
    return calls


@EXECUTES
def test_all_answers_run_in_one_pool_and_equal_ones_once(ran: list[list[tuple[str, str]]]) -> None:
    found = filtered(
        [("a", GOOD), ("a", BAD), ("a", GOOD), ("b", GOOD), ("b", "lost"), ("b", None)]
    )
    assert ran == [[("a", GOOD), ("a", BAD), ("b", GOOD)]]
    assert [one.passed for one in found] == [True, False, True, True, False, False]
    assert [one.kind for one in found][-2:] == ["missing", "missing"]
    assert found[0].verdict is found[2].verdict


def stopped_after(count: int, answers: list[tuple[str, Any]]) -> None:
    """Runs the answers until so many verdicts are known and kept."""
    keep, kept = KeptVerdicts.keep, []

    def stop(self: Any, *rest: Any) -> None:
        keep(self, *rest)
        kept.append(1)
        if len(kept) == count:
            raise KeyboardInterrupt

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(KeptVerdicts, "keep", stop)
        with pytest.raises(KeyboardInterrupt):
            filtered(answers)


@EXECUTES
def test_what_was_executed_before_a_stop_is_not_executed_again(
    folder: Path, ran: list[list[tuple[str, str]]]
) -> None:
    stopped_after(3, ANSWERS)
    with next(folder.glob(VERDICT_FILES)).open("a", encoding="utf-8") as lines:
        lines.write('{"key": "cut by a ki')
    found = filtered(ANSWERS)
    assert ran == [ANSWERS, ANSWERS[3:]]
    assert [one.verdict.status for one in found if one.verdict] == [
        "passed",
        "wrong",
        "passed",
        "exception",
    ]
    assert [one.verdict.id for one in found if one.verdict] == ["a", "a", "b", "b"]
    # And with the torn line behind it, nothing at all is left to run.
    assert [one.passed for one in filtered(ANSWERS)] == [one.passed for one in found]
    assert ran[2] == []


@EXECUTES
def test_other_tests_and_another_setting_are_executed(
    folder: Path, ran: list[list[tuple[str, str]]], monkeypatch: pytest.MonkeyPatch
) -> None:
    filtered(ANSWERS[:2])
    monkeypatch.setattr("platform.python_version", lambda: "3.99.0")
    filtered(ANSWERS[:2])
    filtered(ANSWERS[:2], test="assert f(3) == 6")
    assert ran == [ANSWERS[:2]] * 3
    filtered(ANSWERS[:2])
    assert ran[3:] == [[]]


@EXECUTES
def test_a_failure_of_the_sandbox_is_executed_again(
    folder: Path, ran: list[list[tuple[str, str]]], monkeypatch: pytest.MonkeyPatch
) -> None:
    run_all = running.run_all

    def fail(programs: Any, *, on_verdict: Any, **named: Any) -> Any:
        found = run_all(programs, **named)
        found[1] = dataclasses.replace(found[1], status=running.Status.HARNESS_ERROR)
        for one in found:
            on_verdict(one)
        return found

    with monkeypatch.context() as patch:
        patch.setattr(running, "run_all", fail)
        with pytest.raises(PeftBenchError, match="the sandbox failed"):
            filtered(ANSWERS)
    assert [one.passed for one in filtered(ANSWERS)] == [True, False, True, False]
    assert ran == [ANSWERS, [ANSWERS[1]]]


@EXECUTES
def test_nothing_is_kept_outside_of_an_evaluation(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    filtered(ANSWERS)
    assert list(tmp_path.iterdir()) == []


@EXECUTES
def test_what_is_known_of_an_empty_answer_is_kept() -> None:
    [run] = filtered([("a", Answer("", score=-1.0, tokens=0, finished=True))])
    logged = run.logged()
    assert run.kind == "empty"
    assert (logged["score"], logged["tokens"], logged["finished"]) == (-1.0, 0, True)


def test_unequal_numbers_of_answers_are_refused() -> None:
    with pytest.raises(PeftBenchError, match="from 1 to 2 answers: some were lost"):
        filtered([("a", ""), ("a", ""), ("b", "")])


def test_a_cut_answer_is_truncated_unless_its_code_was_whole() -> None:
    one = doubling("a", TEST)
    block = "```python\ndef f(x):\n    return 2 * x\n"
    for text, kind in ((block, "truncated"), (f"{block}```\nAnd", "code"), ("x", "truncated")):
        assert running.kind_of(one, Answer(text, finished=False))[0] == kind
    assert running.kind_of(one, Answer("x", finished=None))[0] == "code"
    assert running.kind_of(one, Answer(" \n", finished=False))[0] == "empty"


def test_ranks_share_the_cpus(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("LOCAL_WORLD_SIZE", raising=False)
    assert running.workers() is None
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "4")
    monkeypatch.setattr("os.sched_getaffinity", lambda _: set(range(8)))
    assert running.workers() == 2
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "64")
    assert running.workers() == 1


def test_a_problem_says_its_judge() -> None:
    one = doubling("a", TEST)
    assert one.program("x").judge == "split"
    assert one.program("x", judge="shared").judge == "shared"
    assert dataclasses.replace(one, id="b").program("x").id == "b"
