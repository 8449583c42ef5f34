"""Which modules of the libraries are neurons or activations; no library is imported."""

from torch import nn

from picojoule.energy.conventions.convention import descends_from
from picojoule.neurons import Neuron

_ACTIVATIONS = (nn.ReLU, nn.ReLU6, nn.LeakyReLU, nn.PReLU, nn.ELU, nn.SELU, nn.GELU, nn.SiLU, nn.Sigmoid, nn.Tanh)
_NEURONS = {
    "snntorch": ("SpikingNeuron",),
    "spikingjelly": ("BaseNode",),
    "norse": ("SNN", "SNNCell", "SNNRecurrent", "SNNRecurrentCell"),
    "sinabs": ("StatefulLayer",),
}


def is_neuron(module: nn.Module) -> bool:
    """Whether a module is a population of neurons of picojoule, snnTorch, SpikingJelly, Norse or sinabs."""
    return isinstance(module, Neuron) or any(descends_from(module, lib, *names) for lib, names in _NEURONS.items())


def is_activation(module: nn.Module) -> bool:
    """Whether a module is one of torch's non-linear activations, or of a sub-class."""
    return isinstance(module, _ACTIVATIONS)
