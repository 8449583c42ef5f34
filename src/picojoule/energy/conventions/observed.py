"""The facts about one call of a linear operation that the tools base their numbers on."""

from functools import cached_property
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from picojoule.metering.call import SiteCall

_CONVOLUTIONS = {1: F.conv1d, 2: F.conv2d, 3: F.conv3d}
_TRANSPOSED: dict[int, Any] = {1: F.conv_transpose1d, 2: F.conv_transpose2d, 3: F.conv_transpose3d}


class Observed:
    """What one `SiteCall` shows; every fact is computed once, and only if a convention asks for it.

    Sums are float64 over the whole batch and all its steps.
    """

    def __init__(self, call: SiteCall):
        self.call = call
        self.x = call.x.detach()
        synapses = call.synapses.to(self.x.device)
        self._synapses = synapses[(None,) * (self.x.dim() - synapses.dim())]

    @cached_property
    def elements(self) -> int:
        """Elements that entered."""
        return self.x.numel()

    @cached_property
    def outputs(self) -> int:
        """Elements that left."""
        return self.call.output_shape.numel()

    @cached_property
    def steps(self) -> int:
        """Time steps in this call: folded into the batch, or on axes in front of it."""
        batch = self.call.batch
        return batch.folds * self.x.shape[: batch.dim].numel()

    @cached_property
    def active(self) -> float:
        """Elements that are not zero."""
        return float(self._active.sum(dtype=torch.float64))

    @cached_property
    def total(self) -> float:
        """Sum of the values."""
        return float(self.x.sum(dtype=torch.float64))

    @cached_property
    def magnitude(self) -> float:
        """Sum of the absolute values."""
        return float(self.x.abs().sum(dtype=torch.float64))

    @cached_property
    def effective(self) -> float:
        """Non-zero elements times their exact fan-out."""
        return self._weighted(self._active)

    @cached_property
    def value_sum(self) -> float:
        """Values times their exact fan-out."""
        return self._weighted(self.x)

    @cached_property
    def dense(self) -> float:
        """Synapses that exist, times steps: padding taps are none."""
        return float(self._synapses.sum()) * self.elements / self._synapses.numel()

    @cached_property
    def padded(self) -> float:
        """The usual formula of a convolution, kernel x channels x positions: padding taps are counted."""
        window, weight = self.call.window, self.call.weight
        if window is None or weight is None:
            return self.dense
        positions = self.elements if window.transposed else self.outputs
        return float(positions * weight[0].numel())

    @cached_property
    def unit(self) -> bool:
        """Whether all values are 0 or 1."""
        return _all_in(self.x, 0, 1)

    @cached_property
    def signed_unit(self) -> bool:
        """Whether all values are -1, 0 or 1."""
        return self.unit or _all_in(self.x, -1, 0, 1)

    @cached_property
    def two_levels(self) -> bool:
        """Whether there are at most two distinct values, all of them in [0, 1]."""
        return two_levels(self.x)

    @cached_property
    def values(self) -> frozenset[str]:
        """What keeps the input from being plain 0 and 1: some of negative, fractional, counts above 1."""
        found: set[str] = set()
        if not self.unit:
            found |= {"negative"} if bool((self.x < 0).any()) else set()
            found |= {"fractional"} if bool((self.x != self.x.round()).any()) else set()
            found |= {"counts above 1"} if not found and bool((self.x > 1).any()) else set()
        return frozenset(found)

    @cached_property
    def zero_weights(self) -> bool:
        """Whether some weight is zero."""
        weight = self.call.weight
        return weight is not None and bool((weight == 0).any())

    @cached_property
    def unit_weight(self) -> bool:
        """Whether all weights are 0 or 1."""
        weight = self.call.weight
        return weight is not None and _all_in(weight, 0, 1)

    @cached_property
    def through_weights(self) -> float:
        """Non-zero elements times the non-zero weights behind them."""
        weight, module = self.call.weight, self.call.module
        if weight is None or not self.zero_weights:
            return self.effective
        if isinstance(module, nn.Linear):  # whose operation may have seen the weight transposed
            weight = module.weight.T
        with torch.no_grad():
            return float(self._apply(self._active.double(), (weight.detach() != 0).double()).sum())

    @cached_property
    def _active(self) -> Tensor:
        return self.x != 0

    def _weighted(self, x: Tensor) -> float:
        constant = [d for d in range(x.dim()) if self._synapses.shape[d] == 1]
        x = x.sum(constant, keepdim=True, dtype=torch.float64) if constant else x
        return float((x.double() * self._synapses).sum())

    def _apply(self, x: Tensor, weight: Tensor) -> Tensor:
        """The operation on other numbers of the same shapes; of a product, weights `[in, out]` stand on the right."""
        window = self.call.window
        if window is None:
            from_right = x.shape[-1] == weight.shape[0]
            return x @ weight if from_right else weight @ x
        dims = weight.dim() - 2
        x = x.reshape(-1, *x.shape[-dims - 1 :])
        padding = window.padding
        module: Any = self.call.module
        if any(padding) and getattr(module, "padding_mode", "zeros") != "zeros":
            x = F.pad(x, module._reversed_padding_repeated_twice, module.padding_mode)
            padding = (0,) * dims
        if not window.transposed:
            return _CONVOLUTIONS[dims](x, weight, None, window.stride, padding, window.dilation, window.groups)
        sizes = zip(self.call.output_shape[-dims:], x.shape[-dims:], weight.shape[-dims:], *window[:3], strict=True)
        missing = [o - ((n - 1) * s - 2 * p + d * (k - 1) + 1) for o, n, k, s, p, d in sizes]
        return _TRANSPOSED[dims](x, weight, None, window.stride, padding, missing, window.groups, window.dilation)


def two_levels(x: Tensor) -> bool:
    """Whether a tensor has at most two distinct values, all of them in [0, 1]."""
    low, high = float(x.min()), float(x.max())
    return low >= 0 and high <= 1 and _all_in(x, low, high)


def _all_in(x: Tensor, *levels: float) -> bool:
    found = x == levels[0]
    for level in levels[1:]:
        found = found | (x == level)
    return bool(found.all())
