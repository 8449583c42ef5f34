"""The shape of every tensor of a graph, and which of its axes is the batch."""

from typing import Any, NamedTuple

import torch
from torch import Tensor, fx, nn

from picojoule.errors import BadInput


class BatchAxis(NamedTuple):
    """The axis that holds the batch; `folds` steps (time-major) lie in it for each sample."""

    dim: int
    folds: int


def infer_shapes(graph: fx.GraphModule, example: Tensor, batch_dim: int) -> None:
    """Write `node.meta["shape"]` and `node.meta["batch"]` (BatchAxis or None) for every tensor of the graph.

    `node.meta["carries"]` tells whether a node's value is a tensor or holds tensors.

    The model runs twice in evaluation mode, on two and on three copies of the first sample of `example`: the
    axis that grows with the batch is the batch. Buffers and training flags are left as they were.
    """
    sample = example.narrow(batch_dim, 0, 1)
    with torch.no_grad(), evaluating(graph):
        _Record(graph, "shape").run(torch.cat([sample] * 2, batch_dim))
        _Record(graph, "_shape_of_three").run(torch.cat([sample] * 3, batch_dim))
    for node in graph.graph.nodes:
        three = node.meta.pop("_shape_of_three", None)
        node.meta["batch"] = _batch_axis(node.meta.get("shape"), three)


class evaluating:
    """A context in which a module and all its parts are in evaluation mode; flags return afterwards."""

    def __init__(self, module: nn.Module):
        self._modules = list(module.modules())

    def __enter__(self) -> None:
        self._flags = [m.training for m in self._modules]
        for m in self._modules:
            m.training = False

    def __exit__(self, *_: object) -> None:
        for m, flag in zip(self._modules, self._flags, strict=True):
            m.training = flag


class _Record(fx.Interpreter):
    def __init__(self, graph: fx.GraphModule, key: str):
        super().__init__(graph)
        self._key = key

    def run_node(self, n: fx.Node) -> Any:
        try:
            value = super().run_node(n)
        except BadInput:
            raise
        except (RuntimeError, IndexError, ValueError, TypeError) as error:
            shapes = [tuple(a.meta.get(self._key) or ()) for a in n.all_input_nodes]
            raise BadInput(f"{n.target} does not fit its input of shape {shapes}: {error}") from error
        parts = value if isinstance(value, tuple | list) else (value,)
        n.meta["carries"] = any(isinstance(part, Tensor) for part in parts)
        if isinstance(value, Tensor):
            n.meta[self._key] = value.shape
        return value


def _batch_axis(two: torch.Size | None, three: torch.Size | None) -> BatchAxis | None:
    if two is None or three is None or len(two) != len(three):
        return None
    grew = [d for d, (a, b) in enumerate(zip(two, three, strict=True)) if a != b]
    if len(grew) != 1 or two[grew[0]] * 3 != three[grew[0]] * 2:
        return None
    return BatchAxis(grew[0], two[grew[0]] // 2)
