"""A file in, a file out: bad lines, order, resuming."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import pytest
from peft_bench_sandbox import (
    Level,
    Limits,
    Program,
    SandboxUnavailable,
    StreamSummary,
    Verdict,
    exec_jsonl,
    verdict_from_json,
)
from peft_bench_sandbox.pool import run_ordered


def line(name: str, source: str = "pass") -> str:
    tests = [{"kind": "asserts", "code": "pass"}]
    return json.dumps({"id": name, "source": source, "tests": tests}) + "\n"


def run(folder: Path, **options: Any) -> StreamSummary:
    return exec_jsonl(folder / "in.jsonl", folder / "out.jsonl", require="limits", **options)


def ids(folder: Path) -> list[str]:
    lines = (folder / "out.jsonl").read_text().splitlines()
    return [verdict_from_json(json.loads(one)).id for one in lines]


def test_verdicts_are_written_in_order_in_the_agreed_form(tmp_path: Path) -> None:
    names = [f"p{n}" for n in range(12)]
    text = "".join(line(n, "import time; time.sleep(0.2)" if n == "p0" else "1/0") for n in names)
    (tmp_path / "in.jsonl").write_text(text)
    summary = run(tmp_path, workers=3)
    assert ids(tmp_path) == names
    assert (summary.ran, summary.resumed, summary.bad) == (12, 0, ())
    assert summary.statuses == {"passed": 1, "exception": 11}
    written = json.loads((tmp_path / "out.jsonl").read_text().splitlines()[0])
    assert list(written) == [
        *("id", "status", "passed", "total", "message"),
        *("cpu_s", "wall_s", "peak_bytes", "judge", "asked"),
    ]


def test_bad_lines_are_told_by_number_and_the_rest_runs(tmp_path: Path) -> None:
    bad = b'{"id": "torn\n' + b"\xff\xfe{}\n" + b'{"id": "x", "source": ""}\n' + b"[1]\n"
    text = line("a").encode() + b"\n" + bad + line("b").encode() + b"  \n" + b"[" * 100_000 + b"\n"
    (tmp_path / "in.jsonl").write_bytes(text + line("c").encode())
    summary = run(tmp_path)
    assert ids(tmp_path) == ["a", "b", "c"]
    assert [fault.number for fault in summary.bad] == [3, 4, 5, 6, 9]
    assert "lacks tests" in summary.bad[2].message
    assert all(fault.message and len(fault.message) <= 300 for fault in summary.bad)


def test_limits_reach_the_programs(tmp_path: Path) -> None:
    (tmp_path / "in.jsonl").write_text(line("slow", "import time; time.sleep(20)"))
    assert run(tmp_path, limits=Limits(wall_s=0.2)).statuses == {"timeout": 1}


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of four programs, a bad line among them, and all their verdicts."""
    folder = tmp_path_factory.mktemp("whole")
    text = line("a") + "no json\n" + line("b") + line("b") + line("d")
    (folder / "in.jsonl").write_text(text)
    assert run(folder).ran == 4
    return folder


@pytest.mark.parametrize("kept", [0, 1, 2, 3, 4])
@pytest.mark.parametrize("torn", ["", '{"id": "d', "x" * 200_000], ids=["whole", "torn", "long"])
def test_resuming_goes_on_after_the_last_whole_line(
    whole: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kept: int, torn: str
) -> None:
    started = []

    def watched(programs: Iterable[Program], *given: Any, **named: Any) -> Iterator[Verdict]:
        def each() -> Iterator[Program]:
            for program in programs:
                started.append(program.id)
                yield program

        return run_ordered(each(), *given, **named)

    monkeypatch.setattr("peft_bench_sandbox.stream.run_ordered", watched)
    (tmp_path / "in.jsonl").write_bytes((whole / "in.jsonl").read_bytes())
    lines = (whole / "out.jsonl").read_text().splitlines(keepends=True)
    (tmp_path / "out.jsonl").write_text("".join(lines[:kept]) + torn)
    summary = run(tmp_path)
    assert ids(tmp_path) == ["a", "b", "b", "d"]
    assert started == ["a", "b", "b", "d"][kept:]
    assert (summary.ran, summary.resumed) == (4 - kept, kept)
    assert [fault.number for fault in summary.bad] == [2]
    assert summary.statuses == {"passed": 4}
    # Byte for byte, times included: no finished program was run again.
    assert (tmp_path / "out.jsonl").read_text().splitlines(True)[:kept] == lines[:kept]


@pytest.mark.parametrize("inputs", [["other"], []])
def test_an_output_of_another_input_is_refused_and_kept(tmp_path: Path, inputs: list[str]) -> None:
    (tmp_path / "in.jsonl").write_text(line("a"))
    run(tmp_path)
    before = (tmp_path / "out.jsonl").read_text()
    (tmp_path / "in.jsonl").write_text("".join(map(line, inputs)))
    with pytest.raises(ValueError, match=r"out.jsonl:1 is a verdict on 'a'.*give another output"):
        run(tmp_path)
    assert (tmp_path / "out.jsonl").read_text() == before


@pytest.mark.parametrize(
    ("source", "options", "said"),
    [
        ("1/0", {}, "another program or other tests"),
        ("pass", {"limits": Limits(cpu_s=1)}, "other limits, profile or level"),
    ],
)
def test_an_output_that_was_asked_something_else_is_refused_and_kept(
    tmp_path: Path, source: str, options: dict[str, Any], said: str
) -> None:
    (tmp_path / "in.jsonl").write_text(line("a") + line("b"))
    run(tmp_path)
    before = (tmp_path / "out.jsonl").read_text()
    (tmp_path / "in.jsonl").write_text(line("a") + line("b", source) + line("c"))
    number = 1 if options else 2
    with pytest.raises(ValueError, match=rf"out.jsonl:{number}, the verdict .* with {said}; give"):
        run(tmp_path, **options)
    assert (tmp_path / "out.jsonl").read_text() == before


def test_what_the_sandbox_failed_on_is_run_again(whole: Path, tmp_path: Path) -> None:
    (tmp_path / "in.jsonl").write_bytes((whole / "in.jsonl").read_bytes())
    lines = (whole / "out.jsonl").read_text().splitlines(keepends=True)
    failed = [one.replace('"passed"', '"harness_error"', 1) for one in lines]
    (tmp_path / "out.jsonl").write_text(lines[0] + failed[1] + lines[2])
    summary = run(tmp_path)
    assert (summary.ran, summary.resumed, summary.statuses) == (2, 2, {"passed": 4})
    written = (tmp_path / "out.jsonl").read_text().splitlines(keepends=True)
    assert [written[0], written[2]] == [lines[0], lines[2]]
    assert ids(tmp_path) == ["a", "b", "b", "d"] and "harness_error" not in "".join(written)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["in.jsonl", "out.jsonl"]


def test_an_output_that_is_something_else_is_refused_and_kept(tmp_path: Path) -> None:
    (tmp_path / "in.jsonl").write_text(line("a"))
    (tmp_path / "out.jsonl").write_text("my notes\n")
    with pytest.raises(ValueError, match=r"out.jsonl:1 is no verdict"):
        run(tmp_path)
    assert (tmp_path / "out.jsonl").read_text() == "my notes\n"


def test_the_input_is_not_its_own_output(tmp_path: Path) -> None:
    path = tmp_path / "in.jsonl"
    path.write_text(line("a"))
    with pytest.raises(ValueError, match="is the input itself"):
        exec_jsonl(path, path, require="limits")
    assert path.read_text() == line("a")


def test_a_level_that_is_not_to_be_had_writes_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("peft_bench_sandbox.pool.best_level", lambda: Level.LIMITS)
    (tmp_path / "in.jsonl").write_text(line("a"))
    with pytest.raises(SandboxUnavailable):
        exec_jsonl(tmp_path / "in.jsonl", tmp_path / "out.jsonl")
    assert not (tmp_path / "out.jsonl").exists()
