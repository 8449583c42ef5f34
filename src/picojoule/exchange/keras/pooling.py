"""Pooling over windows and over whole maps."""

from collections.abc import Callable
from functools import partial
from typing import Any

from torch import nn

from picojoule.exchange.keras.assembly import Assembly, Map, extended, in_order
from picojoule.exchange.keras.layer import Layer
from picojoule.exchange.keras.spatial import borders_of, facing
from picojoule.layers import Crop2d

_POOL: dict[tuple[str, int], Any] = {
    ("max", 1): nn.MaxPool1d,
    ("max", 2): nn.MaxPool2d,
    ("average", 1): partial(nn.AvgPool1d, count_include_pad=False),
    ("average", 2): partial(nn.AvgPool2d, count_include_pad=False),
}
_GLOBAL: dict[tuple[str, int], Any] = {
    ("max", 1): nn.AdaptiveMaxPool1d,
    ("max", 2): nn.AdaptiveMaxPool2d,
    ("average", 1): nn.AdaptiveAvgPool1d,
    ("average", 2): nn.AdaptiveAvgPool2d,
}


def pool(layer: Layer, x: Map, net: Assembly, kind: str, rank: int) -> Map:
    """Max or average pooling; padding neither wins a maximum nor counts in an average.

    An uneven border with stride 2 or more is `ceil_mode`, which lets the last window hang over the edge; with
    stride 1 one row and column too many are computed in front and left out.
    """
    x = facing(layer, x, net, rank)
    window = layer.sizes("pool_size", rank, 2)
    stride = layer.sizes("strides", rank, window)
    borders = borders_of(layer, x, window, stride)
    extra = tuple(int(s == 1 and before < behind) for s, (before, behind) in zip(stride, borders, strict=True))
    padding = tuple(before + e for e, (before, _) in zip(extra, borders, strict=True))
    hangs = any(before + e < behind for e, (before, behind) in zip(extra, borders, strict=True))
    x = net.call(layer.path, _POOL[kind, rank](window, stride, padding, ceil_mode=hangs), x)
    if not any(extra):
        return x
    crop = Crop2d(extra[1], 0, extra[0], 0) if rank == 2 else nn.ZeroPad1d((-1, 0))
    return net.call(extended(layer.path, "crop"), crop, x)


def global_pool(layer: Layer, x: Map, net: Assembly, kind: str, rank: int) -> Map:
    """Pooling over the whole map: one number per channel, as features unless `keepdims`."""
    x = net.call(layer.path, _GLOBAL[kind, rank](1), facing(layer, x, net, rank))
    if layer.flag("keepdims", False):
        return x
    return net.call(extended(layer.path, "flatten"), nn.Flatten(), x, in_order(1))


def _table() -> dict[str, Callable[[Layer, Map, Assembly], Map]]:
    rules: dict[str, Any] = {}
    for kind, rank in _POOL:
        rules[f"{kind.title()}Pooling{rank}D"] = partial(pool, kind=kind, rank=rank)
        rules[f"Global{kind.title()}Pooling{rank}D"] = partial(global_pool, kind=kind, rank=rank)
    return rules


POOLINGS = _table()
