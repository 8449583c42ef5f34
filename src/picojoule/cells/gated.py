"""LSTM and GRU as cells whose operations are counted."""

from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from picojoule.cells.cell import Cell, Synapse, is_hooked
from picojoule.kernels.gated.reference import gru_step, lstm_step
from picojoule.kinds import Kind, Values
from picojoule.neurons import unroll


class _Gated(Cell):
    """What both share: the products with weights, `input` of all steps at once and `recurrent` step by step."""

    emits: Kind = Values()
    gates: int

    def __init__(self, in_features: int, hidden: int):
        super().__init__()
        self.input = nn.Linear(in_features, self.gates * hidden)
        self.recurrent = nn.Linear(hidden, self.gates * hidden)
        for parameter in self.parameters():  # as torch.nn.LSTM and GRU begin
            nn.init.uniform_(parameter, -(hidden**-0.5), hidden**-0.5)

    def synapses(self) -> tuple[Synapse, ...]:
        return Synapse("input", self.input, None), Synapse("recurrent", self.recurrent, Values())

    def forward_observed(self, x: Tensor, state: Any) -> tuple[Tensor, Any, dict[str, Tensor]]:
        y, after = self.advance(x, state)
        before = state.h.unsqueeze(0)
        return y, after, {"input": x, "recurrent": torch.cat([before, y[:-1]])}

    def _weights(self) -> list[Tensor]:
        return [self.input.weight, self.recurrent.weight, self.input.bias, self.recurrent.bias]

    def _rest(self, x: Tensor) -> Tensor:
        return x.new_zeros(x.shape[1], self.recurrent.in_features)


class LSTMState(NamedTuple):
    """What the units sent, h, and the cells' state c, both `[B, H]`."""

    h: Tensor
    c: Tensor


class LSTM(_Gated):
    """`torch.nn.LSTM` of one layer as a cell: `[T, B, F]` in, h `[T, B, H]` out; the same weights and numbers.

    Gates are in the order input, forget, cell, output. Products of gates with states are no synapses.
    """

    gates = 4

    def initial_state(self, x: Tensor) -> LSTMState:
        return LSTMState(self._rest(x), self._rest(x))

    def advance(self, x: Tensor, state: LSTMState) -> tuple[Tensor, LSTMState]:
        if not is_hooked(self):
            before = [s.unsqueeze(0) for s in state]
            y, h, c = torch.lstm(x, before, self._weights(), True, 1, 0.0, self.training, False, False)
            return y, LSTMState(h[0], c[0])

        def step(state: LSTMState, fresh: Tensor) -> tuple[LSTMState, Tensor]:
            h, c = lstm_step(state.c, fresh + self.recurrent(state.h))
            return LSTMState(h, c), h

        state, y = unroll(step, state, self.input(x))
        return y, state


class GRUState(NamedTuple):
    """What the units sent, h `[B, H]`."""

    h: Tensor


class GRU(_Gated):
    """`torch.nn.GRU` of one layer as a cell: `[T, B, F]` in, h `[T, B, H]` out; the same weights and numbers.

    Gates are in the order reset, update, new. Products of gates with states are no synapses.
    """

    gates = 3

    def initial_state(self, x: Tensor) -> GRUState:
        return GRUState(self._rest(x))

    def advance(self, x: Tensor, state: GRUState) -> tuple[Tensor, GRUState]:
        if not is_hooked(self):
            y, h = torch.gru(x, state.h.unsqueeze(0), self._weights(), True, 1, 0.0, self.training, False, False)
            return y, GRUState(h[0])

        def step(state: GRUState, fresh: Tensor) -> tuple[GRUState, Tensor]:
            h = gru_step(state.h, fresh, self.recurrent(state.h))
            return GRUState(h), h

        state, y = unroll(step, state, self.input(x))
        return y, state
