"""Leaky integrate-and-fire neurons."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from picojoule.errors import BadInput
from picojoule.kernels.lif.reference import LIFParameters, LIFState, lif_step
from picojoule.kernels.native import integrate_and_fire
from picojoule.kernels.spike import Surrogate
from picojoule.kernels.surrogate import triangle
from picojoule.kinds import Events
from picojoule.neurons.leaky import Leaky
from picojoule.neurons.neuron import Neuron, check_currents


class LIF(Neuron, Leaky):
    """Leaky integrate-and-fire: `v <- decay * v + current`, an event where `v >= threshold`, then the reset.

    Arguments:
        decay: factor on v per step, `exp(-dt / tau_mem)`, in (0, 1].
        threshold: > 0 and finite.
        v_reset: None resets softly (the threshold is subtracted); a number resets hard to that potential.
        v_initial: potential at rest before the first step.
        max_events: events a neuron may emit per step (1: spikes).
        learn_decay, learn_threshold: make them trainable scalars; training keeps decay in (0, 1) and the
            threshold positive.
        surrogate: derivative of the spike (`picojoule.kernels.surrogate`).
    """

    def __init__(
        self,
        decay: float = 0.5,
        threshold: float = 1.0,
        *,
        v_reset: float | None = 0.0,
        v_initial: float = 0.0,
        max_events: int = 1,
        learn_decay: bool = False,
        learn_threshold: bool = False,
        surrogate: Surrogate = triangle,
    ):
        super().__init__(
            decay, threshold, learn_decay=learn_decay, learn_threshold=learn_threshold, surrogate=surrogate
        )
        if v_reset is not None and v_reset >= threshold:
            raise BadInput(f"expected v_reset < threshold ({threshold}), got {v_reset}")
        if max_events < 1:
            raise BadInput(f"expected max_events >= 1, got {max_events}")
        self.v_reset, self.v_initial, self.max_events = v_reset, v_initial, max_events
        self.emits = Events(most=max_events)

    def initial_state(self, x: Tensor) -> Any:
        check_currents(x)
        dtype = integrate_and_fire.state_dtype(x.dtype)
        return LIFState(torch.full_like(x[0], self.v_initial, dtype=dtype))  # keeps the memory layout of x

    def step_function(self) -> Callable[[Any, Tensor], tuple[Any, Tensor]]:
        p = self.step_parameters()
        return lambda state, current: lif_step(state, current, p)

    def unroll(self, state: Any, currents: Tensor) -> tuple[Any, Tensor]:
        p = self.step_parameters()
        if not integrate_and_fire.serves(currents, p, *state):
            return super().unroll(state, currents)
        return self.unroll_in_kernel(state, currents, p)

    def unroll_in_kernel(self, state: Any, currents: Tensor, p: LIFParameters) -> tuple[Any, Tensor]:
        """`unroll` by the compiled kernel, where it serves such currents and parameters."""
        after = integrate_and_fire.unroll(currents, state.v, p)
        return LIFState(after.v), after.events

    def step_parameters(self) -> LIFParameters:
        """What `lif_step` needs beside state and current."""
        return LIFParameters(self.decay, self.threshold, self.v_reset, self.max_events, self.surrogate)

    def extra_repr(self) -> str:
        return f"{super().extra_repr()}, v_reset={self.v_reset}"
