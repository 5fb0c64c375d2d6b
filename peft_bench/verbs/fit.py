"""``peft-bench fit``: what fits a GPU."""

from __future__ import annotations

import argparse
from pathlib import Path

from peft_bench.verbs import Verbs


def add(verbs: Verbs) -> None:
    """The verb's options."""
    parser = verbs.add_parser("fit", help="what fits a GPU, before a weight is downloaded")
    parser.add_argument("--model", metavar="ID", help="a hub id, a folder, or one of the study's")
    parser.add_argument("--study", action="store_true", help="the models of the study, no network")
    parser.add_argument("--gpu-memory", type=float, default=24.0, metavar="GIB", help="24")
    parser.add_argument("--method", default="full,lora", metavar="A,B")
    parser.add_argument("--quantization", default="none,8bit,4bit", metavar="A,B")
    parser.add_argument("--length", default="64+64", metavar="PROMPT+TARGET,...", help="tokens")
    parser.add_argument("--batch-size", type=int, default=8, metavar="N", help="the effective one")
    parser.add_argument("--dtype", default="bfloat16")
    parser.add_argument("--optimizer", default="adafactor")
    parser.add_argument(
        "--head", choices=("labels", "all"), help="positions with logits; default: the trainer's"
    )
    parser.add_argument("--checkpointing", action="store_true", help="of gradients")
    parser.add_argument("--json", type=Path, metavar="F")
    parser.add_argument("--plot", type=Path, metavar="F.svg|html")
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Runs it; returns the exit code."""
    from peft_bench.fit import TRAINER_HEAD, Question, run

    question = Question(
        arguments.model,
        arguments.study,
        arguments.gpu_memory,
        arguments.method,
        arguments.quantization,
        arguments.length,
        arguments.batch_size,
        arguments.dtype,
        arguments.optimizer,
        arguments.head or TRAINER_HEAD,
        arguments.checkpointing,
    )
    return run(question, arguments.json, arguments.plot)
