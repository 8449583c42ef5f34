"""A recurrent spiking network."""

from torch import nn

from picojoule.cells import SpikingRNN
from picojoule.errors import BadInput
from picojoule.networks.definition import Definition
from picojoule.networks.parts import Activation, features_of, over_time, readout
from picojoule.neurons import Neuron


def spiking_rnn(d: Definition, activation: Activation) -> list[nn.Module]:
    """A recurrent population of 128 over the whole image at every step, then FC(classes)."""
    neuron = activation()
    if not isinstance(neuron, Neuron):
        raise BadInput("the network spiking-rnn has no analog form: its recurrence needs spiking neurons")
    rnn = SpikingRNN(features_of(d), 128, neuron)
    return [*over_time(d), nn.Flatten(2), rnn, *readout(d, 128, activation)]
