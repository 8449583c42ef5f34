"""The neuron of window mixers: a leak on what is handed on, and a spike without a reset."""

import torch
from torch import Tensor, nn

from picojoule.errors import BadInput
from picojoule.kernels.spike import Surrogate, spike
from picojoule.kernels.surrogate import open_rectangle
from picojoule.neurons.iaf import IAF
from picojoule.neurons.leaky import Leaky
from picojoule.neurons.lif import LIF


class WindowNeuron(Leaky):
    """Spikes where `v > threshold`; whoever hands `v` on multiplies it by `decay` and adds the next current.

    Arguments beside those of `Leaky`:
        analog: the twin for comparison, with ReLU in the place of the spike; it has no threshold.

    Source: constants, strict inequalities and the missing reset from the code that Yao et al. 2023 published with
    arXiv 2401.10843; learning and the twin are ours.
    """

    def __init__(
        self,
        decay: float = 0.4,
        threshold: float = 0.5,
        *,
        learn_decay: bool = False,
        learn_threshold: bool = False,
        surrogate: Surrogate = open_rectangle,
        analog: bool = False,
    ):
        learned = learn_threshold and not analog
        super().__init__(decay, threshold, learn_decay=learn_decay, learn_threshold=learned, surrogate=surrogate)
        self.analog = analog

    @classmethod
    @torch.no_grad()
    def like(cls, activation: nn.Module) -> "WindowNeuron":
        """The window neuron for an activation: itself, the analog twin of a ReLU, or with decay, threshold and
        surrogate of a LIF or IAF, whose default reset is left out.

        Raises BadInput for others, and for a LIF or IAF with another reset, rest or number of events than its default.
        """
        if isinstance(activation, cls):
            return activation
        if isinstance(activation, nn.ReLU):
            return cls(analog=True)
        if not isinstance(activation, LIF) or type(activation) not in (LIF, IAF):
            raise BadInput(f"window mixers take the neuron lif, or ReLU, got {type(activation).__name__}")
        usual = type(activation)()
        for name in ("v_reset", "v_initial", "max_events"):
            if getattr(activation, name) != getattr(usual, name):
                raise BadInput(
                    "the neurons of window mixers do not reset, rest at 0 and send one event at most, got "
                    f"{type(activation).__name__}({name}={getattr(activation, name)}); leave {name} out"
                )
        return cls(
            float(activation.decay),
            float(activation.threshold),
            learn_decay=activation.decay_logit is not None,
            learn_threshold=activation.threshold_log is not None,
            surrogate=activation.surrogate,
        )

    def forward(self, v: Tensor) -> Tensor:
        """Spikes of membrane potentials of any shape."""
        if self.analog:
            return torch.relu(v)
        return spike(v - self.threshold, self.surrogate, strict=True)

    def extra_repr(self) -> str:
        return f"{super().extra_repr()}, analog={self.analog}"
