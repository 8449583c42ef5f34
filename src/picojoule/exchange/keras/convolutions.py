"""Layers with synapses: convolutions and dense layers."""

from functools import partial
from typing import Any

from torch import Tensor, nn

from picojoule.exchange.keras.activations import activate
from picojoule.exchange.keras.assembly import Assembly, Map, extended, in_order
from picojoule.exchange.keras.layer import Layer
from picojoule.exchange.keras.spatial import borders_of, facing

_CONV: dict[int, Any] = {1: nn.Conv1d, 2: nn.Conv2d}
_PAD: dict[int, Any] = {1: nn.ZeroPad1d, 2: nn.ZeroPad2d}


def convolution(layer: Layer, x: Map, net: Assembly, rank: int) -> Map:
    """`Conv1D`, `Conv2D`: kernels `[*window, in / groups, out]` become `[out, in / groups, *window]`.

    Theano convolves, where everyone else correlates: its kernels are turned by 180 degrees.
    """
    x = facing(layer, x, net, rank)
    filters, groups, window = layer.whole("filters"), layer.whole("groups", 1), layer.sizes("kernel_size", rank)
    if x.ours[0] % groups or filters % groups:
        raise layer.refuse(f"cannot part {x.ours[0]} channels and {filters} filters into {groups} groups")
    weights = layer.take({"kernel": (*window, x.ours[0] // groups, filters)} | _bias(layer, filters))
    kernel = weights["kernel"].permute(rank + 1, rank, *range(rank))
    if layer.backend == "theano":
        kernel = kernel.flip(*range(2, rank + 2))
    return activate(layer, _convolved(layer, x, net, layer.path, kernel, weights.get("bias"), groups), net)


def depthwise(layer: Layer, x: Map, net: Assembly, rank: int) -> Map:
    """`DepthwiseConv1D`, `DepthwiseConv2D`: every channel has its own filters."""
    x = facing(layer, x, net, rank)
    kernel_name = "depthwise_kernel" if "depthwise_kernel" in layer.arrays else "kernel"
    channels, each = x.ours[0], layer.whole("depth_multiplier", 1)
    shapes = {kernel_name: (*layer.sizes("kernel_size", rank), channels, each)}
    weights = layer.take(shapes | _bias(layer, channels * each))
    kernel = _apart(layer, weights[kernel_name], rank)
    return activate(layer, _convolved(layer, x, net, layer.path, kernel, weights.get("bias"), channels), net)


def separable(layer: Layer, x: Map, net: Assembly, rank: int) -> Map:
    """`SeparableConv1D`, `SeparableConv2D`: a depthwise convolution, then one over channels alone."""
    x = facing(layer, x, net, rank)
    channels, each, filters = x.ours[0], layer.whole("depth_multiplier", 1), layer.whole("filters")
    ones = (1,) * rank
    shapes = {
        "depthwise_kernel": (*layer.sizes("kernel_size", rank), channels, each),
        "pointwise_kernel": (*ones, channels * each, filters),
    }
    weights = layer.take(shapes | _bias(layer, filters))
    first = _apart(layer, weights["depthwise_kernel"], rank)
    x = _convolved(layer, x, net, extended(layer.path, "depthwise"), first, None, channels)
    second = weights["pointwise_kernel"].permute(rank + 1, rank, *range(rank))
    return activate(layer, _placed(x, net, layer.path, second, weights.get("bias"), ones, ones, 1, (0,) * rank), net)


def dense(layer: Layer, x: Map, net: Assembly) -> Map:
    """`Dense` over the file's last axis; where that lies in front, as channels do, it is a convolution of window 1."""
    units, rank = layer.whole("units"), len(x.shape) - 1
    weights = layer.take({"kernel": (x.shape[-1], units)} | _bias(layer, units))
    kernel, bias = weights["kernel"].T, weights.get("bias")
    if rank in _CONV and x.axes[0] == rank:
        ones = (1,) * rank
        kernel = kernel.reshape(*kernel.shape, *ones)
        return activate(layer, _placed(x, net, layer.path, kernel, bias, ones, ones, 1, (0,) * rank), net)
    x = net.turned(x, in_order(rank + 1), layer.path)
    module = nn.Linear(x.shape[-1], units, bias is not None, device="meta")
    return activate(layer, net.call(layer.path, module, x, weights=_state(kernel, bias)), net)


def _bias(layer: Layer, size: int) -> dict[str, tuple[int, ...]]:
    return {"bias": (size,)} if layer.flag("use_bias", True) else {}


def _apart(layer: Layer, kernel: Tensor, rank: int) -> Tensor:
    """Depthwise kernels `[*window, in, each]` as `[in * each, 1, *window]`."""
    if layer.backend == "theano":
        raise layer.refuse("comes from Theano, whose depthwise kernels are not read; save the model on TensorFlow")
    return kernel.permute(rank, rank + 1, *range(rank)).flatten(0, 1).unsqueeze(1)


def _convolved(
    layer: Layer, x: Map, net: Assembly, path: tuple[str, ...], kernel: Tensor, bias: Tensor | None, groups: int
) -> Map:
    """A convolution with the layer's stride, dilation and padding, which is a layer of its own where it is uneven."""
    rank, window = kernel.dim() - 2, tuple(kernel.shape[2:])
    stride, dilation = layer.sizes("strides", rank, 1), layer.sizes("dilation_rate", rank, 1)
    extent = tuple((k - 1) * d + 1 for k, d in zip(window, dilation, strict=True))
    if rank == 1 and layer.config.get("padding") == "causal":
        borders = ((extent[0] - 1, 0),)
    else:
        borders = borders_of(layer, x, extent, stride)
    if any(before != behind for before, behind in borders):
        module = _PAD[rank](tuple(n for pair in reversed(borders) for n in pair))
        x = net.call(extended(path, "pad"), module, x)
        borders = ((0, 0),) * rank
    return _placed(x, net, path, kernel, bias, stride, dilation, groups, tuple(before for before, _ in borders))


def _placed(
    x: Map,
    net: Assembly,
    path: tuple[str, ...],
    kernel: Tensor,
    bias: Tensor | None,
    stride: tuple[int, ...],
    dilation: tuple[int, ...],
    groups: int,
    padding: tuple[int, ...],
) -> Map:
    outputs, inputs, *window = kernel.shape
    settings = (inputs * groups, outputs, tuple(window), stride, padding, dilation, groups, bias is not None)
    module = _CONV[len(window)](*settings, device="meta")
    return net.call(path, module, x, weights=_state(kernel, bias))


def _state(kernel: Tensor, bias: Tensor | None) -> dict[str, Tensor]:
    state = {"weight": kernel.contiguous()}
    return state if bias is None else state | {"bias": bias}


CONVOLUTIONS = {
    "Conv1D": partial(convolution, rank=1),
    "Conv2D": partial(convolution, rank=2),
    "DepthwiseConv1D": partial(depthwise, rank=1),
    "DepthwiseConv2D": partial(depthwise, rank=2),
    "SeparableConv1D": partial(separable, rank=1),
    "SeparableConv2D": partial(separable, rank=2),
    "Dense": dense,
}
