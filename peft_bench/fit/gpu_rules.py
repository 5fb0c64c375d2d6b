"""What a GPU does otherwise than a CPU in a training step, as far as memory can tell.

A step is simulated on fake CPU tensors, since a PyTorch without CUDA has no fake GPU. Under these
rules it allocates what it would on one:

- dropout keeps a mask of one byte an element (on a CPU: a factor in the input's own dtype);
- autocast computes some functions in float32 (PyTorch's documentation, "CUDA Ops that can
  autocast to float32"), where a CPU's autocast leaves them in half precision;
- PEFT asks whether autocast is on for CUDA, and must be told so.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

# Those that language models use.
_FLOAT32_INPUTS = {
    "layer_norm", "group_norm", "cross_entropy", "nll_loss", "mse_loss", "softplus", "norm",
    "exp", "log", "log1p", "pow", "__pow__", "__rpow__", "reciprocal", "rsqrt", "logsumexp",
    "cosine_similarity",
}  # fmt: skip
_FLOAT32_RESULTS = {"softmax", "log_softmax", "sum", "prod", "cumsum", "cumprod"}


@contextmanager
def gpu_rules(autocast_dtype: Any | None) -> Iterator[None]:
    """The rules, for what is called inside; ``autocast_dtype`` None means no autocast."""
    import torch
    from torch.overrides import TorchFunctionMode

    def float32(value: Any) -> Any:
        half = isinstance(value, torch.Tensor) and value.dtype in (torch.bfloat16, torch.float16)
        return value.float() if half else value

    class Rules(TorchFunctionMode):
        def __torch_function__(
            self, func: Any, types: Any, args: Any = (), kwargs: Any = None
        ) -> Any:
            kwargs = kwargs or {}
            if func is torch.nn.functional.dropout:
                return dropout(*args, **kwargs)
            name = getattr(func, "__name__", "")
            if torch.is_autocast_enabled("cpu"):
                if name in _FLOAT32_RESULTS:
                    args = tuple(map(float32, args))
                elif name in _FLOAT32_INPUTS:
                    args = tuple(map(float32, args))
                    kwargs = {key: float32(value) for key, value in kwargs.items()}
            return func(*args, **kwargs)

    def dropout(
        value: torch.Tensor, p: float = 0.5, training: bool = True, inplace: bool = False
    ) -> torch.Tensor:
        if not training or p == 0:
            return value
        return torch.native_dropout(value, p, True)[0]

    before = torch.is_autocast_enabled("cuda"), torch.get_autocast_dtype("cuda")
    torch.set_autocast_enabled("cuda", autocast_dtype is not None)
    if autocast_dtype is not None:
        torch.set_autocast_dtype("cuda", autocast_dtype)
    try:
        with Rules():
            yield
    finally:
        torch.set_autocast_enabled("cuda", before[0])
        torch.set_autocast_dtype("cuda", before[1])
