"""The harness' options: what is refused before anything loads, and what tells two runs apart."""

from __future__ import annotations

import pytest

from peft_bench.errors import UsageError
from peft_bench.harness_args import identity, parse


@pytest.mark.parametrize(
    "flags",
    [
        ("--limit", "0"),
        ("--limit", "-1"),
        ("--limit", "2.5"),
        ("--limit", "nan"),
        ("--limit", "inf"),
        ("--num_fewshot", "-1"),
        ("--batch_size", "0"),
        ("--batch_size", "-4"),
        ("--batch_size", "many"),
        ("--batch_size", "auto:x"),
        ("--batch_size", "auto:-1"),
        ("--max_batch_size", "0"),
    ],
)
def test_out_of_range(flags: tuple[str, ...]) -> None:
    with pytest.raises(UsageError, match="is out of range") as caught:
        parse(flags)
    assert caught.value.place == " ".join(flags)
    assert caught.value.remedy.startswith("give ")


@pytest.mark.parametrize(
    "given", ["num_beams=0", "max_gen_toks=-3", "num_samples=1.5", "num_beams=True"]
)
def test_counts_of_generation_out_of_range(given: str) -> None:
    with pytest.raises(UsageError, match="is out of range") as caught:
        parse(["--gen_kwargs", f"{given},temperature=0.5"])
    assert caught.value.place == f"--gen_kwargs {given}"


@pytest.mark.parametrize(
    "flags",
    [
        ("--limit", "1"),
        ("--limit", "0.25"),
        ("--limit", "7"),
        ("--num_fewshot", "0"),
        ("--batch_size", "auto"),
        ("--batch_size", "auto:4"),
        ("--batch_size", "16"),
        ("--gen_kwargs", "num_beams=1,max_gen_toks=8"),
    ],
)
def test_in_range(flags: tuple[str, ...]) -> None:
    parse(flags)


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (("--metadata", "{bad"), "Invalid JSON"),
        (("--gen_kwargs", "num_beams"), "key=value"),
        (("--limit", "some"), "invalid float"),
        (("--no_such_option",), "unrecognized arguments: --no_such_option"),
        (("--seed", "x"), "--seed"),
    ],
)
def test_what_the_harness_cannot_read(flags: tuple[str, ...], said: str) -> None:
    with pytest.raises(UsageError, match=said) as caught:
        parse(flags)
    assert "lm_eval run --help" in caught.value.remedy


@pytest.mark.parametrize(
    ("flags", "place"),
    [
        (("-M", "hf"), "--model"),
        (("--log_s",), "--log_samples"),
        (("-x",), "--predict_only"),
        (("-o", "x"), "--output_path"),
        (("--config", "run.yaml"), "--config run.yaml"),
    ],
)
def test_short_forms_of_what_eval_sets_itself(flags: tuple[str, ...], place: str) -> None:
    with pytest.raises(UsageError, match="peft-bench eval") as caught:
        parse(flags)
    assert caught.value.place == place


def test_how_it_is_computed_is_not_what() -> None:
    asked = ["--limit", "3", "--gen_kwargs", "num_beams=5,max_gen_toks=6"]
    how = ["--batch_size", "8", "--device", "cpu", "--max_batch_size", "9", "--verbosity", "DEBUG"]
    assert identity(parse([*asked, *how])) == identity(parse(asked))
    # Nor the order, nor the form in which it is typed.
    turned = ["--gen_kwargs", '{"max_gen_toks": 6, "num_beams": 5}', "-L", "3.0"]
    assert identity(parse(turned)) == identity(parse(asked))


@pytest.mark.parametrize(
    "flags",
    [
        ("--limit", "4"),
        ("--num_fewshot", "2"),
        ("--seed", "7"),
        ("--metadata", "shots=fixed"),
        ("--apply_chat_template",),
        ("--system_instruction", "Be short."),
        ("--gen_kwargs", "num_beams=4"),
        ("--model_args", "dtype=float64"),
    ],
)
def test_what_is_asked_tells_runs_apart(flags: tuple[str, ...]) -> None:
    assert identity(parse(flags)) != identity(parse([]))
