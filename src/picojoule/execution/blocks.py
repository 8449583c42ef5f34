"""Inference in blocks of time steps, which bounds its memory."""

import math
from typing import Any, Literal

import torch
from torch import Tensor, fx, nn

from picojoule.errors import BadInput
from picojoule.execution.pieces import Pieces
from picojoule.graph.shapes import infer_shapes
from picojoule.graph.stream import State
from picojoule.networks import Network

BLOCK_BYTES = 16 * 2**20
"""How large an activation of a block may become (our choice: half of a 32 MiB L3; its price: docs/execution.md)."""


class InTimeBlocks(nn.Module):
    """What `in_time_blocks` makes: `network` that runs a few steps at a time, called by one thread at a time.

    Training, calls under autograd and other devices than the CPU run `network` whole.
    """

    def __init__(self, network: Network, steps: int | None):
        super().__init__()
        self.network, self._steps = network, steps
        self._pieces = Pieces(network)
        self._step_bytes = _largest(network, self._pieces.layers)
        self.training = network.training

    def forward(self, x: Tensor) -> Tensor:
        """Scores `[B, classes]` of images `[B, *input_shape]`, those of `network`."""
        if self.training or torch.is_grad_enabled():
            return self.network(x)
        return self.advance(x, {})[0]

    def advance(self, x: Tensor, state: State) -> tuple[Any, State]:
        """What `network.advance` yields: the scores so far, and the new state."""
        steps = self.steps(x)
        if steps >= self.network.timesteps or tuple(x.shape[1:]) != self.network.input_shape:
            return self.network.advance(x, state)  # which also says what images are expected
        pieces, yielded = self._pieces, []
        values, encoders = pieces.before(x, state)
        layers = state
        for part, size in pieces.cut(values, steps):
            found, layers = pieces.piece(part, size, layers)
            yielded.append(found)
        scores, ended = pieces.rest(values, yielded, state)
        return scores, {**layers, **encoders, **ended}

    def steps(self, x: Tensor) -> int:
        """How many steps a block has for inputs like `x`; all steps if blocks do not pay."""
        timesteps = self.network.timesteps
        if self._steps is not None:
            return min(self._steps, timesteps)
        if x.device.type != "cpu" or not self._pieces.layers:
            return timesteps
        fit = max(1, int(BLOCK_BYTES // max(1, self._step_bytes * len(x))))
        return math.ceil(timesteps / math.ceil(timesteps / fit))


def in_time_blocks(network: Network, steps: int | Literal["auto"] = "auto") -> InTimeBlocks:
    """The same network, that in inference runs blocks of `steps` time steps, with the state carried between them.

    "auto" takes as many steps as let the largest activation of a block fit the cache, evenly cut; a batch that fits
    as a whole is left whole. What does not depend on time, such as the first layer before a constant current, is
    computed once. Scores and states equal those of the whole up to the rounding of matrix products of another
    height, and bit by bit where torch's kernels round alike. Raises BadInput for steps below 1.
    """
    if not isinstance(network, Network):
        raise BadInput(f"expected a picojoule Network to run in blocks, got {type(network).__name__}")
    if steps != "auto" and (not isinstance(steps, int) or steps < 1):
        raise BadInput(f"expected steps of at least 1 or 'auto', got {steps!r}")
    return InTimeBlocks(network, None if steps == "auto" else steps)


def _largest(network: Network, layers: list[fx.Node]) -> float:
    """Bytes of the largest activation of one sample in one step."""
    like = next((p for p in network.parameters() if p.dim() > 1), torch.zeros(()))
    example = torch.zeros(1, *network.input_shape, dtype=like.dtype, device=like.device)
    infer_shapes(network.graph_module, example, 0)
    sizes = [n.meta["shape"].numel() / n.meta["shape"][0] / n.meta["shape"][1] for n in layers if "shape" in n.meta]
    return like.element_size() * max(sizes, default=0)
