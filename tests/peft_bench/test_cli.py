"""The command line as a user meets it: mostly processes of their own."""

from __future__ import annotations

import dataclasses
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from peft_bench import __version__, cli, evaluation
from peft_bench.records import (
    SCHEMA_VERSION,
    ModelRecord,
    RunRecord,
    Score,
    TaskRecord,
    write_record,
)

# What this process imports, a process of its own imports too.
PYTHONPATH = os.pathsep.join(path for path in sys.path if path)
VERBS = ("quickstart", "train", "eval", "exec", "leaderboard", "list", "doctor")
HEAVY = ("torch", "transformers", "peft", "datasets", "lm_eval", "huggingface_hub", "accelerate")

# Runs the command line, then says on the last line of stderr what it left imported.
WATCHED = """
import json, sys
from peft_bench.cli import main
try:
    code = main(sys.argv[1:])
except SystemExit as stop:
    code = stop.code
print(json.dumps(sorted(name for name in sys.modules if "." not in name)), file=sys.stderr)
sys.exit(code)
"""


def start(*command: str, **changes: Any) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, *command],
        **{
            "env": {**os.environ, "PYTHONPATH": PYTHONPATH, "COLUMNS": "100"},
            "capture_output": True,
            "text": True,
            "timeout": 60,
            **changes,
        },
    )


def run(*arguments: str | Path, **changes: Any) -> subprocess.CompletedProcess[str]:
    return start("-m", "peft_bench.cli", *map(str, arguments), **changes)


def imported(*arguments: str | Path, code: int = 0) -> set[str]:
    """The top-level modules that a command line needs."""
    done = start("-c", WATCHED, *map(str, arguments))
    assert done.returncode == code, done.stderr
    return set(json.loads(done.stderr.splitlines()[-1]))


def evaluate_something(folder: Path, name: str) -> Path:
    task = TaskRecord(
        task="conala",
        version="1.0",
        n=2,
        scores={"em@1": Score(0.5, 0.1, 2, 1)},
        primary_metric="em@1",
        num_fewshot=0,
        decoding={},
        prompt_hash=None,
        sandbox_level=None,
        profile="default",
        custom_data=False,
        demonstration=False,
        data_sha256={"test": "0" * 64},
    )
    record = RunRecord(
        schema_version=SCHEMA_VERSION,
        name=name,
        created="2025-01-31T12:00:00+00:00",
        status="complete",
        model=ModelRecord("org/model", "rev", "float32"),
        adapter=None,
        tasks=(task,),
        harness={},
        versions={},
        eval_wall_s=1.0,
    )
    write_record(folder / name, record)
    return folder / name


def test_help_names_every_verb() -> None:
    done = run("--help")
    assert done.returncode == 0
    for verb in VERBS:
        assert f"    {verb} " in done.stdout or f"    {verb}\n" in done.stdout
    assert run("--version").stdout.strip() == f"peft-bench {__version__}"


@pytest.mark.parametrize("verb", ["", *VERBS])
def test_help_imports_nothing_heavy(verb: str) -> None:
    modules = imported(*([verb] if verb else []), "--help")
    assert "peft_bench" in modules and "argparse" in modules
    assert modules.isdisjoint({*HEAVY, "numpy", "yaml"})


@pytest.mark.parametrize("what", ["tasks", "methods", "families"])
def test_list_imports_nothing_heavy(what: str) -> None:
    modules = imported("list", what)
    assert "peft_bench" in modules
    assert modules.isdisjoint({*HEAVY, "numpy"})


def test_leaderboard_imports_nothing_heavy(tmp_path: Path) -> None:
    evaluate_something(tmp_path / "runs", "one")
    modules = imported(
        "leaderboard",
        tmp_path / "runs",
        *("--csv", tmp_path / "b.csv", "--md", tmp_path / "b.md", "--html", tmp_path / "b.html"),
    )
    assert "peft_bench" in modules
    assert modules.isdisjoint(HEAVY)
    assert {file.name for file in tmp_path.iterdir()} == {"runs", "b.csv", "b.md", "b.html"}


def test_the_package_alone_imports_nothing_heavy() -> None:
    done = start("-c", "import sys, peft_bench; print(*sys.modules)")
    modules = {name.partition(".")[0] for name in done.stdout.split()}
    assert "peft_bench" in modules
    assert modules.isdisjoint({*HEAVY, "numpy", "yaml", "argparse"})


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ([], "VERB"),
        (["trian"], "invalid choice: 'trian'"),
        (["train"], "RECIPE"),
        (["train", "r.yaml", "--epochs", "3"], "unrecognized arguments: --epochs 3"),
        (["list", "methods", "--all"], "unrecognized arguments: --all"),
        (["list", "recipes"], "invalid choice: 'recipes'"),
        (["leaderboard", "--csv", "b.csv"], "RUNS"),
        (["exec", "in.jsonl"], "--out"),
        (["exec", "in.jsonl", "--out", "o", "--workers", "two"], "'two'"),
        (["eval"], "--tasks"),
        (["doctor", "now"], "unrecognized arguments: now"),
    ],
)
def test_usage_errors(arguments: list[str], said: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stop:
        cli.main(arguments)
    assert stop.value.code == 2
    assert said in capsys.readouterr().err


def test_a_faulty_recipe_is_a_usage_error_without_a_traceback(tmp_path: Path) -> None:
    recipe = tmp_path / "r.yaml"
    recipe.write_text("name: a\nmethod: {name: lora}\ndata: {tasks: [conala]}\n", encoding="utf-8")
    done = run("train", recipe, "--set", "training.sead=1", "--out", tmp_path / "out")
    assert done.returncode == 2
    assert done.stderr.startswith(f"peft-bench: {recipe}: 2 faults")
    assert "model: missing" in done.stderr and "did you mean seed?" in done.stderr
    assert "Traceback" not in done.stderr and done.stdout == ""
    assert not (tmp_path / "out").exists()


def test_a_missing_recipe_leaves_with_3(tmp_path: Path) -> None:
    done = run("train", tmp_path / "none.yaml")
    assert done.returncode == 3
    assert "none.yaml: no such recipe" in done.stderr and "quickstart" in done.stderr


def test_verbose_shows_the_traceback(tmp_path: Path) -> None:
    done = run("--verbose", "train", tmp_path / "none.yaml")
    assert done.returncode == 1
    assert "Traceback" in done.stderr and "MissingError" in done.stderr


def test_a_leaderboard_of_nothing(tmp_path: Path) -> None:
    done = run("leaderboard", tmp_path)
    assert done.returncode == 1
    assert f"skipped: {tmp_path}: no evaluation there" in done.stderr
    metric = run("leaderboard", tmp_path, "--metric", "em@1")
    assert metric.returncode == 2 and "add --compare A B" in metric.stderr
    missing = run("leaderboard", tmp_path / "none")
    assert missing.returncode == 1 and "no such folder" in missing.stderr


def test_a_broken_record_is_named_and_skipped(tmp_path: Path) -> None:
    runs = tmp_path / "runs"
    evaluate_something(runs, "good")
    broken = evaluate_something(runs, "broken") / "record.json"
    record = json.loads(broken.read_text(encoding="utf-8"))
    del record["tasks"]
    broken.write_text(json.dumps(record), encoding="utf-8")
    csv = tmp_path / "board.csv"
    done = run("leaderboard", runs, "--csv", csv)
    assert done.returncode == 0
    assert f"skipped: {broken}" in done.stderr and "tasks: missing" in done.stderr
    assert "good" in done.stdout
    assert len(csv.read_text(encoding="utf-8").splitlines()) == 2
    csv.unlink()
    strict = run("leaderboard", runs, "--csv", csv, "--strict")
    assert strict.returncode == 1
    assert len(csv.read_text(encoding="utf-8").splitlines()) == 2
    assert run("leaderboard", runs / "good", "--strict").returncode == 0


def test_list_names_what_there_is() -> None:
    methods = run("list", "methods").stdout
    names = [line.split()[0] for line in methods.splitlines()]
    assert names[:6] == ["lora", "qlora", "ia3", "prompt_tuning", "prefix_tuning", "full"]
    assert "any other PEFT type" in methods
    families = run("list", "families").stdout
    for name in ("llama", "qwen2", "codegen", "t5", "any other"):
        assert any(line.startswith(name) for line in families.splitlines())


def test_a_reader_that_has_seen_enough_is_no_error() -> None:
    read, write = os.pipe()
    os.close(read)
    with os.fdopen(write, "w") as closed:
        done = run("list", "methods", stdout=closed, stderr=subprocess.PIPE, capture_output=False)
    assert "Traceback" not in done.stderr
    assert done.returncode == 0


def test_an_interrupt_is_told(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def interrupted(**_: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(evaluation, "evaluate", lambda *_, **__: interrupted())
    assert cli.main(["eval", "--model", "m", "--tasks", "conala"]) == 1
    assert "run the same command again" in capsys.readouterr().err


@dataclasses.dataclass
class Asked:
    adapter: Path | None = None
    options: dict[str, Any] = dataclasses.field(default_factory=dict)


@pytest.fixture()
def asked(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Asked:
    """Stands in for the evaluation, and notes what the command line asks of it."""
    note = Asked()
    found, _ = cli_records(tmp_path)

    def evaluate(adapter: Path | None, **options: Any) -> RunRecord:
        note.adapter, note.options = adapter, options
        return found

    monkeypatch.setattr(evaluation, "evaluate", evaluate)
    return note


def cli_records(folder: Path) -> tuple[RunRecord, Path]:
    from peft_bench.records import read_record

    place = evaluate_something(folder, "stand-in")
    return read_record(place), place


@pytest.mark.parametrize(
    ("line", "adapter", "rest"),
    [
        ("eval adapters/a --tasks conala", "adapters/a", []),
        ("eval --tasks conala adapters/a", "adapters/a", []),
        ("eval adapters/a --tasks conala --limit 8", "adapters/a", ["--limit", "8"]),
        ("eval --model m --tasks conala --limit 8", None, ["--limit", "8"]),
        ("eval --limit 8 --model m --tasks conala", None, ["--limit", "8"]),
        ("eval --model m --tasks conala --limit=8", None, ["--limit=8"]),
        (
            "eval --model m --tasks conala --model_args a=b --gen_kwargs num_beams=5",
            None,
            ["--model_args", "a=b", "--gen_kwargs", "num_beams=5"],
        ),
    ],
)
def test_eval_hands_what_it_does_not_know_to_the_harness(
    line: str, adapter: str | None, rest: list[str], asked: Asked
) -> None:
    assert cli.main(line.split()) == 0
    assert asked.adapter == (None if adapter is None else Path(adapter))
    assert asked.options["harness_args"] == rest
    assert asked.options["tasks"] == ["conala"]


def test_eval_prints_the_scores(asked: Asked, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["eval", "--model", "m", "--tasks", "conala,quickstart,", "--out", "o"]) == 0
    said = capsys.readouterr().out
    assert "conala v1.0: em@1 = 50.00 ± 10.00 %, n = 2" in said
    assert "record: stand-in" in said
    assert asked.options["tasks"] == ["conala", "quickstart"]
    assert (asked.options["model"], asked.options["out"]) == ("m", Path("o"))
