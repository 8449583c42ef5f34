"""The window mixer with two convolutions: the convolutional one-step network."""

import copy
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from picojoule.cells.cell import Inside, Sent, Synapse
from picojoule.cells.window_mixer import WindowMixer, by_pass, by_time
from picojoule.kernels.projection import project
from picojoule.kernels.window_rules import WindowRules
from picojoule.layers.timewise import Timewise
from picojoule.neurons import WindowNeuron


class WindowConvolutionState(NamedTuple):
    """The membranes `[B, w, w, D]` of both populations after the last window, and the state of the noise."""

    first: Tensor
    second: Tensor
    noise: Tensor | None


class WindowConvolution(WindowMixer):
    """Two convolutions with spikes over every window, membranes handed from window to window.

    With z the encoded window, decay l, threshold h, and P the projection, window k computes::

        u1_k = l * u1_{k-1}               + W1 z_k  + b1,    s1_k = u1_k > h
        u2_k = l * P(u1_{k-1}, u2_{k-1})  + W2 s1_k + b2,    s2_k = u2_k > h

    Convolutions are 3 x 3 with zero padding, shared by all windows; nothing resets, and at rest u is 0. The currents
    do not depend on what is handed on to them, so each convolution is one call for all windows and steps. The state
    goes on from the last window of a step to the first of the next (ours; the published network has one step).

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
        self.conv1, self.conv2 = (Timewise(nn.Conv2d(width, width, 3, padding=1)) for _ in range(2))
        self.first_neuron = copy.deepcopy(self.neuron)
        self.sent1, self.sent2 = Sent("neuron1"), Sent("neuron2")
        self.emits = self.stitches

    def synapses(self) -> tuple[Synapse, ...]:
        return Synapse("conv1", self.conv1, self.encodes), Synapse("conv2", self.conv2, self.encodes)

    def populations(self) -> tuple[Inside, ...]:
        return (
            self.population("neuron1", "conv1"),
            self.population("neuron2", "conv2", projections=self.plan.windows - 1),
        )

    def initial_state(self, x: Tensor) -> WindowConvolutionState:
        noise, wide = self.rest(x), torch.promote_types(x.dtype, torch.float32)
        rest = x.new_zeros(x.shape[1], self.window, self.window, self.width, dtype=wide)
        return WindowConvolutionState(rest, rest, noise)

    def advance(self, x: Tensor, state: Any) -> tuple[Tensor, Any]:
        return self.forward_observed(x, state)[:2]

    def forward_observed(
        self, x: Tensor, state: WindowConvolutionState
    ) -> tuple[Tensor, WindowConvolutionState, dict[str, Tensor]]:
        z, noise = self.encoded(x, state.noise)
        entered1 = by_pass(z).movedim(-1, 2)  # [T * W, B, D, w, w]
        first = self._first(self.conv1(entered1).movedim(2, -1), state.first)
        fired1 = self.first_neuron(torch.stack(first))
        sent1 = self.sent1(by_time(fired1.unflatten(0, z.shape[:2])))
        entered2 = fired1.movedim(-1, 2)
        second = self._second(self.conv2(entered2).movedim(2, -1), [state.first, *first], state.second)
        fired2 = self.neuron(torch.stack(second)).unflatten(0, z.shape[:2])
        sent2 = self.sent2(by_time(fired2))
        seen = {"conv1": entered1, "conv2": entered2, "neuron1": sent1, "neuron2": sent2}
        return self.stitched(fired2), WindowConvolutionState(first[-1], second[-1], noise), seen

    def _first(self, currents: Tensor, v: Tensor) -> list[Tensor]:
        decay, membranes = self.first_neuron.decay, []
        for current in currents.unbind():
            v = decay * v + current
            membranes.append(v)
        return membranes

    def _second(self, currents: Tensor, before: list[Tensor], v: Tensor) -> list[Tensor]:
        """`before` are the first population's membranes, each one window earlier."""
        decay, membranes = self.neuron.decay, []
        for other, current in zip(before, currents.unbind(), strict=False):
            v = decay * project(other, v, self.rules.projection) + current
            membranes.append(v)
        return membranes
