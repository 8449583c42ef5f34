"""Parts without synapses: time folding, encoders, pooling, readouts, wiring."""

from picojoule.layers.elementwise import Scale, Shift
from picojoule.layers.encoders import Bernoulli, Encoder, EvenRate, Frames, Latency, LogLatency
from picojoule.layers.flow import Concatenate, Residual
from picojoule.layers.low_rank import BlockLowRank
from picojoule.layers.pooling import pooling
from picojoule.layers.quantised import QuantisedReLU
from picojoule.layers.readouts import MeanReadout, MembraneReadout, SpikeCount
from picojoule.layers.shape import Crop2d, Permute, Reshape
from picojoule.layers.spiking_pool import SpikingMaxPool, SpikingMaxPool1d, SpikingMaxPool2d
from picojoule.layers.timewise import AddTime, LastStep, Repeat, Timewise

__all__ = [
    "AddTime",
    "Bernoulli",
    "BlockLowRank",
    "Concatenate",
    "Crop2d",
    "Encoder",
    "EvenRate",
    "Frames",
    "LastStep",
    "Latency",
    "LogLatency",
    "MeanReadout",
    "MembraneReadout",
    "Permute",
    "QuantisedReLU",
    "Repeat",
    "Reshape",
    "Residual",
    "Scale",
    "Shift",
    "SpikeCount",
    "SpikingMaxPool",
    "SpikingMaxPool1d",
    "SpikingMaxPool2d",
    "Timewise",
    "pooling",
]
