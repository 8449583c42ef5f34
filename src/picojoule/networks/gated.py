"""LSTM and GRU with as many trained parameters as the LMU of the psMNIST benchmark."""

from torch import nn

from picojoule.cells import GRU, LSTM
from picojoule.networks.definition import Definition, recurrent_sizes
from picojoule.networks.parts import Activation, features_of, over_time, quantiser, readout


def lstm(d: Definition, activation: Activation) -> list[nn.Module]:
    """157 LSTM units, then FC(classes): 102,060 parameters for one feature and ten classes; "lstm-H" has H units."""
    return _gated(d, activation, LSTM)


def gru(d: Definition, activation: Activation) -> list[nn.Module]:
    """181 GRU units, then FC(classes): 101,732 parameters for one feature and ten classes; "gru-H" has H units."""
    return _gated(d, activation, GRU)


def _gated(d: Definition, activation: Activation, cell: type[LSTM] | type[GRU]) -> list[nn.Module]:
    (hidden,) = recurrent_sizes(d.name)
    made = cell(features_of(d), hidden, quantiser(d, activation, "h"))
    return [*over_time(d), nn.Flatten(2), made, *readout(d, hidden, activation)]
