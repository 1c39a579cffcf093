"""A linear layer with a LoRA adapter as one operation: y = x Wᵀ + s (x Aᵀ) Bᵀ, W frozen (Hu et al. 2021,
arXiv 2106.09685).

The same numbers as PEFT's own forward but for rounding. That one makes every output three times (the layer's,
the adapter's, the scaled adapter's) before it adds them, and autograd as many gradients; here the products
add into the one output and the one gradient.
"""

from __future__ import annotations

from functools import cache, partial
from typing import TYPE_CHECKING, Any

from smartdpp.models.llama import formula

if TYPE_CHECKING:
    from torch import Tensor, nn


def fuse(model: nn.Module) -> int:
    """Has every such layer of ``model`` work so wherever it may; returns how many there are."""
    from peft.tuners.lora import Linear

    layers = [module for module in model.modules() if type(module) is Linear]
    for layer in layers:
        layer.forward = partial(_forward, layer, layer.forward)
    return len(layers)


def _forward(layer: Any, usual: Any, x: Tensor, *args: Any, **kwargs: Any) -> Tensor:
    """PEFT's own where there is more than the formula."""
    found = None if args or kwargs else formula(layer)
    if found is None or x.dtype != found[0].dtype or x.device.type != "cpu":
        return usual(x, *args, **kwargs)
    return _operation().apply(x, *found)


@cache
def _operation() -> Any:
    import torch

    class LoraLinear(torch.autograd.Function):
        """x [..., d], W [o, d], bias [o] or None, A [r, d], B [o, r] -> [..., o]; gradients of x, A and B."""

        @staticmethod
        def forward(
            ctx: Any, x: Tensor, W: Tensor, bias: Tensor | None, A: Tensor, B: Tensor, s: float
        ) -> Tensor:
            rows = x.reshape(-1, x.shape[-1])
            u = rows @ A.t()
            y = rows @ W.t() if bias is None else torch.addmm(bias, rows, W.t())
            y.addmm_(u, B.t(), alpha=s)
            ctx.save_for_backward(rows, u, W, A, B)
            ctx.s, ctx.shape = s, x.shape
            return y.view(*x.shape[:-1], -1)

        @staticmethod
        def backward(ctx: Any, gradient: Tensor) -> Any:
            rows, u, W, A, B = ctx.saved_tensors
            g = gradient.reshape(-1, gradient.shape[-1])
            v = g @ B
            of_x = None
            if ctx.needs_input_grad[0]:
                of_x = (g @ W).addmm_(v, A, alpha=ctx.s).view(ctx.shape)
            of_A = (v.t() @ rows).mul_(ctx.s)
            of_B = (g.t() @ u).mul_(ctx.s)
            return of_x, None, None, of_A, of_B, None

    return LoraLinear
