"""What a probe sees of one call of a linear operation."""

from typing import NamedTuple, Protocol

import torch
from torch import Tensor, nn

from picojoule.graph.shapes import BatchAxis


class Window(NamedTuple):
    """The geometry of a convolution; of a linear layer or a matrix product there is none."""

    stride: tuple[int, ...]
    padding: tuple[int, ...]
    dilation: tuple[int, ...]
    groups: int
    transposed: bool


class SiteCall(NamedTuple):
    """One call of one linear operation while the model runs.

    `x` is what entered, as it entered; `weight` is None where two activations are multiplied. `synapses` is the
    exact fan-out map of `x`, float64, and broadcasts against it; `batch` is the batch axis of `x`. `output_shape` is
    the shape of what left. `module` is the layer that was called, None for a functional call.
    """

    name: str
    operation: str
    x: Tensor
    weight: Tensor | None
    biased: bool
    synapses: Tensor
    batch: BatchAxis
    output_shape: torch.Size
    window: Window | None
    module: nn.Module | None


class Probe(Protocol):
    """Something that watches the calls of a metered model."""

    def site(self, call: SiteCall) -> None:
        """A linear operation was called."""
