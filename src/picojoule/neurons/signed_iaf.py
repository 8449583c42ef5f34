"""Integrate-and-fire neurons that can take back what they sent."""

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

from picojoule.errors import BadInput
from picojoule.kernels.lif.reference import LIFParameters
from picojoule.kernels.native import integrate_and_fire
from picojoule.kernels.spike import spike
from picojoule.kernels.surrogate import triangle
from picojoule.kinds import Events
from picojoule.neurons.neuron import Neuron, check_currents


class SignedIAFState(NamedTuple):
    """Membrane potential `v` and the net number of events `sent` so far, both `[B, *N]`."""

    v: Tensor
    sent: Tensor


class SignedIAF(Neuron):
    """`IAF` with soft reset that takes events back: it sends -1, and adds the threshold, where v < 0.

    It does so only while its net count is above zero. A neuron that fired too early, before inhibition arrived, so
    ends with the count that its whole charge asks for.

    Arguments:
        threshold: > 0.
        v_initial: potential at rest before the first step.

    Source: the gate of the signed neuron with memory (SNM), IJCAI 2022, as in its released code.
    """

    emits = Events(signed=True, most=1)

    def __init__(self, threshold: float = 1.0, *, v_initial: float = 0.0):
        super().__init__()
        if not threshold > 0:
            raise BadInput(f"expected threshold > 0, got {threshold}")
        self.threshold, self.v_initial = threshold, v_initial

    def initial_state(self, x: Tensor) -> SignedIAFState:
        check_currents(x)
        v = torch.full_like(x[0], self.v_initial, dtype=integrate_and_fire.state_dtype(x.dtype))
        return SignedIAFState(v, torch.zeros_like(v))

    def step_function(self) -> Callable[[SignedIAFState, Tensor], tuple[SignedIAFState, Tensor]]:
        return self._step

    def unroll(self, state: SignedIAFState, currents: Tensor) -> tuple[SignedIAFState, Tensor]:
        p = LIFParameters(1.0, self.threshold, None, 1, triangle)
        if not integrate_and_fire.serves(currents, p, *state):
            return super().unroll(state, currents)
        after = integrate_and_fire.unroll(currents, state.v, p, sent=state.sent)
        return SignedIAFState(after.v, after.sent), after.events

    def _step(self, state: SignedIAFState, current: Tensor) -> tuple[SignedIAFState, Tensor]:
        v = state.v + current
        taken_back = ((v < 0) & (state.sent > 0)).to(v.dtype)
        events = spike(v - self.threshold, triangle) - taken_back
        net = events.detach()
        return SignedIAFState(v - net * self.threshold, state.sent + net), events.to(current.dtype)

    def extra_repr(self) -> str:
        return f"threshold={self.threshold:.4g}, v_initial={self.v_initial:.4g}"
