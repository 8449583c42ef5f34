"""What the passes of a conversion know of layers: which have synapses, which only move, pool or rectify."""

import math
from typing import Any

from torch import Tensor, fx, nn

from picojoule.graph.fan_out import squeezed
from picojoule.graph.linear import linear_class
from picojoule.graph.trace import module_of
from picojoule.layers import Crop2d, Permute, Reshape, Scale, Shift

AVERAGES = (nn.AvgPool1d, nn.AvgPool2d, nn.AvgPool3d, nn.AdaptiveAvgPool1d, nn.AdaptiveAvgPool2d)
MAXIMA = (nn.MaxPool1d, nn.MaxPool2d)
ADAPTIVE_MAXIMA = (nn.AdaptiveMaxPool1d, nn.AdaptiveMaxPool2d)
SPATIAL = (nn.ZeroPad1d, nn.ZeroPad2d, nn.ZeroPad3d, Crop2d, nn.Upsample)
MOVES = (*SPATIAL, nn.Flatten, nn.Unflatten, Permute, Reshape, nn.PixelShuffle)
RECTIFIERS = (nn.ReLU, nn.ReLU6, nn.Hardtanh)
LEAKY = (nn.LeakyReLU, nn.PReLU)
NORMS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)


class CountInput(nn.ReLU):
    """Where a graph for rates turns the image into events."""


class CountOutput(nn.ReLU):
    """Where a graph for rates turns scores into events, which are counted."""


def is_synaptic(module: nn.Module | None) -> bool:
    """Whether a layer multiplies its input by weights."""
    return module is not None and linear_class(module) is not None


def neurons_of(graph: fx.GraphModule) -> list[fx.Node]:
    """The calls that neurons take the place of, in wiring order."""
    return [n for n in graph.graph.nodes if isinstance(module_of(graph, n), RECTIFIERS)]


def ceiling_of(rectifier: nn.Module | None) -> float:
    """The largest activation of a rectifier, 6 for `nn.ReLU6`; infinity where there is none."""
    return getattr(rectifier, "max_val", math.inf)


def shape_of(node: fx.Node) -> tuple[int, ...]:
    """The shape of one sample of a node's tensor; shapes must have been inferred."""
    return tuple(node.meta["shape"][1:])


def simplest(constant: Tensor) -> Tensor:
    """A constant per sample element with size 1 along every axis on which it is the same; of one number, that."""
    small = squeezed(constant)
    return small.reshape(()) if small.numel() == 1 else small


def per_channel(constant: Tensor) -> Tensor | None:
    """A scalar, or the values `[C]` of a constant that differs by channel only; None for others."""
    if constant.dim() == 0:
        return constant
    return constant.flatten() if all(size == 1 for size in constant.shape[1:]) else None


def channelwise(values: Tensor, shape: tuple[int, ...]) -> Tensor:
    """Values `[C]` as a constant that broadcasts over samples of `shape`, `[C, ...]`; a scalar stays one."""
    return values if values.dim() == 0 else values.reshape(-1, *(1,) * (len(shape) - 1))


def scale_at(graph: fx.GraphModule, node: Any) -> Tensor | None:
    """The factor of a node that calls a `Scale`."""
    module = module_of(graph, node) if isinstance(node, fx.Node) else None
    return module.factor if isinstance(module, Scale) else None


def shift_at(graph: fx.GraphModule, node: Any) -> Tensor | None:
    """The offset of a node that calls a `Shift`."""
    module = module_of(graph, node) if isinstance(node, fx.Node) else None
    return module.offset if isinstance(module, Shift) else None
