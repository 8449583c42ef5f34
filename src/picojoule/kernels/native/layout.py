"""Memory layouts: the kernels want the neurons of one time step side by side, in any order of the axes."""

from collections.abc import Sequence
from math import prod

import torch
from torch import Tensor


def stepwise(x: Tensor) -> Tensor:
    """`x` `[T, *step]` if every step is dense (the steps may lie apart or on each other), else a contiguous copy."""
    return x if x.is_contiguous() or is_dense(x.stride()[1:], x.shape[1:]) else x.contiguous()


def step_by_step(x: Tensor) -> Tensor:
    """`stepwise`, with every step right behind the one before."""
    x = stepwise(x)
    return x if len(x) == 1 or x.stride(0) == prod(x.shape[1:]) else x.contiguous()


def is_dense(strides: Sequence[int], shape: Sequence[int]) -> bool:
    """Whether the elements fill one piece of memory, in whatever order."""
    expected = 1
    for stride, size in sorted(zip(strides, shape, strict=True)):
        if size != 1:
            if stride != expected:
                return False
            expected *= size
    return True


def empty_steps(x: Tensor, dtype: torch.dtype) -> Tensor:
    """An empty tensor like `x` `[T, *step]` with the layout of its steps, one behind the other."""
    if x.is_contiguous():
        return torch.empty_like(x, dtype=dtype)
    return x.new_empty_strided(x.shape, (prod(x.shape[1:]), *x.stride()[1:]), dtype=dtype)


def empty_step(x: Tensor, dtype: torch.dtype) -> Tensor:
    """An empty tensor like one step of `x`."""
    return x.new_empty_strided(x.shape[1:], x.stride()[1:], dtype=dtype)


def nothing(x: Tensor, dtype: torch.dtype) -> Tensor:
    """What stands for a result that was not asked for."""
    return x.new_empty(0, dtype=dtype)


def in_layout(tensor: Tensor, x: Tensor, dtype: torch.dtype) -> Tensor:
    """`tensor`, which broadcasts to a step of `x`, in `dtype` and the layout of a step."""
    if tensor.shape == x.shape[1:] and tensor.stride() == x.stride()[1:] and tensor.dtype == dtype:
        return tensor
    return empty_step(x, dtype).copy_(tensor)


def laid_out_as(g: Tensor, x: Tensor) -> Tensor:
    """`g` `[T, *step]` with steps laid out as those of `x`; its steps may lie apart or on each other."""
    if g.stride()[1:] == x.stride()[1:]:
        return g
    if g.stride(0) == 0:
        return in_layout(g[0], x, g.dtype).expand(g.shape)
    return empty_steps(x, g.dtype).copy_(g)
