"""Current-based leaky integrate-and-fire neurons."""

import math
from collections.abc import Callable

import torch
from torch import Tensor, nn

from picojoule.errors import BadInput
from picojoule.kernels.cuba_lif.reference import CubaLIFState, cuba_lif_step
from picojoule.kernels.lif.reference import LIFParameters
from picojoule.kernels.native import integrate_and_fire
from picojoule.kernels.spike import Surrogate
from picojoule.kernels.surrogate import triangle
from picojoule.neurons.lif import LIF


class CubaLIF(LIF):
    """Current-based LIF: each input decays as a synaptic current, `i <- synaptic_decay * i + x`, that `LIF` integrates.

    Arguments beside those of `LIF`:
        synaptic_decay: factor on i per step, `exp(-dt / tau_syn)`, in (0, 1).
        learn_synaptic_decay: make it a trainable scalar; training keeps it in (0, 1).
    """

    def __init__(
        self,
        synaptic_decay: float = 0.8,
        decay: float = 0.9,
        threshold: float = 1.0,
        *,
        v_reset: float | None = 0.0,
        v_initial: float = 0.0,
        max_events: int = 1,
        learn_synaptic_decay: bool = False,
        learn_decay: bool = False,
        learn_threshold: bool = False,
        surrogate: Surrogate = triangle,
    ):
        super().__init__(
            decay,
            threshold,
            v_reset=v_reset,
            v_initial=v_initial,
            max_events=max_events,
            learn_decay=learn_decay,
            learn_threshold=learn_threshold,
            surrogate=surrogate,
        )
        if not 0 < synaptic_decay < 1:
            raise BadInput(f"expected 0 < synaptic_decay < 1, got {synaptic_decay}")
        self._synaptic_decay = synaptic_decay
        logit = torch.tensor(math.log(synaptic_decay / (1 - synaptic_decay)))
        self.synaptic_decay_logit = nn.Parameter(logit) if learn_synaptic_decay else None

    @property
    def synaptic_decay(self) -> Tensor | float:
        """The factor on the synaptic current per step."""
        logit = self.synaptic_decay_logit
        return self._synaptic_decay if logit is None else torch.sigmoid(logit)

    def initial_state(self, x: Tensor) -> CubaLIFState:
        (v,) = super().initial_state(x)
        return CubaLIFState(torch.zeros_like(v), v)

    def step_function(self) -> Callable[[CubaLIFState, Tensor], tuple[CubaLIFState, Tensor]]:
        synaptic_decay, p = self.synaptic_decay, self.step_parameters()
        return lambda state, current: cuba_lif_step(state, current, synaptic_decay, p)

    def unroll_in_kernel(self, state: CubaLIFState, currents: Tensor, p: LIFParameters) -> tuple[CubaLIFState, Tensor]:
        after = integrate_and_fire.unroll(currents, state.v, p, i=state.i, synaptic_decay=self.synaptic_decay)
        return CubaLIFState(after.i, after.v), after.events

    def extra_repr(self) -> str:
        with torch.no_grad():
            return f"synaptic_decay={float(self.synaptic_decay):.4g}, {super().extra_repr()}"
