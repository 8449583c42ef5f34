"""The Legendre Memory Unit of the psMNIST benchmark."""

from typing import Any

from torch import nn

from picojoule.cells import LMU, LegendreMemory
from picojoule.networks.definition import Definition, recurrent_sizes
from picojoule.networks.parts import Activation, features_of, over_time, quantiser, readout


def lmu(d: Definition, activation: Activation) -> list[nn.Module]:
    """212 hidden units, a memory of order 256, then FC(classes); "lmu-HxQ" has other sizes, "lmu-keras" that variant.

    If `activation` makes a `Diffused`, the signals `d.signals` are quantised as it does, without its activation.
    """
    hidden, order = recurrent_sizes(d.name)
    theta, learn_theta, low_rank = d.memory.theta or d.timesteps, d.memory.learn_theta, d.memory.low_rank
    memory = LegendreMemory(order, theta, learn_theta=learn_theta, low_rank=low_rank)
    spikes: dict[str, Any] = {f"spike_{signal}": quantiser(d, activation, signal) for signal in "hum"}
    make = LMU.as_keras if d.name.startswith("lmu-keras") else LMU
    cell = make(features_of(d), hidden, memory, last=d.readout == "last-step", **spikes)
    return [*over_time(d), nn.Flatten(2), cell, *readout(d, hidden, activation)]
