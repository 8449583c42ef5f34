"""A recurrent spiking network."""

from torch import nn

from picojoule.cells import SpikingRNN, WindowRNN
from picojoule.errors import BadInput
from picojoule.layers import Permute, Timewise
from picojoule.networks.definition import Definition
from picojoule.networks.parts import Activation, features_of, over_time, readout
from picojoule.neurons import Neuron

HIDDEN = 128


def spiking_rnn(d: Definition, activation: Activation) -> list[nn.Module]:
    """A recurrent population of 128 over the whole image at every step, then FC(classes).

    With `d.windows` the image is read in so many windows of equally many rows within every step (`WindowRNN`).
    """
    neuron = activation()
    if not isinstance(neuron, Neuron):
        raise BadInput("the network spiking-rnn has no analog form: its recurrence needs spiking neurons")
    return [*over_time(d), *_recurrent(d, neuron), *readout(d, HIDDEN, activation)]


def _recurrent(d: Definition, neuron: Neuron) -> list[nn.Module]:
    """The population behind its inputs, as features of a step."""
    features, windows = features_of(d), d.windows.number
    if windows == 1:
        return [nn.Flatten(2), SpikingRNN(features, HIDDEN, neuron)]
    if len(d.input_shape) != 3:
        raise BadInput(
            f"windows of {d.name} are rows of an image in one step, got a sequence; give mnist for smnist, say"
        )
    rows = d.input_shape[1]
    if rows % windows:
        raise BadInput(f"expected a number of windows that divides the {rows} rows of the image, got {windows}")
    rnn = WindowRNN(features, HIDDEN, windows, projection=d.windows.projection, neuron=neuron)
    return [Timewise(Permute(1, 0, 2)), nn.Flatten(2), rnn]
