"""The current-based leaky integrate-and-fire step: a synaptic current that decays, in front of `lif_step`."""

from typing import NamedTuple

from torch import Tensor

from picojoule.kernels.lif.reference import LIFParameters, LIFState, lif_step


class CubaLIFState(NamedTuple):
    """Synaptic current `i` and membrane potential `v`, both `[B, *N]`."""

    i: Tensor
    v: Tensor


def cuba_lif_step(
    state: CubaLIFState, current: Tensor, synaptic_decay: Tensor | float, p: LIFParameters
) -> tuple[CubaLIFState, Tensor]:
    """One time step: `i <- synaptic_decay * i + current`, then `lif_step` with the current i.

    `current` is `[B, *N]`; the events have its shape and dtype. The new i acts in the same step.
    """
    i = synaptic_decay * state.i + current
    (v,), events = lif_step(LIFState(state.v), i, p)
    return CubaLIFState(i, v), events.to(current.dtype)
