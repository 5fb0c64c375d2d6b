"""Sweeps of a tiny model for real: done once, gone on with, shared, and what a failure leaves."""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from peft_bench import records
from peft_bench.cli import main
from peft_bench.errors import MissingError, PeftBenchError, UsageError
from peft_bench.sweep import run
from peft_bench.sweep.layout import Layout

GRID: dict[str, Any] = {
    "name": "tiny",
    "models": [{"name": "tiny", "source": "tiny"}],
    "data": [{"name": "conala"}],
    "stand_ins": {"conala": "quickstart"},
    "methods": [{"name": "lora"}, {"name": "prompt_tuning"}],
    "baselines": [{"name": "zero-shot"}],
    "set": {
        "training.max_steps": 2,
        "training.batch_size": 2,
        "training.evaluations_per_epoch": 1,
        "data.max_train_rows": 8,
        "data.max_prompt_tokens": 48,
        "data.max_target_tokens": 8,
    },
    "args": ["--batch_size", "4", "--limit", "2", "--gen_kwargs", "max_gen_toks=4"],
}
CELLS = ("tiny--zero-shot--conala", "tiny--lora--conala--s42", "tiny--prompt_tuning--conala--s42")


@pytest.fixture(scope="session")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("cache")


@pytest.fixture(autouse=True)
def _cache(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PEFT_BENCH_CACHE", str(cache))


@pytest.fixture(scope="session")
def faults() -> ModuleType:
    file = Path(__file__).with_name("sweep_faults.py")
    spec = importlib.util.spec_from_file_location("sweep_faults", file)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def write(tmp_path: Path, **changes: Any) -> Path:
    file = tmp_path / "grid.yaml"
    file.write_text(json.dumps({**GRID, **changes}), encoding="utf-8")
    return file


def finished(out: Path) -> dict[str, Path]:
    """Evaluations by the names of their cells; not what a failed one may go on with."""
    folders = [f for f in (out / "evaluations").iterdir() if f.suffix != ".partial"]
    return {folder.name.rpartition("--")[0]: folder for folder in folders}


def test_a_grid_is_done_once_and_shown(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], faults: ModuleType
) -> None:
    grid, out = write(tmp_path), tmp_path / "out"
    assert run(grid, out=out, dry_run_only=True) == 0
    listed = capfd.readouterr().out
    assert listed.count("to do ") == 3 and "3 cells: 3 to do." in listed
    assert "  tiny, lora, 48+8 tokens: fits at micro batch 2" in listed
    assert not out.exists()

    assert run(grid, out=out) == 0
    said = capfd.readouterr()
    assert set(finished(out)) == set(CELLS)
    assert [line[:6] for line in said.err.splitlines() if line[0] == "["] == [
        f"[{number}/3] " for number in (1, 2, 3)
    ]
    assert "3 of 3 cells done, 0 failed" in said.out
    # What the libraries say is in the logs alone.
    assert "lm_eval" not in said.out + said.err
    assert all("em@10" in log.read_text() for log in (out / "logs").iterdir())
    rows = faults.board(out)
    assert {row["method"] for row in rows} == {"none", "lora", "prompt_tuning"}
    assert all("custom" in row["marks"] or row["custom_data"].lower() == "true" for row in rows)
    assert GRID["name"] in (out / "leaderboard.html").read_text(encoding="utf-8")

    before = {file: file.stat().st_mtime_ns for file in out.glob("[ae]*/*/*")}
    assert run(grid, out=out) == 0
    assert capfd.readouterr().err.count("done before") == 3
    assert {file: file.stat().st_mtime_ns for file in out.glob("[ae]*/*/*")} == before
    assert faults.board(out) == rows
    run(grid, out=out, dry_run_only=True)
    listed = capfd.readouterr().out
    assert listed.count("done ") == 3 and "GiB" not in listed


def test_the_verb_lists_cells_whose_rows_are_missing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("PEFT_BENCH_DATA", str(tmp_path / "nothing"))
    grid = write(tmp_path, stand_ins={})
    command = ["sweep", str(grid), "--out", str(tmp_path / "out"), "--dry-run"]
    assert main(command) == 0
    listed = capfd.readouterr().out
    assert listed.count("faulty   tiny--") == 3 and "3 cells: 3 faulty." in listed
    assert listed.count("has no train split") + listed.count("has no test split") == 2
    assert main([*command, "--shard", "9/2"]) == 2
    assert main([*command[:1], str(tmp_path / "none.yaml")]) == 3


def test_shards_make_the_same_board_together(tmp_path: Path, faults: ModuleType) -> None:
    grid = write(tmp_path)
    codes = [run(grid, out=tmp_path / "out", shard_of=f"{number}/2") for number in (2, 1)]
    assert codes == [0, 0]
    assert set(finished(tmp_path / "out")) == set(CELLS)
    assert len(faults.board(tmp_path / "out")) == 3


def test_a_failing_cell_is_told_and_the_others_are_done(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    broken = {"name": "gone", "id": str(tmp_path / "no-such-model")}
    grid = write(tmp_path, models=[broken, *GRID["models"]], methods=GRID["methods"][:1])
    assert run(grid, out=tmp_path / "out") == 1
    said = capfd.readouterr()
    assert set(finished(tmp_path / "out")) == set(CELLS[:2])
    assert "2 of 4 cells done, 2 failed" in said.out
    [told] = [line for line in said.out.splitlines() if "failed: gone--lora" in line]
    assert "no-such-model" in told
    log = Path(told.rpartition("(log: ")[2].rstrip(")"))
    assert "Traceback" in log.read_text(encoding="utf-8")
    run(grid, out=tmp_path / "out", dry_run_only=True)
    assert capfd.readouterr().out.count("failed last time: ") == 2


def test_rows_that_are_missing_fail_their_cells_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("PEFT_BENCH_DATA", str(tmp_path / "nothing"))
    grid = write(tmp_path, stand_ins={}, methods=[], data=[{"name": "conala"}])
    assert run(grid, out=tmp_path / "out") == 1
    assert "has no test split" in capfd.readouterr().out


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
def test_a_full_disk_stops_the_sweep_and_loses_nothing(tmp_path: Path) -> None:
    grid, out = write(tmp_path, methods=[]), tmp_path / "out"
    layout = Layout(out)
    layout.make()
    first = run(write(tmp_path, methods=GRID["methods"][:1], baselines=[]), out=out)
    assert first == 0
    kept = finished(out)
    grid = write(tmp_path, methods=GRID["methods"][:1])
    run(grid, out=tmp_path / "other", dry_run_only=True)
    name = _evaluation_of(grid, tmp_path, CELLS[0])
    log = layout.log_file(name)
    log.symlink_to("/dev/full")
    with pytest.raises(PeftBenchError, match="no space is left"):
        run(grid, out=out)
    assert all(records.read_record(folder) for folder in kept.values())
    log.unlink()
    assert run(grid, out=out) == 0
    assert set(finished(out)) == {CELLS[0], *kept}


def _evaluation_of(grid: Path, tmp_path: Path, cell: str) -> str:
    from peft_bench.sweep.cells import expand
    from peft_bench.sweep.grid import load_grid
    from peft_bench.sweep.identity import identify
    from peft_bench.sweep.stand_ins import standing_in

    loaded = load_grid(grid)
    with standing_in(loaded.stand_ins, tmp_path / "rows"):
        [name] = [i.evaluation for i in identify(expand(loaded)) if i.cell.name == cell]
    assert name is not None
    return name


@pytest.mark.parametrize("at_once", [False, True])
def test_killed_sweeps_end_in_the_board_of_an_undisturbed_one(
    at_once: bool, tmp_path: Path
) -> None:
    """kill -9 at random moments; and two sweeps into one folder."""
    script = Path(__file__).with_name("sweep_faults.py")
    grid = write(tmp_path, methods=GRID["methods"][:1])
    extra = ["--at-once"] if at_once else []
    done = subprocess.run(
        [sys.executable, script, grid, tmp_path, "--kills", "2", *extra],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.count("kill ") == 2


def test_faulty_arguments_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="--engine"):
        run(write(tmp_path), out=tmp_path / "out", engine="slurm")
    with pytest.raises(UsageError, match="--shard"):
        run(write(tmp_path), out=tmp_path / "out", shard_of="3/2")
    with pytest.raises(MissingError, match="no such grid"):
        run(tmp_path / "none.yaml", out=tmp_path / "out")
    (tmp_path / "file").write_text("")
    with pytest.raises(PeftBenchError, match="cannot be written"):
        run(write(tmp_path), out=tmp_path / "file")
    assert not (tmp_path / "out").exists()
