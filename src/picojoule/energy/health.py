"""Silent and busy neurons of a population."""

from typing import NamedTuple

from torch import Tensor


class Health(NamedTuple):
    """One population over a data set.

    `silent_fraction` is the share of neurons that never sent anything; `rate` the mean number of events per
    neuron, step and sample (for ReLU: the share of non-zero activations).
    """

    name: str
    neuron: str
    neurons: int
    silent_fraction: float
    rate: float


def health_of(name: str, neuron: str, events: Tensor, steps: int, samples: int) -> Health:
    """`events` `[*N]` is what each neuron sent in all samples and steps together."""
    silent = float((events == 0).double().mean())
    return Health(name, neuron, events.numel(), silent, float(events.mean()) / (steps * samples))
