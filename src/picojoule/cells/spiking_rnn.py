"""The smallest recurrent cell with synapses inside; it proves the contract that every cell keeps."""

from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from picojoule.cells.cell import Cell, Synapse
from picojoule.kinds import Kind
from picojoule.neurons import LIF, Neuron, unroll


class SpikingRNNState(NamedTuple):
    """The neurons' state and the events `[B, H]` they sent in the last step."""

    neuron: Any
    events: Tensor


class SpikingRNN(Cell):
    """`events_t = neuron(W_in x_t + W_rec events_{t-1})`: `[T, B, F]` in, events `[T, B, H]` out.

    The input current of all steps is one matrix product; only the recurrent one runs step by step.
    """

    def __init__(self, in_features: int, hidden: int, neuron: Neuron | None = None):
        super().__init__()
        self.input = nn.Linear(in_features, hidden)
        self.recurrent = nn.Linear(hidden, hidden, bias=False)
        self.neuron = LIF() if neuron is None else neuron

    @property
    def emits(self) -> Kind:  # pyright: ignore[reportIncompatibleVariableOverride]  (changes with the neuron's)
        """The kind of the neuron's events."""
        return self.neuron.emits

    def synapses(self) -> tuple[Synapse, ...]:
        recurrent = Synapse("recurrent", self.recurrent, self.neuron.emits, self.neuron)
        return Synapse("input", self.input, None), recurrent

    def initial_state(self, x: Tensor) -> SpikingRNNState:
        rest = x.new_zeros(1, x.shape[1], self.recurrent.in_features)
        return SpikingRNNState(self.neuron.initial_state(rest), rest[0])

    def advance(self, x: Tensor, state: SpikingRNNState) -> tuple[Tensor, SpikingRNNState]:
        step = self.neuron.step_function()

        def recur(state: SpikingRNNState, current: Tensor) -> tuple[SpikingRNNState, Tensor]:
            neuron, events = step(state.neuron, current + self.recurrent(state.events))
            return SpikingRNNState(neuron, events), events

        state, events = unroll(recur, state, self.input(x))
        return events, state

    def forward_observed(self, x: Tensor, state: SpikingRNNState) -> tuple[Tensor, SpikingRNNState, dict[str, Tensor]]:
        events, after = self.advance(x, state)
        sent = torch.cat([state.events.unsqueeze(0), events[:-1]])
        return events, after, {"input": x, "recurrent": sent}
