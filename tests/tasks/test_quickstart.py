"""The quickstart's scoring: answers made by hand, executed for real."""

from __future__ import annotations

import importlib.util
from types import ModuleType
from typing import Any

import pytest
from peft_bench_sandbox import Level, Verdict, best_level

from peft_bench import data, paths

EXECUTES = pytest.mark.skipif(
    best_level() is Level.NONE, reason="no sandbox level is to be had on this machine"
)


@pytest.fixture()
def utils() -> ModuleType:
    """The task's functions, loaded from their file as the harness does; nothing is executed yet."""
    file = paths.tasks_dir() / "quickstart" / "utils.py"
    spec = importlib.util.spec_from_file_location("quickstart_utils", file)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture()
def docs() -> list[dict[str, Any]]:
    rows = data.load_split("quickstart", "test").rows
    return [{"id": row.id, "cmd": row.cmd, "test": row.test} for row in rows]


@pytest.mark.parametrize(
    ("answer", "code"),
    [
        ("len(x)", "len(x)"),
        ("  len(x)\n", "len(x)"),
        ("Here:\n```python\nlen(x)\n```\nDone.", "len(x)"),
        ("```py\nlen(x)\n```", "len(x)"),
        ("```\na = 1\nb = 2\n```", "a = 1\nb = 2"),
        ("```python\nlen(x)", "len(x)"),
        ("```python\none()\n```\nor\n```python\ntwo()\n```", "one()"),
        ("'```'", "'```'"),
        ("", ""),
    ],
)
def test_extract_code(answer: str, code: str, utils: ModuleType) -> None:
    assert utils.extract_code(answer) == code


@pytest.mark.parametrize(
    ("answer", "variables", "value"),
    [
        ("x + 1", {"x": 1}, 2),
        ("y = x + 1\ny * 2", {"x": 1}, 4),
        ("y = x + 1", {"x": 1}, 2),
        ("y, z = x, x", {"x": 1}, None),
        ("for i in x:\n    pass", {"x": [1]}, None),
        ("x.append(1)", {"x": []}, None),
        ("", {}, None),
    ],
)
def test_last_value_is_bound(
    answer: str, variables: dict[str, Any], value: object, utils: ModuleType
) -> None:
    namespace = dict(variables)
    exec(utils.bind_last_value(answer), namespace)
    assert namespace.get("_") == value


@pytest.mark.parametrize("answer", ["x +", "\x00", "(" * 10_000])
def test_what_does_not_parse_is_left_as_it_is(answer: str, utils: ModuleType) -> None:
    assert utils.bind_last_value(answer) == answer


def test_built_program_leaves_what_the_answer_left(utils: ModuleType) -> None:
    namespace: dict[str, Any] = {}
    exec(utils.build_source("total = sum(xs)\nxs.clear()"), namespace)
    assert namespace["run"](xs=[1, 2]) == {"xs": [], "total": 3, "_": None}


@EXECUTES
def test_references_pass_and_others_do_not(utils: ModuleType, docs: list[dict[str, Any]]) -> None:
    utils.dataset()  # settles the level
    wrong = ["raise SystemExit(0)", "import os; os._exit(0)", "x +", "", "exit()", "while 0: pass"]
    asked = [*docs, *docs[: len(wrong)]]
    answers = [[doc["cmd"]] for doc in docs] + [[answer] for answer in wrong]
    results = list(utils.Execute().apply(answers, asked))
    assert len(results) == len(asked)
    scores = [
        utils.process_results(doc, [result]) for doc, result in zip(asked, results, strict=True)
    ]
    assert [score["pass@1"] for score in scores] == [1.0] * len(docs) + [0.0] * len(wrong)
    assert [score["em@1"] for score in scores] == [1.0] * len(docs) + [0.0] * len(wrong)


@EXECUTES
def test_all_answers_run_in_one_pool(
    utils: ModuleType, docs: list[dict[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    utils.dataset()
    calls: list[list[str]] = []
    run_all = utils.run_all

    def count(programs: Any, **named: Any) -> Any:
        calls.append([program.id for program in programs])
        return run_all(programs, **named)

    monkeypatch.setattr(utils, "run_all", count)
    answers = [[doc["cmd"], "never looked at"] for doc in docs[:5]]
    results = list(utils.Execute().apply(answers, docs[:5]))
    assert calls == [[doc["id"] for doc in docs[:5]]]
    assert [result["verdict"].id for result in results] == calls[0]


def test_nothing_is_executed_without_a_level(
    utils: ModuleType, docs: list[dict[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(utils.harness, "sandbox_level", lambda **_: None)
    utils.dataset()
    monkeypatch.setattr(utils, "run_all", None)
    [result] = utils.Execute().apply([[docs[0]["cmd"]]], docs[:1])
    assert result == {"answer": docs[0]["cmd"], "verdict": None}
    scores = utils.process_results(docs[0], [result])
    assert set(scores) == {"em@1", "em@1_whitespace", "em@1_ast"}


def test_level_asked_for_is_the_level_required(
    utils: ModuleType, docs: list[dict[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(utils.harness, "sandbox_level", lambda **named: named["sandbox"])
    utils.dataset(sandbox="strong")
    asked: list[str] = []

    def refuse(programs: Any, *, require: str, **_: Any) -> list[Verdict]:
        asked.append(require)
        return [verdict(program.id, "passed") for program in programs]

    monkeypatch.setattr(utils, "run_all", refuse)
    list(utils.Execute().apply([[docs[0]["cmd"]]], docs[:1]))
    assert asked == ["strong"]


def test_failure_of_the_sandbox_stops_the_scoring(
    utils: ModuleType, docs: list[dict[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(utils.harness, "sandbox_level", lambda **_: "limits")
    utils.dataset()
    statuses = {docs[0]["id"]: "passed", docs[1]["id"]: "harness_error"}
    monkeypatch.setattr(
        utils, "run_all", lambda programs, **_: [verdict(p.id, statuses[p.id]) for p in programs]
    )
    with pytest.raises(RuntimeError, match=f"the sandbox failed on {docs[1]['id']}"):
        list(utils.Execute().apply([["a"], ["b"]], docs[:2]))


def verdict(name: str, status: Any) -> Verdict:
    return Verdict(
        id=name,
        status=status,
        passed=int(status == "passed"),
        total=1,
        message="no room left",
        cpu_s=0.0,
        wall_s=0.0,
        peak_bytes=0,
        judge="split",
    )
