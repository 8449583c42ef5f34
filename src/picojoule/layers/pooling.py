"""Pooling over time-major maps."""

from torch import nn

from picojoule.errors import unknown_name
from picojoule.layers.timewise import Timewise


def pooling(kind: str, size: int) -> Timewise:
    """`max` or `avg` pooling with window and stride `size` over `[T, B, C, H, W]`.

    Max keeps events binary; average makes them multiples of 1/size**2, n of them per window, and every event
    before the pool is an accumulate behind it.
    """
    if kind == "max":
        return Timewise(nn.MaxPool2d(size))
    if kind == "avg":
        return Timewise(nn.AvgPool2d(size))
    raise unknown_name("pooling", kind, ["max", "avg"])
