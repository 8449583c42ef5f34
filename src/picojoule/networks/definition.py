"""What a network is built from: names and numbers only, so that a configuration can hold it."""

import re
from dataclasses import dataclass

from picojoule.errors import BadInput, unknown_name

NETWORKS = ("mlp", "small-cnn", "cnn7", "vgg11", "vgg16", "vgg16-4096", "resnet18", "resnet20", "spiking-rnn")
DROPOUT = ("vgg16", "vgg16-4096")
POOLINGS = ("max", "avg")
ENCODERS = ("constant-current", "direct", "bernoulli", "latency", "latency-early", "latency-log", "frames")
READOUTS = ("mean", "spike-count", "last-membrane", "max-membrane")
DEEPEST, WIDEST = 20, 65536
"""The most hidden layers, and neurons in each, of a network `mlp-DxW` (our choice)."""

_DEEP = re.compile("mlp-([0-9]+)x([0-9]+)")


@dataclass(frozen=True)
class Definition:
    """One network, analog or spiking. `input_shape` is `[C, H, W]`.

    `name`: one of NETWORKS, or "mlp-DxW" such as "mlp-5x128": D hidden layers of W neurons without norm and bias.
    `encoder`: "constant-current" computes the first layer once and repeats its current, "direct" repeats the
    image; "bernoulli", "latency", "latency-early" and "latency-log" turn pixels into events; "frames" takes images
    that are events over time already, `[B, T, C, H, W]` with T = `timesteps`. `readout`: how class scores follow from
    time. ResNets have no pooling that `pool` could choose. `dropout`: a share of the published rates, for DROPOUT.
    """

    name: str
    input_shape: tuple[int, int, int]
    classes: int
    timesteps: int = 1
    pool: str = "max"
    encoder: str = "constant-current"
    readout: str = "mean"
    dropout: float = 0.0


def check_network(name: str) -> None:
    """Raise BadInput unless `name` is one of NETWORKS or "mlp-DxW" within DEEPEST and WIDEST."""
    if name not in NETWORKS:
        depth_and_width(name)


def depth_and_width(name: str) -> tuple[int, int]:
    """The hidden layers and the neurons in each that a name "mlp-DxW" asks for. Raises BadInput."""
    match = _DEEP.fullmatch(name)
    if match is None:
        raise unknown_name("network", name, [*NETWORKS, "mlp-DxW"])
    depth, width = match.groups()
    if not (_within(depth, DEEPEST) and _within(width, WIDEST)):
        raise BadInput(
            f"expected a network mlp-DxW with 1 to {DEEPEST} hidden layers D of 1 to {WIDEST} neurons W, got {name!r}"
        )
    return int(depth), int(width)


def _within(digits: str, most: int) -> bool:
    """Whether a number, without leading zeros, lies between 1 and `most`."""
    return not digits.startswith("0") and len(digits) <= len(str(most)) and int(digits) <= most
