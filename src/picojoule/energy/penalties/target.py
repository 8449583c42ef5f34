"""The SynOps target: a quadratic well around a wanted number of accumulates."""

import torch
from torch import Tensor

from picojoule.energy.penalties.parts import batch_mean, penalised_synapses
from picojoule.errors import BadInput
from picojoule.graph import Activity


def synops_target(activity: Activity, target: float) -> Tensor:
    """`((S - target) / target)**2`, S being the accumulates per sample of hidden events: a scalar, float64.

    S is the mean over the batch (of all processes together), with exact fan-out.

    Source: Sorbaro et al. 2020, Front. Neurosci. 14:662 (read in the authors' code, which takes a constant fan-out).
    """
    if not 0 < target < float("inf"):
        raise BadInput(f"expected a target above 0 accumulates per sample, got {target}")
    accumulates = batch_mean(torch.stack([r.acs for r in penalised_synapses(activity)]).sum(0))
    return (accumulates / target - 1).square()
