"""A model in the form that it is trained in, without its weights: built from its configuration.

transformers, PEFT and (by stand-ins) bitsandbytes build it themselves, so that no table of
architectures or methods is needed here.
"""

from __future__ import annotations

import copy
import warnings
from contextlib import nullcontext
from typing import Any

from peft_bench import peft_model
from peft_bench.errors import PeftBenchError, UsageError
from peft_bench.fit.gpu_rules import gpu_rules
from peft_bench.fit.plan import Plan
from peft_bench.fit.quantized import quantize
from peft_bench.methods import FULL
from peft_bench.recipe import BaseModel, DataChoice, MethodChoice, Recipe

# Initialisations that read weights or text; the tensors' sizes do not depend on them.
_PLAIN_START = {
    "prompt_tuning": {"prompt_tuning_init": "RANDOM", "prompt_tuning_init_text": None},
}


def build(plan: Plan) -> Any:
    """The model to train, its tensors on the ``meta`` device.

    Raises:
        UsageError: transformers has no such architecture for language modelling; the method's
            options are refused; full fine-tuning of quantised weights was asked for.
        PeftBenchError: the method cannot be built without weights.
    """
    import torch
    from transformers.initialization import no_init_weights

    if plan.method == FULL and plan.quantization is not None:
        raise UsageError(
            place="quantization",
            problem=f"{plan.quantization} weights cannot be trained themselves",
            remedy="choose an adapter method, or no quantisation",
        )
    with torch.device("meta"), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        # Of the base only: some methods use what PyTorch's initialisations return.
        with no_init_weights():
            base = _base(plan)
        if plan.quantization is not None:
            quantize(base, plan.quantization, getattr(torch, plan.weight_dtype))
        model = _wrapped(plan, base)
        if plan.checkpointing:
            _checkpoint(plan, model)
    return model.train()


def base_parameters(config: Any, model_id: str = "model") -> int:
    """How many parameters a model of this configuration has, tied ones once.

    Raises:
        UsageError: transformers has no such architecture for language modelling.
    """
    import torch
    from transformers.initialization import no_init_weights

    with torch.device("meta"), no_init_weights():
        model = _base(Plan(config, model_id=model_id))
    return sum(parameter.numel() for parameter in model.parameters())


def _base(plan: Plan) -> Any:
    import torch
    from transformers import AutoModelForCausalLM, AutoModelForSeq2SeqLM

    config = copy.deepcopy(plan.config)
    config.use_cache = False  # as transformers' Trainer sets it
    factory = AutoModelForSeq2SeqLM if config.is_encoder_decoder else AutoModelForCausalLM
    try:
        model = factory.from_config(config, dtype=getattr(torch, plan.weight_dtype))
    except ValueError as error:
        raise UsageError(
            place=f"model {plan.model_id}",
            problem=f"transformers cannot build a language model of type {config.model_type!r}: "
            + str(error).split("\n", 1)[0][:200],
            remedy="choose a causal or encoder-decoder language model",
        ) from error
    model.tie_weights()  # which initialisation would have done
    if plan.dtype == "float16":
        for name, parameter in model.named_parameters():
            if any(part in (model._keep_in_fp32_modules or ()) for part in name.split(".")):
                parameter.data = parameter.data.float()
    return model


def recipe_of(plan: Plan) -> Recipe:
    """The recipe whose method and model are the plan's."""
    options = dict(plan.options) | _PLAIN_START.get(plan.method, {})
    if isinstance(options.get("init_lora_weights"), str):
        options["init_lora_weights"] = True
    return Recipe(
        name="fit",
        model=BaseModel(plan.model_id, quantization=plan.quantization),
        method=MethodChoice(plan.method, options),
        data=DataChoice(("conala",)),
    )


def _wrapped(plan: Plan, base: Any) -> Any:
    try:
        return peft_model.wrap(recipe_of(plan), base, plan.config.model_type)
    except UsageError as error:
        cause = error.__cause__
        if not isinstance(cause, RuntimeError | AttributeError):
            raise
        raise PeftBenchError(
            place=f"method {plan.method}",
            problem="cannot be built without the model's weights: "
            + str(cause).split("\n", 1)[0][:200],
            remedy="its memory cannot be reckoned beforehand; LoRA of the same rank is a guide",
        ) from cause


def _checkpoint(plan: Plan, model: Any) -> None:
    import torch

    dtype = getattr(torch, plan.autocast_dtype) if plan.autocast_dtype else None

    def contexts() -> tuple[Any, Any]:
        # A layer that is computed again in the backward pass obeys the rules there, too.
        return nullcontext(), gpu_rules(dtype) if plan.gpu else nullcontext()

    model.gradient_checkpointing_enable(
        gradient_checkpointing_kwargs={
            "use_reentrant": False,
            # Fake tensors have no random state to keep; it would be some kilobytes.
            "preserve_rng_state": False,
            "context_fn": contexts,
        }
    )
    model.enable_input_require_grads()


def to_fake(model: Any, fake_mode: Any) -> None:
    """Replaces every parameter and buffer by a fake CPU tensor, ties kept."""
    import torch

    made: dict[int, tuple[Any, Any]] = {}

    def fake(tensor: Any) -> Any:
        if id(tensor) not in made:
            with fake_mode:
                new: Any = torch.empty(tensor.shape, dtype=tensor.dtype)
                if isinstance(tensor, torch.nn.Parameter):
                    new = torch.nn.Parameter(new, requires_grad=tensor.requires_grad)
            made[id(tensor)] = new, tensor
        return made[id(tensor)][0]

    for module in model.modules():
        for held in (module._parameters, module._buffers):
            for name, tensor in held.items():
                if tensor is not None:
                    held[name] = fake(tensor)
