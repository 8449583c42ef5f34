"""Mixing by windows: what the convolutional and the recurrent mixer of one-step networks share."""

from dataclasses import asdict

import torch
from torch import Tensor, nn

from picojoule.cells.cell import Cell, Inside
from picojoule.errors import BadInput
from picojoule.kernels.projection import updates_of_one
from picojoule.kernels.stimulus import NOISY, encode
from picojoule.kernels.window_rules import WindowRules
from picojoule.kinds import Events, Kind, Values
from picojoule.layers.windows import cut, stitch, window_plan
from picojoule.neurons import WindowNeuron

SEEDS_OF_A_NETWORK = 1024
"""Its blocks have seeds below this; those of the next stream of noise are so much higher."""


class WindowMixer(Cell):
    """A small network that runs over the windows of a map one after the other and hands its membranes on.

    It takes maps of values `[T, B, S, S, D]`, encodes each window as spikes, and returns the stitched spikes of its
    last population. From rest, training takes fresh noise from torch's global generator; evaluation starts from
    the seed, or another stream of noise (`draw_noise`). The state carries that of the generator, so that another can be
    given.

    Arguments:
        width: D.
        size, window: side of the map, and of its windows (equal: one window).
        rules: the projection, the encoder and its seed, and how spikes are stitched.
        neuron: of the last population; with an analog one the encoder is ReLU and stitching the mean.

    Raises BadInput for windows that do not fit, and for other maps.
    """

    def __init__(
        self,
        width: int,
        size: int,
        window: int,
        rules: WindowRules = WindowRules(),  # noqa: B008  (frozen)
        *,
        neuron: WindowNeuron | None = None,
    ):
        super().__init__()
        self.width, self.size, self.window, self.rules, self.stream = width, size, window, rules, 0
        self.plan = window_plan(size, window)
        self.passes = self.plan.windows
        self.neuron = WindowNeuron() if neuron is None else neuron

    def check(self, x: Tensor) -> None:
        """Raise BadInput unless `x` are maps `[T, B, S, S, D]`."""
        if x.dim() != 5 or x.shape[2:] != (self.size, self.size, self.width):
            expected = f"[T, B, {self.size}, {self.size}, {self.width}]"
            raise BadInput(f"expected maps {expected}, got shape {tuple(x.shape)}")

    def rest(self, x: Tensor) -> Tensor | None:
        """The state of the noise at rest, None without noise."""
        self.check(x)
        if self.neuron.analog or self.rules.encoder not in NOISY:
            return None
        fixed = self.rules.seed + SEEDS_OF_A_NETWORK * self.stream
        seed = int(torch.randint(2**62, ()).item()) if self.training else fixed
        return torch.Generator(x.device).manual_seed(seed).get_state()

    def encoded(self, x: Tensor, noise: Tensor | None) -> tuple[Tensor, Tensor | None]:
        """The windows of x as spikes `[T, W, B, w, w, D]`, and the state of the noise after them."""
        self.check(x)
        windows = cut(x, self.plan)
        if noise is None:
            return encode(windows, "relu" if self.neuron.analog else self.rules.encoder), None
        generator = torch.Generator(x.device)
        generator.set_state(noise)
        return encode(windows, self.rules.encoder, generator).to(x.dtype), generator.get_state()

    @property
    def encodes(self) -> Kind:
        """The kind of what enters the synapses from the encoder."""
        return Values() if self.neuron.analog else Events(most=1)

    @property
    def stitches(self) -> Kind:
        """The kind of the stitched spikes: averages of four windows are multiples of 1/4."""
        if self.neuron.analog or self.rules.stitch == "any" or not self.plan.overlap:
            return self.encodes
        return Events(0.25, most=4)

    def stitched(self, spikes: Tensor) -> Tensor:
        """Maps of the spikes `[T, W, B, w, w, D]` of all windows."""
        return stitch(spikes, self.plan, "mean" if self.neuron.analog else self.rules.stitch)

    def population(self, name: str, synapse: str, projections: int = 0) -> Inside:
        """A population with one neuron for every element of every window.

        Each of `projections` windows whose neurons compute a projection counts as one more update of theirs.
        """
        kind = self.encodes if isinstance(self.encodes, Events) else None
        neuron = "ReLU" if kind is None else type(self.neuron).__name__
        updates = updates_of_one(self.rules.projection, projections / self.plan.windows)
        return Inside(name, neuron, synapse, kind, updates)

    def extra_repr(self) -> str:
        rules = ", ".join(f"{name}={value}" for name, value in asdict(self.rules).items())
        return f"width={self.width}, size={self.size}, window={self.window}, {rules}"


def draw_noise(model: nn.Module, seed: int) -> None:
    """Let every window mixer inside draw the noise of evaluation from stream number `seed`; they are made with 0."""
    for cell in model.modules():
        if isinstance(cell, WindowMixer):
            cell.stream = seed


def by_time(x: Tensor) -> Tensor:
    """What a population sent, `[T, W, B, ...]`, with the windows among its neurons: `[T, B, W, ...]`."""
    return x.transpose(1, 2)


def by_pass(x: Tensor) -> Tensor:
    """What entered a synapse, `[T, W, B, ...]`, with the windows as steps: `[T * W, B, ...]`."""
    return x.flatten(0, 1)
