"""Neurons: parameter shells over the steps of `picojoule.kernels`."""

from picojoule.kernels.surrogate import surrogate
from picojoule.neurons.cuba_lif import CubaLIF
from picojoule.neurons.diffused import Diffused
from picojoule.neurons.iaf import IAF
from picojoule.neurons.lif import LIF
from picojoule.neurons.neuron import Neuron
from picojoule.neurons.signed_iaf import SignedIAF
from picojoule.neurons.stateful import Stateful
from picojoule.neurons.unroll import unroll
from picojoule.neurons.window_lif import WindowLIF
from picojoule.neurons.window_neuron import WindowNeuron

__all__ = [
    "IAF",
    "CubaLIF",
    "Diffused",
    "LIF",
    "Neuron",
    "SignedIAF",
    "Stateful",
    "WindowLIF",
    "WindowNeuron",
    "surrogate",
    "unroll",
]
