"""Which micro batches fit a GPU, and what would where one does not."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

from peft_bench import compatibility
from peft_bench.errors import PeftBenchError, UsageError
from peft_bench.fit.allocator import replay
from peft_bench.fit.meta_model import base_parameters
from peft_bench.fit.plan import TRAINER_HEAD, Dtype, Head, Length, Plan, Quantization
from peft_bench.fit.step import simulate
from peft_bench.fit.tracker import Trace, peak_bytes
from peft_bench.methods import FULL, METHODS, base_quantization
from peft_bench.recipe import parse_recipe
from peft_bench.report import text

# Held outside PyTorch's allocator: the CUDA context with the kernels that it loads. Assumed, not
# measured; it differs with driver and GPU from about 300 to 600 MiB.
CONTEXT_BYTES = 512 * 1024**2
# cuBLAS' workspace, inside the allocator: PyTorch's default of :4096:2:16:8 (in KiB).
CUBLAS_BYTES = (4096 * 2 + 16 * 8) * 1024


@dataclass(frozen=True, slots=True)
class Estimate:
    """What one micro batch needs, in bytes.

    ``allocated_bytes`` is the peak of live tensors as the allocator counts them
    (``torch.cuda.max_memory_allocated``), ``reserved_bytes`` that of its segments with no limit
    (``max_memory_reserved``), ``needed_bytes`` the latter and the CUDA context. A step that
    needs more than there is can still fit: a full allocator gives empty segments back.
    """

    micro_batch_size: int
    weights_bytes: int
    trained_bytes: int
    gradient_bytes: int
    optimizer_bytes: int
    activation_bytes: int
    allocated_bytes: int
    reserved_bytes: int
    needed_bytes: int
    fits: bool


@dataclass(frozen=True, slots=True)
class Case:
    """A method at a quantisation and a length: the estimate at the whole batch, and what fits.

    ``whole`` is at ``batch_size`` in one piece; ``best`` the largest micro batch that fits, None
    where none does; ``least`` is at the smallest one tried.
    """

    method: str
    quantization: Quantization | None
    dtype: Dtype
    length: Length
    checkpointing: bool
    batch_size: int
    parameters: int
    trainable_parameters: int
    gpu_memory_bytes: int
    whole: Estimate
    least: Estimate
    best: Estimate | None


@dataclass(frozen=True, slots=True)
class Refused:
    """A combination that `train` refuses, or that cannot be reckoned, and why."""

    method: str
    quantization: Quantization | None
    length: Length
    reason: str


Progress = Callable[[str], None]


def what_fits(
    config: Any,
    gpu_memory_bytes: int,
    *,
    methods: Sequence[str] = (FULL, "lora"),
    quantizations: Sequence[Quantization | None] = (None, "8bit", "4bit"),
    lengths: Sequence[Length] = (Length(),),
    batch_size: int = 8,
    dtype: Dtype = "bfloat16",
    options: dict[str, Any] | None = None,
    optimizer: str = "adafactor",
    checkpointing: bool = False,
    head: Head = TRAINER_HEAD,
    model_id: str = "model",
    progress: Progress | None = None,
) -> list[Case | Refused]:
    """What each method, quantisation and length needs, and the micro batches that fit.

    Each combination comes once: ``qlora`` has no base without quantisation, and is of 4 bits where
    a recipe of none would be.

    Args:
        config: transformers' configuration of the model; no weights are needed.
        gpu_memory_bytes: the GPU's whole memory.
        methods: names as in recipes; :data:`peft_bench.methods.FULL` is full fine-tuning.
        batch_size: the effective batch; its divisors are tried as micro batches.
        options: of the adapter methods, as in a recipe.
        progress: called with a line before each case.

    Raises:
        UsageError: the memory or the batch is not positive; no such method; the architecture is
            unknown.
    """
    _check(gpu_memory_bytes, batch_size, methods)
    found: list[Case | Refused] = []
    for length in lengths:
        for method in methods:
            bits = dict.fromkeys(base_quantization(method, chosen) for chosen in quantizations)
            for quantization in bits:
                plan = Plan(
                    config,
                    method,
                    {} if method == FULL else dict(options or {}),
                    quantization,
                    dtype,
                    length,
                    batch_size,
                    optimizer=optimizer,  # type: ignore[arg-type]
                    checkpointing=checkpointing,
                    head=head,
                    model_id=model_id,
                )
                if progress:
                    progress(f"{method}{f' {quantization}' if quantization else ''} {length}")
                found.append(examine(plan, gpu_memory_bytes))
    return found


def examine(plan: Plan, gpu_memory_bytes: int) -> Case | Refused:
    """One method at one length: ``plan.micro_batch_size`` is taken as the effective batch.

    A combination that `train`, PEFT or the model refuses is told as such; an unknown architecture
    raises.
    """
    plan = replace(plan, quantization=base_quantization(plan.method, plan.quantization))
    batch_size = plan.micro_batch_size
    reason = _refusal(plan)
    if reason is not None:
        base_parameters(plan.config, plan.model_id)  # raises for an unknown architecture
        return Refused(plan.method, plan.quantization, plan.length, reason)
    try:
        whole_trace = simulate(plan)
    except PeftBenchError as error:
        if error.place.startswith("model "):
            raise
        return Refused(plan.method, plan.quantization, plan.length, f"{error.problem}")
    whole = estimate(whole_trace, batch_size, gpu_memory_bytes)
    least, best = whole, whole if whole.fits else None
    if best is None:
        for trace, micro in _smaller(plan):
            smaller = estimate(trace, micro, gpu_memory_bytes)
            if micro == 1:
                least = smaller
                best = smaller if smaller.fits else None
            elif smaller.fits:
                best = smaller
            if best is None or best.micro_batch_size > 1:
                break
    return Case(
        plan.method,
        plan.quantization,
        plan.dtype,
        plan.length,
        plan.checkpointing,
        batch_size,
        whole_trace.parameters,
        whole_trace.trainable_parameters,
        gpu_memory_bytes,
        whole,
        least,
        best,
    )


def estimate(trace: Trace, micro_batch_size: int, gpu_memory_bytes: int) -> Estimate:
    """The parts of a trace, and whether the allocator gets through it on such a GPU."""
    held = trace.weights_bytes + trace.trained_bytes + trace.gradient_bytes + trace.optimizer_bytes
    free = replay(trace.events)
    capacity = gpu_memory_bytes - CONTEXT_BYTES - CUBLAS_BYTES
    fits = free.reserved_bytes <= capacity or replay(trace.events, max(capacity, 0)).fits
    return Estimate(
        micro_batch_size=micro_batch_size,
        weights_bytes=trace.weights_bytes,
        trained_bytes=trace.trained_bytes,
        gradient_bytes=trace.gradient_bytes,
        optimizer_bytes=trace.optimizer_bytes,
        activation_bytes=peak_bytes(trace.events) - held,
        allocated_bytes=free.allocated_bytes + CUBLAS_BYTES,
        reserved_bytes=free.reserved_bytes + CUBLAS_BYTES,
        needed_bytes=free.reserved_bytes + CUBLAS_BYTES + CONTEXT_BYTES,
        fits=fits,
    )


def remedy(plan: Plan, gpu_memory_bytes: int) -> str:
    """In words, whether a plan's batch fits, and else the mildest change that makes it fit.

    ``plan.micro_batch_size`` is taken as the effective batch. For a trainer that ran out of
    memory, and for a sweep before it starts. Changes are tried in this order: smaller micro
    batches, gradient checkpointing, 8-bit weights, 4-bit weights, the latter two together with
    checkpointing.
    """
    case = examine(plan, gpu_memory_bytes)
    if isinstance(case, Refused):
        return f"cannot be reckoned: {case.reason}"
    if case.whole.fits or case.best is not None:
        return sentence(case)
    for changed, words in _milder(plan):
        other = examine(changed, gpu_memory_bytes)
        if isinstance(other, Case) and other.best is not None:
            micro = other.best.micro_batch_size
            return f"{sentence(case)}; fits with {words} at {_micro(micro, case.batch_size)}"
    return f"{sentence(case)}; no quantisation or gradient checkpointing makes it fit"


def sentence(case: Case) -> str:
    """A case in words: whether it fits, at which micro batch, or what it would need."""
    have = text.size(case.gpu_memory_bytes)
    if case.best is not None:
        part = _micro(case.best.micro_batch_size, case.batch_size)
        return f"fits at {part}: needs {text.size(case.best.needed_bytes)}, have {have}"
    part = _micro(case.least.micro_batch_size, case.batch_size)
    return f"does not fit: needs {text.size(case.least.needed_bytes)} at {part}, have {have}"


def _milder(plan: Plan) -> Iterator[tuple[Plan, str]]:
    if not plan.checkpointing:
        yield replace(plan, checkpointing=True), "gradient checkpointing"
    method = ""
    if plan.method == FULL:
        plan, method = replace(plan, method="lora", options={}), "method lora"
        yield plan, method
    stronger: dict[str | None, tuple[Quantization, ...]] = {
        None: ("8bit", "4bit"),
        "8bit": ("4bit",),
    }
    for quantization in stronger.get(plan.quantization, ()):
        other = replace(plan, quantization=quantization)
        words = ", ".join(filter(None, (method, f"quantisation {quantization}")))
        yield other, words
        if not plan.checkpointing:
            yield replace(other, checkpointing=True), f"{words} and gradient checkpointing"


def _micro(micro: int, batch_size: int) -> str:
    if micro == batch_size:
        return f"micro batch {micro}"
    return f"micro batch {micro} (of effective {batch_size})"


def _smaller(plan: Plan) -> Iterator[tuple[Trace, int]]:
    """Traces at the smallest micro batch, then at the others from the largest on."""
    batch_size = plan.micro_batch_size
    micros = [micro for micro in range(batch_size - 1, 0, -1) if batch_size % micro == 0]
    for micro in (*micros[-1:], *micros[:-1]):
        yield simulate(replace(plan, micro_batch_size=micro, accumulates=True)), micro


def _refusal(plan: Plan) -> str | None:
    """Why `train` would not take the plan's recipe; None if it would."""
    raw = {
        "name": "fit",
        "model": {"id": plan.model_id, "quantization": plan.quantization},
        "method": {"name": plan.method, "options": plan.options},
        "data": {
            "tasks": ["conala"],
            "max_prompt_tokens": plan.length.prompt_tokens,
            "max_target_tokens": plan.length.target_tokens,
        },
        "training": {
            "batch_size": plan.micro_batch_size,
            "optimizer": plan.optimizer,
            "gradient_checkpointing": plan.checkpointing,
        },
    }
    try:
        compatibility.check(parse_recipe(raw), plan.config, shape_alone=True)
    except UsageError as error:
        return "; ".join(map(_reason, error.faults or (error,)))
    return None


def _reason(fault: PeftBenchError) -> str:
    """A fault of a recipe in words: of its fields, only options are the asker's own."""
    option = fault.place.rpartition("method.options.")[2]
    return fault.problem if option == fault.place else f"{option}: {fault.problem}"


def _check(gpu_memory_bytes: int, batch_size: int, names: Sequence[str]) -> None:
    from peft.utils.peft_types import PeftType

    known = {*METHODS, FULL, *(kind.value.lower() for kind in PeftType)}
    for name in names:
        if name not in known:
            raise UsageError(
                place="--method",
                problem=f"no method is named {name!r}",
                remedy=f"known: {', '.join(sorted(known))}",
            )
    if gpu_memory_bytes <= 0:
        raise UsageError(
            place="--gpu-memory",
            problem=f"{gpu_memory_bytes / 1024**3:g} GiB is not positive",
            remedy="give the GPU's memory in GiB, such as 24",
        )
    if batch_size <= 0:
        raise UsageError(
            place="--batch-size",
            problem=f"{batch_size} is not positive",
            remedy="give the rows of one update, such as 8",
        )
