"""The matrices of the Legendre memory, in float64, and whether they can be run."""

from numbers import Integral, Real

import torch
from torch import Tensor

from picojoule.errors import BadInput, check_choice

DISCRETISATIONS = ("zoh", "euler")
_ROUNDING = 1e-6
"""What rounding may add to a spectral radius of 1."""


def legendre(order: int, theta: float | Tensor) -> tuple[Tensor, Tensor]:
    """The continuous memory `dm/dt = A m + B u` over a window of `theta` steps: A `[q, q]`, B `[q, 1]`.

    `A_ij = (2i+1)/theta * (-1 if i < j else (-1)^(i-j+1))`, `B_i = (2i+1)(-1)^i/theta`.
    Source: Voelker, Kajic and Eliasmith 2019, Legendre Memory Units, NeurIPS 32.
    """
    i = torch.arange(order, dtype=torch.float64)
    sign = 1 - 2 * (i % 2)
    rate = (2 * i + 1).unsqueeze(1) / theta
    a = torch.where(i.unsqueeze(1) < i, -1.0, -sign.unsqueeze(1) * sign)
    return rate * a, rate * sign.unsqueeze(1)


def discretised(order: int, theta: float | Tensor, discretisation: str = "zoh") -> tuple[Tensor, Tensor]:
    """The memory per step, `m_t = Ad m_{t-1} + Bd u_t`: Ad `[q, q]`, Bd `[q, 1]`, differentiable in `theta`.

    "zoh" holds u over the step: the matrix exponential of `[[A, B], [0, 0]]`. "euler" is `I + A`, `B`.
    """
    a, b = legendre(order, theta)
    if discretisation == "euler":
        return torch.eye(order, dtype=a.dtype) + a, b
    block = torch.cat([torch.cat([a, b], 1), torch.zeros(1, order + 1, dtype=a.dtype)])
    both = torch.linalg.matrix_exp(block)[:order]
    return both[:, :order], both[:, order:]


def shortest_window(order: int, discretisation: str) -> float:
    """The least theta of at least one step under which the memory does not explode.

    "zoh" never does. Under "euler" `|1 + z / theta| <= 1` for every eigenvalue z of A at theta = 1.
    """
    if discretisation == "zoh":
        return 1.0
    z = torch.linalg.eigvals(legendre(order, 1.0)[0])
    return max(1.0, float((z.abs() ** 2 / (-2 * z.real)).max()))


def check_memory(order: int, theta: float, discretisation: str) -> None:
    """Raise BadInput for a memory that cannot be run: too short a window, or a discretisation that explodes."""
    check_choice("discretisation", discretisation, DISCRETISATIONS)
    if not isinstance(order, Integral) or order < 1:
        raise BadInput(f"expected a whole number as order, of at least 1, got {order!r}")
    if not isinstance(theta, Real) or not 1 <= theta < float("inf"):
        raise BadInput(f"expected a window theta of at least one step, got {theta!r}")
    radius = float(torch.linalg.eigvals(discretised(order, theta, discretisation)[0]).abs().max())
    if radius > 1 + _ROUNDING:
        mend = "use discretisation='zoh', a longer window or a lower order"
        if discretisation == "zoh":
            mend = "use a longer window or a lower order"
        raise BadInput(
            f"a memory of order {order} over theta = {theta:g} steps explodes under {discretisation} "
            f"(spectral radius {radius:.4g}, above 1): {mend}"
        )
