"""From a definition to a network. One definition gives the ANN and the SNN: `activation` decides."""

from collections import OrderedDict
from collections.abc import Callable

from torch import nn

from picojoule.cells import SpikingRNN
from picojoule.errors import BadInput, unknown_name
from picojoule.layers import (
    AddTime,
    Bernoulli,
    Latency,
    MeanReadout,
    MembraneReadout,
    Repeat,
    SpikeCount,
    Timewise,
    pooling,
)
from picojoule.networks.definition import ENCODERS, NETWORKS, POOLINGS, READOUTS, Definition
from picojoule.networks.network import Network
from picojoule.neurons import Neuron

Activation = Callable[[], nn.Module]
"""Makes one activation: `nn.ReLU`, or a neuron such as `LIF`."""


def build(definition: Definition, activation: Activation) -> Network:
    """The network of `definition` with fresh weights from torch's global generator. Raises BadInput."""
    d = definition
    for what, name, known in (
        ("network", d.name, NETWORKS),
        ("pooling", d.pool, POOLINGS),
        ("encoder", d.encoder, ENCODERS),
        ("readout", d.readout, READOUTS),
    ):
        if name not in known:
            raise unknown_name(what, name, list(known))
    if d.timesteps < 1:
        raise BadInput(f"expected timesteps >= 1, got {d.timesteps}")
    body = {"mlp": _mlp, "small-cnn": _small_cnn, "cnn7": _cnn7, "spiking-rnn": _spiking_rnn}[d.name]
    return Network(nn.Sequential(_named(body(d, activation))), d.input_shape, d.classes)


def _named(parts: list[nn.Module]) -> OrderedDict[str, nn.Module]:
    """Parts under the names that reports show: conv1, norm1, lif1, pool1, fc3, ... (weight layers share a count)."""
    named: OrderedDict[str, nn.Module] = OrderedDict()
    counts: dict[str, int] = {}
    for part in parts:
        layer = part.layer if isinstance(part, Timewise) else part
        short = _SHORT_NAMES.get(type(layer), type(layer).__name__.lower())
        group = "weight" if short in ("conv", "fc") else short
        counts[group] = counts.get(group, 0) + 1
        named[f"{short}{counts[group]}"] = part
    return named


_SHORT_NAMES: dict[type[nn.Module], str] = {
    nn.Conv2d: "conv",
    nn.Linear: "fc",
    nn.BatchNorm1d: "norm",
    nn.BatchNorm2d: "norm",
    nn.MaxPool2d: "pool",
    nn.AvgPool2d: "pool",
    SpikingRNN: "rnn",
}


def _mlp(d: Definition, activation: Activation) -> list[nn.Module]:
    """FC256-FC256-FC(classes)."""
    features = d.input_shape[0] * d.input_shape[1] * d.input_shape[2]
    return [
        *_encoded(d, [nn.Flatten(2), *_dense(features, 256)]),
        activation(),
        *_dense(256, 256),
        activation(),
        *_readout(d, 256, activation),
    ]


def _small_cnn(d: Definition, activation: Activation) -> list[nn.Module]:
    """C16-P2-C32-P2-FC128-FC(classes)."""
    channels, height, width = d.input_shape
    return [
        *_encoded(d, _convolution(channels, 16)),
        activation(),
        pooling(d.pool, 2),
        *_convolution(16, 32),
        activation(),
        pooling(d.pool, 2),
        nn.Flatten(2),
        *_dense(32 * _pooled(height, 2) * _pooled(width, 2), 128),
        activation(),
        *_readout(d, 128, activation),
    ]


def _cnn7(d: Definition, activation: Activation) -> list[nn.Module]:
    """C64-C64-P2-C128-C128-P2-C256-P2-FC512-FC(classes): seven weight layers."""
    channels, height, width = d.input_shape
    return [
        *_encoded(d, _convolution(channels, 64)),
        activation(),
        *_convolution(64, 64),
        activation(),
        pooling(d.pool, 2),
        *_convolution(64, 128),
        activation(),
        *_convolution(128, 128),
        activation(),
        pooling(d.pool, 2),
        *_convolution(128, 256),
        activation(),
        pooling(d.pool, 2),
        nn.Flatten(2),
        *_dense(256 * _pooled(height, 3) * _pooled(width, 3), 512),
        activation(),
        *_readout(d, 512, activation),
    ]


def _spiking_rnn(d: Definition, activation: Activation) -> list[nn.Module]:
    """A recurrent population of 128 over the whole image at every step, then FC(classes)."""
    neuron = activation()
    if not isinstance(neuron, Neuron):
        raise BadInput("the network spiking-rnn has no analog form: its recurrence needs spiking neurons")
    features = d.input_shape[0] * d.input_shape[1] * d.input_shape[2]
    encoder = [AddTime(), Repeat(d.timesteps)] if d.encoder in ("constant-current", "direct") else _events(d)
    return [*encoder, nn.Flatten(2), SpikingRNN(features, 128, neuron), *_readout(d, 128, activation)]


def _convolution(channels: int, out: int) -> list[nn.Module]:
    return [Timewise(nn.Conv2d(channels, out, 3, padding=1, bias=False)), Timewise(nn.BatchNorm2d(out))]


def _dense(features: int, out: int) -> list[nn.Module]:
    return [nn.Linear(features, out, bias=False), Timewise(nn.BatchNorm1d(out))]


def _pooled(size: int, times: int) -> int:
    small = size // 2**times
    if small < 1:
        raise BadInput(f"an image side of {size} pixels is too small for {times} poolings by 2")
    return small


def _encoded(d: Definition, first: list[nn.Module]) -> list[nn.Module]:
    if d.encoder == "constant-current":
        return [AddTime(), *first, Repeat(d.timesteps)]
    if d.encoder == "direct":
        return [AddTime(), Repeat(d.timesteps), *first]
    return [*_events(d), *first]


def _events(d: Definition) -> list[nn.Module]:
    return [Bernoulli(d.timesteps) if d.encoder == "bernoulli" else Latency(d.timesteps)]


def _readout(d: Definition, features: int, activation: Activation) -> list[nn.Module]:
    last = nn.Linear(features, d.classes)
    if d.readout == "spike-count":
        return [last, activation(), SpikeCount()]
    if d.readout == "mean":
        return [last, MeanReadout()]
    return [last, MembraneReadout(read="last" if d.readout == "last-membrane" else "max")]
