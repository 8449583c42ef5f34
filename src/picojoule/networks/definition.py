"""What a network is built from: names and numbers only, so that a configuration can hold it."""

import re
from dataclasses import dataclass, replace

from picojoule.errors import BadInput, check_choice, unknown_name
from picojoule.kernels.window_rules import PROJECTIONS, WindowRules

RECURRENT = {"lmu": (212, 256), "lmu-keras": (212, 256), "lstm": (157,), "gru": (181,)}
"""Networks for sequences, with the sizes of the psMNIST benchmark: hidden units, and the order of the memory.

The LSTM and the GRU have as many trained parameters as the LMU, within 0.3 %, for one feature and ten classes.
"""
NETWORKS = (
    *("mlp", "small-cnn", "cnn7", "vgg11", "vgg16", "vgg16-4096", "resnet18", "resnet20", "spiking-rnn"),
    *("mixer-cnn", "mixer-rnn"),
    *RECURRENT,
)
KNOWN = [*NETWORKS, "mlp-DxW", "mixer-cnn-WxN", "mixer-rnn-WxN", "lmu-HxQ", "lmu-keras-HxQ", "lstm-H", "gru-H"]
"""All names, and the forms of those with sizes in them."""
DROPOUT = ("vgg16", "vgg16-4096")
POOLINGS = ("max", "avg")
ENCODERS = ("constant-current", "direct", "bernoulli", "latency", "latency-early", "latency-log", "frames", "none")
RECORDED = ("frames", "none")
"""The encoders of data that have time: frames `[B, T, C, H, W]`, and sequences `[B, T, F]`, which need no code."""
READOUTS = ("mean", "spike-count", "last-membrane", "max-membrane", "last-step")
DEEPEST, WIDEST = 20, 65536
"""The most hidden layers, and neurons in each, of a network `mlp-DxW` (our choice)."""

SIGNALS = "hum"
"""The signals of an LMU that can be quantised; gated cells have h alone."""
HIGHEST = 1024
"""The highest order of a memory (our choice)."""

_DEEP = re.compile("mlp-([0-9]+)x([0-9]+)")
_SIZED = re.compile("lmu(-keras)?-([0-9]+)x([0-9]+)|(lstm|gru)-([0-9]+)")
_MIXER = re.compile("mixer-(cnn|rnn)(?:-([0-9]+)(?:x([0-9]+))?)?")


@dataclass(frozen=True)
class Mixer:
    """How the window mixers of the networks `mixer-...` work; other networks have none.

    `on` False leaves them out, and only the real-valued layers of each block stay. `windows` is 4, handed over one
    after the other, or 1. `overlap` widens the windows of every second block. `projection`, `stitch` and `encoder`
    are those of `picojoule.kernels.window_rules`. Raises BadInput for others.
    """

    on: bool = True
    windows: int = 4
    overlap: bool = True
    projection: str = "sincos"
    stitch: str = "mean"
    encoder: str = "bernoulli"

    def __post_init__(self) -> None:
        check_choice("windows", self.windows, (4, 1))
        self.rules(seed=0)

    def rules(self, seed: int) -> WindowRules:
        """Those of one mixer, whose noise in evaluation has this seed."""
        return WindowRules(self.projection, self.stitch, self.encoder, seed)


@dataclass(frozen=True)
class Memory:
    """How the memory of the networks `lmu...` works; others have none.

    `theta` is the window in steps, None for the whole sequence; `learn_theta` and `low_rank` are those of
    `picojoule.cells.LegendreMemory`.
    """

    theta: float | None = None
    learn_theta: bool = False
    low_rank: bool = False


@dataclass(frozen=True)
class Windows:
    """How a network's neurons hand potentials on within a step; `mixer-...` have a `Mixer` instead.

    `number` windows, a square number such as 4 for maps (`picojoule.neurons.WindowLIF`), any that divides the rows of
    an image for spiking-rnn (`picojoule.cells.WindowRNN`); 1 hands nothing on. `projection` as there.
    """

    number: int = 1
    projection: str = "sincos"

    def __post_init__(self) -> None:
        if self.number < 1:
            raise BadInput(f"expected at least 1 window, got {self.number}")
        check_choice("projection", self.projection, PROJECTIONS)


@dataclass(frozen=True)
class Definition:
    """One network, analog or spiking. `input_shape` is `[C, H, W]`, or `[F]` for sequences.

    `name`: one of NETWORKS, or "mlp-DxW" such as "mlp-5x128": D hidden layers of W neurons without norm and bias; or
    "lmu-HxQ", "lmu-keras-HxQ", "lstm-H", "gru-H" with H hidden units and a memory of order Q.
    `encoder`: "constant-current" computes the first layer once and repeats its current, "direct" repeats the
    image; "bernoulli", "latency", "latency-early" and "latency-log" turn pixels into events; "frames" takes images
    that are events over time already, `[B, T, C, H, W]` with T = `timesteps`, and "none" sequences `[B, T, F]`.
    `readout`: how class scores follow from time. ResNets and mixers have no pooling that `pool` could choose.
    `dropout`: a share of the published rates, for DROPOUT.
    `mixer`: for "mixer-cnn", "mixer-rnn", and their narrower forms of `mixer_shape`.
    `windows`: for networks of LIF or IAF neurons with maps, and spiking-rnn. Populations without maps stay as they are.
    `memory`: for networks "lmu...".
    `signals`: which signals of an LMU are quantised if its activation is a quantiser, of h, u and m; an LSTM and a GRU
    have h alone.
    """

    name: str
    input_shape: tuple[int, ...]
    classes: int
    timesteps: int = 1
    pool: str = "max"
    encoder: str = "constant-current"
    readout: str = "mean"
    dropout: float = 0.0
    mixer: Mixer = Mixer()
    windows: Windows = Windows()
    memory: Memory = Memory()
    signals: str = SIGNALS

    @property
    def recurrent(self) -> bool:
        """Whether it is one of the networks for sequences."""
        return self.name.partition("-")[0] in RECURRENT

    @property
    def is_mixer(self) -> bool:
        """Whether it is one of the networks of window mixers."""
        return self.name.startswith("mixer-")

    @property
    def takes_windows(self) -> bool:
        """Whether `windows` can hand something on: between maps, or between the rows of an image in spiking-rnn."""
        return len(self.input_shape) == 3 and not self.is_mixer and not self.name.startswith("mlp")

    def analog(self, timesteps: int | None) -> "Definition":
        """The network of the ANN: it has no time, unless it is recurrent."""
        if self.recurrent:
            return replace(self, timesteps=timesteps or 1)
        return replace(self, timesteps=1, encoder="constant-current", readout="mean")


def check_network(name: str) -> None:
    """Raise BadInput unless `name` is one of NETWORKS, or one with sizes that are within bounds."""
    if name.startswith("mixer-"):
        mixer_shape(name)
    elif name not in NETWORKS and not _SIZED.fullmatch(name):
        depth_and_width(name)
    elif name not in NETWORKS:
        recurrent_sizes(name)


def recurrent_sizes(name: str) -> tuple[int, ...]:
    """The hidden units, and the order of the memory, of one of RECURRENT or of a name such as "lmu-64x32".

    Raises BadInput for sizes out of bounds.
    """
    if name in RECURRENT:
        return RECURRENT[name]
    family, _, sizes = name.rpartition("-")
    given = sizes.split("x")
    if not all(_within(size, most) for size, most in zip(given, (WIDEST, HIGHEST), strict=False)):
        ordered = family.startswith("lmu")
        form = f"{family}-HxQ" if ordered else f"{family}-H"
        order = f" and an order Q from 1 to {HIGHEST}" if ordered else ""
        raise BadInput(f"expected a network {form} with 1 to {WIDEST} hidden units H{order}, got {name!r}")
    return tuple(map(int, given))


def mixer_shape(name: str) -> tuple[str, int, tuple[int, ...]]:
    """The cell ("cnn" or "rnn"), the width of the first stage, and the blocks of all stages, of a mixer's name.

    "mixer-cnn" and "mixer-rnn" are the published networks, "mixer-cnn-24" has first stages of width 24 (each further
    stage doubles it) instead of 48, and "mixer-cnn-24x2" two blocks in every stage. Raises BadInput.
    """
    match = _MIXER.fullmatch(name)
    if match is None:
        raise unknown_name("network", name, KNOWN)
    cell, width, blocks = match.group(1), match.group(2) or "48", match.group(3) or "2"
    if not (_within(width, WIDEST) and _within(blocks, DEEPEST)):
        raise BadInput(
            f"expected a network mixer-{cell}-WxN with widths W of 1 to {WIDEST} and 1 to {DEEPEST} blocks N in every "
            f"stage, got {name!r}"
        )
    depths = (2, 2, 6, 2) if match.group(3) is None else (int(blocks),) * 4
    return cell, int(width), depths


def check_signals(signals: str, gated: str = "") -> None:
    """Raise BadInput unless `signals` names one or more of h, u and m, each once.

    `gated` names a network of LSTM or GRU cells, which have h alone: all of SIGNALS stand for it, too.
    """
    if gated and signals not in ("h", SIGNALS):
        raise BadInput(f"expected signals h for {gated}, whose cells have h alone, got {signals!r}")
    if not signals or not set(signals) <= set(SIGNALS) or len(set(signals)) < len(signals):
        raise BadInput(f"expected signals as one or more of the letters h, u and m, such as hum, got {signals!r}")


def depth_and_width(name: str) -> tuple[int, int]:
    """The hidden layers and the neurons in each that a name "mlp-DxW" asks for. Raises BadInput."""
    match = _DEEP.fullmatch(name)
    if match is None:
        raise unknown_name("network", name, KNOWN)
    depth, width = match.groups()
    if not (_within(depth, DEEPEST) and _within(width, WIDEST)):
        raise BadInput(
            f"expected a network mlp-DxW with 1 to {DEEPEST} hidden layers D of 1 to {WIDEST} neurons W, got {name!r}"
        )
    return int(depth), int(width)


def _within(digits: str, most: int) -> bool:
    """Whether a number, without leading zeros, lies between 1 and `most`."""
    return not digits.startswith("0") and len(digits) <= len(str(most)) and int(digits) <= most
