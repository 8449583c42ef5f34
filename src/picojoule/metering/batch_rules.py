"""The batch axis of the result of every torch operation."""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.utils._pytree import tree_leaves

from picojoule.graph.shapes import BatchAxis
from picojoule.metering import axes

Lookup = Callable[[Tensor], BatchAxis | None]
_RESHAPES = {"view", "_unsafe_view", "reshape", "_reshape_alias", "unflatten", "flatten", "ravel", "view_as"}
_SPLITS = {"split", "split_with_sizes", "chunk", "tensor_split", "split_copy", "split_with_sizes_copy"}
_MOVES = {"permute", "permute_copy", "t", "numpy_T", "t_copy", "transpose", "swapaxes", "transpose_copy", *_RESHAPES}
_MOVES |= {"mm", "bmm", "index", "_unsafe_index", "embedding", "select", "unbind", "select_copy", "unbind_copy"}
_REDUCTIONS = {"sum", "mean", "amax", "amin", "any", "all", "prod", "logsumexp", "nansum", "max", "min", "argmax"}
_REDUCTIONS |= {"argmin", "median", "mode", "kthvalue", "var", "std", "var_mean", "std_mean", "count_nonzero", "norm"}
_REDUCTIONS |= {"linalg_vector_norm"}


def batch_of(
    name: str, args: Sequence[Any], kwargs: dict[str, Any], result: Tensor, axis_of: Lookup
) -> BatchAxis | None:
    """The batch axis of one result, or None if no axis holds whole samples."""
    axis = _batch_of(name, args, kwargs, result, axis_of)
    return axis if axis is None or axis.dim < result.dim() else None


def _batch_of(
    name: str, args: Sequence[Any], kwargs: dict[str, Any], result: Tensor, axis_of: Lookup
) -> BatchAxis | None:
    x = args[0] if args else None
    if isinstance(x, Tensor) and name not in _MOVES and x.shape == result.shape:
        axis = axis_of(x)
        if axis is not None:
            return axis
    if name in ("cat", "stack", "concatenate"):
        return _gathered(name, args, kwargs, result, axis_of)
    if name in ("mm", "addmm", "bmm", "baddbmm", "mv", "addmv", "matmul"):
        return _product(name, args, result, axis_of)
    if not isinstance(x, Tensor):
        return _aligned(args, kwargs, result, axis_of)
    axis = axis_of(x)
    if axis is None:
        return _aligned(args, kwargs, result, axis_of)
    rank, after = x.dim(), result.dim()
    dim = args[1] if len(args) > 1 else kwargs.get("dim", 0)
    if name in _RESHAPES:
        return axes.reshaped(axis, x.shape, result.shape)
    if name in ("permute", "permute_copy"):
        return axes.permuted(axis, dim, rank)
    if name in ("t", "numpy_T", "t_copy"):
        return axes.permuted(axis, range(rank)[::-1], rank)
    if name in ("transpose", "swapaxes", "transpose_copy"):
        order = list(range(rank))
        i, j = args[1] % rank, args[2] % rank
        order[i], order[j] = order[j], order[i]
        return axes.permuted(axis, order, rank)
    if name in ("select", "unbind", "select_copy", "unbind_copy"):
        return axes.without(axis, [dim if isinstance(dim, int) else 0], rank)
    if name == "squeeze":
        gone = range(rank) if len(args) < 2 else (dim if isinstance(dim, list | tuple) else [dim])
        return axes.without(axis, [d for d in gone if x.shape[d] == 1 and d % rank != axis.dim], rank)
    if name == "unsqueeze":
        return axes.inserted(axis, dim, after)
    if name in ("slice", "narrow", "slice_copy") or name in _SPLITS:
        return axes.sliced(axis, x.shape[axis.dim], result.shape[axis.dim]) if after == rank else None
    if name in _REDUCTIONS:
        return _reduced(name, axis, args, kwargs, rank, after)
    if name in ("expand", "expand_copy", "repeat") and after >= rank:
        moved = axes.broadcast(axis, rank, after)
        return moved if result.shape[moved.dim] == x.shape[axis.dim] else None
    if name in ("im2col", "col2im"):
        return axis if axis.dim == 0 else None
    if name == "embedding":
        return axis_of(args[1])
    if name in ("index", "_unsafe_index"):
        return _indexed(axis, args[1], x, result)
    if after == rank and result.shape[axis.dim] == x.shape[axis.dim]:
        return axis
    return _aligned(args, kwargs, result, axis_of)


def axis_in_base(name: str, args: Sequence[Any], view: torch.Size) -> Callable[[BatchAxis], BatchAxis | None]:
    """How to find the batch axis of a tensor from that of its view, which an operation took of it."""
    base = args[0].shape
    if name == "select":
        return lambda axis: axes.inserted(axis, args[1] % len(base), len(base))
    if name in ("slice", "detach", "alias", "expand") and len(view) == len(base):
        return lambda axis: axis
    if name in _RESHAPES or name in ("unsqueeze", "squeeze"):
        return lambda axis: axes.reshaped(axis, view, base)
    return lambda axis: None


def _aligned(args: Sequence[Any], kwargs: dict[str, Any], result: Tensor, axis_of: Lookup) -> BatchAxis | None:
    """Of an elementwise operation: that of an operand which is not broadcast along it."""
    for other in tree_leaves((args, kwargs)):
        if isinstance(other, Tensor) and other.dim() <= result.dim():
            axis = axis_of(other)
            if axis is not None:
                moved = axes.broadcast(axis, other.dim(), result.dim())
                if result.shape[moved.dim] == other.shape[axis.dim]:
                    return moved
    return None


def _gathered(name: str, args: Any, kwargs: Any, result: Tensor, axis_of: Lookup) -> BatchAxis | None:
    parts = [(p, axis_of(p)) for p in args[0]]
    known = [(p, a) for p, a in parts if a is not None]
    if not known:
        return None
    part, axis = known[0]
    dim = (args[1] if len(args) > 1 else kwargs.get("dim", 0)) % result.dim()
    if name == "stack":
        return axes.inserted(axis, dim, result.dim())
    if dim != axis.dim:
        return axis
    samples = part.shape[dim] // axis.folds
    if axis.inner == 1 and samples and result.shape[dim] % samples == 0:
        return axis._replace(folds=result.shape[dim] // samples)
    return None


def _product(name: str, args: Any, result: Tensor, axis_of: Lookup) -> BatchAxis | None:
    left, right = args[-2:] if name in ("mm", "bmm", "mv", "matmul") else args[1:3]
    a, b = axis_of(left), axis_of(right)
    if a is not None and a.dim < left.dim() - 1:
        return axes.broadcast(a, left.dim(), result.dim()) if name == "matmul" else a
    if b is not None and b.dim != right.dim() - 2:
        moved = axes.broadcast(b, right.dim(), result.dim()) if result.dim() >= right.dim() else None
        return moved
    return None


def _reduced(name: str, axis: BatchAxis, args: Any, kwargs: Any, rank: int, after: int) -> BatchAxis | None:
    place = 2 if name in ("linalg_vector_norm", "norm", "kthvalue") else 1
    dims = args[place] if len(args) > place else kwargs.get("dim")
    if dims is None or dims == []:
        return None
    dims = [dims] if isinstance(dims, int) else list(dims)
    if axis.dim in {d % rank for d in dims}:
        return None
    return axis if after == rank else axes.without(axis, dims, rank)


def _indexed(axis: BatchAxis, indices: Any, x: Tensor, result: Tensor) -> BatchAxis | None:
    """An index of one axis that is not the batch."""
    given = [(d, i) for d, i in enumerate(indices) if i is not None]
    if len(given) != 1 or given[0][1].dtype is torch.bool:
        return None
    dim, index = given[0]
    if dim == axis.dim:
        return axes.sliced(axis, x.shape[dim], result.shape[dim]) if index.dim() == 1 else None
    return axis._replace(dim=axis.dim + (index.dim() - 1) * (dim < axis.dim))
