"""APPS: samples against all tests, three levels and their group, and what bad rows do."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from peft_bench_sandbox import Level, best_level

from peft_bench import paths
from peft_bench.errors import MissingError, UsageError

pytestmark = pytest.mark.skipif(
    best_level() < Level.STRONG, reason="this machine gives no strong sandbox level"
)
Ask = Callable[..., dict[str, Any]]
ADD = "a, b = map(int, input().split())\nprint(a + b)\n"
SUMS = {"inputs": ["1 2\n", "10 -3\n", "0 0\n", "5 5\n"], "outputs": ["3\n", "7\n", "0\n", "10\n"]}


def row(name: int, level: str = "introductory", **changes: Any) -> dict[str, Any]:
    told = changes.pop("told", SUMS)
    solutions = changes.pop("solutions", [ADD])
    fields = {
        "problem_id": name,
        "question": "Print the sum of two numbers.",
        "solutions": json.dumps(solutions),
        "input_output": json.dumps(told) if not isinstance(told, str) else told,
        "difficulty": level,
        "url": "",
        "starter_code": "",
    }
    return fields | changes


def five(*answers: str) -> list[str]:
    return [*answers, *[""] * (5 - len(answers))]


def test_the_group_weighs_its_levels_and_tells_an_empty_one(
    ask: Ask, capfd: pytest.CaptureFixture[str]
) -> None:
    rows = [row(1), row(2, "interview"), row(3, "interview")]
    half = "a, b = map(int, input().split())\nprint(abs(a) + abs(b))\n"
    answers = {"1": [ADD] * 5, "2": five(ADD), "3": [half] * 5}
    results = ask("apps", "apps", rows, answers)
    scores = results["results"]
    assert scores["apps_introductory"]["pass@1,executed"] == 1.0
    assert scores["apps_interview"]["pass@1,executed"] == pytest.approx(0.1)
    assert scores["apps_interview"]["pass@2,executed"] == pytest.approx(0.2)
    assert scores["apps_interview"]["pass@5,executed"] == pytest.approx(0.5)
    assert scores["apps_interview"]["strict_accuracy,executed"] == pytest.approx(0.1)
    assert scores["apps_interview"]["avg_tests_passed,executed"] == pytest.approx((0.2 + 0.75) / 2)
    assert scores["apps_interview"]["empty_answers,executed"] == pytest.approx(0.4)
    assert results["n-samples"]["apps_competition"] == {"original": 0, "effective": 0}
    assert scores["apps_competition"]["alias"] == "apps_competition (n = 0)"
    assert not [key for key in scores["apps_competition"] if "pass@" in key]
    assert results["samples"]["apps_competition"] == []
    group = results["groups"]["apps"]
    assert group["pass@1,executed"] == pytest.approx((1 + 0.1 * 2) / 3)
    assert group["empty_levels,executed"] == 1.0
    assert group["sample_len"] == 3


def test_a_level_that_is_empty_can_be_asked_alone_or_only_generated(ask: Ask) -> None:
    results = ask("apps_competition", "apps", [row(1)], {})
    assert results["n-samples"]["apps_competition"] == {"original": 0, "effective": 0}
    results = ask("apps_competition", "apps", [row(1)], {}, predict_only=True)
    assert results["results"]["apps_competition"]["sample_len"] == 0


def test_a_level_is_its_task_s(ask: Ask) -> None:
    with pytest.raises(UsageError, match="apps_interview asks the level interview"):
        ask("apps_interview", "apps", [row(1)], {}, metadata={"level": "introductory"})


def test_first_takes_so_many_of_a_level_and_full_takes_all(ask: Ask) -> None:
    rows = [row(number, level) for number in range(4) for level in ("introductory", "interview")]
    for place, one in enumerate(rows):
        one["problem_id"] = place
    answers = {str(place): [ADD] * 5 for place in range(8)}
    results = ask("apps", "apps", rows, answers, metadata={"first": 2})
    asked = {name: [one["doc"]["id"] for one in them] for name, them in results["samples"].items()}
    assert asked["apps_introductory"] == ["0", "2"]
    assert asked["apps_interview"] == ["1", "3"]
    full = ask("apps_full", "apps", rows, answers)
    assert len(full["samples"]["apps_full"]) == 8
    with pytest.raises(UsageError, match="first=0: is no number of problems"):
        ask("apps_full", "apps", rows, answers, metadata={"first": 0})


def test_calls_as_leetcode_and_codewars_have_them(ask: Ask, verdicts: Any) -> None:
    solution = "class Solution:\n    def turned(self, s: str) -> str:\n        return s[::-1]\n"
    leetcode = row(
        1,
        told={"fn_name": "turned", "inputs": [["abc"], [""]], "outputs": ["cba", ""]},
        solutions=[solution],
        starter_code="\nclass Solution:\n    def turned(self, s: str) -> str:\n        ",
    )
    even = "def even(n):\n    return n % 2 == 0\n"
    codewars = row(
        2,
        told={"fn_name": "even", "inputs": [[1], [2]], "outputs": [[False], [True]]},
        solutions=[even],
        starter_code="def even(n):\n\t",
    )
    same = "class Same:\n    def __eq__(self, other):\n        return True\n\n\n"
    answers = {
        "1": [
            solution,
            "def turned(s):\n    return s[::-1]\n",
            solution.replace("s: str", "s: List[str]"),
            solution.replace("turned", "straight"),
            solution.replace("s[::-1]", "Same()") + same,
        ],
        "2": five(even, "def even(n):\n    return [n % 2 == 0]\n"),
    }
    results = ask("apps_introductory", "apps", [leetcode, codewars], answers)
    found = {
        name: [one["passed"] for one in them]
        for name, them in verdicts(results, "apps_introductory").items()
    }
    assert found == {"1": [2, 2, 2, 0, 0], "2": [2, 0, 0, 0, 0]}
    shown = {
        one["doc"]["id"]: one["arguments"][0][0] for one in results["samples"]["apps_introductory"]
    }
    assert "class Solution:" in shown["1"] and "Use Call-Based format\n" in shown["1"]


def test_hostile_programs_pass_nothing(ask: Ask, verdicts: Any) -> None:
    hostile = [
        "import os\nos._exit(0)",
        "import sys\nsys.exit(0)",
        "print('x' * 2_000_000)",
        "a = '" + "x" * 1_000_000 + "'\n",
        "import sys\nsys.stdout.write('3\\n7\\n0\\n10\\n')",
    ]
    results = ask("apps_introductory", "apps", [row(1)], {"1": hostile})
    found = verdicts(results, "apps_introductory")["1"]
    assert [one["passed"] for one in found] == [0] * 5
    assert found[2]["status"] == "output"


def test_integers_of_thousands_of_digits(ask: Ask) -> None:
    big = "1" + "0" * 4999
    code = "import sys\nsys.set_int_max_str_digits(0)\nprint(int(input()) + 1)"
    printed = row(1, told={"inputs": [f"{big}\n"], "outputs": [f"{big[:-1]}1\n"]}, solutions=[code])
    text = f'{{"fn_name": "up", "inputs": [[{big}]], "outputs": [{big[:-1]}1]}}'
    up = "def up(n):\n    return n + 1\n"
    called = row(2, told=text, solutions=[up], starter_code="def up(n):\n    ")
    results = ask("apps_introductory", "apps", [printed, called], {"1": five(code), "2": five(up)})
    assert results["results"]["apps_introductory"]["pass@1,executed"] == pytest.approx(0.2)
    assert results["results"]["apps_introductory"]["reference_fails,executed"] == 0.0


def test_several_references_are_tried_and_none_is_no_fault(ask: Ask, verdicts: Any) -> None:
    rows = [row(1, solutions=["print(", ADD]), row(2, solutions=[]), row(3, solutions=["print("])]
    answers = {"1": [ADD] * 5, "2": [ADD] * 5, "3": [ADD] * 5}
    results = ask("apps_introductory", "apps", rows, answers)
    found = verdicts(results, "apps_introductory")
    assert [found[name][0]["reference"] for name in "123"] == ["passed", "none", "failed"]
    assert results["results"]["apps_introductory"]["pass@1,executed"] == 1.0
    assert results["results"]["apps_introductory"]["reference_fails,executed"] == pytest.approx(
        1 / 3
    )


def test_tests_do_not_enter_the_samples_log(ask: Ask) -> None:
    results = ask("apps_introductory", "apps", [row(1)], {"1": [ADD] * 5})
    [sample] = results["samples"]["apps_introductory"]
    assert {"input_output", "solutions"}.isdisjoint(sample["doc"])
    assert sample["doc"]["difficulty"] == "introductory"


def test_saved_documents_find_their_tests_in_the_data(ask: Ask, tmp_path: Path) -> None:
    first = ask("apps_introductory", "apps", [row(1), row(2)], {"1": [ADD] * 5, "2": five(ADD)})
    saved = [one["doc"] for one in first["samples"]["apps_introductory"]]
    docs = tmp_path / "docs.jsonl"
    docs.write_text("".join(f"{json.dumps(one)}\n" for one in saved), encoding="utf-8")
    answers = {"1": [ADD] * 5, "2": five(ADD)}
    again = ask(
        "apps_introductory", "apps", [row(2), row(1)], answers, metadata={"docs": str(docs)}
    )
    assert again["results"]["apps_introductory"] == first["results"]["apps_introductory"]
    with pytest.raises(MissingError, match="row 1: is not among the rows of apps here"):
        ask("apps_introductory", "apps", [row(2)], answers, metadata={"docs": str(docs)})


def test_the_study_s_faults_by_profile(ask: Ask, verdicts: Any) -> None:
    told = {"inputs": ["\n"], "outputs": ["b\na\n"]}
    rows = [row(1, told=told, solutions=["print('b\\na')"])]
    answers = {"1": ["print('a\\nb')"] * 5}
    plain = ask("apps_introductory", "apps", rows, answers)
    study = ask("apps_introductory", "apps", rows, answers, metadata={"profile": "study"})
    assert plain["results"]["apps_introductory"]["pass@1,executed"] == 0.0
    assert study["results"]["apps_introductory"]["pass@1,executed"] == 1.0
    assert verdicts(study, "apps_introductory")["1"][0]["lenient"]
    prompts = [one["samples"]["apps_introductory"][0]["arguments"][0][0] for one in (plain, study)]
    assert "Use Standard Input format" in prompts[0]
    assert "Use Call-Based format" in prompts[1]


@pytest.mark.parametrize(
    ("told", "fault"),
    [
        ("", "line 1: input_output"),
        ("{", "line 1: input_output"),
        ('{"inputs": ["1"], "outputs": []}', "has 1 inputs and 0 outputs"),
    ],
)
def test_a_row_without_sound_tests_is_told_by_line(ask: Ask, told: str, fault: str) -> None:
    with pytest.raises(UsageError, match=fault):
        ask("apps_introductory", "apps", [row(1, told=told)], {}, train=[row(1)])


@pytest.mark.usefixtures("own_cache")
def test_the_real_command_writes_results_and_samples(
    tmp_path: Path, tiny_model: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    from lm_eval.__main__ import cli_evaluate

    folder = tmp_path / "rows" / "apps"
    folder.mkdir(parents=True)
    for split in ("train", "test"):
        text = "".join(json.dumps(one) + "\n" for one in (row(1), row(2, "interview")))
        (folder / f"{split}.jsonl").write_text(text, encoding="utf-8")
    typed = [
        *("lm_eval", "--model", "hf", "--model_args", f"pretrained={tiny_model('llama')}"),
        *("--tasks", "apps", "--include_path", str(paths.tasks_dir())),
        *("--gen_kwargs", "max_gen_toks=8,num_samples=2", "--batch_size", "2"),
        *("--metadata", json.dumps({"data_dir": str(folder.parent)})),
        *("--device", "cpu", "--confirm_run_unsafe_code", "--log_samples"),
        *("--output_path", str(tmp_path / "out.json")),
    ]
    monkeypatch.setattr(sys, "argv", typed)
    cli_evaluate()
    [file] = tmp_path.glob("out_*.json")
    results = json.loads(file.read_text(encoding="utf-8"))
    assert results["n-samples"]["apps_competition"] == {"original": 0, "effective": 0}
    assert set(results["results"]["apps"]) >= {"pass@1,executed", "pass@2,executed"}
    [lines] = tmp_path.glob("samples_apps_interview_*.jsonl")
    sample = json.loads(lines.read_text(encoding="utf-8"))
    assert len(sample["verdicts"]) == 2
    assert {"status", "message", "passed", "total", "judge", "finished"} <= set(
        sample["verdicts"][0]
    )
    [empty] = tmp_path.glob("samples_apps_competition_*.jsonl")
    assert empty.read_text(encoding="utf-8") == ""


@pytest.mark.skipif("PEFT_BENCH_DATA" not in os.environ, reason="PEFT_BENCH_DATA is not set")
def test_the_real_sample_s_references_pass(ask: Ask) -> None:
    folder = Path(os.environ["PEFT_BENCH_DATA"])
    raw = [json.loads(line) for line in (folder / "apps" / "test.jsonl").open(encoding="utf-8")]
    answers = {str(one["problem_id"]): json.loads(one["solutions"])[-1:] * 5 for one in raw}
    results = ask("apps", "apps", [row(1)], answers, metadata={"data_dir": str(folder)})
    assert results["groups"]["apps"]["pass@1,executed"] == 1.0
    assert results["groups"]["apps"]["sample_len"] == 5
    assert results["groups"]["apps"]["reference_fails,executed"] == 0.0
