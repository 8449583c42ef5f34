"""From what the last layer says over time to one score per class.

All are stateful, so that a stream read in pieces ends with the scores of the whole. Sums and membranes of 16-bit
inputs are float32, and so are the scores.
"""

from typing import NamedTuple

import torch
from torch import Tensor

from picojoule.errors import BadInput
from picojoule.neurons.stateful import Stateful
from picojoule.neurons.unroll import unroll


class SumState(NamedTuple):
    """What was summed `[B, C]`, over how many steps."""

    total: Tensor
    steps: int


class MeanReadout(Stateful):
    """Mean over all steps since rest of currents `[T, B, C]`: scores `[B, C]`."""

    def initial_state(self, x: Tensor) -> SumState:
        return SumState(_rest(x), 0)

    def advance(self, x: Tensor, state: SumState) -> tuple[Tensor, SumState]:
        state = SumState(state.total + x.sum(0, dtype=state.total.dtype), state.steps + x.shape[0])
        return state.total / state.steps, state


class SpikeCount(Stateful):
    """Number of events per class since rest, from events `[T, B, C]`: scores `[B, C]`."""

    def initial_state(self, x: Tensor) -> SumState:
        return SumState(_rest(x), 0)

    def advance(self, x: Tensor, state: SumState) -> tuple[Tensor, SumState]:
        state = SumState(state.total + x.sum(0, dtype=state.total.dtype), state.steps + x.shape[0])
        return state.total, state


class MembraneState(NamedTuple):
    """The leaky membrane `v` and the `best` potential it reached, both `[B, C]`."""

    v: Tensor
    best: Tensor


class MembraneReadout(Stateful):
    """A leaky integrator that never fires: `v <- decay * v + current`; scores are its last or largest value.

    `read` is "last" or "max". `[T, B, C]` becomes `[B, C]`.
    """

    def __init__(self, decay: float = 0.9, read: str = "last"):
        super().__init__()
        if read not in ("last", "max"):
            raise BadInput(f"expected read='last' or 'max', got {read!r}")
        if not 0 < decay <= 1:
            raise BadInput(f"expected 0 < decay <= 1, got {decay}")
        self.decay, self.read = decay, read

    def initial_state(self, x: Tensor) -> MembraneState:
        rest = _rest(x)
        return MembraneState(rest, torch.full_like(rest, -torch.inf))

    def advance(self, x: Tensor, state: MembraneState) -> tuple[Tensor, MembraneState]:
        v, trace = unroll(self._integrate, state.v, x)
        best = torch.maximum(state.best, trace.amax(0))
        return (v if self.read == "last" else best), MembraneState(v, best)

    def _integrate(self, v: Tensor, current: Tensor) -> tuple[Tensor, Tensor]:
        v = self.decay * v + current
        return v, v

    def extra_repr(self) -> str:
        return f"decay={self.decay}, read={self.read!r}"


def _rest(x: Tensor) -> Tensor:
    return torch.zeros_like(x[0], dtype=torch.promote_types(x.dtype, torch.float32))
