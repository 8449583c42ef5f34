"""Windows of LIF neurons that hand their membranes on within a time step."""

import torch
from torch import Tensor

from picojoule.errors import BadInput
from picojoule.kernels.lif.reference import LIFParameters, LIFState, lif_step
from picojoule.kernels.projection import project


def windowed_lif_step(
    state: LIFState, current: Tensor, p: LIFParameters, across: int, projection: str
) -> tuple[LIFState, Tensor]:
    """`lif_step` on maps `[B, C, H, W]` of `across` x `across` windows that are visited row by row.

    Window (r, c) goes on from its own v of the step before and from what its neighbours hand on in this one::

        u[r, c] = decay * (v[r, c] + P(u[r - 1, c], u[r, c - 1])) + current[r, c]

    place by place, with the potentials u from before the reset. Where one neighbour is missing P takes the other twice;
    the first window is handed nothing.
    """
    handed = _handed(state.v, current, p.decay, across, projection)
    return lif_step(LIFState(state.v + handed), current, p)


def check_windows(height: int, width: int, across: int) -> None:
    """Raise BadInput unless `across` windows fit along each side of a map."""
    if across > min(height, width):
        raise BadInput(
            f"expected windows of at least one pixel, got {across} x {across} windows on a map of {height} x {width}; "
            "take fewer windows"
        )
    if height % across or width % across:
        raise BadInput(
            f"expected maps whose sides can be divided by {across} for {across} x {across} windows, got {height} x "
            f"{width}; take another number of windows, or images of another size"
        )


def _handed(v: Tensor, current: Tensor, decay: Tensor | float, across: int, projection: str) -> Tensor:
    """What every window is handed, as maps like `v`."""
    above: list[Tensor | None] = [None] * across
    rows = []
    for v_row, current_row in zip(v.chunk(across, -2), current.chunk(across, -2), strict=True):
        before, row = None, []
        windows = zip(v_row.chunk(across, -1), current_row.chunk(across, -1), strict=True)
        for column, (own, entered) in enumerate(windows):
            neighbours = [u for u in (above[column], before) if u is not None]
            given = project(neighbours[0], neighbours[-1], projection) if neighbours else torch.zeros_like(own)
            before = above[column] = decay * (own + given) + entered
            row.append(given)
        rows.append(torch.cat(row, -1))
    return torch.cat(rows, -2)
