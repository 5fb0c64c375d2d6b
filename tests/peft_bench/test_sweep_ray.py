"""Sweeps on Ray: what a worker does, without Ray; and with it, where it is installed."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

from peft_bench.errors import MissingError, PeftBenchError
from peft_bench.sweep import run
from peft_bench.sweep.cells import expand
from peft_bench.sweep.grid import load_grid
from peft_bench.sweep.identity import Planned, identify
from peft_bench.sweep.layout import Layout
from peft_bench.sweep.ray_engine import Needs
from peft_bench.sweep.ray_worker import SCRATCH, Job, do_cell, other_rows, pack, unpack
from peft_bench.sweep.stand_ins import standing_in

with_ray = pytest.mark.skipif(find_spec("ray") is None, reason="needs the extra ray")

GRID: dict[str, Any] = {
    "name": "tiny",
    "models": [{"name": "tiny", "source": "tiny"}],
    "data": [{"name": "conala"}],
    "stand_ins": {"conala": "quickstart"},
    "methods": [{"name": "lora"}],
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


@pytest.fixture(autouse=True)
def _cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PEFT_BENCH_CACHE", str(tmp_path_factory.getbasetemp() / "sweep-cache"))


@pytest.fixture
def grid(tmp_path: Path) -> Path:
    file = tmp_path / "grid.yaml"
    file.write_text(json.dumps(GRID), encoding="utf-8")
    return file


@pytest.fixture
def planned(grid: Path, tmp_path: Path) -> dict[str, Planned]:
    loaded = load_grid(grid)
    with standing_in(loaded.stand_ins, tmp_path / "rows"):
        return {item.cell.method: item for item in identify(expand(loaded))}


def job_of(item: Planned, out: Path, **named: Any) -> Job:
    return Job(item, GRID["stand_ins"], str(out), ".seen", **named)


def test_a_node_that_sees_the_sweep_s_folder_works_in_it(
    planned: dict[str, Planned], tmp_path: Path
) -> None:
    layout = Layout(tmp_path / "out")
    layout.make()
    (layout.out / ".seen").touch()
    done = do_cell(job_of(planned["zero-shot"], layout.out))
    assert done.ok and "em@10" in done.text and done.sandbox
    assert not done.tars and done.log is None
    assert layout.record(str(planned["zero-shot"].evaluation)) is not None


def test_a_node_that_does_not_sends_what_is_finished(
    planned: dict[str, Planned], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(SCRATCH, str(tmp_path / "first-node"))
    item, driver = planned["lora"], Layout(tmp_path / "out")
    driver.make()
    done = do_cell(job_of(item, driver.out))
    assert done.ok and done.log is not None and "em@10" in done.log
    assert set(done.tars) == {f"adapters/{item.adapter}", f"evaluations/{item.evaluation}"}
    for part, content in done.tars.items():
        unpack(content, driver.out / part)
    record = driver.record(str(item.evaluation))
    assert record is not None and record.adapter is not None

    # Another node scores the driver's adapter once it was sent, and trains none of its own.
    monkeypatch.setenv(SCRATCH, str(tmp_path / "second-node"))
    asked = do_cell(job_of(item, driver.out, has_adapter=True))
    assert asked.lacks_adapter and not asked.tars
    adapter = pack(driver.adapters / str(item.adapter))
    again = do_cell(job_of(item, driver.out, has_adapter=True, adapter_tar=adapter))
    assert again.ok and set(again.tars) == {f"evaluations/{item.evaluation}"}
    unpack(again.tars.popitem()[1], tmp_path / "again")
    scored = json.loads((tmp_path / "again" / "record.json").read_text(encoding="utf-8"))
    assert scored["adapter"]["sha256"] == record.adapter.sha256


def test_a_node_with_other_rows_does_nothing(
    planned: dict[str, Planned], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PEFT_BENCH_DATA", str(tmp_path / "rows"))
    assert other_rows(planned["lora"]) is None
    test = tmp_path / "rows" / "conala" / "test.jsonl"
    test.write_text("".join(test.open(encoding="utf-8").readlines()[1:]), encoding="utf-8")
    assert "other rows" in str(other_rows(planned["lora"]))
    test.unlink()
    assert "conala" in str(other_rows(planned["zero-shot"]))


def test_a_folder_that_is_there_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "a" / "deep").mkdir(parents=True)
    (tmp_path / "a" / "deep" / "file").write_text("x")
    content = pack(tmp_path / "a")
    unpack(content, tmp_path / "b")
    assert (tmp_path / "b" / "deep" / "file").read_text() == "x"
    (tmp_path / "b" / "deep" / "file").write_text("mine")
    unpack(content, tmp_path / "b")
    assert (tmp_path / "b" / "deep" / "file").read_text() == "mine"
    assert sorted(path.name for path in tmp_path.glob("*b*")) == ["b"]


@pytest.mark.skipif(find_spec("ray") is not None, reason="Ray is installed")
def test_without_ray_the_extra_is_named(grid: Path, tmp_path: Path) -> None:
    with pytest.raises(MissingError, match=r"peft-bench\[ray\]"):
        run(grid, out=tmp_path / "out", engine="ray")


@with_ray
def test_killed_workers_cells_run_again_and_the_records_are_those_of_one_process(
    grid: Path, tmp_path: Path
) -> None:
    script = Path(__file__).with_name("sweep_faults.py")
    done = subprocess.run(
        [sys.executable, script, grid, tmp_path, "--kills", "1", "--ray"],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
        capture_output=True,
        text=True,
        timeout=400,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "kill 1 in ray-1" in done.stdout


def test_cells_ask_for_what_fit_says(grid: Path, planned: dict[str, Planned]) -> None:
    loaded, item = load_grid(grid), planned["lora"]
    nodes = [{"CPU": 2.0, "memory": 8.0 * 2**30}, {"memory": 1e6}]
    asked = Needs(nodes, loaded, None).of(item)
    assert 1e6 < asked["memory"] < 8 * 2**30
    assert asked["num_gpus"] == 0 and asked["max_retries"] == 3
    assert "memory" not in Needs(nodes, loaded, None).of(planned["zero-shot"])
    with_gpu = [{**nodes[1], "GPU": 1.0}]
    assert Needs(with_gpu, loaded, None).of(item)["num_gpus"] == 1
    assert Needs(with_gpu, loaded, 0.5).of(item)["num_gpus"] == 0.5
    with pytest.raises(PeftBenchError, match="the largest node gives"):
        Needs(nodes[1:], loaded, None).of(item)
