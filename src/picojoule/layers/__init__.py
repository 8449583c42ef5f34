"""Parts without synapses: time folding, encoders, pooling, readouts, wiring."""

from picojoule.layers.encoders import Bernoulli, Encoder, Frames, Latency, LogLatency
from picojoule.layers.flow import Concatenate, Residual
from picojoule.layers.pooling import pooling
from picojoule.layers.quantised import QuantisedReLU
from picojoule.layers.readouts import MeanReadout, MembraneReadout, SpikeCount
from picojoule.layers.shape import Crop2d, Permute, Reshape
from picojoule.layers.timewise import AddTime, Repeat, Timewise

__all__ = [
    "AddTime",
    "Bernoulli",
    "Concatenate",
    "Crop2d",
    "Encoder",
    "Frames",
    "Latency",
    "LogLatency",
    "MeanReadout",
    "MembraneReadout",
    "Permute",
    "QuantisedReLU",
    "Repeat",
    "Reshape",
    "Residual",
    "SpikeCount",
    "Timewise",
    "pooling",
]
