"""`peft-bench fit`: answers in words, the table, the files, and what it refuses."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest

from peft_bench.errors import MissingError, UsageError
from peft_bench.fit import (
    Case,
    Length,
    Plan,
    Question,
    Refused,
    answer,
    examine,
    remedy,
    run,
    sentence,
    what_fits,
)
from peft_bench.fit import study as built_in
from peft_bench.fit.search import CONTEXT_BYTES, CUBLAS_BYTES

GIB = 1024**3


@pytest.fixture(scope="module")
def plan() -> Plan:
    # One layer of a real width: the allocator deals in segments of 20 MiB, and nothing is real.
    config: Any = built_in.config("codellama/CodeLlama-7b-hf")
    config.num_hidden_layers = 1
    return Plan(config, length=Length(192, 64), head="all", micro_batch_size=4)


@pytest.fixture(scope="module")
def roomy(plan: Plan) -> Case:
    case = examine(plan, 24 * GIB)
    assert isinstance(case, Case)
    return case


def test_parts_make_the_whole(roomy: Case) -> None:
    whole = roomy.whole
    assert roomy.best == roomy.least == whole and whole.fits and whole.micro_batch_size == 4
    parts = (
        whole.weights_bytes
        + whole.trained_bytes
        + whole.gradient_bytes
        + whole.optimizer_bytes
        + whole.activation_bytes
    )
    assert parts <= whole.allocated_bytes - CUBLAS_BYTES <= 1.1 * parts
    assert whole.needed_bytes == whole.reserved_bytes + CONTEXT_BYTES
    assert sentence(roomy).startswith("fits at micro batch 4: needs ")


def test_a_smaller_micro_batch_fits(plan: Plan, roomy: Case) -> None:
    case = examine(plan, roomy.whole.allocated_bytes + CONTEXT_BYTES - 4 * 1024**2)
    assert isinstance(case, Case) and case.best is not None
    assert not case.whole.fits
    assert case.best.micro_batch_size == 2
    assert case.best.gradient_bytes == case.best.trained_bytes
    assert "micro batch 2 (of effective 4)" in sentence(case)


def test_what_would_fit_instead(plan: Plan) -> None:
    one = examine(replace(plan, micro_batch_size=1), 24 * GIB)
    assert isinstance(one, Case)
    too_little = one.whole.allocated_bytes + CONTEXT_BYTES - 4 * 1024**2
    said = remedy(replace(plan, micro_batch_size=1), too_little)
    assert said.startswith("does not fit: needs ")
    assert "; fits with gradient checkpointing at micro batch 1" in said
    assert remedy(plan, GIB // 4).endswith("no quantisation or gradient checkpointing makes it fit")
    assert remedy(plan, 24 * GIB).startswith("fits at micro batch 4")


def test_every_combination_once_and_refusals_told(plan: Plan) -> None:
    cases = what_fits(
        plan.config,
        GIB,
        methods=("full", "lora"),
        quantizations=(None, "4bit"),
        batch_size=1,
        options={"target_modules": ["no_such_module"]},
    )
    found = [(case.method, case.quantization) for case in cases]
    assert found == [("full", None), ("full", "4bit"), ("lora", None), ("lora", "4bit")]
    assert [type(case) for case in cases] == [Case, Refused, Refused, Refused]
    assert isinstance(cases[2], Refused) and "no_such_module" in cases[2].reason


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"method": "adalora"}, "its ranks are shared out anew"),
        ({"method": "deft", "quantization": "8bit"}, "deft cannot have a base in 8bit"),
        ({"method": "loha", "quantization": "4bit"}, "these are packed"),
        ({"method": "full", "quantization": "4bit"}, "packed weights cannot be trained"),
        ({"method": "prefix_tuning", "checkpointing": True}, "which checkpointing turns off"),
        ({"length": Length(8000, 12000)}, "are 20000, and the model's context holds 16384"),
        ({"options": {"rank": 8}}, "rank: lora has no such option"),
        ({"options": {"init_lora_weights": "eva"}}, "a pass over the data"),
    ],
    ids=str,
)
def test_what_train_refuses_is_refused_with_its_reason(
    plan: Plan, changes: dict[str, Any], said: str
) -> None:
    refused = examine(replace(plan, **changes), 24 * GIB)
    assert isinstance(refused, Refused) and said in refused.reason


def test_several_reasons_are_told_at_once(plan: Plan) -> None:
    refused = examine(replace(plan, method="deft", quantization="4bit", length=Length(1, 20000)), 1)
    assert isinstance(refused, Refused)
    assert "cannot have a base in 4bit" in refused.reason and "20001" in refused.reason


def test_of_a_shape_alone_no_machine_and_no_repacking_are_asked_for() -> None:
    config = built_in.small_configs()["codegen"]
    config.n_embd = 32  # too narrow for 4 bits on a CPU
    plan = Plan(config, quantization="4bit", length=Length(8, 8), model_id="codegen2-tiny")
    assert isinstance(examine(plan, GIB), Case)


def test_a_change_that_train_refuses_is_no_remedy(plan: Plan) -> None:
    config: Any = built_in.config("codellama/CodeLlama-7b-hf")
    config.num_hidden_layers, config.vocab_size = 2, 2048  # what is quantised weighs the most
    alone = replace(plan, config=config, checkpointing=True, micro_batch_size=1)
    for method, end in (("lora", "quantisation 4bit at micro batch 1"), ("deft", "makes it fit")):
        asked = replace(alone, method=method)
        case = examine(asked, 24 * GIB)
        assert isinstance(case, Case)
        too_little = case.whole.allocated_bytes + CONTEXT_BYTES - 64 * 1024**2
        assert remedy(asked, too_little).endswith(end)


def test_qlora_is_never_without_quantisation(plan: Plan) -> None:
    cases = what_fits(
        plan.config, 24 * GIB, methods=("qlora",), lengths=(Length(8, 8),), batch_size=1
    )
    assert [case.quantization for case in cases] == ["4bit", "8bit"]
    alone = examine(replace(plan, method="qlora"), 24 * GIB)
    assert alone == examine(replace(plan, method="qlora", quantization="4bit"), 24 * GIB)


def test_the_headline_counts_the_base_alone(
    tiny_model: Callable[..., Path], capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    file = tmp_path / "fit.json"
    question = Question(model=str(tiny_model("llama")), quantization="none", length="8+8")
    assert run(replace(question, method="lora"), file) == 0
    assert run(replace(question, method="full"), tmp_path / "full.json") == 0
    lora, full = (line for line in capsys.readouterr().out.splitlines() if "parameters" in line)
    assert lora == full
    [model] = json.loads(file.read_text())["models"]
    [case] = model["cases"]
    assert model["parameters"] == case["parameters"] - case["trainable_parameters"]
    assert run(replace(question, method="full", quantization="4bit"), file) == 1
    [model] = json.loads(file.read_text())["models"]
    assert [case["answer"] for case in model["cases"]] == [
        "no: full cannot have a base in 4bit: packed weights cannot be trained"
    ]


def test_table_files_and_exit_code(
    tiny_model: Callable[..., Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    question = Question(
        model=str(tiny_model("codegen")), quantization="none", length="8+8,16+8", gpu_memory=1
    )
    json_file, plot = tmp_path / "a" / "fit.json", tmp_path / "fit.svg"
    assert run(question, json_file, plot) == 0
    table = capsys.readouterr().out
    assert "full" in table and "16+8" in table and "8 of 8" in table
    cases = json.loads(json_file.read_text())["models"][0]["cases"]
    assert [case["length"]["prompt_tokens"] for case in cases] == [8, 8, 16, 16]
    assert all(case["answer"].startswith("fits") for case in cases)
    root = ElementTree.fromstring(plot.read_text())
    marks = [e for e in root.iter() if e.tag.endswith("circle")]
    assert len(marks) == 4 + 2  # and two of the legend
    page = tmp_path / "fit.html"
    assert run(replace(question, method="lora", length="8+8", gpu_memory=0.1), None, page) == 1
    assert page.read_text().startswith("<!doctype html>")
    assert "does not fit" in capsys.readouterr().out
    with pytest.raises(UsageError, match=r"--json .*fit\.svg: cannot be written"):
        run(replace(question, method="lora", length="8+8"), plot / "fit.svg", None)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"gpu_memory": 0}, "not a positive size"),
        ({"gpu_memory": float("nan")}, "not a positive size"),
        ({"gpu_memory": -24}, "not a positive size"),
        ({"length": "128"}, "PROMPT"),
        ({"length": "0+4"}, "PROMPT"),
        ({"quantization": "2bit"}, "known: none, 8bit, 4bit"),
        ({"dtype": "int4"}, "known: float32"),
        ({"optimizer": "sgd"}, "adafactor"),
        ({"method": ","}, "is empty"),
        ({"method": "lora,loora"}, "no method is named 'loora'"),
        ({"batch_size": 0}, "not positive"),
        ({"study": True}, "one of --model and --study"),
        ({"model": None}, "one of --model and --study"),
    ],
    ids=str,
)
def test_faulty_flags(changes: dict[str, Any], said: str) -> None:
    question = replace(Question(model="codellama/CodeLlama-7b-hf"), **changes)
    with pytest.raises(UsageError, match=said.replace("+", r"\+")):
        answer(question)


def test_a_plot_of_another_kind() -> None:
    with pytest.raises(UsageError, match=r"neither \.svg nor \.html"):
        run(Question(study=True), None, Path("plot.png"))


def test_no_such_model(tmp_path: Path) -> None:
    with pytest.raises(MissingError, match="cannot be loaded"):
        answer(Question(model=str(tmp_path / "nothing")))


def test_a_faulty_configuration(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "llama", "hidden_size": "x"}))
    with pytest.raises(MissingError, match=r"'hidden_size' expected int.* mend the folder"):
        answer(Question(model=str(tmp_path)))


@pytest.mark.parametrize("model_type", ["no-such-architecture", "vit"])
@pytest.mark.parametrize("method", ["full", "lora", "adalora"])
def test_an_architecture_that_is_no_language_model(
    tmp_path: Path, model_type: str, method: str
) -> None:
    (tmp_path / "config.json").write_text(json.dumps({"model_type": model_type}))
    with pytest.raises(UsageError, match=model_type):
        answer(Question(model=str(tmp_path), method=method, quantization="none"))
