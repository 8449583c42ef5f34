"""From a definition to a network. One definition gives the ANN and the SNN: `activation` decides."""

from collections import OrderedDict
from collections.abc import Callable

from torch import nn

from picojoule.cells import GRU, LMU, LSTM, SpikingRNN, WindowRNN
from picojoule.errors import BadInput, about, unknown_name
from picojoule.layers import LastStep, Timewise
from picojoule.networks.cnn7 import cnn7
from picojoule.networks.definition import (
    DROPOUT,
    ENCODERS,
    POOLINGS,
    READOUTS,
    RECORDED,
    Definition,
    Mixer,
    Windows,
    check_network,
)
from picojoule.networks.gated import gru, lstm
from picojoule.networks.lmu import lmu
from picojoule.networks.mlp import deep_mlp, mlp
from picojoule.networks.network import Network
from picojoule.networks.parts import Activation
from picojoule.networks.resnet import ResidualBlock, resnet18, resnet20
from picojoule.networks.small_cnn import small_cnn
from picojoule.networks.spiking_rnn import spiking_rnn
from picojoule.networks.vgg import vgg
from picojoule.networks.window_mixer import MixerStages, window_mixer
from picojoule.networks.windowing import windowed

_BODIES: dict[str, Callable[[Definition, Activation], list[nn.Module]]] = {
    "mlp": mlp,
    "small-cnn": small_cnn,
    "cnn7": cnn7,
    "vgg11": vgg,
    "vgg16": vgg,
    "vgg16-4096": vgg,
    "resnet18": resnet18,
    "resnet20": resnet20,
    "spiking-rnn": spiking_rnn,
}
_FAMILIES = {"mlp": deep_mlp, "lmu": lmu, "lstm": lstm, "gru": gru, "mixer": window_mixer}
"""Those with sizes in their names."""


def build(definition: Definition, activation: Activation) -> Network:
    """The network of `definition` with fresh weights from torch's global generator. Raises BadInput.

    It takes images `[B, C, H, W]`; with the encoder "frames" `[B, T, C, H, W]`, with "none" sequences `[B, T, F]`.
    """
    d = definition
    check_network(d.name)
    for what, name, known in (
        ("pooling", d.pool, POOLINGS),
        ("encoder", d.encoder, ENCODERS),
        ("readout", d.readout, READOUTS),
    ):
        if name not in known:
            raise unknown_name(what, name, list(known))
    if d.timesteps < 1:
        raise BadInput(f"expected timesteps >= 1, got {d.timesteps}")
    if d.dropout and d.name not in DROPOUT:
        raise BadInput(f"expected no dropout, which only {' and '.join(DROPOUT)} have, got {d.dropout:g} for {d.name}")
    if not 0 <= d.dropout <= 1:
        raise BadInput(f"expected dropout from 0 to 1 (a share of the published rates), got {d.dropout}")
    if d.is_mixer and d.windows != Windows():
        raise BadInput(f"the windows of {d.name} are those of its mixer; give mixer=Mixer(...) in the place of windows")
    if not d.is_mixer and d.mixer != Mixer():
        raise BadInput(f"a Mixer is for networks such as mixer-cnn, and {d.name} has none; leave mixer out")
    family = d.name.partition("-")[0]
    if d.recurrent and d.encoder not in RECORDED:
        raise BadInput(f"the network {d.name} reads sequences, got images; choose data over time, such as psmnist")
    if len(d.input_shape) == 1 and not (d.recurrent or family in ("mlp", "spiking")):
        raise BadInput(f"the network {d.name} takes images, got sequences; choose lmu, lstm, gru, mlp or spiking-rnn")
    body = _BODIES.get(d.name) or _FAMILIES[family]
    shape = (d.timesteps, *d.input_shape) if d.encoder in RECORDED else d.input_shape
    network = Network(nn.Sequential(_named(body(d, activation))), shape, d.classes)
    if d.windows.number == 1 or d.name == "spiking-rnn":
        return network
    with about(d.name):
        return windowed(network, d.windows.number, d.windows.projection)


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
    WindowRNN: "rnn",
    LMU: "lmu",
    LSTM: "lstm",
    GRU: "gru",
    LastStep: "last",
    ResidualBlock: "block",
    MixerStages: "mixer",
}
