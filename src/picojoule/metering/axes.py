"""Where the batch is: the batch axis of a result from those of its operands."""

import math
from collections.abc import Sequence

from picojoule.graph.shapes import BatchAxis


def reshaped(axis: BatchAxis, before: Sequence[int], after: Sequence[int]) -> BatchAxis | None:
    """The batch axis after a reshape, None if samples are torn apart.

    In row-major order the sample number is a digit of the element number; a reshape keeps the element number, so
    the axis that holds the whole digit is the new batch axis.
    """
    samples = before[axis.dim] // axis.folds
    if not samples:
        return None
    step = axis.inner * math.prod(before[axis.dim + 1 :])
    kept = tuple(before[: axis.dim + 1]) == tuple(after[: axis.dim + 1])
    if kept and samples == axis.folds == 1:  # a batch of one fits in several places
        return axis
    found = None
    for dim, size in enumerate(after):
        stride = math.prod(after[dim + 1 :])
        whole = stride * size
        if stride and step % stride == 0 and whole and whole % (step * samples) == 0:
            candidate = BatchAxis(dim, size // samples, step // stride)
            if found is None or (candidate.inner, candidate.folds) < (found.inner, found.folds):
                found = candidate
    return found


def permuted(axis: BatchAxis, dims: Sequence[int], rank: int) -> BatchAxis | None:
    """After a permutation that puts old axis `dims[i]` at i."""
    where = [d % rank for d in dims]
    return axis._replace(dim=where.index(axis.dim))


def without(axis: BatchAxis, dims: Sequence[int], rank: int) -> BatchAxis | None:
    """After the axes `dims` are gone."""
    gone = {d % rank for d in dims} if rank else set()
    if axis.dim in gone:
        return None
    return axis._replace(dim=axis.dim - sum(d < axis.dim for d in gone))


def inserted(axis: BatchAxis, dim: int, rank_after: int) -> BatchAxis:
    """After a new axis at `dim`."""
    return axis._replace(dim=axis.dim + (dim % rank_after <= axis.dim))


def broadcast(axis: BatchAxis, rank: int, rank_after: int) -> BatchAxis:
    """After broadcasting to more axes, which are new in front."""
    return axis._replace(dim=axis.dim + rank_after - rank)


def sliced(axis: BatchAxis, before: int, after: int) -> BatchAxis | None:
    """After a piece of the batch axis itself: whole steps of a folded axis may be taken, samples may not."""
    if before == after:
        return axis
    samples = before // axis.folds
    if axis.inner == 1 and samples and after % samples == 0 and after:
        return axis._replace(folds=after // samples)
    return None
