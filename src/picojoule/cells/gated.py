"""LSTM and GRU as cells whose operations are counted."""

from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from picojoule.cells.cell import Cell, Synapse, is_hooked
from picojoule.cells.signals import at_rest, check_quantisers, check_sequence, check_units, fired, kind_of
from picojoule.kernels.gated.reference import gru_step, lstm_step
from picojoule.kinds import Kind
from picojoule.neurons import Diffused, unroll


class GatedState(NamedTuple):
    """What the units sent, h, and what they keep, both `[B, H]`; and the state of the quantiser of h.

    A LSTM keeps c, a GRU its h as it was before it was quantised.
    """

    h: Tensor
    kept: Tensor
    error: Any


Step = Callable[[GatedState, Tensor], tuple[Tensor, Tensor]]
"""From a state and what the input adds to the gates: h, not quantised yet, and what is kept."""


class _Gated(Cell):
    """What both share: the products with weights, `input` of all steps at once and `recurrent` step by step."""

    gates: int
    analog_by_step = True

    def __init__(self, in_features: int, hidden: int, spike_h: Diffused | None = None):
        super().__init__()
        check_units(features=in_features, hidden=hidden)
        check_quantisers(spike_h=spike_h)
        self.input = nn.Linear(in_features, self.gates * hidden)
        self.recurrent = nn.Linear(hidden, self.gates * hidden)
        self.spike_h = spike_h
        for parameter in (*self.input.parameters(), *self.recurrent.parameters()):  # as torch.nn.LSTM and GRU begin
            nn.init.uniform_(parameter, -(hidden**-0.5), hidden**-0.5)

    @property
    def emits(self) -> Kind:  # pyright: ignore[reportIncompatibleVariableOverride]  (changes with the fineness)
        """The kind of h."""
        return kind_of(self.spike_h)

    @property
    def neuron(self) -> Diffused | None:
        """What makes events of h."""
        return self.spike_h

    def synapses(self) -> tuple[Synapse, ...]:
        recurrent = Synapse("recurrent", self.recurrent, self.emits, self.spike_h)
        return Synapse("input", self.input, None), recurrent

    def initial_state(self, x: Tensor) -> GatedState:
        h = x.new_zeros(x.shape[1], self.recurrent.in_features)
        return GatedState(h, torch.zeros_like(h), at_rest(self.spike_h, h))

    def forward_observed(self, x: Tensor, state: GatedState) -> tuple[Tensor, GatedState, dict[str, Tensor]]:
        y, after = self.advance(x, state)
        return y, after, {"input": x, "recurrent": torch.cat([state.h.unsqueeze(0), y[:-1]])}

    def _runs_at_once(self) -> bool:
        """Whether torch's own layer can run all steps."""
        return self.spike_h is None and not is_hooked(self)

    def _by_step(self, x: Tensor, state: GatedState, step: Step) -> tuple[Tensor, GatedState]:
        def send(state: GatedState, fresh: Tensor) -> tuple[GatedState, Tensor]:
            h, kept = step(state, fresh)
            h, error = fired(self.spike_h, h, state.error)
            return GatedState(h, kept, error), h

        state, y = unroll(send, state, self.input(x))
        return y, state

    def _weights(self) -> list[Tensor]:
        return [self.input.weight, self.recurrent.weight, self.input.bias, self.recurrent.bias]


class LSTM(_Gated):
    """`torch.nn.LSTM` of one layer as a cell: `[T, B, F]` in, h `[T, B, H]` out; the same weights and numbers.

    Gates are in the order input, forget, cell, output. Products of gates with states are no synapses. `spike_h`, such
    as `Diffused("identity", fineness=4)`, quantises the h that is handed on and out; None sends values.
    """

    gates = 4

    def advance(self, x: Tensor, state: GatedState) -> tuple[Tensor, GatedState]:
        check_sequence(x, self.input.in_features)
        if not self._runs_at_once():
            return self._by_step(x, state, lambda s, fresh: lstm_step(s.kept, fresh + self.recurrent(s.h)))
        before = [state.h.unsqueeze(0), state.kept.unsqueeze(0)]
        y, h, c = torch.lstm(x, before, self._weights(), True, 1, 0.0, self.training, False, False)
        return y, GatedState(h[0], c[0], state.error)


class GRU(_Gated):
    """`torch.nn.GRU` of one layer as a cell: `[T, B, F]` in, h `[T, B, H]` out; the same weights and numbers.

    Gates are in the order reset, update, new. Products of gates with states are no synapses. `spike_h`, as in `LSTM`,
    quantises the copy of h that is handed on and out; what the update gate keeps stays exact.
    """

    gates = 3

    def advance(self, x: Tensor, state: GatedState) -> tuple[Tensor, GatedState]:
        check_sequence(x, self.input.in_features)
        if not self._runs_at_once():
            return self._by_step(x, state, self._step)
        before = state.h.unsqueeze(0)
        y, h = torch.gru(x, before, self._weights(), True, 1, 0.0, self.training, False, False)
        return y, GatedState(h[0], h[0], state.error)

    def _step(self, state: GatedState, fresh: Tensor) -> tuple[Tensor, Tensor]:
        h = gru_step(state.kept, fresh, self.recurrent(state.h))
        return h, h
