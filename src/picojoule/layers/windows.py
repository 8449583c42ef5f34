"""Windows of a square grid: where they lie, how they are cut out, and how their parts become one map again."""

from typing import NamedTuple

import torch
from torch import Tensor

from picojoule.errors import BadInput, check_choice
from picojoule.kernels.spike import spike
from picojoule.kernels.window_rules import STITCHES

ANY_ABOVE = 0.2
"""`any` fires where the average of spikes lies above this, which is where it is not 0."""


class WindowPlan(NamedTuple):
    """Four windows of side `window` in the corners of a grid of side `size`; one if they are equal.

    Windows come in the order top left, top right, bottom left, bottom right.
    """

    size: int
    window: int

    @property
    def windows(self) -> int:
        """How many windows there are: 4 or 1."""
        return 1 if self.window == self.size else 4

    @property
    def overlap(self) -> int:
        """Rows, and columns, that two neighbouring windows share."""
        return 0 if self.windows == 1 else 2 * self.window - self.size


def window_plan(size: int, window: int) -> WindowPlan:
    """The plan for a grid of side `size`. Raises BadInput for windows that do not fit or leave gaps."""
    if window > size:
        raise BadInput(f"expected windows no larger than the grid of side {size}, got side {window}")
    if size < 1 or 2 * window < size:
        raise BadInput(f"expected four windows that cover a grid of side {size}, got windows of side {window}")
    return WindowPlan(size, window)


def half_window(size: int) -> int:
    """The side of four windows that tile a grid. Raises BadInput if no four equal ones do."""
    if size < 2 or size % 2:
        raise BadInput(f"expected a grid whose side can be divided by 2 for its windows, got side {size}")
    return size // 2


def wide_window(size: int) -> int:
    """The side of four windows that overlap: three quarters of the grid's, rounded down."""
    return 3 * size // 4


def cut(x: Tensor, plan: WindowPlan) -> Tensor:
    """The windows of maps `[T, B, S, S, D]`: `[T, W, B, w, w, D]`."""
    if x.dim() != 5 or x.shape[2:4] != (plan.size, plan.size):
        raise BadInput(f"expected maps [T, B, {plan.size}, {plan.size}, D], got shape {tuple(x.shape)}")
    if plan.windows == 1:
        return x.unsqueeze(1)
    near, far = slice(0, plan.window), slice(plan.size - plan.window, plan.size)
    corners = [x[:, :, rows, columns] for rows in (near, far) for columns in (near, far)]
    return torch.stack(corners, 1)


def stitch(parts: Tensor, plan: WindowPlan, rule: str = "mean") -> Tensor:
    """Maps `[T, B, S, S, D]` of parts `[T, W, B, w, w, D]`; where windows overlap, `rule` decides.

    "mean" averages left and right, then top and bottom, so that spikes become multiples of 1/4. "any" is for spikes:
    a spatial OR, 1 where that average lies above ANY_ABOVE, else 0; no gradient flows through what fired.
    Raises BadInput for another rule.
    """
    check_choice("stitch", rule, STITCHES)
    if plan.windows == 1:
        return parts.squeeze(1)
    top_left, top_right, bottom_left, bottom_right = parts.unbind(1)
    top = _joined(top_left, top_right, plan.overlap, 3)
    bottom = _joined(bottom_left, bottom_right, plan.overlap, 3)
    whole = _joined(top, bottom, plan.overlap, 2)
    if rule == "any" and plan.overlap:
        return spike(whole - ANY_ABOVE, _where_silent, strict=True)
    return whole


def _where_silent(u: Tensor) -> Tensor:
    """The gradient of "any": what fired is constant, what did not is what it was."""
    return (u <= 0).to(u.dtype)


def _joined(first: Tensor, second: Tensor, overlap: int, dim: int) -> Tensor:
    """Two parts that follow each other along `dim`, averaged where they overlap.

    Each is continued by the other and both are averaged everywhere, so that all elements have one quantum.
    """
    alone = first.shape[dim] - overlap
    before = torch.cat([first, second.narrow(dim, overlap, alone)], dim)
    if not overlap:
        return before
    return (before + torch.cat([first.narrow(dim, 0, alone), second], dim)) / 2
