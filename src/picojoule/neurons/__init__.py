"""Neurons: parameter shells over the steps of `picojoule.kernels`."""

from picojoule.neurons.iaf import IAF
from picojoule.neurons.lif import LIF
from picojoule.neurons.neuron import Neuron
from picojoule.neurons.stateful import Stateful
from picojoule.neurons.surrogate import surrogate
from picojoule.neurons.unroll import unroll

__all__ = ["IAF", "LIF", "Neuron", "Stateful", "surrogate", "unroll"]
