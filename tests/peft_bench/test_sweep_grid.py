"""Grid files: what they say, what is wrong in them, and which cells come of them. No model runs."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest

from peft_bench import paths
from peft_bench.errors import MissingError, UsageError
from peft_bench.sweep.cells import Cell, expand
from peft_bench.sweep.driver import parse_shard
from peft_bench.sweep.grid import load_grid, parse_grid
from peft_bench.sweep.identity import identify, shard
from peft_bench.sweep.stand_ins import standing_in

GRID: dict[str, Any] = {
    "name": "g",
    "models": [{"name": "a", "source": "tiny"}, {"name": "b", "id": "org/b", "dtype": "float16"}],
    "data": [
        {"name": "quickstart"},
        {"name": "conala", "set": {"data.max_target_tokens": 32}},
        {"name": "joint", "train": ["quickstart", "conala"]},
    ],
    "methods": [
        {"name": "lora"},
        {"name": "ia3", "set": {"training.learning_rate": 0.01}},
        {"name": "qlora"},
    ],
    "baselines": [
        {"name": "zero-shot"},
        {"name": "icl", "shots": [1, 3], "seeds": [1, 2], "data": ["conala"], "models": ["b"]},
        {"name": "rag", "suffix": "_rag", "shots": [3], "data": ["conala"]},
    ],
    "axes": {"methods": ["lora", "ia3"], "data": ["quickstart", "conala"], "seeds": [1, 2]},
    "include": [{"models": ["b"], "methods": ["lora"], "data": ["joint"], "seeds": [1]}],
    "exclude": [{"models": ["a"], "methods": ["ia3"]}],
    "overrides": [{"where": {"models": ["b"], "data": ["conala"]}, "set": {"training.epochs": 2}}],
    "set": {"training.epochs": 1, "training.max_steps": 2},
    "args": ["--limit", "2"],
    "stand_ins": {"conala": "quickstart"},
}


def grid_with(**changes: Any) -> dict[str, Any]:
    return {**copy.deepcopy(GRID), **changes}


def cells_of(raw: dict[str, Any]) -> dict[str, Cell]:
    return {cell.name: cell for cell in expand(parse_grid(raw))}


def test_cells_are_the_product_and_what_is_included_without_what_is_excluded() -> None:
    cells = cells_of(GRID)
    trained = {name for name, cell in cells.items() if cell.recipe is not None}
    product = {f"a--lora--{d}--s{s}" for d in ("quickstart", "conala") for s in (1, 2)}
    product |= {
        f"b--{m}--{d}--s{s}"
        for m in ("lora", "ia3")
        for d in ("quickstart", "conala")
        for s in (1, 2)
    }
    assert trained == product | {"b--lora--joint--s1"}
    icl = {f"b--icl-{n}--conala--s{s}" for n in (1, 3) for s in (1, 2)}
    zero = {f"{m}--zero-shot--{d}" for m in "ab" for d in ("quickstart", "conala")}
    assert set(cells) - trained == icl | zero | {"a--rag-3--conala", "b--rag-3--conala"}


def test_recipes_and_options_come_from_all_axes() -> None:
    cells = cells_of(GRID)
    recipe = cells["b--ia3--conala--s2"].recipe
    assert recipe is not None
    assert recipe.model.id == "org/b" and recipe.model.dtype == "float16"
    assert recipe.training.learning_rate == 0.01 and recipe.training.seed == 2
    assert recipe.training.epochs == 2 and recipe.training.max_steps == 2
    assert recipe.data.max_target_tokens == 32 and recipe.data.tasks == ("conala",)
    joint = cells["b--lora--joint--s1"]
    assert joint.recipe is not None and joint.recipe.training.epochs == 1
    assert joint.recipe.data.tasks == joint.tasks == ("quickstart", "conala")
    icl = cells["b--icl-3--conala--s2"]
    assert icl.tasks == ("conala",)
    assert icl.args == (
        *("--limit", "2", "--num_fewshot", "3", "--seed", "0,1234,1234,2"),
        *("--model_args", "dtype=float16"),
    )
    assert cells["a--rag-3--conala"].tasks == ("conala_rag",)


def test_quantised_bases_are_scored_alone_too() -> None:
    raw = grid_with(models=[{"name": "b", "id": "org/b", "quantization": ["8bit"]}], include=[])
    raw["exclude"], raw["overrides"] = [], []
    cells = cells_of(raw)
    assert "--model_args" not in cells["b--zero-shot--conala"].args
    assert cells["b--zero-shot--8bit--conala"].args[-1] == "quantization=8bit"
    raw["axes"] = {"methods": ["qlora"], "data": ["conala"]}
    recipe = cells_of(raw)["b--qlora--conala--s42"].recipe
    assert recipe is not None and recipe.model.quantization == "4bit"


def test_all_faults_of_a_grid_are_told_at_once() -> None:
    raw = grid_with(
        models=[{"name": "a"}, {"name": "a", "id": "x"}, {"name": "../b", "id": "x"}],
        axes={"methods": ["lorra"]},
        exclude=[{"data": ["nothing"]}],
        gpu_memory=0,
        stand_ins={"conala": "apps"},
    )
    raw["baselines"][0]["suffix"] = "_rag"
    raw["data"].append({"name": "odd", "train": ["no-such-data"]})
    with pytest.raises(UsageError) as caught:
        parse_grid(raw)
    said = str(caught.value)
    for part in (
        "models[0].id: is missing",
        "'a' is there twice",
        "'../b' cannot name a folder",
        "axes.methods: 'lorra' is not defined",
        "exclude[0].data: 'nothing' is not defined",
        "gpu_memory: 0 is not",
        "'apps' cannot stand in",
        "no task quickstart_rag",
        "no data set is named 'no-such-data'",
    ):
        assert part in said


@pytest.mark.parametrize(
    ("changes", "part"),
    [
        ({"seed": 1}, "seed: unknown key"),
        ({"include": [{"methods": ["icl"]}]}, "'icl' is not defined"),
        ({"baselines": [{"name": "z", "shots": [-1]}]}, "shots: [-1] holds no number"),
        ({"stand_ins": {"apps": "quickstart"}}, "leaves conala without rows"),
    ],
)
def test_a_faulty_grid_is_refused(changes: dict[str, Any], part: str) -> None:
    with pytest.raises(UsageError, match="grid") as caught:
        parse_grid(grid_with(**changes))
    assert part in str(caught.value)


def test_faults_of_recipes_are_told_once_each() -> None:
    raw = grid_with(set={"training.epochs": -1, "training.learning_rat": 1, "model.id.x": 3})
    with pytest.raises(UsageError) as caught:
        expand(parse_grid(raw))
    said = str(caught.value)
    assert said.count("learning_rat: unknown key") == 1
    assert said.count("-1 is not positive") == 1
    assert "model.id" in said


def test_no_cell_and_no_file_are_told(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="leave no cell"):
        expand(parse_grid(grid_with(baselines=[], include=[], exclude=[{}])))
    with pytest.raises(MissingError, match="demo"):
        load_grid(tmp_path / "none.yaml")
    (tmp_path / "bad.yaml").write_text("a: [", encoding="utf-8")
    with pytest.raises(UsageError, match="not a readable YAML"):
        load_grid(tmp_path / "bad.yaml")


def folders(raw: dict[str, Any], tmp_path: Path) -> dict[str, tuple[str | None, str | None]]:
    grid = parse_grid(raw)
    with standing_in(grid.stand_ins, tmp_path):
        return {item.cell.name: (item.adapter, item.evaluation) for item in identify(expand(grid))}


def test_folders_change_with_what_scores_rest_on_and_with_nothing_else(tmp_path: Path) -> None:
    before = folders(GRID, tmp_path)
    assert folders(grid_with(name="other", title="t", gpu_memory=8), tmp_path) == before
    more = folders(grid_with(args=["--limit", "3"]), tmp_path)
    for name, (adapter, evaluation) in before.items():
        assert more[name][0] == adapter and more[name][1] != evaluation
    steps = folders(grid_with(set={"training.epochs": 1, "training.max_steps": 3}), tmp_path)
    for name, (adapter, evaluation) in before.items():
        assert (steps[name] == (adapter, evaluation)) == (adapter is None)


def test_new_rows_make_new_folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PEFT_BENCH_DATA", str(tmp_path))
    raw = grid_with(stand_ins={}, baselines=GRID["baselines"][:1], include=[])
    with standing_in({"conala": "quickstart"}, tmp_path):
        before = folders(raw, tmp_path)
        test = tmp_path / "conala" / "test.jsonl"
        test.write_text("".join(test.open(encoding="utf-8").readlines()[1:]), encoding="utf-8")
        after = folders(raw, tmp_path)
        (tmp_path / "conala" / "train.jsonl").unlink()
        gone = {item.cell.name: item for item in identify(expand(parse_grid(raw)))}
    name = "a--lora--conala--s1"
    assert after[name][0] == before[name][0] and after[name][1] != before[name][1]
    assert after["a--lora--quickstart--s1"] == before["a--lora--quickstart--s1"]
    assert isinstance(gone[name].problem, MissingError) and gone[name].evaluation is None
    assert gone["a--zero-shot--conala"].problem is None


def test_identical_cells_are_one(tmp_path: Path) -> None:
    raw = grid_with(methods=[*GRID["methods"], {"name": "again", "method": "lora"}])
    raw["axes"] = {**raw["axes"], "methods": ["lora", "again"]}
    grid = parse_grid(raw)
    with standing_in(grid.stand_ins, tmp_path):
        found = {item.cell.name: item for item in identify(expand(grid))}
    first, second = found["a--lora--conala--s1"], found["a--again--conala--s1"]
    assert first.same_as is None and second.same_as == first.cell.name
    assert (second.adapter, second.evaluation) == (first.adapter, first.evaluation)


def test_shards_part_the_cells_and_keep_an_adapter_s_together(tmp_path: Path) -> None:
    grid = parse_grid(GRID)
    with standing_in(grid.stand_ins, tmp_path):
        planned = identify(expand(grid))
    parts = [shard(planned, (number, 3)) for number in (1, 2, 3)]
    names = [item.cell.name for part in parts for item in part]
    assert sorted(names) == sorted(item.cell.name for item in planned)
    sizes = [len(part) for part in parts]
    assert max(sizes) - min(sizes) <= 1
    adapters = [{item.adapter for item in part} - {None} for part in parts]
    assert not adapters[0] & adapters[1] and not adapters[1] & adapters[2]
    assert shard(planned, None) == planned


@pytest.mark.parametrize("text", ["0/3", "4/3", "1", "a/b", "1/0", "-1/2", "1/2/3"])
def test_faulty_shards_are_refused(text: str) -> None:
    with pytest.raises(UsageError, match="--shard"):
        parse_shard(text)
    assert parse_shard("2/3") == (2, 3)


def test_the_grids_that_come_with_the_project_are_whole() -> None:
    demo = expand(load_grid(paths.recipes_dir() / "demo" / "grid.yaml"))
    assert len({cell.model.name for cell in demo}) >= 2
    assert len({cell.method for cell in demo if cell.recipe}) >= 4
    assert len({cell.data for cell in demo}) >= 2
    assert {cell.method for cell in demo if not cell.recipe} == {"zero-shot", "icl", "rag"}

    study = {c.name: c for c in expand(load_grid(paths.recipes_dir() / "weyssow2023/grid.yaml"))}
    lora = study["codellama-7b--lora--conala--s42"].recipe
    assert lora is not None and lora.training.epochs == 5 and lora.training.batch_size == 8
    joint = study["codellama-7b--lora--joint--s42"]
    assert joint.tasks == ("conala", "codealpacapy")
    quantised = study["codellama-34b-python--qlora-4bit--conala--s42"].recipe
    assert quantised is not None and quantised.model.quantization == "4bit"
    assert "codellama-34b-python--lora--conala--s42" not in study
    assert "codet5p-220m--full--conala--s42" in study
    assert len({c.args for n, c in study.items() if n.startswith("codellama-7b--icl-3--c")}) == 5
