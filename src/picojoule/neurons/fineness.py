"""Schedules of the fineness w of diffused neurons: from nearly analog to spiking while a network trains."""

from torch import nn

from picojoule.errors import BadInput
from picojoule.neurons.diffused import Diffused

HOLD = 0.2
"""The last share of training, in which weights settle at the final fineness, unless told otherwise (our choice)."""


def geometric(progress: float, start: float, end: float, hold: float = HOLD) -> float:
    """w from `start` to `end` in equal time for every bit, then held; `progress` is the share of steps done.

    Source: our choice, `max(end, start * (end / start) ** min(1, progress / (1 - hold)))`; the paper's is not known.
    """
    return max(end, start * (end / start) ** _moved(progress, hold))


def linear(progress: float, start: float, end: float, hold: float = HOLD) -> float:
    """w from `start` to `end` in equal steps, then held; `progress` is the share of steps done."""
    return start + (end - start) * _moved(progress, hold)


def fixed(progress: float, start: float, end: float, hold: float = HOLD) -> float:
    """w at `end` from the first step on."""
    return end


SCHEDULES = {"geometric": geometric, "linear": linear, "fixed": fixed}


def set_fineness(model: nn.Module, fineness: float) -> None:
    """Give every diffused neuron of `model` this fineness. Raises BadInput if it is no finite number above 0, or there
    is no such neuron.
    """
    neurons = [m for m in model.modules() if isinstance(m, Diffused)]
    if not neurons:
        raise BadInput(f"expected a model with diffused neurons, got {type(model).__name__} without; quantise it first")
    for neuron in neurons:
        neuron.fineness = fineness


def _moved(progress: float, hold: float) -> float:
    return min(1.0, progress / (1 - hold))
