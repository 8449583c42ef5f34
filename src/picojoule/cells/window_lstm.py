"""The window mixer with a bidirectional LSTM: the recurrent one-step network."""

from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from picojoule.cells.cell import Inside, Sent, Synapse
from picojoule.cells.window_mixer import WindowMixer, by_pass, by_time
from picojoule.errors import BadInput
from picojoule.kernels.projection import project
from picojoule.kernels.window_rules import WindowRules
from picojoule.kinds import Values
from picojoule.layers.windows import cut, stitch
from picojoule.neurons import WindowNeuron

DIRECTIONS = ("forwards", "backwards")
Stimulus = Tensor | tuple[Tensor, Tensor]
"""Maps `[T, B, S, S, D]`, alone or with the membranes `[T, B, S, S, 2 D]` that the block before handed on."""


class WindowLSTMState(NamedTuple):
    """The state of the noise; membranes live in one step, from block to block."""

    noise: Tensor | None


class WindowLSTM(WindowMixer):
    """A bidirectional LSTM over the tokens of every window, membranes handed between windows and blocks.

    With z the encoded window as a row-major sequence, decay l, threshold h, P the projection, and M_k window k of the
    membranes from the block before (0 in the first), the membranes and spikes after this block are::

        M1' = l * P(M1, M2)  + LSTM(z_1)        M2' = l * P(M1', M2) + LSTM(z_2)
        M3' = l * P(M3, M2') + LSTM(z_3)        M4' = l * P(M4, M3') + LSTM(z_4)        s_k = M_k' > h

    Every window starts the LSTM from zeros, so it is one call for all windows. It returns the stitched spikes and the
    stitched membranes (the mean), both with 2 D channels. Of a single window the membrane decays, with nothing to
    project (ours). Time steps are independent of each other (ours; the published network has one).

    Source: reconstructed from the code that Yao et al. 2023 published with arXiv 2401.10843.
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
        super().__init__(width, size, window, rules, neuron=neuron)
        self.sent = Sent("neuron")
        self.lstm = nn.LSTM(width, width, batch_first=True, bidirectional=True)
        self.emits = (self.stitches, Values())

    def synapses(self) -> tuple[Synapse, ...]:
        """The LSTM as four layers: of each direction its input, and what it hands to itself."""
        layer = nn.Linear(self.width, 4 * self.width, device="meta")
        return tuple(
            Synapse(f"{direction}{part}", layer, kind)
            for direction in DIRECTIONS
            for part, kind in (("_input", self.encodes), ("", Values()))
        )

    def populations(self) -> tuple[Inside, ...]:
        return (self.population("neuron", "backwards", projections=self.plan.windows if self.plan.windows > 1 else 0),)

    def initial_state(self, x: Stimulus) -> WindowLSTMState:
        return WindowLSTMState(self.rest(_split(x)[0]))

    def advance(self, x: Stimulus, state: Any) -> tuple[tuple[Tensor, Tensor], Any]:
        y, after, *_ = self._run(x, state)
        return y, after

    def forward_observed(
        self, x: Stimulus, state: WindowLSTMState
    ) -> tuple[tuple[Tensor, Tensor], WindowLSTMState, dict[str, Tensor]]:
        y, after, z, hidden, sent = self._run(x, state)
        forwards, backwards = hidden.detach().chunk(2, -1)
        rest = torch.zeros_like(forwards[..., :1, :])
        handed = torch.cat([rest, forwards[..., :-1, :]], -2), torch.cat([backwards[..., 1:, :], rest], -2)
        entered = {}
        for direction, own in zip(DIRECTIONS, handed, strict=True):
            entered |= {f"{direction}_input": by_pass(z), direction: by_pass(own)}
        return y, after, {**entered, "neuron": sent}

    def _run(
        self, x: Stimulus, state: WindowLSTMState
    ) -> tuple[tuple[Tensor, Tensor], WindowLSTMState, Tensor, Tensor, Tensor]:
        """The output, the state, the tokens `[T, W, B, w * w, D]`, the LSTM's answers to them, and what was sent."""
        maps, handed = _split(x)
        windows, noise = self.encoded(maps, state.noise)
        z = windows.flatten(3, 4)
        hidden = self.lstm(z.flatten(0, 2))[0].unflatten(0, z.shape[:3])
        currents = hidden.unflatten(3, windows.shape[3:5])
        shape = (*maps.shape[:-1], 2 * self.width)
        if handed is None:
            handed = maps.new_zeros(shape, dtype=torch.promote_types(maps.dtype, torch.float32))
        if handed.shape != shape:
            raise BadInput(
                f"expected membranes {list(shape)} of the block before for maps {list(maps.shape)}, got shape "
                f"{tuple(handed.shape)}"
            )
        membranes = self._membranes(list(cut(handed, self.plan).unbind(1)), currents.unbind(1))
        fired = self.neuron(membranes)
        y = self.stitched(fired), stitch(membranes, self.plan)
        return y, WindowLSTMState(noise), z, hidden, self.sent(by_time(fired))

    def _membranes(self, before: list[Tensor], currents: tuple[Tensor, ...]) -> Tensor:
        """The membranes `[T, W, B, w, w, 2 D]` of this block, from each window's own before and its neighbour's."""
        decay, after = self.neuron.decay, []
        if self.plan.windows == 1:
            return (decay * before[0] + currents[0]).unsqueeze(1)
        one, two, three, four = before
        for a, b, current in zip((one, None, three, four), (two, two, None, None), currents, strict=True):
            a, b = (after[-1] if x is None else x for x in (a, b))
            after.append(decay * project(a, b, self.rules.projection) + current)
        return torch.stack(after, 1)


def _split(x: Any) -> tuple[Tensor, Tensor | None]:
    """The stimulus and, if given, the membranes of the block before."""
    if isinstance(x, Tensor):
        return x, None
    if len(x) != 2:
        raise BadInput(f"expected maps, or maps and the membranes of the block before, got {len(x)} tensors")
    return x[0], x[1]
