"""The optimisers of training, and how their learning rate moves."""

import math
from collections.abc import Callable

import torch
from torch import nn

from picojoule.experiment.config import Training

RISE = 0.3
START = 0.04
"""One-cycle: the share of the steps in which the rate rises, from this share of its peak (our choice)."""
WARM_START = 0.002
"""The share of the rate at which a warm-up starts: that of 1e-4 in 0.05, as in the code of Yao et al. 2023."""


def optimiser_for(network: nn.Module, training: Training) -> torch.optim.Optimizer:
    """Adam, or SGD with Nesterov momentum of 0.9; L2 decay acts on the weights of layers alone.

    Norms, biases, and thresholds and decays of neurons are left out of the decay.
    """
    weights = [p for p in network.parameters() if p.dim() > 1]
    others = [p for p in network.parameters() if p.dim() <= 1]
    groups = [{"params": weights, "weight_decay": training.weight_decay}, {"params": others, "weight_decay": 0.0}]
    groups = [group for group in groups if group["params"]]
    if training.optimiser == "sgd":
        return torch.optim.SGD(groups, training.lr, momentum=0.9, nesterov=True)
    return torch.optim.Adam(groups, training.lr)


def _cosine(done: float) -> float:
    return (1 + math.cos(math.pi * done)) / 2


def _one_cycle(done: float) -> float:
    return START + (1 - START) * done / RISE if done < RISE else _cosine((done - RISE) / (1 - RISE))


SHARES: dict[str, Callable[[float], float]] = {
    "cosine": _cosine,
    "one-cycle": _one_cycle,
    "constant": lambda done: 1.0,
}
"""The share of the learning rate after a share of the steps of a phase."""


def share_of_rate(training: Training, done: float) -> float:
    """The share of the learning rate after the share `done` of the steps of a phase: the warm-up, then the schedule."""
    if done < training.warm_up:
        return WARM_START + (SHARES[training.lr_schedule](0.0) - WARM_START) * done / training.warm_up
    return SHARES[training.lr_schedule]((done - training.warm_up) / (1 - training.warm_up))
