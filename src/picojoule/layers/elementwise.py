"""A constant factor or a constant offset for every element, with no synapse of its own."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

Constant = float | Sequence[float] | Tensor
"""A number for all elements, or a tensor that broadcasts over a sample's trailing axes, such as `[C, 1, 1]`."""


class Scale(nn.Module):
    """`factor * x`; a scalar factor makes events of another quantum, one for every channel makes values of them.

    Conversion keeps what it cannot make part of weights or thresholds, such as the scale of a residual branch.
    """

    factor: Tensor

    def __init__(self, factor: Constant):
        super().__init__()
        self.register_buffer("factor", _tensor(factor))

    def forward(self, x: Tensor) -> Tensor:
        return self.factor * x

    def extra_repr(self) -> str:
        return _shown("factor", self.factor)


class Shift(nn.Module):
    """`x + offset`: a constant current at every step, as a bias is."""

    offset: Tensor

    def __init__(self, offset: Constant):
        super().__init__()
        self.register_buffer("offset", _tensor(offset))

    def forward(self, x: Tensor) -> Tensor:
        return x + self.offset

    def extra_repr(self) -> str:
        return _shown("offset", self.offset)


def _tensor(constant: Constant) -> Tensor:
    if isinstance(constant, Tensor):
        return constant.detach().clone()
    return torch.tensor(constant, dtype=torch.get_default_dtype())


def _shown(name: str, x: Tensor) -> str:
    return f"{name}={float(x):.4g}" if x.dim() == 0 else f"{name}={list(x.shape)}"
