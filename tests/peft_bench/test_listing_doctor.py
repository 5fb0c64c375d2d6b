from __future__ import annotations

import shutil
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from peft_bench import data, doctor, listing, paths, runtime
from peft_bench.cli import main
from peft_bench.doctor import Finding
from peft_bench.errors import MissingError
from peft_bench.families import FAMILIES
from peft_bench.methods import METHODS


def named(findings: list[Finding]) -> dict[str, Finding]:
    return {finding.name: finding for finding in findings}


@pytest.fixture()
def healthy(conala_data: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A machine on which everything is there, whatever this one lacks."""
    everything = dict.fromkeys((*runtime.PACKAGES, "python"), "1.0")
    monkeypatch.setattr(runtime, "versions", lambda: everything)
    monkeypatch.setattr(runtime, "total_memory_bytes", lambda: 16 << 30)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=9 << 30))
    return conala_data


def test_every_task_and_group_is_listed_with_a_sentence() -> None:
    from lm_eval.tasks._yaml_loader import load_yaml

    files = sorted(paths.tasks_dir().glob("*/*.yaml"))
    configs = [load_yaml(file, resolve_func=False) for file in files]
    named = [config.get("group") or config.get("task") for config in configs]
    lines = [line.split(maxsplit=1) for line in listing.tasks()]
    assert [name for name, _ in lines] == [name for name in named if name is not None]
    assert {"conala_rag", "apps", "apps_full", "odex_clean"} <= {name for name, _ in lines}
    for name, about in lines:
        assert about[0].isupper() and about.endswith("."), name


def test_a_healthy_machine(healthy: Path, capsys: pytest.CaptureFixture[str]) -> None:
    findings = named(doctor.examine())
    assert {
        "torch",
        "lm-eval",
        "accelerator",
        "memory",
        "disk",
        "cache",
        "sandbox",
        "tasks",
    } <= set(findings)
    # Asked apart: a machine without a sandbox is not healthy, and says so.
    sandbox = findings.pop("sandbox")
    assert [finding for finding in findings.values() if not finding.ok] == []
    assert findings["data conala"].detail == "custom data, 8 test rows"
    assert main(["doctor"]) == (0 if sandbox.ok else 3)
    said = capsys.readouterr().out
    assert f"ok    {'torch':<12} 1.0" in said
    assert "data conala" in said


def test_what_is_missing_has_a_remedy_and_leaves_with_3(
    healthy: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    some = {"python": "1", "torch": "1"}
    monkeypatch.setattr(runtime, "versions", lambda: some)
    monkeypatch.setattr(runtime, "total_memory_bytes", lambda: 1 << 30)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=1 << 20))
    findings = named(doctor.examine())
    for name in ("peft", "lm-eval", "memory", "disk", "cache"):
        assert not findings[name].ok and findings[name].remedy, name
    assert findings["peft"].remedy == "pip install peft"
    assert findings["torch"].ok
    assert main(["doctor"]) == 3
    assert f"MISS  {'peft':<12} not installed\n{'':18} -> pip install peft" in (
        capsys.readouterr().out
    )


def test_tasks_that_are_nowhere(healthy: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def nowhere() -> Path:
        raise MissingError(place="tasks", problem="nowhere", remedy="reinstall")

    monkeypatch.setattr(paths, "tasks_dir", nowhere)
    [finding] = doctor._tasks()
    assert (finding.ok, finding.detail, finding.remedy) == (False, "nowhere", "reinstall")


def test_rows_may_be_absent_but_not_faulty_and_not_all(healthy: Path) -> None:
    absent = named(doctor.examine())["data codealpacapy"]
    assert absent.ok and "none there" in absent.detail and "no test split" in absent.detail
    (healthy / "codealpacapy").mkdir()
    (healthy / "codealpacapy" / "test.jsonl").write_text("{", encoding="utf-8")
    faulty = named(doctor.examine())["data codealpacapy"]
    assert not faulty.ok and faulty.remedy
    assert "data" not in named(doctor.examine())
    shutil.rmtree(healthy / "codealpacapy")
    shutil.rmtree(healthy / "conala")
    findings = named(doctor.examine())
    # HumanEval comes with its package, wherever the rows of others lie.
    assert findings["data conala"].ok and findings["data humaneval"].ok
    assert not findings["data"].ok and data.ENVIRONMENT_VARIABLE in findings["data"].remedy


def test_a_hub_that_is_away(monkeypatch: pytest.MonkeyPatch) -> None:
    from huggingface_hub import HfApi, constants

    def refused(*_: Any, **__: Any) -> None:
        raise ConnectionError("refused")

    monkeypatch.delenv(data.ENVIRONMENT_VARIABLE, raising=False)
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(HfApi, "dataset_info", refused)
    [finding] = doctor._data()
    assert not finding.ok and "ConnectionError" in finding.detail
    assert data.ENVIRONMENT_VARIABLE in finding.remedy
    monkeypatch.setattr(HfApi, "dataset_info", lambda *_, **__: None)
    [finding] = doctor._data()
    assert finding.ok
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    [finding] = doctor._data()
    assert not finding.ok and "HF_HUB_OFFLINE" in finding.detail


def test_where_the_cache_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    monkeypatch.delenv("PEFT_BENCH_CACHE", raising=False)
    assert paths.cache_dir() == tmp_path / "xdg" / "peft-bench"
    monkeypatch.setenv("PEFT_BENCH_CACHE", str(tmp_path / "own"))
    assert paths.cache_dir() == tmp_path / "own"


def test_tasks_and_recipes_are_found() -> None:
    assert (paths.tasks_dir() / "quickstart" / "quickstart.yaml").is_file()
    assert (paths.recipes_dir() / "quickstart.yaml").is_file()


def test_tasks_inside_the_installed_harness(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As a wheel leaves them: nothing beside the package, the tasks among the harness' own."""
    monkeypatch.setattr(paths, "_PACKAGE", tmp_path / "site-packages" / "peft_bench")
    harness = tmp_path / "site-packages" / "lm_eval" / "__init__.py"
    monkeypatch.setattr(paths, "find_spec", lambda _: SimpleNamespace(origin=str(harness)))
    with pytest.raises(MissingError) as caught:
        paths.tasks_dir()
    assert caught.value.exit_code == 3 and str(harness.parent) in str(caught.value)
    assert not paths.tasks_are_installed()
    conala = harness.parent / "tasks" / "peft_bench" / "conala"
    conala.mkdir(parents=True)
    (conala / "conala.yaml").touch()
    assert paths.tasks_dir() == conala.parent
    assert paths.tasks_are_installed()


def test_methods_are_listed_with_where_they_work() -> None:
    lines = list(listing.methods())
    assert [line.split()[0] for line in lines[:6]] == list(METHODS)
    said = {line.split()[0]: line for line in lines[7:]}
    assert said["vera"].endswith("works on every family")
    assert "refused: its loss is not a number" in said["cpt"]
    assert "works on llama, mistral" in said["adaption_prompt"]
    assert "8 bits alone" in said["loha"] and "packed weights" in said["full"]


def test_families_are_listed_with_their_models() -> None:
    lines = {line.split()[0]: line for line in listing.families()}
    assert set(FAMILIES) <= set(lines)
    assert "CodeLlama" in lines["llama"] and "seq2seq" in lines["t5"]
