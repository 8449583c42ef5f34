"""Surrogate derivatives of the spike, as functions of `u = v - threshold`.

Each function takes its shape parameters by keyword; fix them with `functools.partial`.
"""

from functools import partial
from inspect import signature

import torch
from torch import Tensor

from picojoule.errors import BadInput, unknown_name
from picojoule.kernels.spike import Surrogate


def triangle(u: Tensor, *, width: float = 1.0) -> Tensor:
    """`max(0, 1 - |u| / width) / width`: finite support, area 1."""
    return (1 - u.abs() / width).clamp(min=0) / width


def rectangle(u: Tensor, *, width: float = 1.0) -> Tensor:
    """`1 / width` where `|u| <= width / 2`, else 0: area 1."""
    return (u.abs() <= width / 2).to(u.dtype) / width


def open_rectangle(u: Tensor, *, width: float = 1.0) -> Tensor:
    """`rectangle` without its edges: `1 / width` where `|u| < width / 2`, else 0."""
    return (u.abs() < width / 2).to(u.dtype) / width


def arctan(u: Tensor, *, alpha: float = 2.0) -> Tensor:
    """Derivative of `arctan(pi/2 * alpha * u) / pi + 1/2`: long tails, area 1."""
    return alpha / 2 / (1 + (torch.pi / 2 * alpha * u) ** 2)


def sigmoid(u: Tensor, *, alpha: float = 4.0) -> Tensor:
    """Derivative of `sigmoid(alpha * u)`: exponential tails, area 1."""
    s = torch.sigmoid(alpha * u)
    return alpha * s * (1 - s)


def s3nn(u: Tensor, *, a: float = 4.0, b: float = 1.0) -> Tensor:
    """Single-step surrogate: `sigmoid`'s derivative below the threshold, `b / (u + 1)` from it on.

    Source: Suetake et al. 2022 (S3NN, arXiv 2201.10879), in the form and with the defaults of its public
    implementation in SpikingJelly (read there, not in the paper).
    """
    return torch.where(u < 0, sigmoid(u, alpha=a), b / (u.clamp(min=0) + 1))


def fast_sigmoid(u: Tensor, *, slope: float = 25.0) -> Tensor:
    """`1 / (slope * |u| + 1)**2`: narrow peak, heavy tails, area 2 / slope.

    Source: the SpyTorch tutorials (read; slope 100 there), which name SuperSpike.
    """
    return 1 / (slope * u.abs() + 1) ** 2


_BY_NAME: dict[str, Surrogate] = {
    f.__name__: f for f in (triangle, rectangle, open_rectangle, arctan, sigmoid, s3nn, fast_sigmoid)
}


def surrogate(name: str, **shape: float) -> Surrogate:
    """The surrogate called `name`, with its shape parameters fixed. Raises BadInput for an unknown name or number."""
    if name not in _BY_NAME:
        raise unknown_name("surrogate", name, sorted(_BY_NAME))
    known = [key for key in signature(_BY_NAME[name]).parameters if key != "u"]
    for key, number in shape.items():
        if key not in known:
            raise unknown_name(f"shape of the surrogate {name}", key, known)
        if not 0 < number < float("inf"):
            raise BadInput(f"expected {key} of the surrogate {name} above 0, got {number}")
    return partial(_BY_NAME[name], **shape) if shape else _BY_NAME[name]
