"""The shape of every tensor of a graph, and which of its axes is the batch."""

import math
from typing import Any, NamedTuple

import torch
from torch import Tensor, fx, nn

from picojoule.errors import BadInput


class BatchAxis(NamedTuple):
    """The axis that holds the batch; `folds` steps lie in it for each sample, `inner` of them side by side.

    Time folded into the batch as `[T * B]` has `inner` 1, folded as `[B * T]` it has `inner` T.
    """

    dim: int
    folds: int
    inner: int = 1

    def table(self, x: Tensor) -> Tensor:
        """The sums `[S, B]` of what belongs to each step and sample: steps are folded in, or lie on an axis before."""
        if self.folds == 1 and self.dim == 1:
            return x.flatten(2).sum(2) if x.dim() > 2 else x
        rows = x.movedim(self.dim, 0)
        rows = rows.flatten(1).sum(1) if rows.dim() > 1 else rows
        return rows.unflatten(0, (self.folds // self.inner, -1, self.inner)).transpose(1, 2).flatten(0, 1)

    def by_step(self, x: Tensor) -> Tensor:
        """`x` as `[T, B, ...]`: steps are folded into this axis, or lie on an axis before it."""
        if self.folds == 1 and self.dim == 1:
            return x
        x = x.movedim(self.dim, 0)
        x = x.unflatten(0, (self.folds // self.inner, -1, self.inner))
        return x.transpose(1, 2).flatten(0, 1)

    def by_sample(self, x: Tensor) -> tuple[Tensor, int]:
        """`x` with the samples in front, summed over their steps, `[B, ...]` in float32 at least; and how many steps.

        Steps are folded into this axis, or lie on an axis before it.
        """
        wide = torch.promote_types(x.dtype, torch.float32)
        if self.folds == 1 and self.dim == 1:
            return x.sum(0, dtype=wide), x.shape[0]
        x = x.movedim(self.dim, 0).to(wide)
        if self.folds > 1:
            x = x.unflatten(0, (self.folds // self.inner, -1, self.inner)).sum((0, 2))
        return x, self.folds


def infer_shapes(graph: fx.GraphModule, example: Tensor, batch_dim: int) -> None:
    """Write `node.meta["shape"]` and `node.meta["batch"]` (BatchAxis or None) for every tensor of the graph.

    `node.meta["carries"]` tells whether a node's value is a tensor or holds tensors.

    The model runs twice in evaluation mode, on two and on three copies of the first sample of `example`: the
    axis that grows with the batch is the batch. Buffers and training flags are left as they were.
    """
    if example.shape[batch_dim] == 0:
        raise BadInput(f"expected an example with at least one sample, got shape {tuple(example.shape)}")
    sample = example.narrow(batch_dim, 0, 1)
    with torch.no_grad(), evaluating(graph):
        _Record(graph, "shape").run(torch.cat([sample] * 2, batch_dim))
        _Record(graph, "_shape_of_three").run(torch.cat([sample] * 3, batch_dim))
    for node in graph.graph.nodes:
        three = node.meta.pop("_shape_of_three", None)
        node.meta["batch"] = _ordered(node, _batch_axis(node.meta.get("shape"), three))


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
        self.extra_traceback = False  # our messages are one sentence
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


def _ordered(node: fx.Node, axis: BatchAxis | None) -> BatchAxis | None:
    """`axis` with its `inner` steps, which follow from the tensor that was folded, or folded already."""
    folded = _folded(node)
    if axis is None or axis.folds == 1 or folded is None:
        return axis
    shape, before = folded.meta["shape"], folded.meta["batch"]
    if axis.folds > before.folds:
        in_front = math.prod(shape[axis.dim : before.dim])
        return axis._replace(inner=before.inner * max(1, axis.folds // (before.folds * in_front)))
    taken_behind = before.folds // axis.folds if axis.dim <= before.dim else 1
    return axis._replace(inner=max(1, before.inner // taken_behind))


def _folded(node: fx.Node) -> fx.Node | None:
    """The nearest tensor with a batch axis that a node reads; through tuples, which have no shape."""
    for source in node.all_input_nodes:
        found = source if source.meta["batch"] is not None else _folded(source)
        if found is not None:
            return found
    return None
