"""Training speed, side by side: our trainer, the padded Trainer of the study, and TRL.

    python benchmarks/training.py [--rounds 2] [--rows 32] [--out benchmarks/results/training.md]
    python benchmarks/training.py --long            # APPS rows (PEFT_BENCH_DATA with apps)
    python benchmarks/training.py --model ID --quantization 4bit --random   # on a GPU, true sizes

LoRA (r 16, alpha 32, dropout 0.05, on q, k, v), batches of 8 rows, Adafactor, the same rows for
everybody, one pass. Every run is a process of its own, and rounds alternate. On a CPU the figure
is real tokens a CPU second of the process, pads not counted, one thread; on a GPU a wall second.
TRL runs from ``--trl-python``, an interpreter with trl installed beside these packages; without
it, or where trl is missing, its rows are left out.

The first step warms up and is not counted. The floor is the time of the matrix products that no
exact trainer can do without: each frozen weight of the model forward and for the gradient of its
input, at real tokens, and the output projection at label tokens, measured with the model's own
weights in its own order, in a process of its own in the same round.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

# "plain": neither gradient checkpointing nor bf16, which TRL both has on.
TRL: dict[str, dict[str, Any]] = {
    "TRL, defaults (gradient checkpointing, bf16)": {},
    "TRL, both off": {"plain": True},
    "TRL, both off, packing": {"plain": True, "packing": True, "packing_strategy": "bfd"},
    "TRL, both off, rows grouped by length": {
        "plain": True,
        "train_sampling_strategy": "group_by_length",
    },
}
OURS, PADDED, FLOOR = "peft-bench", "Trainer, padded (the study's way)", "floor"


def recipe_of(case: dict[str, Any]) -> Any:
    from peft_bench.recipe import parse_recipe

    limit = case["length"]
    return parse_recipe(
        {
            "name": "benchmark",
            "model": {"id": case["model"], "quantization": case["quantization"]},
            "method": {"name": case["method"]},
            "data": {
                "tasks": [case["task"]],
                "max_prompt_tokens": limit,
                "max_target_tokens": limit,
            },
            "training": {
                "epochs": 1,
                "batch_size": case["batch"],
                "micro_batch_size": case["micro"],
                "learning_rate": 3e-4,
            },
        }
    )


def load(case: dict[str, Any]) -> tuple[Any, Any, Any, Any]:
    """The recipe, the rows, the model with its adapter, and the tokenizer."""
    import torch
    from transformers import set_seed

    from peft_bench import models, peft_model, prompts
    from peft_bench.encoding import encode_rows
    from peft_bench.families import prompt_name
    from peft_bench.mixture import load as load_splits

    if not torch.cuda.is_available():
        torch.set_num_threads(1)
    recipe = recipe_of(case)
    set_seed(42)
    if case["random"]:
        return random_case(case, recipe)
    config = models.load_config(recipe.model)
    tokenizer = models.load_tokenizer(recipe.model)
    rows = list(load_splits(recipe.data)[0].rows)
    random.Random(0).shuffle(rows)
    name = prompt_name(config.model_type, is_encoder_decoder=config.is_encoder_decoder)
    train = encode_rows(
        rows,
        tokenizer,
        prompts.PROMPTS[name],
        max_prompt_tokens=case["length"],
        max_target_tokens=case["length"],
        is_encoder_decoder=config.is_encoder_decoder,
        max_row_tokens=case["max_row_tokens"],
    )
    short = [row for row in train.features if row["length"] >= case["min_row_tokens"]]
    train = type(train)(sample(short, case["rows"]), 0, 0)
    base = models.load_model(recipe.model, config)
    model = peft_model.wrap(recipe, base, config.model_type)
    return recipe, train, model, tokenizer


def sample(rows: list[dict[str, Any]], count: int) -> list[dict[str, Any]]:
    """Rows of evenly spaced ranks by length, shuffled: few of them are as long as all of them."""
    ordered = sorted(rows, key=lambda row: int(row["length"]))
    picked = [ordered[(2 * i + 1) * len(ordered) // (2 * count)] for i in range(count)]
    random.Random(1).shuffle(picked)
    return picked


def random_case(case: dict[str, Any], recipe: Any) -> tuple[Any, Any, Any, Any]:
    """The true shape with random weights and token ids, which have the true memory and speed.

    No hub is needed. Lengths are drawn evenly: prompts of 12 to 40 tokens, answers of 4 to 32,
    about CoNaLa's.
    """
    import torch
    from fit import random_model  # benchmarks/fit.py

    from peft_bench import models
    from peft_bench.encoding import Encoded
    from peft_bench.fit import Length, Plan, load_config

    config = load_config(case["model"])
    device = "cuda" if torch.cuda.is_available() else "cpu"
    plan = Plan(
        config,
        case["method"],
        {},
        case["quantization"],
        models.resolve_dtype("auto"),  # type: ignore[arg-type]
        Length(64, 64),
        case["batch"],
        gpu=device == "cuda",
        model_id=case["model"],
    )
    draw = random.Random(0)
    rows = []
    for _ in range(case["rows"]):
        prompt, answer = (
            [draw.randrange(5, config.vocab_size) for _ in range(draw.randint(*span))]
            for span in ((12, 40), (4, 32))
        )
        length = len(prompt) + len(answer)
        if config.is_encoder_decoder:
            rows.append({"input_ids": prompt, "labels": answer, "length": length})
        else:
            labels = [-100] * len(prompt) + answer
            rows.append({"input_ids": prompt + answer, "labels": labels, "length": length})
    train = Encoded(rows, 0, 0)
    return recipe, train, random_model(plan, device), small_tokenizer()


def small_tokenizer() -> Any:
    """What random token ids need of a tokenizer: the ids that pad and end."""
    from tokenizers import Tokenizer, models
    from transformers import PreTrainedTokenizerFast

    raw = Tokenizer(models.WordLevel({"<unk>": 0, "<end>": 1}, unk_token="<unk>"))
    return PreTrainedTokenizerFast(
        tokenizer_object=raw, eos_token="<end>", pad_token="<end>", unk_token="<unk>"
    )


def run(case: dict[str, Any]) -> dict[str, Any]:
    """One variant in this process: tokens, seconds, losses, peak memory."""
    import torch

    recipe, train, model, tokenizer = load(case)
    if case["variant"] == FLOOR:
        return floor(model, train, case["batch"])
    with tempfile.TemporaryDirectory() as folder:
        trainer = make(case, recipe, model, train, tokenizer, Path(folder))
        own = own_loss(trainer, train) if case["check"] else None
        first = loss_of(model, train)
        cuda = torch.cuda.is_available()
        clock = Clock(trainer, cuda)
        trainer.train()
        last = loss_of(model, train)
    from peft_bench import runtime

    return {
        "tokens": clock.tokens,
        "seconds": clock.seconds,
        "own": own,
        "first": first,
        "last": last,
        "peak": torch.cuda.max_memory_allocated() if cuda else runtime.peak_rss_bytes(),
        "reserved": torch.cuda.max_memory_reserved() if cuda else None,
        "versions": runtime.versions(),
    }


class Clock:
    """Tokens and seconds of a trainer's steps but the first, which warms up."""

    def __init__(self, trainer: Any, cuda: bool) -> None:
        import torch
        from transformers import TrainerCallback

        self.tokens, self.seconds, self.start = 0, 0.0, 0.0
        compute = trainer.compute_loss
        steps = 0
        clock = self

        def counted(model: Any, inputs: dict[str, Any], *rest: Any, **named: Any) -> Any:
            if steps:
                mask = inputs.get("attention_mask")
                real = inputs["input_ids"].numel() if mask is None else int(mask.sum())
                if model.config.is_encoder_decoder:
                    real += int((inputs["labels"] != -100).sum())
                self.tokens += real
            return compute(model, inputs, *rest, **named)

        def now() -> float:
            if cuda:
                torch.cuda.synchronize()
            return time.perf_counter() if cuda else time.process_time()

        class Counter(TrainerCallback):  # type: ignore[misc]
            def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
                nonlocal steps
                if not steps:
                    clock.start = now()
                    if cuda:
                        torch.cuda.reset_peak_memory_stats()
                steps += 1
                clock.seconds = now() - clock.start

        trainer.compute_loss = counted
        trainer.add_callback(Counter())


def own_loss(trainer: Any, train: Any) -> float:
    """The trainer's own loss over all its rows, batched its way, without dropout: a mean over
    label tokens. Equal ones mean that everybody trains on the same tokens.
    """
    import torch

    model = trainer.model.eval()
    total = 0.0
    with torch.no_grad():
        for batch in trainer.get_train_dataloader():
            inputs = trainer._prepare_inputs(dict(batch))
            labels = int((inputs["labels"] != -100).sum())
            total += float(trainer.compute_loss(model, inputs)) * labels
    model.train()
    return total / train.label_tokens


def loss_of(model: Any, train: Any) -> float:
    """The plain model's loss over some rows, one by one: the same judge for everybody."""
    import torch

    model.eval()
    total = count = 0.0
    with torch.no_grad():
        for row in train.features[:16]:
            ids, labels = torch.tensor([row["input_ids"]]), torch.tensor([row["labels"]])
            here = int((labels != -100).sum())
            device = next(model.parameters()).device
            total += float(model(input_ids=ids.to(device), labels=labels.to(device)).loss) * here
            count += here
    model.train()
    return total / count


def make(
    case: dict[str, Any], recipe: Any, model: Any, train: Any, tokenizer: Any, folder: Path
) -> Any:
    from peft_bench import checkpoints
    from peft_bench.encoding import Collator
    from peft_bench.trainer import make_trainer, settings

    off = {"eval_strategy": "no", "save_strategy": "no", "load_best_model_at_end": False}
    chosen = settings(recipe, len(train.features), folder, progress=False) | off
    if case["variant"] == OURS:
        trainer = make_trainer(
            recipe,
            model,
            train,
            train,
            folder,
            pad_token_id=tokenizer.pad_token_id,
            earlier=checkpoints.Spent(),
            progress=False,
        )
        # Speed alone is measured here: no validation, no checkpoints.
        trainer.args.eval_strategy = trainer.args.save_strategy = "no"
        trainer.args.load_best_model_at_end = False
        return trainer
    if case["variant"] == PADDED:
        from transformers import Trainer, TrainingArguments

        width = case["padded"]
        collate = Collator(tokenizer.pad_token_id)

        def padded(rows: list[dict[str, Any]]) -> Any:
            import torch

            batch = collate(rows)
            missing = max(0, width - batch["input_ids"].shape[1])
            fills = {"input_ids": tokenizer.pad_token_id, "attention_mask": 0, "labels": -100}
            return {
                key: torch.nn.functional.pad(value, (0, missing), value=fills[key])
                for key, value in batch.items()
            }

        return Trainer(
            model=model,
            args=TrainingArguments(**chosen),
            train_dataset=train.features,
            data_collator=padded,
        )
    return make_trl(case, recipe, model, train, tokenizer, chosen)


def make_trl(
    case: dict[str, Any], recipe: Any, model: Any, train: Any, tokenizer: Any, chosen: Any
) -> Any:
    """SFTTrainer on the token ids, with a mask of what carries a loss: its own way."""
    import torch
    from datasets import Dataset
    from trl import SFTConfig, SFTTrainer

    from peft_bench.trainer import checkpointing_name

    options = dict(TRL[case["variant"]])
    chosen.pop("bf16", None)  # left to TRL's own default
    if options.pop("plain", False):
        options |= {checkpointing_name(): False, "bf16": False}
    chosen.pop("label_names", None)
    chosen.pop("remove_unused_columns", None)
    chosen["use_cpu"] = not torch.cuda.is_available()
    chosen["max_length"] = 2 * case["length"]
    if options.get("packing"):
        chosen["max_length"] = max(512, case["max_row_tokens"] or 0)
        rows_a_pack = max(1, round(chosen["max_length"] / (train.tokens / len(train.features))))
        chosen["per_device_train_batch_size"] = max(1, case["batch"] // rows_a_pack)
        chosen["gradient_accumulation_steps"] = 1
    rows = [
        {
            "input_ids": row["input_ids"],
            "completion_mask": [int(label != -100) for label in row["labels"]],
        }
        for row in train.features
    ]
    return SFTTrainer(
        model=model,
        args=SFTConfig(**chosen | options | {"completion_only_loss": True}),
        train_dataset=Dataset.from_list(rows),
        processing_class=tokenizer,
    )


def floor(model: Any, train: Any, batch: int) -> dict[str, Any]:
    """The matrix products of steps over the rows, with the model's own weights, in its order."""
    import torch

    cuda = torch.cuda.is_available()
    head = model.get_output_embeddings()
    steps = max(1, len(train.features) // batch)
    average, labels = train.tokens // steps, max(1, train.label_tokens // steps)
    pairs = []
    inputs: dict[tuple[int, int], Any] = {}
    for name, module in model.named_modules():
        weight = getattr(module, "weight", None)
        if hasattr(module, "in_features") and not list(module.children()) and "lora_" not in name:
            rows = labels if module is head else average
            for width in (module.in_features, module.out_features):
                shape = (rows, width)
                if shape not in inputs:
                    inputs[shape] = torch.randn(*shape, device=weight.device, dtype=weight.dtype)
            pairs.append((weight.detach(), rows))

    def now() -> float:
        if cuda:
            torch.cuda.synchronize()
        return time.perf_counter() if cuda else time.process_time()

    for _ in range(3):  # the first two warm up
        started = now()
        for weight, rows in pairs:
            inputs[rows, weight.shape[1]] @ weight.T
        for weight, rows in reversed(pairs):
            inputs[rows, weight.shape[0]] @ weight
        seconds = now() - started
    nothing = dict.fromkeys(("own", "first", "last", "peak"))
    return {"tokens": average, "seconds": seconds, **nothing}


def start(case: dict[str, Any], python: str) -> dict[str, Any] | None:
    environment = dict(os.environ, OMP_NUM_THREADS="1", TOKENIZERS_PARALLELISM="false")
    environment["PYTHONPATH"] = os.pathsep.join(path for path in sys.path if path)
    done = subprocess.run(
        [python, __file__, "--case", json.dumps(case)],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    lines = [line for line in done.stdout.splitlines() if line.startswith('{"tokens"')]
    if not lines:
        print(f"{case['variant']}: {done.stderr[-800:]}", file=sys.stderr)
        return None
    found: dict[str, Any] = json.loads(lines[-1])
    return found


def table(found: dict[str, list[dict[str, Any]]], unit: str) -> str:
    """Medians over the rounds, as Markdown."""

    def rate(variant: str) -> float:
        return statistics.median(one["tokens"] / one["seconds"] for one in found[variant])

    def shown(value: float | None, form: str) -> str:
        return "-" if value is None else form.format(value)

    found = {variant: runs for variant, runs in found.items() if runs}
    ours = rate(OURS) if OURS in found else None
    lines = [
        f"| variant | {unit} | ours is faster by | own loss before | loss after | peak memory GB |",
        "|---|---|---|---|---|---|",
    ]
    for variant, runs in found.items():
        own, last, peak = runs[0]["own"], runs[0]["last"], runs[0]["peak"]
        ratio = None if ours is None else ours / rate(variant)
        lines.append(
            f"| {variant} | {rate(variant):.1f} | {shown(ratio, '{:.2f}')} | "
            f"{shown(own, '{:.5f}')} | {shown(last, '{:.4f}')} | "
            f"{shown(peak and peak / 1e9, '{:.2f}')} |"
        )
    owns = [runs[0]["own"] for runs in found.values() if runs[0]["own"] is not None]
    if owns:
        spread = (max(owns) - min(owns)) / min(owns)
        verdict = "equal" if spread < 1e-4 else "NOT equal"
        lines.append(f"\nOwn losses before training are {verdict}: they differ by {spread:.1e}.")
    if ours is not None and FLOOR in found:
        lines.append(f"Ours runs at {100 * ours / rate(FLOOR):.0f} % of the floor's speed.")
    return "\n".join(lines) + "\n"


def about(found: dict[str, list[dict[str, Any]]], case: dict[str, Any]) -> str:
    """What was measured, and on what."""
    import torch

    cuda = torch.cuda.is_available()
    device = torch.cuda.get_device_name() if cuda else "a CPU's one thread"
    versions: dict[str, str] = {}
    for runs in found.values():
        for one in runs:
            versions |= one.get("versions") or {}
    shown = ("python", "torch", "transformers", "peft", "trl")
    rounds = max(map(len, found.values()), default=0)
    return (
        f"{case['rows']} rows of {case['task']}, batches of {case['batch']}"
        + (f" in parts of {case['micro']}" if case["micro"] != case["batch"] else "")
        + f", {case['method']}, {Path(case['model']).name}, {rounds} rounds, {device}; "
        + ", ".join(f"{name} {versions[name]}" for name in shown if name in versions)
        + "."
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--case", help=argparse.SUPPRESS)
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--rows", type=int, default=160)
    parser.add_argument("--long", action="store_true", help="APPS rows")
    parser.add_argument("--model", help="a hub id or folder; SmolLM2-135M by default")
    parser.add_argument("--random", action="store_true", help="random weights of the model's shape")
    parser.add_argument("--method", default="lora")
    parser.add_argument("--quantization", choices=("4bit", "8bit"))
    parser.add_argument("--task", help="conala, or apps with --long")
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--only", nargs="*", help="variants, by the beginning of their names")
    parser.add_argument("--trl-python", default=sys.executable)
    parser.add_argument("--out", type=Path)
    arguments = parser.parse_args()
    if arguments.case:
        print(json.dumps(run(json.loads(arguments.case))))
        return
    from peft_bench import smollm2

    long = arguments.long
    case = {
        "model": arguments.model or smollm2.locate(),
        "random": arguments.random,
        "method": arguments.method,
        "quantization": arguments.quantization,
        "task": arguments.task or ("apps" if long else "conala"),
        "length": 1024 if long else 64,
        "padded": 2048 if long else 128,
        "max_row_tokens": 700 if long else None,
        "min_row_tokens": 300 if long else 0,
        "rows": arguments.rows,
        "batch": arguments.batch,
        "micro": min(arguments.batch, 2) if long else arguments.batch,
    }
    variants = [OURS, PADDED, *TRL, FLOOR]
    if arguments.only:
        variants = [v for v in variants if any(v.startswith(only) for only in arguments.only)]
    found: dict[str, list[dict[str, Any]]] = {variant: [] for variant in variants}
    for number in range(arguments.rounds):
        for variant in variants if number % 2 == 0 else variants[::-1]:
            python = arguments.trl_python if variant in TRL else sys.executable
            one = start(case | {"variant": variant, "check": number == 0}, python)
            if one is not None:
                found[variant].append(one)
                print(number, variant, one, file=sys.stderr, flush=True)
    import torch

    cuda = torch.cuda.is_available()
    unit = "real tokens a wall second" if cuda else "real tokens a CPU second"
    report = f"{about(found, case)}\n\n{table(found, unit)}"
    print(report)
    if arguments.out:
        arguments.out.write_text(report, encoding="utf-8")


if __name__ == "__main__":
    main()
