"""A training step on fake tensors: every allocation in order, no memory and no weights.

What runs is the real code of transformers, PEFT and the optimiser, under PyTorch's
``FakeTensorMode``; so every architecture and method has its own activations, and nothing is
guessed from formulas. :mod:`peft_bench.fit.gpu_rules` makes it allocate as a GPU would.
"""

from __future__ import annotations

import gc
import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from typing import Any

from peft_bench.errors import PeftBenchError
from peft_bench.fit.gpu_rules import gpu_rules
from peft_bench.fit.meta_model import build, to_fake
from peft_bench.fit.plan import Plan
from peft_bench.fit.tracker import Trace, Tracker


def simulate(plan: Plan) -> Trace:
    """The events of loading, one optimiser step, and the forward and backward pass after it.

    The optimiser steps first, so that its states exist during the passes, as they do in every
    step but the first.

    Raises:
        UsageError, PeftBenchError: see :func:`peft_bench.fit.meta_model.build`; or the step
            depends on values, which fake tensors do not have.
    """
    from torch._subclasses.fake_tensor import FakeTensorMode

    model = build(plan)
    tracker = Tracker()
    fake = FakeTensorMode(allow_non_fake_inputs=True)
    with _quiet(), fake, tracker.mode:
        try:
            return _observed(plan, model, fake, tracker)
        except (RuntimeError, NotImplementedError, TypeError, ValueError, AttributeError) as error:
            raise PeftBenchError(
                place=f"{plan.method} on {plan.config.model_type}",
                problem="a step cannot be reckoned on fake tensors: "
                + str(error).strip().split("\n", 1)[0][:200],
                remedy="its memory must be measured: train with training.max_steps=1",
            ) from error


def _observed(plan: Plan, model: Any, fake: Any, tracker: Tracker) -> Trace:
    import torch

    to_fake(model, fake)
    tensors = {id(t): t for t in (*model.parameters(), *model.buffers())}.values()
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    trained_bytes = sum(map(_bytes, trained))
    for parameter in trained:
        parameter.grad = torch.empty_like(parameter)
    optimizer_bytes, states = optimizer_step(plan, trained)
    if not plan.accumulates:
        for parameter in trained:
            parameter.grad = None
    forward_backward(plan, model, batch(plan))
    del states
    quantized = sum(
        module.in_features * module.out_features
        for module in model.modules()
        if getattr(module, "_absmax", None) is not None
    )
    packed = sum(t.numel() for t in model.parameters() if t.dtype == torch.uint8)
    return Trace(
        events=tuple(tracker.events),
        weights_bytes=sum(map(_bytes, tensors)) - trained_bytes,
        trained_bytes=trained_bytes,
        gradient_bytes=sum(_bytes(p.grad) for p in trained if p.grad is not None),
        optimizer_bytes=optimizer_bytes,
        parameters=sum(t.numel() for t in model.parameters()) - packed + quantized,
        trainable_parameters=sum(parameter.numel() for parameter in trained),
    )


def batch(plan: Plan) -> dict[str, Any]:
    """Token ids, mask and labels of a whole micro batch, every row at its full length."""
    import torch

    rows, length = plan.micro_batch_size, plan.length
    width = length.prompt_tokens
    if not plan.config.is_encoder_decoder:
        width += length.target_tokens
    labels = torch.ones(rows, length.target_tokens, dtype=torch.long)
    if not plan.config.is_encoder_decoder:
        ignored = torch.full((rows, length.prompt_tokens), -100)
        labels = torch.cat([ignored, labels], 1)
    return {
        "input_ids": torch.ones(rows, width, dtype=torch.long),
        "attention_mask": torch.ones(rows, width, dtype=torch.long),
        "labels": labels,
    }


def forward_backward(plan: Plan, model: Any, inputs: dict[str, Any]) -> None:
    """One micro batch's passes, its loss as the trainer computes it."""
    import torch

    dtype = getattr(torch, plan.autocast_dtype) if plan.autocast_dtype else None
    rules = gpu_rules(dtype) if plan.gpu else nullcontext()
    with rules, torch.autocast("cpu", dtype) if dtype else nullcontext():
        loss = _loss(plan, model, inputs)
    # Autocast, and its cache of cast weights, ends before backward.
    loss.backward()


def _loss(plan: Plan, model: Any, inputs: dict[str, Any]) -> Any:
    """The loss at label positions, from logits there only or everywhere (``plan.head``)."""
    import torch

    cross_entropy = torch.nn.functional.cross_entropy
    if plan.config.is_encoder_decoder:
        logits = _call(plan, model, inputs).logits
        return cross_entropy(logits.flatten(0, 1).float(), inputs["labels"].flatten())
    if plan.head == "all":
        return _call(plan, model, inputs).loss
    labels = inputs["labels"]
    count = plan.length.target_tokens
    targets = labels[:, -count:].flatten()

    def keep(module: Any, arguments: tuple[Any, ...]) -> tuple[Any, ...]:
        # The logits before a label predict it. An index copies, as a choice of positions does.
        return (arguments[0][:, -count - 1 : -1].reshape(1, len(targets), -1).clone(),)

    hook = model.get_output_embeddings().register_forward_pre_hook(keep)
    try:
        inputs = {key: value for key, value in inputs.items() if key != "labels"}
        logits = model(**inputs).logits[0]
    finally:
        hook.remove()
    return cross_entropy(logits.float(), targets)


def _call(plan: Plan, model: Any, inputs: dict[str, Any]) -> Any:
    from accelerate.utils import convert_outputs_to_fp32

    if plan.autocast_dtype is None:
        return model(**inputs)
    # accelerate wraps a model that runs under autocast so: half-precision logits are copied.
    return convert_outputs_to_fp32(model.forward)(**inputs)


def optimizer_step(plan: Plan, trained: list[Any]) -> tuple[int, Any]:
    """Lets the optimiser make its states and temporaries; the states' bytes, and the states."""
    import torch

    if plan.optimizer == "adafactor":
        from transformers.optimization import Adafactor

        optimizer = Adafactor(trained, lr=1e-3, scale_parameter=False, relative_step=False)
        optimizer.step()
        states = [
            tensor
            for state in optimizer.state.values()
            for tensor in state.values()
            if isinstance(tensor, torch.Tensor)
        ]
        return sum(map(_bytes, states)), states
    # AdamW counts its steps in tensors, which fake ones cannot: its two moments, and the square
    # roots that torch.optim makes of all parameters at once on a GPU, of one by one on a CPU.
    states = [torch.empty_like(parameter) for parameter in (*trained, *trained)]
    if plan.gpu:
        roots = [torch.empty_like(parameter) for parameter in trained]
        del roots
    else:
        for parameter in trained:
            pair = torch.empty_like(parameter), torch.empty_like(parameter)
            del pair
    return sum(map(_bytes, states)), states


def _bytes(tensor: Any) -> int:
    return int(tensor.numel() * tensor.element_size())


@contextmanager
def _quiet() -> Iterator[None]:
    """No warnings about what is fake; and no collection of cycles at chance times.

    Nor PyTorch's log of a fake tensor's error, a traceback of pages: the error itself is told.
    """
    log = logging.getLogger("torch._subclasses.fake_tensor")
    enabled = gc.isenabled()
    gc.disable()
    log.addFilter(_none)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        log.removeFilter(_none)
        if enabled:
            gc.enable()


def _none(record: logging.LogRecord) -> bool:
    return False
