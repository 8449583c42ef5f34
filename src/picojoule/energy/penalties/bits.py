"""A penalty on the significant bits of events: what a weight costs where it is multiplied by shifts and adds."""

import torch
from torch import Tensor

from picojoule.energy.penalties.parts import Strengths, factors, penalised_synapses
from picojoule.graph import Activity


def bits_penalty(activity: Activity, *, strengths: Strengths | None = None) -> Tensor:
    """Shift-adds: the batch mean of `sum(fan-out * bit length of |n|)` over time and hidden events n; scalar, float64.

    The gradient is that of straight lines between powers of two (`bit_length`). `strengths` are factors by layer that
    the events enter. Source: our choice.
    """
    records = penalised_synapses(activity)
    scale = factors((r.site.name for r in records), strengths)
    return torch.stack([f * r.shift_adds.sum() for f, r in zip(scale, records, strict=True)]).sum() / activity.samples
