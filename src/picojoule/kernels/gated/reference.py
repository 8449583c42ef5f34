"""One step of the gated recurrent cells, behind their products with weights."""

from torch import Tensor


def lstm_step(c: Tensor, sums: Tensor) -> tuple[Tensor, Tensor]:
    """h and the new c, both `[B, H]`, from the sums `[B, 4 * H]` of the gates input, forget, cell and output."""
    i, f, g, o = sums.chunk(4, -1)
    c = f.sigmoid() * c + i.sigmoid() * g.tanh()
    return o.sigmoid() * c.tanh(), c


def gru_step(h: Tensor, fresh: Tensor, recurrent: Tensor) -> Tensor:
    """The new h `[B, H]`: `fresh` and `recurrent` `[B, 3 * H]` enter the gates reset, update and new."""
    gates = (fresh + recurrent)[..., : 2 * h.shape[-1]].sigmoid()
    reset, update = gates.chunk(2, -1)
    new = (fresh.chunk(3, -1)[2] + reset * recurrent.chunk(3, -1)[2]).tanh()
    return new + update * (h - new)
