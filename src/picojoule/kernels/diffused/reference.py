"""The temporally diffused quantiser: the equation, once, and the quantisers without memory that it is held against."""

from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor

TOLERANCE = 1e-6
"""How far below a whole number counts as that number: ten times 0.1 in float32 is one event (our choice)."""


class DiffusedState(NamedTuple):
    """The quantisation error `v` in [0, 1), in events, that the next step takes over; `[B, *N]`."""

    v: Tensor


def diffused_step(
    state: DiffusedState, current: Tensor, activation: Callable[[Tensor], Tensor], fineness: Tensor | float
) -> tuple[DiffusedState, Tensor]:
    """One time step: `s = v + w f(J)`, `n = floor(s)` events of height 1/w, and the error `v <- s - n` stays.

    `current` J is `[B, *N]`, `activation` f any elementwise function, `fineness` w > 0 the events per unit of
    activation (larger is finer). The output n / w is in current's dtype; n may be several, or negative where f is. The
    arithmetic runs in the wider dtype of state and current. Backward is that of f alone: nothing flows through v. A
    `fineness` that requires a gradient gets that of n / w with the floor passed straight through, `(f(J) - n / w) / w`.

    Source: Voelker, Rasmussen, Eliasmith 2020, arXiv 2002.03553, as in the released code of KerasSpiking.
    """
    wanted = activation(current.to(torch.promote_types(current.dtype, state.v.dtype)))
    with torch.no_grad():
        s = state.v + fineness * wanted
        n = torch.floor(s + TOLERANCE)
        v = (s - n).clamp(min=0)
    return DiffusedState(v), sent(n, wanted, fineness).to(current.dtype)


class _StandsFor(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, given: Tensor, target: Tensor) -> Tensor:
        return given.view_as(given)

    @staticmethod
    def backward(ctx: Any, *grad_outputs: Tensor) -> tuple[None, Tensor]:
        return None, grad_outputs[0]


def sent(n: Tensor, wanted: Tensor, fineness: Tensor | float) -> Tensor:
    """The output n / w of n events that stand for `wanted = f(J)`; backward takes n for w f(J)."""
    if isinstance(fineness, Tensor):
        events: Any = _StandsFor.apply(n, fineness * wanted)
        return events / fineness
    output: Any = _StandsFor.apply(n / fineness, wanted)
    return output


def nearest(target: Tensor) -> Tensor:
    """The whole number nearest to `target`, halves rounded up: the quantiser that forgets its error."""
    return torch.floor(target + (0.5 + TOLERANCE))


def stochastic(target: Tensor, generator: torch.Generator) -> Tensor:
    """`target` towards zero, and one further with the probability of what that leaves; unbiased, without memory."""
    size = target.abs()
    whole = torch.floor(size + TOLERANCE)
    return target.sign() * (whole + torch.bernoulli((size - whole).clamp(0, 1), generator=generator))


def poisson(target: Tensor, generator: torch.Generator) -> Tensor:
    """A Poisson number with the mean |target|, signed as it; unbiased, without memory."""
    return target.sign() * torch.poisson(target.abs(), generator=generator)
