"""``peft-bench exec``, in part through the real command line."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from peft_bench_sandbox import Level, Limits

from peft_bench.errors import MissingError, UsageError
from peft_bench.execution import execute, parse_limits

# What the level promises is told where it is shown to people; these programs are our own.
pytestmark = pytest.mark.filterwarnings("ignore::peft_bench_sandbox.WeakSandboxWarning")

# What this process imports, a process of its own imports too.
PYTHONPATH = os.pathsep.join(path for path in sys.path if path)

PROGRAMS: list[Any] = [
    {
        "id": "good",
        "source": "def add(a, b): return a + b",
        "tests": [
            {"kind": "asserts", "code": "assert add(1, 2) == 3", "entry_point": "add"},
            {"kind": "call", "function": "add", "args": [2, 2], "expected": 4},
        ],
    },
    {
        "id": "bad",
        "source": "print(input())",
        "tests": [{"kind": "stdin", "stdin": "a\n", "stdout": "b\n"}],
    },
]


def write(folder: Path, *lines: Any) -> Path:
    file = folder / "in.jsonl"
    texts = [line if isinstance(line, str) else json.dumps(line) for line in lines]
    file.write_text("".join(text + "\n" for text in texts), encoding="utf-8")
    return file


def cli(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "peft_bench.cli", "exec", *map(str, arguments)],
        env={**os.environ, "PYTHONPATH": PYTHONPATH},
        capture_output=True,
        text=True,
        timeout=60,
    )


def verdicts(file: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()]


def test_programs_in_verdicts_out_and_on_from_there(tmp_path: Path) -> None:
    out = tmp_path / "out.jsonl"
    file = write(tmp_path, *PROGRAMS)
    asked = ("--out", out, "--require", "limits", "--limit", "cpu_s=3")
    done = cli(file, *asked, "--workers", "1")
    assert done.returncode == 0, done.stderr
    found = verdicts(out)
    assert [(one["id"], one["status"]) for one in found] == [("good", "passed"), ("bad", "wrong")]
    assert (found[0]["passed"], found[0]["total"]) == (2, 2)
    assert [one["judge"] for one in found] == ["split", "split"]
    assert "2 programs run: 1 passed, 1 wrong" in done.stdout

    with out.open("a", encoding="utf-8") as torn:
        torn.write('{"id": "thi')
    write(tmp_path, *PROGRAMS, {**PROGRAMS[0], "id": "third"})
    again = cli(file, *asked)
    assert again.returncode == 0, again.stderr
    assert verdicts(out)[:2] == found
    assert [one["id"] for one in verdicts(out)] == ["good", "bad", "third"]
    assert "1 programs run, 2 from before: 2 passed, 1 wrong" in again.stdout


def test_bad_lines_are_named_and_the_rest_is_run(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = write(tmp_path, "", "{", PROGRAMS[0], {"id": "x", "source": "pass", "tests": []})
    code = execute(file, tmp_path / "out.jsonl", require="limits", workers=1)
    said = capsys.readouterr()
    assert code == 1
    assert f"{file}: line 2: " in said.err
    assert f"{file}: line 4: tests is empty" in said.err
    assert "line 1:" not in said.err and "line 3:" not in said.err
    assert [one["id"] for one in verdicts(tmp_path / "out.jsonl")] == ["good"]


def test_a_limit_reaches_the_program(tmp_path: Path) -> None:
    loop = {**PROGRAMS[0], "id": "loop", "source": "while True: pass"}
    out = tmp_path / "out.jsonl"
    code = execute(write(tmp_path, loop), out, require="limits", limits=["cpu_s=0.2"])
    assert code == 0
    assert verdicts(out)[0]["status"] == "cpu"


def test_a_level_that_is_not_to_be_had(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("peft_bench_sandbox.pool.best_level", lambda: Level.LIMITS)
    monkeypatch.setattr("peft_bench_sandbox.pool.told_lacking", lambda: "seccomp: allow it")
    with pytest.raises(MissingError, match=r"'strong'.*seccomp: allow it") as refused:
        execute(write(tmp_path, *PROGRAMS), tmp_path / "out.jsonl")
    assert "--require limits" in refused.value.remedy
    assert not (tmp_path / "out.jsonl").exists()


def test_an_unknown_level(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="known: none, limits, strong"):
        execute(write(tmp_path, *PROGRAMS), tmp_path / "out.jsonl", require="weak")


def test_files_that_are_not_there(tmp_path: Path) -> None:
    with pytest.raises(MissingError, match=r"none\.jsonl"):
        execute(tmp_path / "none.jsonl", tmp_path / "out.jsonl", require="limits")
    assert not (tmp_path / "out.jsonl").exists()
    with pytest.raises(MissingError, match="nowhere"):
        execute(write(tmp_path, *PROGRAMS), tmp_path / "nowhere" / "o.jsonl", require="limits")


def test_an_output_that_does_not_fit(tmp_path: Path) -> None:
    file = write(tmp_path, *PROGRAMS)
    with pytest.raises(UsageError, match="is the input itself"):
        execute(file, file, require="limits")
    other = tmp_path / "other.jsonl"
    other.write_text("not a verdict\n", encoding="utf-8")
    with pytest.raises(UsageError, match=r"other\.jsonl:1 is no verdict"):
        execute(file, other, require="limits")
    assert other.read_text(encoding="utf-8") == "not a verdict\n"
    with pytest.raises(UsageError) as caught:
        execute(file, tmp_path, require="limits")
    assert str(tmp_path) in str(caught.value) and "directory" in str(caught.value)


def test_no_workers(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="workers is 0"):
        execute(write(tmp_path, *PROGRAMS), tmp_path / "o.jsonl", require="limits", workers=0)


def test_limits_are_parsed() -> None:
    assert parse_limits([]) == Limits()
    found = parse_limits(["cpu_s=1.5", "wall_s=20", "memory_bytes=268435456", "cpu_s=2"])
    assert found == Limits(cpu_s=2.0, wall_s=20.0, memory_bytes=1 << 28)


@pytest.mark.parametrize(
    ("setting", "said"),
    [
        ("cpu=1", "no limit is named 'cpu'. known: cpu_s, wall_s"),
        ("", "no limit is named ''"),
        ("cpu_s", "'' is not a number"),
        ("cpu_s=fast", "'fast' is not a number"),
        ("memory_bytes=1.5", "'1.5' is not a whole number"),
        ("memory_bytes=2GiB", "'2GiB' is not a whole number"),
        ("cpu_s=0", "Limits.cpu_s is 0.0"),
        ("cpu_s=nan", "Limits.cpu_s is nan"),
        ("memory_bytes=10", "Limits.memory_bytes is 10"),
    ],
)
def test_faulty_limits(setting: str, said: str) -> None:
    with pytest.raises(UsageError) as caught:
        parse_limits([setting])
    assert said in str(caught.value) and "--limit" in str(caught.value)
