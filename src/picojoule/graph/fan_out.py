"""Exact fan-out: through how many synapses an input element of a linear operation acts."""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from picojoule.graph.shapes import BatchAxis


class FanOut(NamedTuple):
    """The number of synapses behind each element of an input, float64, and the number of outputs per input element.

    Axes along which `synapses` is constant have size 1, so that it broadcasts over batch and time.
    """

    synapses: Tensor
    outputs: float


def fan_out(operation: Callable[[Tensor], Tensor], shape: Sequence[int]) -> FanOut:
    """The fan-out of each element of an input of `shape`.

    `operation` is the linear operation with all weights one and no bias; its vector-Jacobian product with
    ones counts the outputs that each input reaches, so borders, stride, groups, dilation and transposition
    need no formula.
    """
    with torch.enable_grad():
        x = torch.zeros(tuple(shape), dtype=torch.float64, requires_grad=True)
        y = operation(x)
        (synapses,) = torch.autograd.grad(y.sum(), x)
    return FanOut(squeezed(synapses), y.numel() / x.numel())


def squeezed(synapses: Tensor) -> Tensor:
    """The map with size 1 along every axis on which it is constant."""
    for dim in range(synapses.dim()):
        first = synapses.narrow(dim, 0, 1)
        if torch.equal(first.expand_as(synapses), synapses):
            synapses = first
    return synapses.clone()


def over_constant(x: Tensor, synapses: Tensor, batch: BatchAxis, most: int | None = None) -> Tensor:
    """x summed over the axes of constant fan-out (kept with size 1); steps and samples stay apart.

    `x` holds integers of magnitude up to `most` (None: not known) in any dtype. The sum runs in float32 where it
    cannot reach 2**24, its last exact integer, else in float64. Differentiable in `x`.
    """
    constant = [d for d in range(x.dim()) if synapses.shape[d] == 1 and d != batch.dim and (d > 0 or batch.dim != 1)]
    if not constant:
        return x
    largest = most or 2**24
    for d in constant:
        largest = largest * x.shape[d]
    if x.dtype is torch.bool:
        x = x.view(torch.uint8)  # sums faster
    wide = torch.float32 if largest < 2**24 else torch.float64
    return x.sum(constant, keepdim=True, dtype=torch.promote_types(x.dtype, wide))


def per_step(part: Tensor, synapses: Tensor, batch: BatchAxis) -> tuple[Tensor, Tensor]:
    """Of what `over_constant` returned: the sum of `part * synapses`, and of `part` alone, two `[S, B]` float64."""
    part = part.double()
    return batch.table(part * synapses), batch.table(part)


def weighted_sum(n: Tensor, synapses: Tensor, batch: BatchAxis, most: int | None = None) -> Tensor:
    """Sum of `n * synapses` for each sample: `[B]`, float64, differentiable in `n`; see `over_constant`."""
    return per_step(over_constant(n, synapses, batch, most), synapses, batch)[0].sum(0)


def dense_synapses(shape: torch.Size, synapses: Tensor, of_one: float, batch: BatchAxis) -> float:
    """Sum of the fan-out over all elements of an input of `shape`, per sample; `of_one` is `synapses.sum()`."""
    repeats = 1
    for size, mapped in zip(shape, synapses.shape, strict=True):
        repeats = repeats * (size // mapped)
    return of_one * repeats * batch.folds / shape[batch.dim]
