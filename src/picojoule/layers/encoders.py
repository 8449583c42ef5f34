"""From intensities in [0, 1], or frames of events, to events over time.

The analog encodings need no class of their own: `AddTime` followed by `Repeat(T)` before the first weight
layer presents the image at every step ("direct"), and with `Repeat(T)` behind it the first layer's current is
computed once ("constant-current").
"""

import math
from typing import NamedTuple

import torch
from torch import Tensor

from picojoule.errors import BadInput
from picojoule.kinds import Events
from picojoule.neurons.chance import generator_at_rest
from picojoule.neurons.stateful import Stateful


class Encoder(Stateful):
    """A part that turns one presentation of its input into `timesteps` steps `[T, B, ...]`."""

    def __init__(self, timesteps: int):
        super().__init__()
        if timesteps < 1:
            raise BadInput(f"expected timesteps >= 1, got {timesteps}")
        self.timesteps = timesteps


class BernoulliState(NamedTuple):
    """The state of the random generator that the next steps draw from."""

    stream: Tensor


class Bernoulli(Encoder):
    """Rate code: `[B, ...]` in [0, 1] becomes `[T, B, ...]` events, each fired with the pixel's probability.

    From rest, training takes fresh noise from torch's global generator; evaluation starts from `seed`, so
    that it can be repeated (the noise belongs to a place in the batch).
    """

    emits = Events(most=1)

    def __init__(self, timesteps: int, seed: int = 0):
        super().__init__(timesteps)
        self.seed = seed

    def initial_state(self, x: Tensor) -> BernoulliState:
        return BernoulliState(generator_at_rest(self.training, self.seed, x.device).get_state())

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


class Latency(Encoder):
    """Linear latency code: a pixel x in (floor, 1] fires once, at step `round((1 - x) * (span * T - 1))`.

    Bright pixels fire first, others never. `[B, ...]` becomes `[T, B, ...]`; after T steps the code is silent.
    `span` in (0, 1] is the share of the T steps that the code fills: with 0.5 all pixels have fired after half of
    them, and deep layers have the other half to answer. A span of less than one step is one step.

    Raises BadInput for another span.
    """

    emits = Events(most=1)

    def __init__(self, timesteps: int, floor: float = 0.1, span: float = 1.0):
        super().__init__(timesteps)
        if not 0 < span <= 1:
            raise BadInput(f"expected a span of the code in (0, 1], as a share of the steps, got {span}")
        self.floor, self.span = floor, span

    def initial_state(self, x: Tensor) -> LatencyState:
        return LatencyState(0)

    def advance(self, x: Tensor, state: LatencyState) -> tuple[Tensor, LatencyState]:
        latest = max(self.span * self.timesteps - 1, 0)
        fires_at = torch.round((1 - x) * latest).masked_fill(x <= self.floor, -1)
        return _at_its_step(fires_at, self.timesteps, state, x.dtype)

    def extra_repr(self) -> str:
        return f"timesteps={self.timesteps}, floor={self.floor}, span={self.span}"


class LogLatency(Encoder):
    """Logarithmic latency code: a pixel x fires once, `tau * ln(x / (x - threshold))` ms after the start.

    That is when a leaky integrator with the time constant `tau` (milliseconds), driven by the constant current x,
    reaches `threshold`. A step lasts 1 ms, and times are rounded down to whole steps. `[B, ...]` in [0, 1] becomes
    `[T, B, ...]`. Pixels at or below the threshold never fire, and those that are later than T only if the
    presentation goes on.

    Raises BadInput for a tau or a threshold with which no code exists.
    Source: the SpyTorch tutorials (github.com/fzenke/spytorch), with tau 20 ms, threshold 0.2 and T = 100.
    """

    emits = Events(most=1)

    def __init__(self, timesteps: int, tau: float = 20.0, threshold: float = 0.2):
        super().__init__(timesteps)
        if not 0 < tau < math.inf:
            raise BadInput(f"expected a finite time constant tau above 0, in milliseconds, got {tau}")
        if not 0 < threshold < 1:
            raise BadInput(f"expected a threshold in (0, 1), as pixels are, got {threshold}")
        self.tau, self.threshold = tau, threshold

    def initial_state(self, x: Tensor) -> LatencyState:
        return LatencyState(0)

    def advance(self, x: Tensor, state: LatencyState) -> tuple[Tensor, LatencyState]:
        wide = x.to(torch.promote_types(x.dtype, torch.float32))  # near the threshold the logarithm is steep
        driven = wide.clamp(min=self.threshold)  # at the threshold it takes for ever
        fires_at = torch.floor(self.tau * torch.log(driven / (driven - self.threshold)))
        return _at_its_step(fires_at, self.timesteps, state, x.dtype)

    def extra_repr(self) -> str:
        return f"timesteps={self.timesteps}, tau={self.tau}, threshold={self.threshold}"


class EvenRate(Encoder):
    """Even rate code: after t steps a pixel x in [0, 1] has fired `floor(x * t + 1e-6)` times, evenly spread.

    It is what an integrate-and-fire neuron does with the constant current x; the small term keeps exact multiples from
    being rounded down. `[B, ...]` becomes `[T, B, ...]`; pixels outside [0, 1] are clipped.
    """

    emits = Events(most=1)

    def initial_state(self, x: Tensor) -> LatencyState:
        return LatencyState(0)

    def advance(self, x: Tensor, state: LatencyState) -> tuple[Tensor, LatencyState]:
        steps = torch.arange(state.step, state.step + self.timesteps + 1, device=x.device)
        rate = x.clamp(0, 1).double()
        fired = torch.floor(rate * steps.reshape(-1, *(1,) * x.dim()) + 1e-6)
        return fired.diff(dim=0).to(x.dtype), LatencyState(state.step + self.timesteps)

    def extra_repr(self) -> str:
        return f"timesteps={self.timesteps}"


class Frames(Encoder):
    """Recorded steps `[B, T, ...]`, such as frames of events, time moved to the front: `[T, B, ...]`, without a copy.

    What goes in comes out: they count as events if the model's input is declared as events. Each call presents the
    steps that it is given, so the next T steps of a longer recording continue it.

    Raises BadInput for inputs without time or with another number of steps.
    """

    def initial_state(self, x: Tensor) -> tuple[()]:
        return ()

    def advance(self, x: Tensor, state: tuple[()]) -> tuple[Tensor, tuple[()]]:
        if x.dim() not in (3, 5) or x.shape[1] != self.timesteps:
            raise BadInput(
                f"expected frames [B, T={self.timesteps}, C, H, W] or sequences [B, T={self.timesteps}, F], got shape "
                f"{tuple(x.shape)}"
            )
        return x.movedim(1, 0), state

    def extra_repr(self) -> str:
        return f"timesteps={self.timesteps}"


def _at_its_step(
    fires_at: Tensor, timesteps: int, state: LatencyState, dtype: torch.dtype
) -> tuple[Tensor, LatencyState]:
    """The next `timesteps` steps of a code in which each pixel fires once, at its step, or never (-1 or infinity)."""
    steps = torch.arange(state.step, state.step + timesteps, device=fires_at.device)
    events = fires_at == steps.reshape(-1, *(1,) * fires_at.dim())
    return events.to(dtype), LatencyState(state.step + timesteps)
