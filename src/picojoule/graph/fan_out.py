"""Exact fan-out: through how many synapses an input element of a linear operation acts."""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from picojoule.graph.shapes import BatchAxis


def fan_out(operation: Callable[[Tensor], Tensor], shape: Sequence[int]) -> Tensor:
    """The number of synapses behind each element of an input of `shape`, float64.

    `operation` is the linear operation with all weights one and no bias; its vector-Jacobian product with
    ones counts the outputs that each input reaches, so borders, stride, groups, dilation and transposition
    need no formula. Axes along which the map is constant are returned with size 1, so that it broadcasts
    over batch and time.
    """
    with torch.enable_grad():
        x = torch.zeros(tuple(shape), dtype=torch.float64, requires_grad=True)
        (synapses,) = torch.autograd.grad(operation(x).sum(), x)
    for dim in range(synapses.dim()):
        first = synapses.narrow(dim, 0, 1)
        if torch.equal(first.expand_as(synapses), synapses):
            synapses = first
    return synapses.clone()


def weighted_sum(n: Tensor, synapses: Tensor, batch: BatchAxis, most: int | None = None) -> Tensor:
    """Sum of `n * synapses` for each sample: `[B]`, float64, differentiable in `n`.

    `n` holds integers of magnitude up to `most` (None: not known) in any dtype. Sums over axes of constant
    fan-out run in float32 where they cannot reach 2**24, its last exact integer; the rest is float64.
    """
    constant = [d for d in range(n.dim()) if synapses.shape[d] == 1 and d != batch.dim]
    if constant:
        largest = most or 2**24
        for d in constant:
            largest = largest * n.shape[d]
        wide = torch.float32 if largest < 2**24 else torch.float64
        n = n.sum(constant, keepdim=True, dtype=torch.promote_types(n.dtype, wide))
    rows = (n.double() * synapses).movedim(batch.dim, 0).flatten(1).sum(1)
    return batch.per_sample(rows)


def dense_synapses(shape: torch.Size, synapses: Tensor, of_one: float, batch: BatchAxis) -> float:
    """Sum of the fan-out over all elements of an input of `shape`, per sample; `of_one` is `synapses.sum()`."""
    repeats = 1
    for size, mapped in zip(shape, synapses.shape, strict=True):
        repeats = repeats * (size // mapped)
    return of_one * repeats * batch.folds / shape[batch.dim]
