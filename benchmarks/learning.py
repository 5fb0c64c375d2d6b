"""Does training teach? Validation losses by method, then LoRA against its base in scores.

    PEFT_BENCH_DATA=DIR python benchmarks/learning.py [--work DIR] [--out FILE]

1. LoRA, IA3, prompt tuning, prefix tuning and full fine-tuning, each on the same CoNaLa rows for
   the same passes, at the study's learning rates; the validation loss before (the plain base, by
   transformers' own loss) and after (the card's).
2. LoRA on more rows, and the base, scored by the harness on the test split; the difference by
   `peft-bench leaderboard`, which tests it over questions.

Every step is a `peft-bench` command in a process of its own, so that cards tell its own peak
memory, and CPU seconds are its own. What is done is kept in ``--work``: the same command again
goes on. The model is SmolLM2-135M-Instruct as `peft-bench quickstart` converts it from 4-bit
weights: its scores are demonstrations, not results of SmolLM2.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

# PEFT starts prefix tuning at random; a short training may not come back from there.
METHODS: dict[str, dict[str, Any]] = {
    **{name: {"name": name} for name in ("lora", "ia3", "prompt_tuning", "prefix_tuning", "full")},
    "prefix_tuning-text": {
        "name": "prefix_tuning",
        "init_text": "Generate Python code given a natural language instruction.",
    },
}


def recipe(
    method: str, model: str, data: dict[str, Any], epochs: float, rate: float | None
) -> dict[str, Any]:
    """A recipe with everything but the budget at its default."""
    training: dict[str, Any] = {"epochs": epochs, "evaluations_per_epoch": 1}
    if rate is not None:
        training["learning_rate"] = rate
    return {
        "name": f"{method}-{data['max_train_rows'] or 'all'}",
        "model": {"id": model},
        "method": METHODS[method],
        "data": data,
        "training": training,
    }


def rows_of(work: Path, train: int | None, validation: int | None) -> dict[str, Any]:
    """A recipe's data: CoNaLa, or files with its first rows where validation is to be short."""
    if validation is None:
        return {"tasks": ["conala"], "max_train_rows": train}
    from peft_bench import data

    names = []
    for split, count in (("train", train), ("validation", validation)):
        file = work / f"{split}-{count}.jsonl"
        file.parent.mkdir(parents=True, exist_ok=True)
        rows = data.load_split("conala", split).rows[:count]
        lines = [json.dumps({"nl": row.nl, "cmd": row.cmd}) for row in rows]
        file.write_text("\n".join(lines) + "\n", encoding="utf-8")
        names.append(str(file))
    return {"files": names[:1], "validation_files": names[1:], "max_train_rows": train}


def command(*arguments: str) -> None:
    """Runs ``peft-bench ARGUMENTS`` in a process of its own."""
    subprocess.run([sys.executable, "-m", "peft_bench.cli", *arguments], check=True)


def trained(raw: dict[str, Any], work: Path) -> dict[str, Any]:
    """The card of a recipe's adapter, trained now if it is not there."""
    file = work / "recipes" / f"{raw['name']}.json"
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(json.dumps(raw, indent=2), encoding="utf-8")  # JSON is YAML
    folder = work / "adapters" / raw["name"]
    command("train", str(file), "--out", str(folder))
    card: dict[str, Any] = json.loads((folder / "card.json").read_text(encoding="utf-8"))
    return card


def base_loss(model_id: str, work: Path, count: int | None) -> float:
    """The base's mean loss over the validation rows' label tokens, row by row, unpadded."""
    kept = work / f"base_loss-{count or 'all'}.json"
    if kept.is_file():
        return float(json.loads(kept.read_text(encoding="utf-8")))
    import torch

    from peft_bench import data, models, prompts
    from peft_bench.encoding import IGNORED_LABEL, encode_rows
    from peft_bench.families import prompt_name
    from peft_bench.recipe import BaseModel, DataChoice

    chosen, lengths = BaseModel(model_id), DataChoice()
    config = models.load_config(chosen)
    rows = encode_rows(
        data.load_split("conala", "validation").rows[:count],
        models.load_tokenizer(chosen),
        prompts.PROMPTS[prompt_name(config.model_type, is_encoder_decoder=False)],
        max_prompt_tokens=lengths.max_prompt_tokens,
        max_target_tokens=lengths.max_target_tokens,
        is_encoder_decoder=False,
    )
    model = models.load_model(chosen, config).eval()
    total, count = 0.0, 0
    for row in rows.features:
        ids, labels = torch.tensor([row["input_ids"]]), torch.tensor([row["labels"]])
        tokens = int(labels.ne(IGNORED_LABEL).sum())
        with torch.no_grad():
            total += float(model(input_ids=ids, labels=labels).loss) * tokens
        count += tokens
    kept.parent.mkdir(parents=True, exist_ok=True)
    kept.write_text(json.dumps(total / count), encoding="utf-8")
    return total / count


def methods_table(before: float, cards: list[dict[str, Any]]) -> str:
    """Markdown, one row a method."""
    lines = [
        "| method | learning rate | trainable parameters | steps | validation loss before | after "
        "| CPU s | tokens a second of steps | peak memory GB | bytes on disk |",
        "|---|---|---|---|---|---|---|---|---|---|",
    ]
    for card in cards:
        costs, outcome = card["costs"], card["outcome"]
        lines.append(
            f"| {_variant(card)} | {rate_of(card):g} | {card['trainable_parameters']:,} | "
            f"{outcome['steps']} | {before:.4f} | {outcome['validation_loss']:.4f} | "
            f"{costs['device_s']:.0f} | {costs['tokens_per_s']:.0f} | "
            f"{costs['train_peak_bytes'] / 1e9:.2f} | {card['adapter_bytes']:,} |"
        )
    higher = [_variant(c) for c in cards if c["outcome"]["validation_loss"] >= before]
    said = f"Not lowered by {', '.join(higher)}." if higher else "Every one lowers it."
    return "\n".join(lines) + f"\n\n{said}\n"


def _variant(card: dict[str, Any]) -> str:
    return str(card["name"]).rpartition("-")[0]


def rate_of(card: dict[str, Any]) -> float:
    """The learning rate that a card's recipe names or leaves to its method."""
    from peft_bench import methods

    named = card["recipe"]["training"]["learning_rate"]
    return float(named or methods.learning_rate(card["method"]))


def scored(adapter: Path | None, model: str, limit: int, batch_size: int, out: Path) -> None:
    """Scores an adapter or the base on CoNaLa's test split, unless that is done."""
    subject = [str(adapter)] if adapter is not None else ["--model", model]
    options = ["--tasks", "conala", "--out", str(out), "--limit", str(limit)]
    command("eval", *subject, *options, "--batch_size", str(batch_size))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", help="a hub id or folder; SmolLM2-135M by default")
    parser.add_argument("--work", type=Path, default=Path("learning"))
    parser.add_argument("--rows", type=int, default=600, help="training rows a method")
    parser.add_argument("--validation-rows", type=int, help="all by default")
    parser.add_argument("--epochs", type=float, default=1.0)
    parser.add_argument("--methods", nargs="*", default=list(METHODS))
    parser.add_argument(
        "--rate", nargs="*", default=[], metavar="METHOD=RATE", help="over the study's rate"
    )
    parser.add_argument("--lora-rows", type=int, help="rows of the adapter scored; all by default")
    parser.add_argument("--lora-epochs", type=float, default=1.0)
    parser.add_argument("--limit", type=int, default=100, help="test rows")
    parser.add_argument("--batch-size", type=int, default=8)
    parser.add_argument("--out", type=Path)
    arguments = parser.parse_args()
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    from peft_bench import smollm2

    model, work = arguments.model or smollm2.locate(), arguments.work
    rates = {name: float(rate) for name, _, rate in (one.partition("=") for one in arguments.rate)}
    data = rows_of(work, arguments.rows, arguments.validation_rows)
    before = base_loss(model, work, arguments.validation_rows)
    cards = []
    for method in arguments.methods:
        raw = recipe(method, model, data, arguments.epochs, rates.get(method))
        cards.append(trained(raw, work))
        print(methods_table(before, cards), flush=True)
    parts = [
        f"## Validation loss: {arguments.rows} rows, {arguments.epochs:g} epochs a method\n",
        methods_table(before, cards),
    ]
    if arguments.limit:
        data = rows_of(work, arguments.lora_rows, arguments.validation_rows)
        raw = recipe("lora", model, data, arguments.lora_epochs, rates.get("lora"))
        card = trained(raw, work)
        parts += [
            f"## LoRA on {arguments.lora_rows or 'all'} rows, {arguments.lora_epochs:g} epochs\n",
            methods_table(before, [card]),
            f"## In scores: the first {arguments.limit} test rows, 10 beams\n",
            scores(work, raw["name"], model, arguments.limit, arguments.batch_size),
        ]
    # A folder on this machine is nobody else's business.
    report = "\n".join(parts)
    if Path(model).is_dir():
        report = report.replace(f"{Path(model).parent}/", "")
    print(report)
    if arguments.out:
        arguments.out.write_text(report, encoding="utf-8")


def scores(work: Path, name: str, model: str, limit: int, batch_size: int) -> str:
    """Base and adapter in one leaderboard, with the test of each metric's difference."""
    runs = work / "evaluations"
    scored(None, model, limit, batch_size, runs / "base")
    scored(work / "adapters" / name, model, limit, batch_size, runs / "lora")
    board = ("leaderboard", str(runs / "base"), str(runs / "lora"))
    table = work / "leaderboard.md"
    command(*board, "--md", str(table))
    texts = [table.read_text(encoding="utf-8")]
    for metric in ("em@10", "codebleu"):
        options = ("--compare", "base", "lora", "--metric", metric)
        done = subprocess.run(
            [sys.executable, "-m", "peft_bench.cli", *board, *options],
            check=True,
            capture_output=True,
            text=True,
        )
        # After the table, which stands above already.
        compared = done.stdout.strip().rpartition("\n\n")[2]
        texts.append(f"```\n{compared}\n```\n")
    return "\n".join(texts)


if __name__ == "__main__":
    main()
