"""What our harness tasks share: prompts as in training, rows, metadata."""

from __future__ import annotations

import io
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from peft_bench import cards, data, harness, models, paths, prompts
from peft_bench.encoding import IGNORED_LABEL, encode_rows
from peft_bench.errors import MissingError, PeftBenchError, UsageError
from peft_bench.recipe import BaseModel


@pytest.mark.parametrize("kind", ["llama", "codegen", "t5"])
def test_prompts_are_token_for_token_those_of_training(
    kind: str, tiny_model: Callable[..., Path], conala_data: Path
) -> None:
    from lm_eval.models.huggingface import HFLM
    from lm_eval.tasks import TaskManager

    pretrained = str(tiny_model(kind))
    base = BaseModel(id=pretrained)
    config = models.load_config(base)
    seq2seq = bool(config.is_encoder_decoder)
    encoded = encode_rows(
        data.load_split("conala", "test").rows,
        models.load_tokenizer(base),
        harness.choose_prompt(pretrained=pretrained),
        max_prompt_tokens=512,
        max_target_tokens=512,
        is_encoder_decoder=seq2seq,
    )
    trained = []
    for feature in encoded.features:
        ids = feature["input_ids"]
        keep = len(ids) if seq2seq else feature["labels"].count(IGNORED_LABEL)
        trained.append(ids[:keep])

    lm = HFLM(pretrained=pretrained, dtype="float32", device="cpu")
    for name in ("conala", "quickstart"):
        manager = TaskManager(
            include_path=str(paths.tasks_dir()),
            include_defaults=False,
            metadata={"pretrained": pretrained},
        )
        task = manager.load([name])["tasks"][name]
        task.build_all_requests(limit=8, rank=0, world_size=1)
        asked = []
        for request in task.instances[::10] if name == "conala" else task.instances:
            ids, mask = lm.tok_batch_encode([request.args[0]])
            asked.append(ids[0][mask[0].bool()].tolist())
        if name == "conala":
            assert asked == trained
        else:
            rows = data.load_split("quickstart", "test").rows[:8]
            template = harness.choose_prompt(pretrained=pretrained)
            assert asked == [lm.tokenizer(template.render(row.nl)).input_ids for row in rows]


def test_prompt_is_the_familys_unless_named(
    tiny_model: Callable[..., Path], tmp_path: Path
) -> None:
    def chosen(**metadata: Any) -> str:
        return harness.choose_prompt(**metadata).name

    assert chosen(pretrained=str(tiny_model("llama"))) == "instruction"
    assert chosen(pretrained=str(tiny_model("codegen"))) == "instruction"
    assert chosen(pretrained=str(tiny_model("t5"))) == "instruction-seq2seq"
    assert chosen(pretrained=str(tiny_model("t5")), prompt="instruction") == "instruction"
    assert chosen() == "instruction"
    with pytest.raises(UsageError, match="instruction-seq2seq"):
        chosen(prompt="no-such-prompt")
    with pytest.raises(UsageError, match="no prompt is named"):
        chosen(prompt=["instruction"])
    assert chosen(pretrained="served-model", base_url="http://127.0.0.1:9/v1") == "instruction"
    folder = Path(shutil.copytree(tiny_model("t5"), tmp_path / "repository" / "inside"))
    assert chosen(pretrained=str(folder.parent), subfolder="inside") == "instruction-seq2seq"


_OWN_CODE = """
from transformers import LlamaConfig

class OwnConfig(LlamaConfig):
    model_type = "own"
"""


@pytest.mark.parametrize("trusted", [True, False])
def test_a_model_with_code_of_its_own(
    trusted: bool, tiny_model: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from datasets import config

    folder = Path(shutil.copytree(tiny_model("llama"), tmp_path / "own"))
    told = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    told |= {"model_type": "own", "auto_map": {"AutoConfig": "configuration_own.OwnConfig"}}
    (folder / "config.json").write_text(json.dumps(told), encoding="utf-8")
    (folder / "configuration_own.py").write_text(_OWN_CODE, encoding="utf-8")
    if not trusted:
        monkeypatch.setattr("sys.stdin", io.StringIO("n\n"))
        with pytest.raises(ValueError, match="trust_remote_code"):
            harness.choose_prompt(pretrained=str(folder))
        return
    asked = {"pretrained": str(folder), "trust_remote_code": True}
    assert harness.choose_prompt(**asked).name == "instruction"
    # `lm_eval --trust_remote_code` says it here alone.
    monkeypatch.setattr(config, "HF_DATASETS_TRUST_REMOTE_CODE", True, raising=False)
    assert harness.choose_prompt(pretrained=str(folder)).name == "instruction"


def test_dataset_renders_the_chosen_prompt(
    tiny_model: Callable[..., Path], conala_data: Path
) -> None:
    rows = data.load_split("conala", "test").rows
    for metadata, name in (
        ({"pretrained": str(tiny_model("llama"))}, "instruction"),
        ({"pretrained": str(tiny_model("t5"))}, "instruction-seq2seq"),
        ({"prompt": "instruction-seq2seq"}, "instruction-seq2seq"),
    ):
        splits = harness.dataset("conala", version=1.0, **metadata)
        assert set(splits) == {"train", "test"}
        expected = [prompts.PROMPTS[name].render(row.nl) for row in rows]
        assert list(splits["test"]["prompt"]) == expected
    assert "test" not in splits["test"].column_names
    assert "test" in harness.dataset("quickstart")["test"].column_names


def test_rows_come_from_the_folder_in_the_metadata(
    tmp_path: Path, conala_data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "mine" / "conala").mkdir(parents=True)
    for split in ("train", "test"):
        file = tmp_path / "mine" / "conala" / f"{split}.jsonl"
        file.write_text(json.dumps({"nl": "mine", "cmd": split}) + "\n", encoding="utf-8")
    splits = harness.dataset("conala", data_dir=str(tmp_path / "mine"))
    assert list(splits["test"]["cmd"]) == ["test"]
    assert list(splits["train"]["cmd"]) == ["train"]
    assert len(harness.dataset("conala")["test"]) == 8


def test_adapter_of_another_prompt_is_stopped(
    trained: Callable[..., Path], tiny_model: Callable[..., Path], conala_data: Path, tmp_path: Path
) -> None:
    peft = str(trained())
    given = {"pretrained": str(tiny_model()), "peft": peft}
    assert harness.dataset("conala", **given)
    with pytest.raises(PeftBenchError, match="was trained with the prompt instruction"):
        harness.dataset("conala", **given, prompt="instruction-seq2seq")
    # An adapter of someone else's has no card to compare with.
    stranger = Path(shutil.copytree(peft, tmp_path / "stranger"))
    (stranger / cards.CARD_FILE).unlink()
    splits = harness.dataset(
        "conala", pretrained=given["pretrained"], peft=str(stranger), prompt="instruction-seq2seq"
    )
    assert len(splits["test"]) == 8


def test_sandbox_level_is_the_best_here_or_the_one_asked_for(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    import peft_bench_sandbox
    from peft_bench_sandbox import Level, best_level

    best = best_level()
    assert harness.sandbox_level() == (None if best is Level.NONE else best.value)
    monkeypatch.setattr(peft_bench_sandbox, "best_level", lambda: Level.LIMITS)
    assert harness.sandbox_level() == "limits"
    assert harness.sandbox_level(sandbox="limits", version=1.0) == "limits"
    assert harness.sandbox_level(sandbox="none") is None
    for level in ("strong", "no-such-level"):
        with pytest.raises(MissingError, match="best sandbox level is 'limits'"):
            harness.sandbox_level(sandbox=level)
    monkeypatch.setattr(peft_bench_sandbox, "best_level", lambda: Level.NONE)
    assert harness.sandbox_level() is None
