"""Projection functions: how two membrane potentials become the one that is handed on within a time step."""

from collections.abc import Callable
from math import pi

import torch
from torch import Tensor

from picojoule.errors import check_choice
from picojoule.kernels.window_rules import PROJECTIONS

Projection = Callable[[Tensor, Tensor], Tensor]


def sincos(a: Tensor, b: Tensor) -> Tensor:
    """`2 sin(pi/4 * a * cos(pi/4 * b))`, the cosine inside the sine: bounded by 2, slope pi/2 in a at the origin.

    Source: the code that Yao et al. 2023 published with arXiv 2401.10843.
    """
    return 2 * torch.sin(pi / 4 * a * torch.cos(pi / 4 * b))


def mean(a: Tensor, b: Tensor) -> Tensor:
    """`(a + b) / 2`. Source: as `sincos`; there for CIFAR-100."""
    return (a + b) / 2


def carry(a: Tensor, b: Tensor) -> Tensor:
    """`b`: nothing is projected (a control of ours)."""
    return b


def zero(a: Tensor, b: Tensor) -> Tensor:
    """0: nothing is handed on (a control of ours)."""
    return torch.zeros_like(b)


_FUNCTIONS: dict[str, Projection] = dict(zip(PROJECTIONS, (sincos, mean, carry, zero), strict=True))
_COMPUTED = ("sincos", "mean")


def updates_of_one(kind: str, share: float) -> float:
    """The updates of one neuron in one time step if in a share of its windows a projection is computed.

    "sincos" and "mean" are operations of their own and count beside the update; "carry" and "zero" compute nothing.
    """
    return 1 + (share if kind in _COMPUTED else 0)


def project(a: Tensor, b: Tensor, kind: str) -> Tensor:
    """What is handed on of two membranes of one shape; differentiable. Raises BadInput for an unknown kind."""
    check_choice("projection", kind, PROJECTIONS)
    return _FUNCTIONS[kind](a, b)
