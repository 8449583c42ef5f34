"""The shell around a neuron's step: parameters, checks, and the loop over time."""

from collections.abc import Callable
from typing import Any

from torch import Tensor, nn

from picojoule.errors import BadInput
from picojoule.kinds import Events
from picojoule.neurons.stateful import Stateful
from picojoule.neurons.unroll import unroll


class Neuron(Stateful):
    """A population of neurons without synapses: currents `[T, B, *N]` in, events `[T, B, *N]` out.

    `emits` is the kind of what comes out, `updates` the neuron updates of one neuron in one time step.
    """

    emits: Events = Events(most=1)
    updates: float = 1.0

    def step_function(self) -> Callable[[Any, Tensor], tuple[Any, Tensor]]:
        """The pure step `(state, current) -> (state, events)` with this module's parameters."""
        raise NotImplementedError

    def step(self, state: Any, current: Tensor) -> tuple[Any, Tensor]:
        """One time step for a current `[B, *N]`: the new state and the events `[B, *N]`."""
        return self.step_function()(state, current)

    def unroll(self, state: Any, currents: Tensor) -> tuple[Any, Tensor]:
        """All time steps of `[T, B, *N]`: the last state and the events."""
        return unroll(self.step_function(), state, currents)

    def advance(self, x: Tensor, state: Any) -> tuple[Tensor, Any]:
        check_currents(x)
        state, events = self.unroll(state, x)
        return events, state


def updates_of(module: nn.Module | None) -> float:
    """The updates of one neuron of a population in one time step; 1 where a module says nothing of it."""
    return module.updates if isinstance(module, Neuron) else Neuron.updates


def check_currents(x: Tensor) -> None:
    """Raise BadInput unless `x` is `[T, B, ...]` with at least one step."""
    if x.dim() < 3 or x.shape[0] < 1:
        raise BadInput(f"expected currents [T, B, ...] with T >= 1, got shape {tuple(x.shape)}")
