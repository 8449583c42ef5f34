"""What several networks share: weight layers with their norm, the start and the end of every network."""

from collections.abc import Callable
from math import prod

from torch import nn

from picojoule.errors import BadInput
from picojoule.layers import (
    AddTime,
    Bernoulli,
    Frames,
    LastStep,
    Latency,
    LogLatency,
    MeanReadout,
    MembraneReadout,
    Repeat,
    SpikeCount,
    Timewise,
)
from picojoule.networks.definition import SIGNALS, Definition
from picojoule.neurons import Diffused, Neuron

Activation = Callable[[], nn.Module]
"""Makes one activation: `nn.ReLU`, or a neuron such as `LIF`."""

_EVENTS: dict[str, Callable[[int], nn.Module]] = {
    "bernoulli": Bernoulli,
    "latency": Latency,
    "latency-early": lambda timesteps: Latency(timesteps, floor=0.1, span=0.5),
    "latency-log": LogLatency,
    "frames": Frames,
    "none": Frames,
}


def convolution(channels: int, out: int, size: int = 3, stride: int = 1) -> list[nn.Module]:
    """A convolution of `size` x `size` that keeps the map's sides (divided by `stride`), and its norm."""
    conv = nn.Conv2d(channels, out, size, stride, padding=size // 2, bias=False)
    return [Timewise(conv), Timewise(nn.BatchNorm2d(out))]


def dense(features: int, out: int) -> list[nn.Module]:
    """A fully connected layer and its norm."""
    return [nn.Linear(features, out, bias=False), Timewise(nn.BatchNorm1d(out))]


def features_of(d: Definition) -> int:
    """Pixels times channels of one image, or the features of one step."""
    return prod(d.input_shape)


def pooled(size: int, times: int) -> int:
    """The side of a map after `times` poolings by 2. Raises BadInput where nothing would be left."""
    small = size // 2**times
    if small < 1:
        raise BadInput(f"an image side of {size} pixels is too small for {times} poolings by 2")
    return small


def encoded(d: Definition, first: list[nn.Module]) -> list[nn.Module]:
    """The encoder around the first weight layer and its norm."""
    if d.encoder == "constant-current":
        return [AddTime(), *first, Repeat(d.timesteps)]
    return [*over_time(d), *first]


def over_time(d: Definition) -> list[nn.Module]:
    """Only the encoder: images `[B, ...]` become `[T, B, ...]`, repeated or as events."""
    if d.encoder in ("constant-current", "direct"):
        return [AddTime(), Repeat(d.timesteps)]
    return [_EVENTS[d.encoder](d.timesteps)]


def quantiser(d: Definition, activation: Activation, signal: str) -> Diffused | None:
    """What quantises a signal (h, u or m) of a recurrent cell: the neurons of `activation`, but not its function.

    None where the signal is not one of `d.signals`, or the network is analog. Raises BadInput for other neurons.
    """
    made = activation()
    if isinstance(made, Neuron) and not isinstance(made, Diffused):
        raise BadInput(
            f"the network {d.name} has no form with {type(made).__name__} neurons: train it with ann or hybrid"
        )
    if not isinstance(made, Diffused) or signal not in d.signals:
        return None
    made.activation, made.seed = nn.Identity(), SIGNALS.index(signal)
    return made


def readout(d: Definition, features: int, activation: Activation, bias: bool = True) -> list[nn.Module]:
    """The last weight layer, and how class scores follow from its output over time."""
    last = nn.Linear(features, d.classes, bias)
    if d.readout == "last-step":
        return [LastStep(), last]
    if d.readout == "spike-count":
        return [last, activation(), SpikeCount()]
    if d.readout == "mean":
        return [last, MeanReadout()]
    return [last, MembraneReadout(read="last" if d.readout == "last-membrane" else "max")]
