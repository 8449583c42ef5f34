"""The neuron of window mixers: a leak on what is handed on, and a spike without a reset."""

import math
from typing import Any

import torch
from torch import Tensor, nn

from picojoule.errors import BadInput
from picojoule.kernels.spike import Surrogate, spike
from picojoule.kernels.surrogate import open_rectangle


class WindowNeuron(nn.Module):
    """Spikes where `v > threshold`; whoever hands `v` on multiplies it by `decay` and adds the next current.

    Arguments:
        decay: factor on what is handed on, in (0, 1].
        threshold: > 0.
        learn_decay, learn_threshold: make them trainable scalars, a sigmoid and a softplus of the parameter.
        surrogate: derivative of the spike.
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
        super().__init__()
        if not 0 < decay <= 1:
            raise BadInput(f"expected 0 < decay <= 1, got {decay}")
        if learn_decay and decay == 1:
            raise BadInput("a decay of exactly 1 cannot be learned; start below 1, e.g. decay=0.95")
        if not threshold > 0:
            raise BadInput(f"expected threshold > 0, got {threshold}")
        self.surrogate, self.analog = surrogate, analog
        self._decay, self._threshold = decay, threshold
        self.decay_logit = nn.Parameter(torch.tensor(math.log(decay / (1 - decay)))) if learn_decay else None
        learned = learn_threshold and not analog
        self.threshold_root = nn.Parameter(torch.tensor(math.log(math.expm1(threshold)))) if learned else None

    @classmethod
    @torch.no_grad()
    def like(cls, activation: nn.Module) -> "WindowNeuron":
        """The window neuron for an activation: itself, the analog twin of a ReLU, or with decay, threshold and
        surrogate of a LIF. Raises BadInput for others.
        """
        if isinstance(activation, cls):
            return activation
        if isinstance(activation, nn.ReLU):
            return cls(analog=True)
        found: list[Any] = [getattr(activation, name, None) for name in ("decay", "threshold", "surrogate")]
        if None in found or hasattr(activation, "synaptic_decay"):
            raise BadInput(f"window mixers take the neuron lif, or ReLU, got {type(activation).__name__}")
        decay, threshold, surrogate = found
        learned: dict[str, bool] = {
            f"learn_{name}": getattr(activation, parameter, None) is not None
            for name, parameter in (("decay", "decay_logit"), ("threshold", "threshold_log"))
        }
        return cls(float(decay), float(threshold), surrogate=surrogate, **learned)

    @property
    def decay(self) -> Tensor | float:
        """The factor on what is handed on."""
        return self._decay if self.decay_logit is None else torch.sigmoid(self.decay_logit)

    @property
    def threshold(self) -> Tensor | float:
        """The potential above which a spike is emitted."""
        return self._threshold if self.threshold_root is None else nn.functional.softplus(self.threshold_root)

    def forward(self, v: Tensor) -> Tensor:
        """Spikes of membrane potentials of any shape."""
        if self.analog:
            return torch.relu(v)
        return spike(v - self.threshold, self.surrogate, strict=True)

    def extra_repr(self) -> str:
        with torch.no_grad():
            decay, threshold = float(self.decay), float(self.threshold)
        return f"decay={decay:.4g}, threshold={threshold:.4g}, analog={self.analog}"
