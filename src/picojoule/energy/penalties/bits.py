"""A penalty on the significant bits of events: what a weight costs where it is multiplied by shifts and adds."""

import torch
from torch import Tensor

from picojoule.energy.penalties.parts import (
    Strengths,
    factors,
    live_operand,
    penalised_synapses,
    wide,
    without_rest,
)
from picojoule.graph import Activity
from picojoule.graph.fan_out import weighted_sum


def bits_penalty(activity: Activity, *, strengths: Strengths | None = None) -> Tensor:
    """Batch mean of `sum(fan-out * log2(1 + |n|))` over time and hidden events n: a scalar, float64.

    A lower bound of the shift-adds, `sum(fan-out * bitlength(|n|))`, equal to it where |n| is one less than a power of
    two, as 0 and 1 are. `strengths` are factors by layer that the events enter. Source: our choice.
    """
    records = without_rest(penalised_synapses(activity))
    scale = factors((r.site.name for r in records), strengths)
    terms = []
    for factor, record in zip(scale, records, strict=True):
        calls, synapses, batch = live_operand(record)
        terms += [factor * weighted_sum(torch.log2(1 + wide(n)), synapses, batch).sum() for n in calls]
    return torch.stack(terms).sum() / activity.samples
