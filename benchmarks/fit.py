"""`peft-bench fit` against measured training steps of models with random weights.

    python benchmarks/fit.py --out results.json                  on a GPU: the study's models
    python benchmarks/fit.py --small                             on a CPU: small models, seconds

On a GPU the peaks are ``torch.cuda.max_memory_allocated`` and ``max_memory_reserved``; on a CPU
the peak of PyTorch's own allocator, as torch.profiler counts it. A step needs no checkpoint: a
model of the true shape with random weights has the true memory.
"""

from __future__ import annotations

import argparse
import gc
import json
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch.profiler import ProfilerActivity, profile

from peft_bench import peft_model
from peft_bench.fit import Length, Plan, study
from peft_bench.fit.allocator import replay
from peft_bench.fit.meta_model import recipe_of
from peft_bench.fit.step import batch, simulate
from peft_bench.fit.tracker import peak_bytes
from peft_bench.methods import FULL

_CASES: tuple[tuple[str, str | None], ...] = (
    (FULL, None), ("lora", None), ("lora", "8bit"), ("lora", "4bit"), ("ia3", None),
    ("prompt_tuning", None),
)  # fmt: skip


def random_model(plan: Plan, device: str) -> Any:
    """The model that ``plan`` trains, with random weights, on ``device``."""
    import transformers
    from transformers.initialization import no_init_weights

    config = plan.config
    factory = (
        transformers.AutoModelForSeq2SeqLM
        if config.is_encoder_decoder
        else transformers.AutoModelForCausalLM
    )
    dtype = getattr(torch, plan.weight_dtype)
    with torch.device("meta"), no_init_weights():
        model = factory.from_config(config, dtype=dtype)
        model.tie_weights()
    if plan.quantization is not None:
        _quantize(model, plan, dtype, device)
    made: dict[int, Any] = {}
    for module in model.modules():
        for name, parameter in list(module._parameters.items()):
            if parameter is not None and parameter.is_meta:
                if id(parameter) not in made:
                    value = torch.empty(parameter.shape, dtype=parameter.dtype, device=device)
                    made[id(parameter)] = torch.nn.Parameter(value.normal_(0, 0.02))
                module._parameters[name] = made[id(parameter)]
    with torch.device(device):
        for module in model.modules():
            for name, buffer in list(module._buffers.items()):
                if buffer is not None and buffer.is_meta:
                    module._buffers[name] = torch.zeros(buffer.shape, dtype=buffer.dtype)
    model.config.use_cache = False
    model = peft_model.wrap(recipe_of(plan), model, config.model_type)
    if plan.checkpointing:
        model.gradient_checkpointing_enable({"use_reentrant": False})
        model.enable_input_require_grads()
    return model.to(device).train()


def _quantize(model: Any, plan: Plan, dtype: Any, device: str) -> None:
    """bitsandbytes' own layers with random weights, quantised one by one on the device."""
    import bitsandbytes as bnb
    from transformers.integrations.bitsandbytes import replace_with_bnb_linear
    from transformers.quantizers.base import get_keys_to_not_convert

    from peft_bench.models import quantization_config

    skipped = [*get_keys_to_not_convert(model), *(model._keep_in_fp32_modules or ())]
    chosen = quantization_config(plan.quantization, plan.weight_dtype)
    replace_with_bnb_linear(model, skipped, chosen)
    for module in model.modules():
        if isinstance(module, bnb.nn.Linear4bit | bnb.nn.Linear8bitLt):
            shape = module.out_features, module.in_features
            value = torch.empty(shape, dtype=dtype, device=device).normal_(0, 0.02)
            kind = type(module.weight)
            options = {k: v for k, v in module.weight.__dict__.items() if k not in ("SCB", "CB")}
            module.weight = kind(value.cpu(), requires_grad=False, **options).to(device)
    model.is_loaded_in_4bit = plan.quantization == "4bit"
    model.is_loaded_in_8bit = plan.quantization == "8bit"
    model.is_quantized = True


def train_steps(plan: Plan, model: Any, device: str, steps: int = 2) -> None:
    """Whole steps as the trainer takes them: forward, backward, optimiser, gradients dropped."""
    from transformers.optimization import Adafactor

    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    if plan.optimizer == "adafactor":
        optimizer: Any = Adafactor(trained, lr=1e-4, scale_parameter=False, relative_step=False)
    else:
        optimizer = torch.optim.AdamW(trained, lr=1e-4)
    inputs = {key: value.to(device) for key, value in batch(plan).items()}
    # Rows of a real batch differ in length, and without padding attention would need no mask.
    inputs["attention_mask"][0, -1] = 0
    dtype = plan.autocast_dtype
    for _ in range(steps):
        for _ in range(2 if plan.accumulates else 1):
            with torch.autocast(device, getattr(torch, dtype or "bfloat16"), enabled=bool(dtype)):
                loss = loss_of(plan, model, inputs)
            loss.backward()
            del loss
        optimizer.step()
        optimizer.zero_grad()


def loss_of(plan: Plan, model: Any, inputs: dict[str, Any]) -> Any:
    """As the trainer computes it (written apart from the reckoning on purpose)."""
    from accelerate.utils import convert_outputs_to_fp32

    call = convert_outputs_to_fp32(model.forward) if plan.autocast_dtype else model
    if plan.config.is_encoder_decoder:
        logits = call(**inputs).logits
        return torch.nn.functional.cross_entropy(
            logits.flatten(0, 1).float(), inputs["labels"].flatten()
        )
    if plan.head == "all":
        return call(**inputs).loss
    head = model.get_output_embeddings()
    labels = torch.nn.functional.pad(inputs["labels"], (0, 1), value=-100)[:, 1:]
    width = labels.shape[1]

    def chosen(module: Any, arguments: tuple[Any, ...]) -> tuple[Any, ...]:
        return (arguments[0][:, -width:][labels != -100].unsqueeze(0),)

    hook = head.register_forward_pre_hook(chosen)
    try:
        inputs = {key: value for key, value in inputs.items() if key != "labels"}
        logits = model(**inputs).logits[0]
    finally:
        hook.remove()
    return torch.nn.functional.cross_entropy(logits.float(), labels[labels != -100])


def measured(plan: Plan, device: str) -> dict[str, int]:
    """Peak bytes of real steps: ``allocated``, and on a GPU ``reserved``."""
    model = random_model(plan, device)
    gc.collect()
    if device != "cpu":
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()
        train_steps(plan, model, device)
        torch.cuda.synchronize()
        return {
            "allocated": torch.cuda.max_memory_allocated(),
            "reserved": torch.cuda.max_memory_reserved(),
        }
    tensors = {t.untyped_storage()._cdata: t for t in (*model.parameters(), *model.buffers())}
    weights = sum(tensor.untyped_storage().nbytes() for tensor in tensors.values())
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as profiler:
        train_steps(plan, model, device)
    return {"allocated": weights + cpu_peak(profiler)}


def cpu_peak(profiler: Any) -> int:
    """The most bytes that were allocated under a profiler beyond those from before it."""
    live = most = 0
    events = profiler.profiler.kineto_results.events()
    for event in sorted(
        (event for event in events if event.name() == "[memory]"), key=lambda e: e.start_ns()
    ):
        live += event.nbytes()
        most = max(most, live)
    return most


def compare(plan: Plan, device: str) -> dict[str, Any]:
    """One line of the table: what was reckoned, what was measured, and their ratio."""
    plan = replace(plan, gpu=device != "cpu")
    trace = simulate(plan)
    reckoned = {"allocated": peak_bytes(trace.events)}
    if device != "cpu":
        replayed = replay(trace.events)
        reckoned = {"allocated": replayed.allocated_bytes, "reserved": replayed.reserved_bytes}
    try:
        real = measured(plan, device)
    except torch.OutOfMemoryError:
        real = {}
    return {
        "model": plan.model_id,
        "method": plan.method,
        "quantization": plan.quantization,
        "dtype": plan.dtype,
        "length": str(plan.length),
        "micro_batch_size": plan.micro_batch_size,
        "head": plan.head,
        "reckoned_bytes": reckoned,
        "measured_bytes": real,
        "ratio": {key: reckoned[key] / value for key, value in real.items()},
    }


def small_plans(methods: list[str]) -> Iterator[Plan]:
    """Small models of the study's three architectures, in float32, on this machine's CPU."""
    for name, config in study.small_configs().items():
        for method in methods:
            yield Plan(config, method, dtype="float32", length=Length(40, 24), model_id=name)


def gpu_plans(models: list[str], methods: list[str], lengths: list[Length]) -> Iterator[Plan]:
    """Every case of the study at its lengths, and gradient checkpointing on the longest."""
    for name in models:
        config = study.config(name)
        for length in lengths:
            for method, quantization in _CASES:
                if method not in methods:
                    continue
                yield Plan(
                    config,
                    method,
                    quantization=quantization,  # type: ignore[arg-type]
                    length=length,
                    checkpointing=length.prompt_tokens > 512,
                    model_id=name,
                )


def main(argv: list[str] | None = None) -> int:
    """Prints the table; 1 where a ratio is off by more than ten per cent."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0] if __doc__ else None)
    parser.add_argument("--small", action="store_true", help="small models on the CPU")
    parser.add_argument("--models", default=",".join(study.NAMES))
    parser.add_argument("--methods", default=f"lora,{FULL},prompt_tuning,ia3")
    parser.add_argument("--lengths", default="64+64,64+128,1024+1024")
    parser.add_argument("--out", type=Path)
    arguments = parser.parse_args(argv)
    if not arguments.small and not torch.cuda.is_available():
        print("no GPU here: --small compares small models on the CPU", file=sys.stderr)
        return 3
    device = "cpu" if arguments.small else "cuda"
    lengths = [Length(*map(int, text.split("+"))) for text in arguments.lengths.split(",")]
    methods = arguments.methods.split(",")
    models = arguments.models.split(",")
    plans = small_plans(methods) if arguments.small else gpu_plans(models, methods, lengths)
    rows, worst = [], 0.0
    for plan in plans:
        row = compare(plan, device)
        rows.append(row)
        worst = max([worst, *(abs(ratio - 1) for ratio in row["ratio"].values())])
        ratios = ", ".join(f"{key} {ratio:.3f}" for key, ratio in row["ratio"].items())
        case = f"{plan.model_id} {plan.method} {plan.quantization or ''} {plan.length}"
        print(f"{case:<50} {ratios or 'out of memory'}", flush=True)
        gc.collect()
    device_name = "cpu" if device == "cpu" else torch.cuda.get_device_name()
    report = {"device": device_name, "torch": torch.__version__, "rows": rows}
    if arguments.out:
        arguments.out.write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")
    print(f"worst: {100 * worst:.1f} % off")
    return 0 if worst <= 0.1 else 1


if __name__ == "__main__":
    raise SystemExit(main())
