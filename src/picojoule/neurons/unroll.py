"""Time, in one place: run a step over `[T, B, *N]` and stack what it emits."""

from collections.abc import Callable, Sequence
from typing import TypeVar

import torch
from torch import Tensor

State = TypeVar("State")


def unroll(
    step: Callable[[State, Tensor], tuple[State, Tensor]], state: State, currents: Tensor
) -> tuple[State, Tensor]:
    """Apply `step(state, current) -> (state, output)` to every time step.

    `currents` is `[T, B, *N]`, T >= 1; returns the last state and the outputs `[T, B, *M]`.
    Backward is linear in T: time is unbound once, never indexed step by step under autograd.
    """
    outputs = []
    for current in currents.unbind(0):
        state, output = step(state, current)
        outputs.append(output)
    return state, stack_time(outputs)


def stack_time(steps: Sequence[Tensor]) -> Tensor:
    """Stack `[B, *N]` steps along a new first axis and keep a channels-last memory layout.

    `torch.stack` alone would return NCHW strides, and every later convolution would convert them back.
    """
    first = steps[0]
    if len(steps) == 1:
        return first.unsqueeze(0)
    if first.dim() == 4 and first.is_contiguous(memory_format=torch.channels_last):
        return torch.stack([step.permute(0, 2, 3, 1) for step in steps]).permute(0, 1, 4, 2, 3)
    return torch.stack(list(steps))
