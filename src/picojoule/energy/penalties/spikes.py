"""The baselines that weigh all spikes alike: their total, and the mean of the layers' means."""

import torch
from torch import Tensor

from picojoule.energy.penalties.parts import Strengths, factors, penalised_populations, sent_by, train_of, wide
from picojoule.errors import check_choice
from picojoule.graph import Activity
from picojoule.graph.records import NeuronRecord


def total_spikes(activity: Activity, p: int = 1, *, strengths: Strengths | None = None) -> Tensor:
    """Batch mean of `sum(n**p) / p` over time and hidden neurons, before pooling: a scalar, float64.

    `strengths` are factors by population (`lif1`). Divide by `hidden_neurons` for a measure that is 1 if every neuron
    fires once. p=2 and several steps need every event (`fused(observed, pools=False)`).
    """
    populations = penalised_populations(activity)
    scale = factors(populations, strengths)
    terms = [f * _events(records, p) for f, records in zip(scale, populations.values(), strict=True)]
    return torch.stack(terms).sum() / (p * activity.samples)


def layer_mean(activity: Activity, p: int = 1, *, strengths: Strengths | None = None) -> Tensor:
    """Mean over hidden populations of their events per neuron and sample, `n**p / p`: a scalar, float64.

    It presses on small layers as much as on large ones. Arguments as those of `total_spikes`.
    """
    populations = penalised_populations(activity)
    scale = factors(populations, strengths)
    terms = [f * _events(r, p) / r[0].events.numel() for f, r in zip(scale, populations.values(), strict=True)]
    return torch.stack(terms).mean() / (p * activity.samples)


def hidden_neurons(activity: Activity) -> int:
    """The number of neurons whose events enter synapses."""
    return sum(records[0].events.numel() for records in penalised_populations(activity).values())


def _events(records: list[NeuronRecord], p: int) -> Tensor:
    check_choice("p", p, (1, 2))
    live = sent_by(records) if p == 1 else train_of(records)
    powers = wide(live) if p == 1 else wide(live) ** p
    return powers.flatten(powers.dim() - records[0].events.dim()).sum(-1).double().sum()  # a sample's sum is exact
