"""How many levels the events of a population have: their range, and how often each occurs."""

from typing import NamedTuple

import torch
from torch import Tensor

from picojoule.graph.shapes import BatchAxis
from picojoule.kinds import Events

_SPAN = 2**16
"""Ranges up to this are counted in a table, wider ones sorted."""


class Levels(NamedTuple):
    """Of event numbers n over steps and samples: `low` and `high` of each neuron `[*N]`, the `values` `[K]` that occur
    anywhere in the population, ascending, and how often, `counts` `[K]`; all int64.
    """

    low: Tensor
    high: Tensor
    values: Tensor
    counts: Tensor

    def joined(self, other: "Levels") -> "Levels":
        """Those of both."""
        values, place = torch.cat([self.values, other.values]).unique(return_inverse=True)
        counts = torch.zeros_like(values).index_add_(0, place, torch.cat([self.counts, other.counts]))
        return Levels(torch.minimum(self.low, other.low), torch.maximum(self.high, other.high), values, counts)


@torch.no_grad()
def levels_of(y: Tensor, kind: Events, batch: BatchAxis) -> Levels:
    """The levels of events y = n * quantum."""
    n = batch.by_step((y / kind.quantum).round().long())
    low, high = n.amin((0, 1)), n.amax((0, 1))
    least, span = int(low.min()), int(high.max() - low.min())
    if span > _SPAN:
        return Levels(low, high, *n.unique(return_counts=True))
    counts = torch.bincount((n - least).flatten(), minlength=span + 1)
    (there,) = counts.nonzero(as_tuple=True)
    return Levels(low, high, there + least, counts[there])


def bit_length(n: Tensor) -> Tensor:
    """The significant bits of whole numbers |n|: 0 for 0, 1 for 1, 2 for 2 and 3, ...; in the dtype of n.

    The gradient is that of straight lines between the powers of two: 1 for |n| up to 1, 1/2 for 2 and 3, ... (choice).
    """
    size = n.abs() if n.dtype.is_signed else n
    wide = size.detach().to(torch.promote_types(n.dtype, torch.float32))
    if wide.dtype == torch.float32:  # its exponent, in a fifth of the time of frexp
        bits = ((wide.view(torch.int32) >> 23) - 126).clamp_(min=0).to(n.dtype)
    else:
        bits = torch.frexp(wide).exponent.to(n.dtype)
    if not n.requires_grad:
        return bits
    return bits + (size - size.detach()) * torch.exp2(1 - bits.clamp(min=1))
