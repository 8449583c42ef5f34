"""What one call of a linear operation counts. Both front ends, `observe` and the meter, count here."""

import math
from typing import Any

import torch
from torch import Tensor

from picojoule.graph.fan_out import per_step
from picojoule.graph.records import Operand, Site, SynapseRecord
from picojoule.graph.shapes import BatchAxis
from picojoule.kinds import Events, Kind


def synapse_record(
    site: Site, x: Tensor, synapses: Tensor, batch: BatchAxis, dense: float, outputs_per_input: float
) -> SynapseRecord:
    """The record of what entered, by the kind of the site.

    `synapses` is the fan-out map of x, `dense` the number of synapses times steps of one sample.
    """
    if isinstance(site.kind, Events):
        n = magnitudes(x, site.kind)
        return event_record(site, n, site.kind.most, synapses, batch, dense, outputs_per_input)
    return value_record(site, x, synapses, batch, dense, outputs_per_input)


def value_record(
    site: Site, x: Tensor, synapses: Tensor, batch: BatchAxis, dense: float, outputs_per_input: float
) -> SynapseRecord:
    """Values x: a multiply-accumulate for each that is not zero."""
    inputs = _of_one_sample(x, batch)
    macs, entered = per_step(x.detach() != 0, synapses, batch, 1)
    none = torch.zeros_like(macs[0])
    sums = (none, none, macs.sum(0), entered.sum(0), macs.sum(1))
    return SynapseRecord(site, *sums, dense, inputs, inputs * outputs_per_input, None)


def event_record(
    site: Site,
    n: Tensor,
    most: int | None,
    synapses: Tensor,
    batch: BatchAxis,
    dense: float,
    outputs_per_input: float,
) -> SynapseRecord:
    """Event numbers n >= 0, up to `most`: n accumulates each. Differentiable in n."""
    inputs = _of_one_sample(n, batch)
    steps, entered = per_step(n, synapses, batch, most)
    acs = steps.sum(0)
    graded = acs.detach() if most == 1 else per_step(n.detach() != 0, synapses, batch, 1)[0].sum(0)
    live = Operand(n, synapses, batch) if n.requires_grad else None
    sums = (acs, graded, torch.zeros_like(graded), entered.detach().sum(0), steps.detach().sum(1))
    return SynapseRecord(site, *sums, dense, inputs, inputs * outputs_per_input, live)


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
    entered = sum((batch.table(x.detach().double()).sum(0) for x in (left, right)), torch.zeros_like(dense))
    none, samples = torch.zeros_like(dense), len(dense)
    leading = torch.broadcast_shapes(left.shape[:-2], right.shape[:-2])
    outputs = math.prod(leading) * left.shape[-2] * right.shape[-1] / samples
    sizes = (float(dense[0]), (left.numel() + right.numel()) / samples, outputs)
    pairs, by_step = steps.sum(0), steps.detach().sum(1)
    if any(events):
        return SynapseRecord(site, pairs, pairs.detach(), none, entered, by_step, *sizes, None)
    return SynapseRecord(site, none, none, pairs.detach(), entered, by_step, *sizes, None)


def magnitudes(x: Tensor, kind: Events) -> Tensor:
    """|n| of events x = n * quantum. Gradient: of unsigned events that of n itself (1 at 0), of signed ones sign(n)."""
    n: Any = x
    if kind.quantum != 1:
        n = x / kind.quantum
        n = n + (n.round() - n).detach()
    return n.abs() if kind.signed else n


def _of_one_sample(x: Tensor, batch: BatchAxis) -> float:
    return x.numel() / x.shape[batch.dim] * batch.folds


def _pairs(left: Tensor, right: Tensor, batch: BatchAxis) -> Tensor:
    return batch.table(left.double().sum(-2) * right.double().sum(-1))
