"""An editable install: the harness finds the tasks by ``--include_path tasks``."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from importlib import metadata
from pathlib import Path

import pytest

import peft_bench
from peft_bench import paths

ROOT = Path(__file__).resolve().parents[2]


def is_editable() -> bool:
    """Whether the installed distribution only points here, by a .pth file."""
    try:
        files = metadata.distribution("peft-bench").files or []
    except metadata.PackageNotFoundError:
        return False
    return any(file.suffix == ".pth" for file in files)


pytestmark = [
    pytest.mark.checkout,
    pytest.mark.skipif(
        not is_editable() or paths.tasks_are_installed(),
        reason="needs an editable install without tasks inside lm_eval (tox -e types has one)",
    ),
]


def test_package_is_the_checkout() -> None:
    assert Path(peft_bench.__file__).resolve().parent == ROOT / "peft_bench"
    assert paths.tasks_dir() == ROOT / "tasks"
    assert paths.recipes_dir() == ROOT / "recipes"


def test_lm_eval_with_include_path(
    trained: Callable[..., Path],
    tiny_model: Callable[..., Path],
    tiny_data: Path,
    tmp_path: Path,
) -> None:
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    arguments = f"pretrained={tiny_model()},peft={trained()}"
    done = subprocess.run(
        [
            str(Path(sys.executable).with_name("lm_eval")),
            *("--model", "hf", "--model_args", arguments),
            *("--tasks", "conala", "--limit", "4", "--include_path", "tasks"),
            *("--output_path", str(tmp_path / "plain")),
        ],
        cwd=ROOT,
        env={**environment, "PEFT_BENCH_DATA": str(tiny_data)},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    [file] = (tmp_path / "plain").rglob("results_*.json")
    results = json.loads(file.read_text(encoding="utf-8"))
    assert results["n-samples"]["conala"] == {"original": 8, "effective": 4}
    assert "em@10,none" in results["results"]["conala"]
