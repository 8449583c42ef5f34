"""Max pooling of events, exact in counts."""

from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from picojoule.errors import BadInput
from picojoule.neurons.neuron import check_currents
from picojoule.neurons.stateful import Stateful

Size = int | tuple[int, ...]


class PoolState(NamedTuple):
    """Events of every input so far `[B, C, *N]`, and their largest in every window `[B, C, *M]`."""

    counts: Tensor
    largest: Tensor


class SpikingMaxPool(Stateful):
    """Base of max pooling over events `[T, B, C, *N]`: after every step, what was sent is the largest count so far.

    So over any number of steps the count behind a window is the maximum of the counts in front of it. It rises by at
    most what an input sent in the step, and with signed events it may fall. Takes the arguments of torch's pooling.

    It has no synapses. In hardware it costs a counter for every input, and a comparison with the window's largest for
    every event.
    """

    axes = 2

    def __init__(
        self,
        kernel_size: Size,
        stride: Size | None = None,
        padding: Size = 0,
        dilation: Size = 1,
        ceil_mode: bool = False,
    ):
        super().__init__()
        self.kernel_size, self.stride = kernel_size, kernel_size if stride is None else stride
        self.padding, self.dilation, self.ceil_mode = padding, dilation, ceil_mode

    def initial_state(self, x: Tensor) -> PoolState:
        check_currents(x)
        counts = torch.zeros_like(x[0], dtype=torch.promote_types(x.dtype, torch.float32))
        return PoolState(counts, self._pool(counts))

    def advance(self, x: Tensor, state: PoolState) -> tuple[Tensor, PoolState]:
        if x.dim() != self.axes + 3:
            raise BadInput(f"expected events [T, B, C, ...] over {self.axes} axes, got shape {tuple(x.shape)}")
        counts = state.counts + x.cumsum(0, dtype=state.counts.dtype)
        largest = self._pool(counts.flatten(0, 1)).unflatten(0, x.shape[:2])
        before = torch.cat([state.largest.unsqueeze(0), largest[:-1]])
        return (largest - before).to(x.dtype), PoolState(counts[-1], largest[-1])

    def _pool(self, x: Tensor) -> Tensor:
        pool: Any = F.max_pool2d if self.axes == 2 else F.max_pool1d
        return pool(x, self.kernel_size, self.stride, self.padding, self.dilation, self.ceil_mode)

    def extra_repr(self) -> str:
        return f"kernel_size={self.kernel_size}, stride={self.stride}, padding={self.padding}"


class SpikingMaxPool1d(SpikingMaxPool):
    """`SpikingMaxPool` over sequences of events `[T, B, C, L]`."""

    axes = 1


class SpikingMaxPool2d(SpikingMaxPool):
    """`SpikingMaxPool` over maps of events `[T, B, C, H, W]`."""
