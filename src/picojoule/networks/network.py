"""A network over time: images in, one score per class out."""

import copy
from typing import Any

import torch
from torch import Tensor, fx, nn

from picojoule.errors import BadInput
from picojoule.graph.shapes import evaluating
from picojoule.graph.stream import State, advance, state_of_rest
from picojoule.graph.trace import trace
from picojoule.layers import Encoder, Frames, Repeat
from picojoule.neurons import Stateful


class Network(nn.Module):
    """A traced model for inputs `[B, *input_shape]` in [0, 1] that starts from rest at every call.

    `model` is a module of known layers, or its graph. `classes` is the number of scores. `input_shape` begins with
    the time steps where the model takes frames of events, `[T, C, H, W]`.
    """

    def __init__(self, model: nn.Module, input_shape: tuple[int, ...], classes: int):
        super().__init__()
        self.graph_module: fx.GraphModule = trace(model)
        self.input_shape, self.classes = tuple(input_shape), classes

    def forward(self, x: Tensor) -> Tensor:
        self._check(x)
        return self.graph_module(x)

    def initial_state(self, batch: int) -> State:
        """The state of rest for `batch` samples."""
        like = next(self.parameters(), torch.zeros(()))
        with torch.no_grad(), evaluating(self):
            example = torch.zeros(batch, *self.input_shape, dtype=like.dtype, device=like.device)
            return state_of_rest(self.graph_module, example)

    def advance(self, x: Tensor, state: State) -> tuple[Any, State]:
        """Present `x` for another `timesteps` steps, from `state`: the scores so far, and the new state."""
        self._check(x)
        return advance(self.graph_module, x, state)

    @property
    def timesteps(self) -> int:
        """Time steps per presentation (1 for a network without a time-making part)."""
        return max((m.timesteps for m in self._clocks()), default=1)

    @property
    def sequential_depth(self) -> int:
        """Time steps and, in each, the window passes of all populations, of which each needs the one before."""
        passes = sum(m.passes for m in self.modules() if isinstance(m, Stateful) and m.passes > 1)
        return self.timesteps * max(1, passes)

    def with_timesteps(self, timesteps: int) -> "Network":
        """The same network, sharing parameters and buffers, that runs for another number of steps.

        A network for frames of events then takes that many of them.
        """
        shared = {id(t): t for t in (*self.parameters(), *self.buffers())}
        twin = copy.deepcopy(self, shared)
        twin.set_timesteps(timesteps)
        return twin

    def set_timesteps(self, timesteps: int) -> None:
        """Run for another number of steps from now on, as a schedule in training does.

        Whatever shares the network's modules, as `observe` and `fused` do, follows.
        """
        if timesteps < 1:
            raise BadInput(f"expected timesteps >= 1, got {timesteps}")
        clocks = self._clocks()
        if not clocks and timesteps != 1:
            raise BadInput("this network has no part that makes time steps, so it runs for one step only")
        for clock in clocks:
            clock.timesteps = timesteps
            if isinstance(clock, Frames):
                self.input_shape = (timesteps, *self.input_shape[1:])

    def _clocks(self) -> list[Any]:
        return [m for m in self.modules() if isinstance(m, Repeat | Encoder)]

    def _check(self, x: Tensor) -> None:
        if tuple(x.shape[1:]) != self.input_shape:
            expected = ", ".join(map(str, self.input_shape))
            raise BadInput(f"expected images [B, {expected}], got shape {tuple(x.shape)}")
