"""The graph under construction, and how the axes of a Keras tensor lie in ours."""

import keyword
import re
from collections import Counter
from collections.abc import Sequence
from math import prod
from typing import Any, NamedTuple

import torch
from torch import Tensor, fx, nn

from picojoule.errors import BadInput
from picojoule.layers import Permute

LARGEST = 1 << 28
"""Numbers per sample at most in any tensor (our choice: 1 GiB)."""


class Map(NamedTuple):
    """A tensor of the model: its node, its `shape` without the batch in the file's order, and where its axes lie.

    `axes[i]` is the file's axis that lies at our axis i, both without the batch: `(2, 0, 1)` where the file has
    `[H, W, C]` and we `[C, H, W]`.
    """

    node: fx.Node
    shape: tuple[int, ...]
    axes: tuple[int, ...]

    @property
    def ours(self) -> tuple[int, ...]:
        """The shape without the batch in our order."""
        return tuple(self.shape[axis] for axis in self.axes)

    def dim(self, axis: int) -> int:
        """Where the file's axis (without the batch; negative from the end) lies in our tensor with the batch."""
        if not -len(self.shape) <= axis < len(self.shape):
            raise BadInput(f"axis {axis} lies outside a tensor of shape {self.shape}")
        return self.axes.index(axis % len(self.shape)) + 1


def in_order(rank: int) -> tuple[int, ...]:
    """Axes that lie as in the file."""
    return tuple(range(rank))


class Assembly:
    """Collects nodes and modules; modules keep the names of the file's layers."""

    def __init__(self) -> None:
        self._graph = fx.Graph()
        self._modules: dict[str, nn.Module] = {}
        self._used: Counter[str] = Counter()

    def start(self, shape: tuple[int, ...], axes: tuple[int, ...]) -> Map:
        """The input, of `shape` in the file's order."""
        _check_size(shape)
        return Map(self._graph.placeholder("x"), shape, axes)

    def call(
        self,
        path: Sequence[str],
        module: nn.Module,
        x: Map,
        axes: tuple[int, ...] | None = None,
        weights: dict[str, Tensor] | None = None,
    ) -> Map:
        """Apply a module, made on the device "meta", that gets `weights`; `axes` tell how its output lies."""
        axes = x.axes if axes is None else axes
        with torch.no_grad():
            ours = module.eval()(torch.empty(1, *x.ours, device="meta")).shape[1:]
        module.load_state_dict(weights or {}, assign=True)
        target = self._name(path)
        self._modules[target] = module
        shape = [0] * len(axes)
        for size, axis in zip(ours, axes, strict=True):
            shape[axis] = size
        _check_size(shape)
        return Map(self._graph.call_module(target, (x.node,)), tuple(shape), axes)

    def join(
        self, path: Sequence[str], function: Any, arguments: tuple[Any, ...], like: Map, shape: Sequence[int]
    ) -> Map:
        """Apply a function of several nodes whose output lies as `like` does."""
        _check_size(shape)
        name = "_".join(map(identifier, path))
        node = self._graph.create_node("call_function", function, arguments, {}, name)
        return Map(node, tuple(shape), like.axes)

    def turned(self, x: Map, axes: tuple[int, ...], path: Sequence[str]) -> Map:
        """`x` with its axes in another order, by a `Permute` in front of the layer `path` unless they lie so."""
        if x.axes == axes:
            return x
        order = [x.axes.index(axis) for axis in axes]
        return self.call(extended(path, "permute"), Permute(*order), x, axes)

    def finish(self, output: Map) -> fx.GraphModule:
        """The whole graph."""
        self._graph.output(output.node)
        return fx.GraphModule(self._modules, self._graph, "Keras")

    def _name(self, path: Sequence[str]) -> str:
        target = unique = ".".join(map(identifier, path))
        while unique in self._modules:
            self._used[target] += 1
            unique = f"{target}_{self._used[target] + 1}"
        return unique


def extended(path: Sequence[str], what: str) -> tuple[str, ...]:
    """The name of a part that a layer brings with it: `conv1_relu`."""
    return (*path[:-1], f"{path[-1]}_{what}")


def identifier(name: str) -> str:
    """A layer's name as a name that a module can have."""
    word = re.sub(r"\W", "_", name, flags=re.ASCII) or "_"
    word = f"_{word}" if word[0].isdigit() else word
    taken = keyword.iskeyword(word) or hasattr(fx.GraphModule, word) or word in ("training", "graph", "x")
    return f"{word}_" if taken else word


def _check_size(shape: Sequence[int]) -> None:
    if not shape or min(shape) < 1 or prod(shape) > LARGEST:
        raise BadInput(
            f"a tensor would have the shape {tuple(shape)!r:.200}; expected 1 to {LARGEST} numbers per sample"
        )
