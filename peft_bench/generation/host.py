"""Which of the harness' models runs a task, and what it can do."""

from __future__ import annotations

import inspect
import sys
from typing import Any

from peft_bench.errors import UsageError


def running_model() -> Any | None:
    """The model that the harness evaluates right now; None where that cannot be told.

    The harness tells a task everything but its model. Its ``evaluate`` holds the model in a local
    variable while it asks the task for requests, so that is where we look: the last resort, since
    to find out by the first answers would cost a paid interface ten requests a prompt.
    """
    from lm_eval.api.model import LM, CachingLM

    frame = inspect.currentframe()
    while frame is not None:
        if frame.f_code.co_name == "evaluate":
            model = frame.f_locals.get("lm")
            if isinstance(model, CachingLM):
                model = model.lm
            if isinstance(model, LM):
                return model
        frame = frame.f_back
    return None


def runs_transformers(model: Any | None) -> bool:
    """Whether it generates by transformers in this process, or replays such answers.

    A model that cannot be told is taken for one.
    """
    from peft_bench.replay import Replay

    if model is None or isinstance(model, Replay):
        return True
    # Where nothing has imported it, no model is of its kind; importing it here would ask for torch.
    backend = sys.modules.get("lm_eval.models.huggingface")
    return backend is not None and isinstance(model, backend.HFLM)


def refuse_other_backends(model: Any | None, task: str) -> None:
    """Stops before anything is generated, if the model cannot give beams.

    Raises:
        UsageError: naming the task's sampling variant.
    """
    if not runs_transformers(model):
        raise no_beams(type(model).__name__, task)


def no_beams(model: str, task: str) -> UsageError:
    """What is said of a model that cannot give beams."""
    return UsageError(
        place=f"--tasks {task}",
        problem=f"asks for the beams of one search, which the model {model} cannot give: "
        "only --model hf (and its kind) can",
        remedy=f"take the sampling variant: --tasks {task}_sampled",
    )


def takes_seeds(model: Any | None) -> bool:
    """Whether each request may carry a ``seed``, without which samples could all be equal.

    The harness' interface to completion servers sends one fixed seed otherwise.
    """
    if model is None:
        return False
    names = {kind.__module__ for kind in type(model).__mro__}
    if "lm_eval.models.anthropic_llms" in names:
        return False
    return bool(names & {"lm_eval.models.api_models", "lm_eval.models.vllm_causallms"})
