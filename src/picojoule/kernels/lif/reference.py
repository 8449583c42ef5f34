"""The leaky integrate-and-fire step: the equation, once. Integrate-and-fire is its case `decay = 1`."""

from typing import NamedTuple

import torch
from torch import Tensor

from picojoule.kernels.spike import Surrogate, spike


class LIFState(NamedTuple):
    """Membrane potential `v`, `[B, *N]` (a scalar before the first step means the same for all neurons)."""

    v: Tensor


class LIFParameters(NamedTuple):
    """What one step needs. `decay` and `threshold` broadcast against `[B, *N]`.

    `v_reset` None means soft reset (subtract the threshold for every event), a number means hard reset to it.
    `max_events` is how many events one neuron may emit in one step.
    """

    decay: Tensor | float
    threshold: Tensor | float
    v_reset: float | None
    max_events: int
    surrogate: Surrogate


def lif_step(state: LIFState, current: Tensor, p: LIFParameters) -> tuple[LIFState, Tensor]:
    """One time step: `v <- decay * v + current`, events where v reaches the threshold, then the reset.

    `current` is `[B, *N]`; the events, of the same shape, are integers 0..max_events in current's dtype. The
    arithmetic runs in the wider dtype of state and current (float32 for 16-bit currents, see `LIF.initial_state`).
    Event k of a step is fired when `v >= k * threshold`. In the reset the events are constants to autograd.
    """
    v = p.decay * state.v + current
    events = spike(v - p.threshold, p.surrogate)
    for k in range(2, p.max_events + 1):
        events = events + spike(v - k * p.threshold, p.surrogate)
    fired = events.detach()
    if p.v_reset is None:
        v = v - fired * p.threshold
    else:
        v = torch.where(fired > 0, p.v_reset, v)
    return LIFState(v), events.to(current.dtype)
