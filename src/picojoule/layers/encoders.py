"""From intensities in [0, 1] to events over time.

The analog encodings need no class of their own: `AddTime` followed by `Repeat(T)` before the first weight
layer presents the image at every step ("direct"), and with `Repeat(T)` behind it the first layer's current is
computed once ("constant-current").
"""

from typing import NamedTuple

import torch
from torch import Tensor

from picojoule.errors import BadInput
from picojoule.kinds import Events
from picojoule.neurons.stateful import Stateful


class BernoulliState(NamedTuple):
    """The state of the random generator that the next steps draw from."""

    stream: Tensor


class Bernoulli(Stateful):
    """Rate code: `[B, ...]` in [0, 1] becomes `[T, B, ...]` events, each fired with the pixel's probability.

    From rest, training takes fresh noise from torch's global generator; evaluation starts from `seed`, so
    that it can be repeated (the noise belongs to a place in the batch).
    """

    emits = Events(most=1)

    def __init__(self, timesteps: int, seed: int = 0):
        super().__init__()
        self.timesteps, self.seed = _steps(timesteps), seed

    def initial_state(self, x: Tensor) -> BernoulliState:
        seed = int(torch.randint(2**62, ()).item()) if self.training else self.seed
        return BernoulliState(torch.Generator(x.device).manual_seed(seed).get_state())

    def advance(self, x: Tensor, state: BernoulliState) -> tuple[Tensor, BernoulliState]:
        generator = torch.Generator(x.device)
        generator.set_state(state.stream)
        shape = (self.timesteps, *x.shape)
        noise = torch.rand(shape, generator=generator, device=x.device, dtype=x.dtype)
        return (noise < x).to(x.dtype), BernoulliState(generator.get_state())

    def extra_repr(self) -> str:
        return f"timesteps={self.timesteps}, seed={self.seed}"


class LatencyState(NamedTuple):
    """How many steps of the code have been presented."""

    step: int


class Latency(Stateful):
    """Latency code: a pixel x in (floor, 1] fires once, at step `round((1 - x) * (T - 1))`; others never do.

    Bright pixels fire first. `[B, ...]` becomes `[T, B, ...]`; after T steps the code is silent.
    """

    emits = Events(most=1)

    def __init__(self, timesteps: int, floor: float = 0.1):
        super().__init__()
        self.timesteps, self.floor = _steps(timesteps), floor

    def initial_state(self, x: Tensor) -> LatencyState:
        return LatencyState(0)

    def advance(self, x: Tensor, state: LatencyState) -> tuple[Tensor, LatencyState]:
        fires_at = torch.round((1 - x) * (self.timesteps - 1)).masked_fill(x <= self.floor, -1)
        steps = torch.arange(state.step, state.step + self.timesteps, device=x.device)
        events = fires_at == steps.reshape(-1, *(1,) * x.dim())
        return events.to(x.dtype), LatencyState(state.step + self.timesteps)

    def extra_repr(self) -> str:
        return f"timesteps={self.timesteps}, floor={self.floor}"


def _steps(timesteps: int) -> int:
    if timesteps < 1:
        raise BadInput(f"expected timesteps >= 1, got {timesteps}")
    return timesteps
