"""Stand-ins for bitsandbytes' linear layers: its tensors and their lives, without its kernels.

They are subclasses of its own classes, so that PEFT treats them as the real ones. What they keep
and allocate follows ``bitsandbytes/autograd/_functions.py`` and ``backends/cuda/ops.py`` of
0.50.
"""

from __future__ import annotations

import importlib
from typing import Any

from peft_bench.errors import MissingError

# NF4 with double quantisation (Dettmers et al., arXiv 2305.14314): a scale a block of 64 weights,
# kept in 8 bits, and a float32 scale for every 256 of those; two code tables and an offset.
_BLOCK, _NESTED_BLOCK = 64, 256
_TABLES = 256 + 16 + 1


def quantize(model: Any, quantization: str, compute_dtype: Any) -> None:
    """Puts stand-ins in the place of the linear layers that bitsandbytes would quantise.

    As transformers does it, the output layer and what is tied to it stay as they are, as does
    what the model wants in float32; embeddings and norms are no linear layers.
    """
    import torch
    from transformers.quantizers.base import get_keys_to_not_convert
    from transformers.quantizers.quantizers_utils import should_convert_module

    four, eight = _classes()
    skipped = [*get_keys_to_not_convert(model), *(model._keep_in_fp32_modules or ())]
    for name, module in list(model.named_modules()):
        if type(module) is not torch.nn.Linear or not should_convert_module(name, skipped):
            continue
        shape = module.in_features, module.out_features, module.bias is not None
        new = four(*shape, compute_dtype) if quantization == "4bit" else eight(*shape)
        if module.bias is not None:
            new.bias = module.bias
        new.requires_grad_(False)
        model.set_submodule(name, new)
    model.is_loaded_in_4bit = quantization == "4bit"
    model.is_loaded_in_8bit = quantization == "8bit"
    model.is_quantized = True


def _classes() -> tuple[Any, Any]:
    try:
        bnb: Any = importlib.import_module("bitsandbytes")
    except ImportError as error:
        raise MissingError(
            place="bitsandbytes",
            problem=f"cannot be imported: {error}",
            remedy="quantised models need it; see `peft-bench doctor`",
        ) from error
    import torch

    class Four(bnb.nn.Linear4bit):  # type: ignore[misc]
        def __init__(self, n_in: int, n_out: int, bias: bool, compute_dtype: Any) -> None:
            super().__init__(n_in, n_out, bias, compute_dtype, quant_type="nf4", device="meta")
            packed = torch.empty(-(-n_in * n_out // 2), 1, dtype=torch.uint8, device="meta")
            weight = torch.nn.Parameter(packed, requires_grad=False)
            weight.compress_statistics = True  # type: ignore[attr-defined]
            weight.quant_type = "nf4"  # type: ignore[attr-defined]
            self.weight = weight
            blocks = -(-n_in * n_out // _BLOCK)
            for name, n, dtype in (
                ("_absmax", blocks, torch.uint8),
                ("_nested_absmax", -(-blocks // _NESTED_BLOCK), torch.float32),
                ("_tables", _TABLES, torch.float32),
            ):
                tensor = torch.empty(n, dtype=dtype, device="meta")
                self.register_buffer(name, tensor, persistent=False)

        def forward(self, x: Any) -> Any:
            dtype = x.dtype
            bias = None if self.bias is None else self.bias.to(self.compute_dtype)
            out = product4(x.to(self.compute_dtype), self.weight, bias, self.out_features)
            return out.to(dtype)

    class Eight(bnb.nn.Linear8bitLt):  # type: ignore[misc]
        def __init__(self, n_in: int, n_out: int, bias: bool) -> None:
            super().__init__(
                n_in, n_out, bias, has_fp16_weights=False, threshold=6.0, device="meta"
            )
            whole = torch.empty(n_out, n_in, dtype=torch.int8, device="meta")
            self.weight = torch.nn.Parameter(whole, requires_grad=False)
            scales = torch.empty(n_out, dtype=torch.float32, device="meta")
            self.register_buffer("_scales", scales, persistent=False)

        def forward(self, x: Any) -> Any:
            return product8(x, self.weight, self.bias)

    class Product4(torch.autograd.Function):
        """Keeps no input; unpacks the whole weight for a product, forward and backward."""

        @staticmethod
        def forward(ctx: Any, x: Any, packed: Any, bias: Any, n_out: int) -> Any:
            ctx.packed, ctx.n_out = packed, n_out
            weight = _unpacked(packed, n_out, x)
            return torch.nn.functional.linear(x, weight, bias)

        @staticmethod
        def backward(ctx: Any, *gradients: Any) -> Any:
            (gradient,) = gradients
            weight = _unpacked(ctx.packed, ctx.n_out, gradient)
            return gradient @ weight, None, None, None

    class Product8(torch.autograd.Function):
        """Keeps its input, in the dtype it came in, though only its shape is needed again."""

        @staticmethod
        def forward(ctx: Any, x: Any, weight: Any, bias: Any) -> Any:
            ctx.x, ctx.weight, ctx.shape = x, weight, x.shape
            rows = x.reshape(-1, x.shape[-1])
            codes = rows.to(torch.float16).to(torch.int8)
            sums = rows.new_empty((len(rows), len(weight)), dtype=torch.int32)
            del codes
            out = torch.empty_like(sums, dtype=torch.float16)
            if bias is not None and bias.dtype != torch.float16:
                out.add_(bias.to(torch.float16))
            return out.to(x.dtype).view(*x.shape[:-1], len(weight))

        @staticmethod
        def backward(ctx: Any, *gradients: Any) -> Any:
            (gradient,) = gradients
            rows = gradient.reshape(-1, gradient.shape[-1])
            whole = ctx.weight.to(ctx.x.dtype)
            return torch.matmul(rows.to(ctx.x.dtype), whole).view(ctx.shape), None, None

    def _unpacked(packed: Any, n_out: int, like: Any) -> Any:
        absmax = like.new_empty(packed.numel() * 2 // _BLOCK, dtype=torch.float32)
        weight = like.new_empty((n_out, packed.numel() * 2 // n_out))
        del absmax
        return weight

    # Typed code may not call what PyTorch leaves untyped.
    product4: Any = Product4.apply
    product8: Any = Product8.apply
    return Four, Eight
