"""The Legendre Memory Unit of the psMNIST benchmark."""

from torch import nn

from picojoule.cells import LMU, LegendreMemory
from picojoule.errors import BadInput
from picojoule.networks.definition import Definition, recurrent_sizes
from picojoule.networks.parts import Activation, features_of, over_time, readout
from picojoule.neurons import Diffused, Neuron


def lmu(d: Definition, activation: Activation) -> list[nn.Module]:
    """212 hidden units, a memory of order 256 over the whole sequence, then FC(classes); "lmu-HxQ" has other sizes.

    If `activation` makes a `Diffused`, the signals `d.signals` are quantised as it does, without its activation.
    """
    hidden, order = recurrent_sizes(d.name)
    memory = LegendreMemory(order, d.timesteps)
    h, u, m = (_quantiser(d, activation, signal) for signal in "hum")
    last = d.readout == "last-step"
    cell = LMU(features_of(d), hidden, memory, spike_h=h, spike_u=u, spike_m=m, last=last)
    return [*over_time(d), nn.Flatten(2), cell, *readout(d, hidden, activation)]


def _quantiser(d: Definition, activation: Activation, signal: str) -> Diffused | None:
    made = activation()
    if isinstance(made, Neuron) and not isinstance(made, Diffused):
        raise BadInput(
            f"the network {d.name} has no form with {type(made).__name__} neurons: train it with ann, or quantise it"
        )
    if not isinstance(made, Diffused) or signal not in d.signals:
        return None
    made.activation, made.seed = nn.Identity(), "hum".index(signal)
    return made
