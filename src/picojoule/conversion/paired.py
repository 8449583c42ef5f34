"""Two networks on the same images."""

import math
from typing import NamedTuple

from torch import Tensor


class Paired(NamedTuple):
    """The loss of accuracy against another network, and its standard error (fractions).

    `lost` and `won` count images that only the other one, and only this one, classified rightly; `agreement` is the
    share of images on which both answered alike.
    """

    loss: float
    error: float
    lost: int
    won: int
    agreement: float
    images: int


def paired(before: Tensor, after: Tensor, labels: Tensor) -> Paired:
    """Compare answers `[N]` of two networks with the labels."""
    first, second, n = before == labels, after == labels, len(labels)
    lost, won = int((first & ~second).sum()), int((~first & second).sum())
    loss = (lost - won) / n
    error = math.sqrt(max(0.0, (lost + won) / n - loss**2) / n)
    return Paired(loss, error, lost, won, float((before == after).double().mean()), n)
