"""LIF neurons of a map that hand their membranes on from window to window: our general form of one-step networks."""

from collections.abc import Callable
from typing import Any

from torch import Tensor, nn

from picojoule.errors import BadInput, check_choice
from picojoule.kernels.lif.reference import LIFState
from picojoule.kernels.lif.windows import check_windows, windowed_lif_step
from picojoule.kernels.projection import updates_of_one
from picojoule.kernels.window_rules import PROJECTIONS
from picojoule.neurons.iaf import IAF
from picojoule.neurons.lif import LIF
from picojoule.neurons.neuron import Neuron, check_currents


class WindowLIF(Neuron):
    """The neurons of maps `[T, B, C, H, W]` in `across` x `across` windows, see `windowed_lif_step`.

    With one window, or the projection "zero", it is `neuron`. `passes` windows of a step need one another: those on the
    way from the first corner to the last. An update counts once more where a projection is computed.

    Arguments:
        neuron: a LIF or IAF, whose parameters all neurons have.
        across: windows along each side of a map.
        projection: one of `picojoule.kernels.window_rules.PROJECTIONS`.

    Raises BadInput for other neurons, and for maps that cannot be divided. Source: ours, after the hand-over of the
    code that Yao et al. 2023 published with arXiv 2401.10843 (docs/methods/one-step.md).
    """

    def __init__(self, neuron: nn.Module, across: int = 2, projection: str = "sincos"):
        super().__init__()
        check_choice("projection", projection, PROJECTIONS)
        if across < 1:
            raise BadInput(f"expected at least 1 window across, got {across}")
        self.neuron, self.across, self.projection = lif_alone(neuron), across, projection
        self.emits = self.neuron.emits
        self.passes = 2 * across - 1
        self.updates = updates_of_one(projection, 1 - 1 / across**2)

    def initial_state(self, x: Tensor) -> LIFState:
        check_currents(x)
        if x.dim() != 5:
            raise BadInput(f"expected maps [T, B, C, H, W] for windows, got shape {tuple(x.shape)}")
        check_windows(x.shape[3], x.shape[4], self.across)
        return self.neuron.initial_state(x)

    def step_function(self) -> Callable[[Any, Tensor], tuple[Any, Tensor]]:
        p = self.neuron.step_parameters()
        return lambda state, current: windowed_lif_step(state, current, p, self.across, self.projection)

    def extra_repr(self) -> str:
        return f"across={self.across}, projection={self.projection}"


def lif_alone(neuron: nn.Module) -> LIF:
    """`neuron`, if it is a LIF or IAF. Raises BadInput for others, which have no potential to hand on, or more."""
    if not isinstance(neuron, LIF) or type(neuron) not in (LIF, IAF):
        raise BadInput(f"windows take the neurons lif and iaf, got {type(neuron).__name__}")
    return neuron
