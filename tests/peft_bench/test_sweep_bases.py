"""One base for several adapters: the samples and records of separate runs, and a clean base."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from peft_bench import records
from peft_bench.evaluation import evaluate
from peft_bench.sweep.shared_base import Kept, known_tasks, shared_base
from peft_bench.sweep.snapshot import Snapshot, checksum

SHORT = ("--batch_size", "4", "--limit", "3", "--gen_kwargs", "max_gen_toks=6")


@pytest.fixture(autouse=True)
def _data(tiny_data: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("PEFT_BENCH_DATA", str(tiny_data))
    with known_tasks(["conala"]):
        yield


def score(adapter: Path | None, out: Path, **named: Any) -> records.RunRecord:
    extra = named.pop("extra", ())
    return evaluate(adapter, tasks=["conala"], out=out, harness_args=(*SHORT, *extra), **named)


def samples(folder: Path) -> list[Any]:
    [file] = folder.glob("samples_*.jsonl")
    rows = [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()]
    return sorted((row["doc_id"], row["resps"], json.dumps(row["beams"])) for row in rows)


def facts(record: records.RunRecord) -> tuple[Any, ...]:
    return record.model, record.adapter, record.tasks[0].scores, record.tasks[0].marks


def test_adapters_of_one_base_score_as_in_separate_runs(
    trained: Callable[..., Path], tiny_model: Callable[..., Path], tmp_path: Path
) -> None:
    base = str(tiny_model("llama"))
    methods = ("lora", "prompt_tuning", "ia3", "prefix_tuning", "lora")
    subjects: list[tuple[Path | None, dict[str, Any]]] = [(None, {"model": base})]
    subjects += [(trained("llama", method), {}) for method in methods]
    subjects.append((None, {"model": base}))
    alone = [score(a, tmp_path / f"alone{i}", **n) for i, (a, n) in enumerate(subjects[:5])]
    alone += [alone[1], alone[0]]
    with shared_base() as kept:
        shared = [score(a, tmp_path / f"shared{i}", **n) for i, (a, n) in enumerate(subjects)]
    assert kept.loaded == 1
    for number, (one, other) in enumerate(zip(alone, shared, strict=True)):
        twin = {5: 1, 6: 0}.get(number, number)
        assert samples(tmp_path / f"alone{twin}") == samples(tmp_path / f"shared{number}")
        assert facts(one) == facts(other)
    # Else the comparison above could not fail.
    assert len({str(samples(tmp_path / f"alone{i}")) for i in range(5)}) >= 4


def test_bases_that_differ_are_loaded_each(
    trained: Callable[..., Path], tiny_model: Callable[..., Path], tmp_path: Path
) -> None:
    with shared_base() as kept:
        score(trained("llama", "lora"), tmp_path / "a")
        score(None, tmp_path / "b", model=str(tiny_model("llama", 1)))
        score(None, tmp_path / "c", model=str(tiny_model("llama", 1)))
        assert kept.loaded == 2
        dtype = ("--model_args", "dtype=bfloat16")
        score(None, tmp_path / "d", model=str(tiny_model("llama", 1)), extra=dtype)
        assert kept.loaded == 3
        whole = score(trained("llama", "full"), tmp_path / "e")
        assert kept.loaded == 3
    assert facts(whole) == facts(score(trained("llama", "full"), tmp_path / "f"))


@pytest.mark.parametrize(("bits", "loads"), [("8bit", (1,)), ("4bit", (1, 2))])
def test_quantised_bases_are_shared_too(
    bits: str, loads: tuple[int, ...], trained: Callable[..., Path], tmp_path: Path
) -> None:
    """On a CPU bitsandbytes changes 4-bit weights in place: such a base may be loaded again."""
    adapters = [trained("llama", m, width=64, quantization=bits) for m in ("lora", "prompt_tuning")]
    alone = [score(a, tmp_path / f"alone{i}") for i, a in enumerate(adapters)]
    with shared_base() as kept:
        shared = [score(a, tmp_path / f"shared{i}") for i, a in enumerate(adapters)]
    assert kept.loaded in loads
    assert [facts(record) for record in alone] == [facts(record) for record in shared]
    for number in range(2):
        assert samples(tmp_path / f"alone{number}") == samples(tmp_path / f"shared{number}")


def load(folder: Path) -> Any:
    from transformers import AutoModelForCausalLM

    return AutoModelForCausalLM.from_pretrained(folder)


@pytest.mark.parametrize(
    "options",
    [
        {"peft_type": "LORA", "target_modules": ["q_proj", "lm_head"], "bias": "all"},
        {"peft_type": "LORA", "modules_to_save": ["embed_tokens"]},
        {"peft_type": "OFT", "target_modules": ["v_proj"]},
        {"peft_type": "PREFIX_TUNING", "num_virtual_tokens": 3},
        {"peft_type": "ADAPTION_PROMPT", "adapter_len": 2, "adapter_layers": 1},
        {"peft_type": "LN_TUNING", "target_modules": ["input_layernorm"]},
    ],
)
def test_a_base_is_put_back_whatever_peft_did(
    options: dict[str, Any], tiny_model: Callable[..., Path]
) -> None:
    import torch
    from peft import get_peft_config, get_peft_model

    model = load(tiny_model("llama"))
    before = [(name, id(module)) for name, module in model.named_modules()]
    said = set(model.__dict__)
    ids = torch.arange(5)[None] + 20
    expected = model(ids).logits
    snapshot = Snapshot(model)
    adapted = get_peft_model(model, get_peft_config({"task_type": "CAUSAL_LM", **options}))
    adapted.train()
    assert options["peft_type"] == "PREFIX_TUNING" or adapted.base_model is not model
    assert snapshot.restore()
    assert [(name, id(module)) for name, module in model.named_modules()] == before
    assert set(model.__dict__) == said
    assert all(parameter.requires_grad for parameter in model.parameters())
    assert not any(module.training for module in model.modules())
    assert torch.equal(model(ids).logits, expected)


def test_a_base_whose_weights_were_written_to_is_not_used_again(
    tiny_model: Callable[..., Path],
) -> None:
    import torch

    model = load(tiny_model("llama"))
    kept = Kept()
    kept.keep("key", model)
    assert kept.take("key") is model
    assert kept.take("other") is None and kept.take("key") is None
    kept.keep("key", model)
    before = checksum(model)
    with torch.no_grad():
        # PiSSA and its like put other weights under the same name.
        layer = model.model.layers[0].self_attn.q_proj
        layer.weight.data = layer.weight.data + 1e-3
    assert checksum(model) != before
    assert kept.take("key") is None
