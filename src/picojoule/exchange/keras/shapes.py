"""Layers that move numbers: borders, scaling of maps, flattening, reshaping."""

from functools import partial
from math import prod
from typing import Any

from torch import nn

from picojoule.exchange.keras.assembly import Assembly, Map, in_order
from picojoule.exchange.keras.layer import Layer
from picojoule.exchange.keras.spatial import channels_first, facing
from picojoule.layers import Crop2d, Reshape

_OTHER_BILINEAR = ("2.0.", "2.1.", "2.2.", "2.3.")
"""Versions of Keras for several backends, whose bilinear maps begin at a pixel's corner."""


def zero_padding(layer: Layer, x: Map, net: Assembly, rank: int) -> Map:
    """`ZeroPadding1D`, `ZeroPadding2D`."""
    borders = layer.borders("padding", rank)
    x = facing(layer, x, net, rank)
    kind: Any = nn.ZeroPad1d if rank == 1 else nn.ZeroPad2d
    return net.call(layer.path, kind(tuple(n for pair in reversed(borders) for n in pair)), x)


def cropping(layer: Layer, x: Map, net: Assembly, rank: int) -> Map:
    """`Cropping1D`, `Cropping2D`."""
    borders = layer.borders("cropping", rank)
    x = facing(layer, x, net, rank)
    if any(before + behind >= size for (before, behind), size in zip(borders, x.ours[1:], strict=True)):
        raise layer.refuse(f"leaves nothing of inputs of shape {x.shape}; crop less")
    (left, right) = borders[-1]
    crop = nn.ZeroPad1d((-left, -right)) if rank == 1 else Crop2d(left, right, *borders[0])
    return net.call(layer.path, crop, x)


def up_sampling(layer: Layer, x: Map, net: Assembly, rank: int) -> Map:
    """`UpSampling1D`, `UpSampling2D`: nearest or bilinear, with pixels as areas."""
    x = facing(layer, x, net, rank)
    mode = layer.choice("interpolation", ("nearest", "bilinear"), "nearest") if rank == 2 else "nearest"
    if mode == "bilinear" and layer.version.startswith(_OTHER_BILINEAR) and not layer.version.endswith("-tf"):
        raise layer.refuse(
            "was saved by a Keras that places bilinear pixels otherwise; save the model with TensorFlow 2"
        )
    factors = tuple(float(size) for size in layer.sizes("size", rank, 2))
    align = None if mode == "nearest" else False
    return net.call(layer.path, nn.Upsample(None, factors, mode, align), x)


def flatten(layer: Layer, x: Map, net: Assembly) -> Map:
    """`Flatten` in the file's order, `[H, W, C]`; with `data_format` channels_first channels go behind first too."""
    rank = len(x.shape)
    if rank == 1:
        return x
    order = (*range(1, rank), 0) if channels_first(layer) else in_order(rank)
    return net.call(layer.path, nn.Flatten(), net.turned(x, order, layer.path), in_order(1))


def reshape(layer: Layer, x: Map, net: Assembly) -> Map:
    """`Reshape` of the numbers in the file's order."""
    target = layer.config.get("target_shape")
    if not isinstance(target, list) or not target or any(type(n) is not int or n < -1 or n == 0 for n in target):
        raise layer.refuse(f"needs whole numbers as target_shape, got {target!r:.80}")
    known, total = prod(n for n in target if n > 0), prod(x.shape)
    if target.count(-1) > 1 or total % known or (-1 not in target and known != total):
        raise layer.refuse(f"cannot give inputs of shape {x.shape} the shape {tuple(target)!r:.80}")
    shape = [total // known if n == -1 else n for n in target]
    x = net.turned(x, in_order(len(x.shape)), layer.path)
    return net.call(layer.path, Reshape(*shape), x, in_order(len(shape)))


def permute(layer: Layer, x: Map, net: Assembly) -> Map:
    """`Permute`: nothing moves until a layer needs another order."""
    rank, dims = len(x.shape), layer.config.get("dims")
    if not isinstance(dims, list) or any(type(d) is not int for d in dims) or sorted(dims) != list(range(1, rank + 1)):
        raise layer.refuse(f"needs every axis behind the batch of shape {x.shape} once as dims, got {dims!r:.80}")
    return Map(x.node, tuple(x.shape[d - 1] for d in dims), tuple(dims.index(axis + 1) for axis in x.axes))


SHAPES = {
    "ZeroPadding1D": partial(zero_padding, rank=1),
    "ZeroPadding2D": partial(zero_padding, rank=2),
    "Cropping1D": partial(cropping, rank=1),
    "Cropping2D": partial(cropping, rank=2),
    "UpSampling1D": partial(up_sampling, rank=1),
    "UpSampling2D": partial(up_sampling, rank=2),
    "Flatten": flatten,
    "Reshape": reshape,
    "Permute": permute,
}
