"""What neurons with a leak share: decay and threshold, fixed or learned."""

import math

import torch
from torch import Tensor, nn

from picojoule.errors import BadInput
from picojoule.kernels.spike import Surrogate


class Leaky(nn.Module):
    """A decay, a threshold, and the derivative of the spike.

    Arguments:
        decay: factor on the potential, in (0, 1].
        threshold: > 0 and finite.
        learn_decay, learn_threshold: make them trainable scalars. What is trained are the logit of the decay, which
            keeps it in (0, 1), and the logarithm of the threshold, which keeps that positive.
        surrogate: derivative of the spike (`picojoule.kernels.surrogate`).

    Raises BadInput for values out of range.
    """

    def __init__(
        self, decay: float, threshold: float, *, learn_decay: bool, learn_threshold: bool, surrogate: Surrogate
    ):
        super().__init__()
        if not 0 < decay <= 1:
            raise BadInput(f"expected 0 < decay <= 1, got {decay}")
        if learn_decay and decay == 1:
            raise BadInput("a decay of exactly 1 cannot be learned; start below 1, e.g. decay=0.95")
        if not 0 < threshold < math.inf:
            raise BadInput(f"expected threshold > 0 and finite, got {threshold}")
        self.surrogate = surrogate
        self._decay, self._threshold = decay, threshold
        self.decay_logit = nn.Parameter(torch.tensor(math.log(decay / (1 - decay)))) if learn_decay else None
        self.threshold_log = nn.Parameter(torch.tensor(math.log(threshold))) if learn_threshold else None

    @property
    def decay(self) -> Tensor | float:
        """The factor on the potential."""
        return self._decay if self.decay_logit is None else torch.sigmoid(self.decay_logit)

    @property
    def threshold(self) -> Tensor | float:
        """The potential at which events are emitted."""
        return self._threshold if self.threshold_log is None else torch.exp(self.threshold_log)

    def extra_repr(self) -> str:
        with torch.no_grad():
            return f"decay={float(self.decay):.4g}, threshold={float(self.threshold):.4g}"
