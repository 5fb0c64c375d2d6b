"""HumanEval sealed: completions, chat answers and hostile ones, through the harness."""

from __future__ import annotations

import math
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from peft_bench_sandbox import Level, Status, best_level

from peft_bench import data
from peft_bench.answers import Answer
from peft_bench.errors import MissingError, PeftBenchError, UsageError

pytestmark = pytest.mark.skipif(
    best_level() < Level.STRONG, reason="this machine gives no strong sandbox level"
)
Ask = Callable[..., dict[str, Any]]
TASK = "humaneval_sealed"
PROMPT = 'from typing import List\n\n\ndef total(xs: List[int]) -> int:\n    """The sum."""\n'
TEST = "def check(candidate):\n    assert candidate([1, 2]) == 3\n    assert candidate([]) == 0\n"
BODY = "    return sum(xs)\n"


def row(name: str, **changes: str) -> dict[str, str]:
    fields = {
        "task_id": name,
        "prompt": PROMPT,
        "entry_point": "total",
        "canonical_solution": BODY,
        "test": TEST,
    }
    return fields | changes


def ask_one(ask: Ask, *answers: Any, **options: Any) -> dict[str, Any]:
    """Each answer to a row of its own; the results."""
    rows = [row(f"r{number}") for number in range(max(1, len(answers)))]
    table = {f"r{number}": [answer] for number, answer in enumerate(answers)}
    return ask(TASK, "humaneval", rows, table, **options)


def test_forms_that_models_answer_in(ask: Ask, verdicts: Any) -> None:
    whole = "def total(xs: List[int]) -> int:\n    return sum(xs)\n"
    results = ask_one(
        ask,
        BODY,
        "   return sum(xs)\n",
        f"Sure!\n\n```python\n{whole}```\nIt adds them up.",
        "```\nreturn sum(xs)\n```",
        f"{BODY}```\n\nThis adds them up.",
        f"<think>\n```python\nx\n```\n</think>\n```py\n{whole}```",
        f"```bash\npip install x\n```\n```python\n{whole}```",
    )
    found = verdicts(results, TASK)
    assert {name: one["status"] for name, [one] in found.items()} == dict.fromkeys(found, "passed")
    assert results["results"][TASK]["pass@1,executed"] == 1.0


def test_hostile_answers_score_nothing(ask: Ask, verdicts: Any) -> None:
    hostile = [
        "    import os\n    os._exit(0)\n",
        "    raise SystemExit(0)\n",
        "    class Same:\n        def __eq__(self, other):\n            return True\n"
        "    return Same()\n",
        "    import builtins\n    builtins.AssertionError = SystemExit\n    return 1\n",
        "def check(candidate):\n    pass\n\n\ndef total(xs):\n    return None\n",
        "    return " + "(" * 500_000 + ")" * 500_000,
        "    return '" + "x" * 1_000_000 + "'\n",
        "\x00",
        "    return sum(xs)  # \ud800\n",
    ]
    results = ask_one(ask, *hostile)
    assert results["results"][TASK]["pass@1,executed"] == 0.0
    found = verdicts(results, TASK)
    assert all(one["status"] != "harness_error" for [one] in found.values())
    assert found["r0"][0]["status"] == "exited"
    assert len(found["r5"][0]["message"]) <= 1000


def test_what_is_no_code_is_wrong_and_counted_by_kind(ask: Ask, verdicts: Any) -> None:
    closed = f"```python\n{PROMPT}{BODY}```\nAnd so on and"
    results = ask_one(
        ask,
        "\n  \n",
        Answer(BODY, finished=False),
        Answer(closed, finished=False),
        Answer(BODY, finished=True),
    )
    found = {
        name: (one["answer"], one["status"]) for name, [one] in verdicts(results, TASK).items()
    }
    assert found == {
        "r0": ("empty", "not run"),
        "r1": ("truncated", "not run"),
        "r2": ("code", "passed"),
        "r3": ("code", "passed"),
    }
    scores = results["results"][TASK]
    assert scores["empty_answers,executed"] == 0.25
    assert scores["truncated_answers,executed"] == 0.25
    assert scores["pass@1,executed"] == 0.5


def test_a_helper_of_the_prompt_is_the_test_s_own(ask: Ask) -> None:
    prompt = 'def add(a, b):\n    return a + b\n\n\ndef total(xs):\n    """The sum."""\n'
    test = "def check(candidate):\n    assert candidate([1, 2]) == add(1, 2)\n"
    rows = [row("plain", prompt=prompt, test=test), row("anew", prompt=prompt, test=test)]
    anew = "def add(a, b):\n    return None\n\n\ndef total(xs):\n    return None\n"
    results = ask(TASK, "humaneval", rows, {"plain": [BODY], "anew": [anew]})
    scores = {one["doc"]["id"]: one["pass@1"] for one in results["samples"][TASK]}
    assert scores == {"plain": 1.0, "anew": 0.0}


def test_references_that_fail_here_are_kept_apart_and_told(
    ask: Ask, verdicts: Any, capfd: pytest.CaptureFixture[str]
) -> None:
    broken = row("broken", canonical_solution="    import nowhere_to_be_found\n")
    results = ask(
        TASK, "humaneval", [row("sound"), broken], {"sound": ["    return 0\n"], "broken": [BODY]}
    )
    scores = results["results"][TASK]
    assert scores["pass@1,executed"] == 0.0, "the broken row's passing answer must not count"
    assert scores["reference_fails,executed"] == 0.5
    samples = {one["doc"]["id"]: one for one in results["samples"][TASK]}
    assert "pass@1" not in samples["broken"]
    assert samples["broken"]["reference_fails"] == 1.0
    [verdict] = verdicts(results, TASK)["broken"]
    assert verdict["kept_apart"] and verdict["status"] == "passed"
    told = capfd.readouterr().err
    assert "1 of 2 reference solutions fail on this machine" in told
    assert "broken: exception: ModuleNotFoundError" in told
    assert results["configs"][TASK]["metadata"]["references_failed"] == ["broken"]


def test_a_test_that_cannot_be_taken_apart_is_counted_apart(ask: Ask, verdicts: Any) -> None:
    shared = row(
        "shared",
        prompt='def total(xs):\n    """A function that adds."""\n',
        canonical_solution="    return lambda x: x + xs\n",
        test="def check(candidate):\n    assert candidate(1)(2) == 3\n",
    )
    changing = row(
        "changing",
        prompt='def total(xs):\n    """Adds to the end."""\n',
        canonical_solution="    xs.append(sum(xs))\n",
        test="def check(candidate):\n    xs = [1, 2]\n    candidate(xs)\n    assert xs[2] == 3\n",
    )
    answers = {
        "shared": ["    return lambda x: xs + x\n"],
        "split": [BODY],
        "changing": ["    xs += [sum(xs)]\n"],
    }
    results = ask(TASK, "humaneval", [shared, row("split"), changing], answers)
    scores = results["results"][TASK]
    assert scores["pass@1,executed"] == 1.0
    assert scores["shared_passes,executed"] == pytest.approx(1 / 3)
    judges = {name: one["judge"] for name, [one] in verdicts(results, TASK).items()}
    assert judges == {"shared": "shared", "split": "split", "changing": "split-arguments"}


def test_without_the_gold_check_nothing_is_kept_apart(ask: Ask, verdicts: Any) -> None:
    broken = row("broken", canonical_solution="    import nowhere_to_be_found\n")
    results = ask(TASK, "humaneval", [broken], {"broken": [BODY]}, metadata={"gold": False})
    scores = results["results"][TASK]
    assert scores["pass@1,executed"] == 1.0
    assert "reference_fails,executed" not in scores
    assert verdicts(results, TASK)["broken"][0]["reference"] == "unchecked"


def test_pass_at_k_for_the_k_that_there_are_samples_for(ask: Ask) -> None:
    answers = {"r": [BODY] * 5 + ["    return 0\n"] * 15}
    results = ask(
        TASK,
        "humaneval",
        [row("r")],
        answers,
        gen_kwargs={"num_samples": 20, "do_sample": True, "temperature": 0.2},
    )
    [sample] = results["samples"][TASK]
    assert sample["pass@1"] == 0.25
    assert sample["pass@10"] == pytest.approx(1 - math.comb(15, 10) / math.comb(20, 10))
    assert "pass@50" not in sample and "pass@100" not in sample
    assert len(sample["verdicts"]) == 20


def test_lost_answers_stop_the_score(ask: Ask) -> None:
    with pytest.raises(UsageError, match="item r: has 1 answers; number 2"):
        ask(
            TASK,
            "humaneval",
            [row("r")],
            {"r": [BODY]},
            gen_kwargs={"num_samples": 2, "do_sample": True, "temperature": 0.2},
        )


def test_only_generated_with_predict_only(
    ask: Ask, own_cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: Any, **__: Any) -> None:
        raise AssertionError("something was run")

    monkeypatch.setattr("peft_bench.executed.running.run_all", refuse)
    monkeypatch.setattr("peft_bench.gold.settle", refuse)
    results = ask_one(ask, BODY, predict_only=True)
    [sample] = results["samples"][TASK]
    assert sample["resps"] == [[BODY]]
    assert "pass@1" not in sample
    assert not own_cache.exists()


def test_leave_to_run_programs_must_be_given(ask: Ask) -> None:
    with pytest.raises(ValueError, match="unsafe"):
        ask_one(ask, BODY, confirm_run_unsafe_code=False)


def test_a_failure_of_the_sandbox_stops_the_score(
    ask: Ask, monkeypatch: pytest.MonkeyPatch
) -> None:
    import dataclasses

    from peft_bench.executed import running

    run_all = running.run_all

    def fail(programs: Any, **named: Any) -> Any:
        return [
            dataclasses.replace(one, status=Status.HARNESS_ERROR, message="no room left")
            for one in run_all(programs, **named)
        ]

    monkeypatch.setattr(running, "run_all", fail)
    with pytest.raises(PeftBenchError, match="problem r0: the sandbox failed: no room left"):
        ask_one(ask, BODY)


def test_a_weaker_level_is_taken_by_name_alone_and_recorded(
    ask: Ask, monkeypatch: pytest.MonkeyPatch
) -> None:
    results = ask_one(ask, BODY, metadata={"sandbox": "limits"})
    assert results["configs"][TASK]["metadata"]["sandbox"] == "limits"
    assert results["results"][TASK]["pass@1,executed"] == 1.0
    monkeypatch.setattr("peft_bench_sandbox.best_level", lambda: Level.LIMITS)
    with pytest.raises(MissingError, match="best sandbox level is 'limits'"):
        ask_one(ask, BODY)
    with pytest.raises(UsageError, match="sandbox_profile=kitchen"):
        ask_one(ask, BODY, metadata={"sandbox": "limits", "sandbox_profile": "kitchen"})


def test_with_a_chat_template_the_whole_function_is_asked_for(ask: Ask, verdicts: Any) -> None:
    from peft_bench.replay import Replay

    class Chat(Replay):
        tokenizer_name = "chat"

        def apply_chat_template(
            self, chat_history: list[dict[str, str]], add_generation_prompt: bool = True
        ) -> str:
            return "".join(f"<{turn['role']}>{turn['content']}" for turn in chat_history)

    whole = f"Here:\n\n```python\n{PROMPT}{BODY}```\n\n```python\nprint(total([1]))\n```"
    results = ask_one(ask, model=Chat({"r0": [whole]}), apply_chat_template=True)
    [sample] = results["samples"][TASK]
    asked, given = sample["arguments"][0]
    assert asked.startswith("<user>Complete this Python function.")
    assert asked.endswith(f"```python\n{PROMPT.strip()}\n```")
    assert given["until"] == [], "a stop string would cut the block at its first def"
    assert sample["pass@1"] == 1.0


def test_the_prompt_is_the_row_s_own_to_the_last_blank(ask: Ask) -> None:
    results = ask_one(ask, BODY, metadata={"prompt": "instruction"})
    [sample] = results["samples"][TASK]
    assert sample["arguments"][0][0] == PROMPT
    assert results["configs"][TASK]["metadata"]["data"] == "humaneval"


@pytest.mark.skipif("PEFT_BENCH_DATA" not in os.environ, reason="PEFT_BENCH_DATA is not set")
def test_references_of_the_real_rows_pass_and_need_no_shared_judge(ask: Ask) -> None:
    rows = data.load_split("humaneval", "test").rows
    answers = {one.id: [one.cmd] for one in rows}
    raw = [{"task_id": r.id, **r.extra, "canonical_solution": r.cmd} for r in rows]
    scores = ask(TASK, "humaneval", raw, answers, limit=60)["results"][TASK]
    assert len(rows) == 164
    assert scores["pass@1,executed"] == 1.0
    assert scores["reference_fails,executed"] == scores["shared_passes,executed"] == 0.0
