"""The spike: a step function whose derivative is a surrogate. The only autograd function of its kind here."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

Surrogate = Callable[[Tensor], Tensor]
"""The derivative of the spike with respect to `u = v - threshold`, as a function of `u`."""


class _Spike(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, u: Tensor, surrogate: Surrogate, strict: bool) -> Tensor:
        ctx.save_for_backward(u)
        ctx.surrogate = surrogate
        return (u > 0 if strict else u >= 0).to(u.dtype)

    @staticmethod
    def backward(ctx: Any, *grad_outputs: Tensor) -> tuple[Tensor, None, None]:
        (u,) = ctx.saved_tensors
        return grad_outputs[0] * ctx.surrogate(u), None, None


def spike(u: Tensor, surrogate: Surrogate, strict: bool = False) -> Tensor:
    """1 where `u >= 0` (`strict`: `u > 0`), else 0; backward multiplies by `surrogate(u)`. Any shape."""
    return _Spike.apply(u, surrogate, strict)  # pyright: ignore[reportReturnType]
