"""What one call of a linear operation counts. Both front ends, `observe` and the meter, count here."""

import math
from typing import Any, NamedTuple

import torch
from torch import Tensor

from picojoule.graph.fan_out import over_constant, per_step
from picojoule.graph.levels import bit_length
from picojoule.graph.records import Operand, Site, SynapseRecord
from picojoule.graph.shapes import BatchAxis
from picojoule.kernels.native import count
from picojoule.kinds import Events, Kind


class Sums(NamedTuple):
    """Of one or more calls of a site, `[S, B]` float64: event numbers n x fan-out (differentiable), non-zeros x
    fan-out, and what entered: n, or non-zeros; how many elements are no events, if it was looked; and of events that
    may be several at once their significant bits x fan-out (differentiable).
    """

    weighted: Tensor
    nonzero: Tensor
    entered: Tensor
    broken: Tensor | None = None
    bits: Tensor | None = None


def sums_of(x: Tensor, kind: Kind, synapses: Tensor, largest: float, batch: BatchAxis) -> Sums:
    """What one call with operand x of this kind counts; `synapses` is the fan-out map of x, `largest` its maximum."""
    most = kind.most if isinstance(kind, Events) else 1
    over_time = batch == BatchAxis(1, 1) and synapses.shape[:2] == (1, 1)
    bound = _seen_bound(x, kind) if isinstance(kind, Events) and most is None and over_time else most
    if over_time and bound is not None and count.serves(x, largest * bound):
        quantum, signed = (kind.quantum, kind.signed) if isinstance(kind, Events) else (None, False)
        found = count.entered(x, synapses[0, 0], quantum, signed)
        sums = Sums(found.weighted, found.nonzero.detach(), found.entered.detach(), found.broken.detach())
        if not isinstance(kind, Events) or most == 1:
            return sums
        return sums._replace(bits=_bits(magnitudes(x, kind), synapses, batch))
    if not isinstance(kind, Events):
        weighted, entered = per_step(over_constant(x.detach() != 0, synapses, batch, 1), synapses, batch)
        return Sums(weighted, weighted, entered)
    n = magnitudes(x, kind)
    weighted, entered = per_step(over_constant(n, synapses, batch, most), synapses, batch)
    if most == 1:
        return Sums(weighted, weighted.detach(), entered)
    nonzero, _ = per_step(over_constant(n.detach() != 0, synapses, batch, 1), synapses, batch)
    return Sums(weighted, nonzero, entered, bits=_bits(n, synapses, batch))


def _seen_bound(x: Tensor, kind: Events) -> float | None:
    """The largest |n| of events x outside training; None where x / quantum would not tell n well enough to check it."""
    if torch.is_grad_enabled() or torch.compiler.is_compiling() or x.dtype.itemsize < 4:
        return None
    most = float(torch.stack(x.aminmax()).abs().max()) / kind.quantum
    return most if most < 2**12 else None


def _bits(n: Tensor, synapses: Tensor, batch: BatchAxis) -> Tensor:
    """Significant bits x fan-out of event numbers |n|, `[S, B]`."""
    return per_step(over_constant(bit_length(n), synapses, batch, None), synapses, batch)[0]


def synapse_record(
    site: Site, x: Tensor, sums: Sums, synapses: Tensor, batch: BatchAxis, dense: float, outputs_per_input: float
) -> SynapseRecord:
    """The record of one call with operand x, by the kind of the site, from what `sums_of` counted.

    `synapses` is the fan-out map of x, `dense` the number of synapses times steps of one sample.
    """
    inputs = x.numel() / x.shape[batch.dim] * batch.folds
    live = None
    if isinstance(site.kind, Events) and x.requires_grad:
        live = Operand((magnitudes(x, site.kind),), synapses, batch)
    return assembled(site, sums, dense, inputs, inputs * outputs_per_input, live)


def assembled(
    site: Site, sums: Sums, dense: float, inputs: float, outputs: float, live: Operand | None = None
) -> SynapseRecord:
    """The record of a site: accumulates if events enter, multiply-accumulates if values do."""
    none, entered = torch.zeros_like(sums.nonzero[0]), sums.entered.detach().sum(0)
    rest = (entered, sums.weighted.detach().sum(1), dense, inputs, outputs, live)
    if isinstance(site.kind, Events):
        bits = None if sums.bits is None else sums.bits.sum(0)
        return SynapseRecord(site, sums.weighted.sum(0), sums.nonzero.sum(0), none, *rest, bits)
    return SynapseRecord(site, none, none, sums.nonzero.sum(0), *rest)


def product_record(
    site: Site, left: Tensor, right: Tensor, kinds: tuple[Kind, Kind], batch: BatchAxis
) -> SynapseRecord:
    """A matrix product of two activations `[..., M, K] @ [..., K, N]`, from their patterns of non-zeros (0 or 1).

    Events by events: pairs of non-zeros, as ACs. Events by values: one AC per event and output it reaches.
    Values by values: MACs of pairs that are both non-zero. `batch` is the batch axis of the product.
    """
    events = [isinstance(kind, Events) for kind in kinds]
    counted = [
        x if event or not any(events) else torch.ones_like(x) for x, event in zip((left, right), events, strict=True)
    ]
    steps = _pairs(counted[0], counted[1], batch)
    dense = _pairs(torch.ones_like(left), torch.ones_like(right), batch).sum(0)
    entering = [x for x, event in zip((left, right), events, strict=True) if event or not any(events)]
    entered = sum((batch.table(x.detach().double()).sum(0) for x in entering), torch.zeros_like(dense))
    none, samples = torch.zeros_like(dense), len(dense)
    leading = torch.broadcast_shapes(left.shape[:-2], right.shape[:-2])
    outputs = math.prod(leading) * left.shape[-2] * right.shape[-1] / samples
    sizes = (float(dense[0]), sum(x.numel() for x in entering) / samples, outputs)
    pairs, by_step = steps.sum(0), steps.detach().sum(1)
    if any(events):
        return SynapseRecord(site, pairs, pairs.detach(), none, entered, by_step, *sizes, None)
    return SynapseRecord(site, none, none, pairs.detach(), entered, by_step, *sizes, None)


def fired_and_multiple(sent: Tensor) -> tuple[Tensor, Tensor]:
    """Of event numbers n `[B, *N]`: in how many samples each neuron sent something, and more than one event."""
    fired = sent.clamp(max=1).sum(0).double()
    return fired, sent.clamp(max=2).sum(0).double() - fired


def magnitudes(x: Tensor, kind: Events, inexact: bool = False) -> Tensor:
    """|n| of events x = n * quantum, which may be `inexact`.

    Gradient: of unsigned events that of n itself (1 at 0), of signed ones sign(n).
    """
    n: Any = x if kind.quantum == 1 else x / kind.quantum
    if kind.quantum != 1 or inexact:
        n = n + (n.round() - n).detach() if n.requires_grad else n.round()
    return n.abs() if kind.signed else n


def _pairs(left: Tensor, right: Tensor, batch: BatchAxis) -> Tensor:
    return batch.table(left.double().sum(-2) * right.double().sum(-1))
