"""What a network is built from: names and numbers only, so that a configuration can hold it."""

from dataclasses import dataclass

NETWORKS = ("mlp", "small-cnn", "cnn7", "spiking-rnn")
POOLINGS = ("max", "avg")
ENCODERS = ("constant-current", "direct", "bernoulli", "latency")
READOUTS = ("mean", "spike-count", "last-membrane", "max-membrane")


@dataclass(frozen=True)
class Definition:
    """One network, analog or spiking. `input_shape` is `[C, H, W]`.

    `encoder`: "constant-current" computes the first layer once and repeats its current, "direct" repeats the
    image, "bernoulli" and "latency" turn pixels into events. `readout`: how class scores follow from time.
    """

    name: str
    input_shape: tuple[int, int, int]
    classes: int
    timesteps: int = 1
    pool: str = "max"
    encoder: str = "constant-current"
    readout: str = "mean"
