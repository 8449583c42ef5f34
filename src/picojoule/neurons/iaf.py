"""Integrate-and-fire neurons."""

from picojoule.kernels.spike import Surrogate
from picojoule.kernels.surrogate import triangle
from picojoule.neurons.lif import LIF


class IAF(LIF):
    """Integrate-and-fire: `LIF` with a decay of 1, by default with the soft reset that conversion needs.

    The arguments are those of `LIF`.
    """

    def __init__(
        self,
        threshold: float = 1.0,
        *,
        v_reset: float | None = None,
        v_initial: float = 0.0,
        max_events: int = 1,
        learn_threshold: bool = False,
        surrogate: Surrogate = triangle,
    ):
        super().__init__(
            1.0,
            threshold,
            v_reset=v_reset,
            v_initial=v_initial,
            max_events=max_events,
            learn_threshold=learn_threshold,
            surrogate=surrogate,
        )
